"""Generated pictures of vessels with exact masks, and pictures of other things."""

"""From stored bytes to pixel values: layout, codecs, grey levels, colour."""

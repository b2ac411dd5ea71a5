"""From stored bytes to pixel values: layout, codecs, grey levels, colour, and the stack of a whole series."""

"""Segmentation objects, ours and those of others, read back into arrays, compared and drawn; knows no writer."""

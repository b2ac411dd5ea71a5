"""Folders of weights that people bring: what stands in their manifest, and that nothing in them was changed."""

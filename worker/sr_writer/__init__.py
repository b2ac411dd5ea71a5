"""The structured report: vessel measurements as a Comprehensive 3D SR (TID 1500)."""

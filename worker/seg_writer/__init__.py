"""DICOM Segmentation objects for every class of source, their validation, and preview pictures."""

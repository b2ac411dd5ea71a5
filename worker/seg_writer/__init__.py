"""DICOM Segmentation objects for every class of source and their validation."""

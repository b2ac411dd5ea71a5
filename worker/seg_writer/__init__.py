"""Builds and validates the DICOM Segmentation object for every class of source."""

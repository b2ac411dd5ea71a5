"""SAM and MedSAM: pictures, asked by points, boxes and masks."""

"""Pictures that people look at: frames with vessels over them, montages, projections, previews. No DICOM writing."""

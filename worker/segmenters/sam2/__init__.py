"""SAM 2: pictures as SAM, and runs and volumes through which what was shown on some frames is followed."""

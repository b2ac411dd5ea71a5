"""What every object of a result set says of the patient, the study, its maker and itself."""

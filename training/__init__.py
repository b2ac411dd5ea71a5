"""How segmenters are measured, and how shipped weights are made; never imported at run time, not in the wheel."""

"""Trying a model on single pictures before a rule uses it: what an engineer looks through at what it says."""

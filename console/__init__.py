"""The operator's hands and eyes: command line, all-in-one launcher, web pages."""

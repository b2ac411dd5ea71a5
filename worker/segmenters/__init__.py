"""One module or folder is one model system, behind one Protocol."""

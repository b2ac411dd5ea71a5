"""Numbers that a mask honestly allows: area, length, calibre, tortuosity, branch points, volume, with their units."""

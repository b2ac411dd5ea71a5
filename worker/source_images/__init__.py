"""From the files of one series to its images in order: headers, geometry, and what is left out; no pixels."""

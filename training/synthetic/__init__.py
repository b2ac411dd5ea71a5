"""Generated pictures with exact masks: X-ray angiograms, fundus photographs, OCT angiograms and things that are none."""

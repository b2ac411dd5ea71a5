"""What the systems that are asked by points, boxes and masks have in common."""

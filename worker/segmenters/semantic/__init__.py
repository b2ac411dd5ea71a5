"""Networks that give every pixel or voxel a number for each class: all that those of different formats share."""

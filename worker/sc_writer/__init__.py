"""Secondary Capture objects with the vessels burnt in, for readers whose viewer knows no Segmentation."""

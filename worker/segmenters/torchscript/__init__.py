"""Networks in the TorchScript format and MONAI bundles that hold one."""

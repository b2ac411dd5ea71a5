"""Where a model is tried."""


def real_device(device: str) -> str:
    """A device by its name for torch; "auto" is the first GPU if there is one."""
    if device != "auto":
        return device
    import torch

    return "cuda:0" if torch.cuda.is_available() else "cpu"

"""Where a model is tried."""

from dicom_core.errors import ConfigurationError


def real_device(device: str) -> str:
    """A device by its name for torch; "auto" is the first GPU if there is one.

    Raises:
        ConfigurationError: It is no device, or this machine has none of that name.
    """
    import torch

    if device == "auto":
        return "cuda:0" if torch.cuda.is_available() else "cpu"
    try:
        wanted = torch.device(device)
    except RuntimeError:
        raise ConfigurationError(f'{device!r} is no device; it is "auto", "cpu" or "cuda:N"') from None
    if wanted.type not in ("cpu", "cuda"):
        raise ConfigurationError(f'vesselq does not work on {device!r}; it takes "auto", "cpu" or "cuda:N"')
    found = torch.cuda.device_count()
    if wanted.type == "cuda" and (wanted.index or 0) >= found:
        raise ConfigurationError(f"There is no {device} here: torch finds {found} GPUs; `vesselq doctor` says more")
    return device

"""The numbers that a network computes with, by the names that torch has for them."""

from dicom_core.errors import ConfigurationError

AUTO = "auto"
NUMBER_TYPES = ("float32", "bfloat16", "float16")


def chosen_number_type(dtype: str, device: str, on_gpu: str = "bfloat16") -> str:
    """What the setting ``dtype`` means on a device; asked without importing torch.

    Args:
        dtype: One of ``NUMBER_TYPES``, or ``auto``: float32 on a CPU.
        device: ``cpu`` or ``cuda:0``.
        on_gpu: What ``auto`` is elsewhere.

    Raises:
        ConfigurationError: Another word.
    """
    if dtype == AUTO:
        return "float32" if device == "cpu" else on_gpu
    if dtype not in NUMBER_TYPES:
        raise ConfigurationError(f"The setting `dtype` must be {AUTO}, {', '.join(NUMBER_TYPES)}")
    return dtype

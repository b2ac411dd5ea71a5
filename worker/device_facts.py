"""What a device is called and how full it is, asked in the child process that works on it."""

from dataclasses import dataclass

_CPU = "cpu"


@dataclass(frozen=True, slots=True)
class DeviceFacts:
    """One device as it is now.

    Attributes:
        name: ``cpu``, or the name that torch has for it with that of its maker.
        memory_used_bytes: By all processes together; None where there is only the memory of the machine.
        memory_total_bytes: Of the device; None as well.
    """

    name: str
    memory_used_bytes: int | None = None
    memory_total_bytes: int | None = None

    @classmethod
    def of(cls, device: str) -> "DeviceFacts":
        """Ask about ``"cpu"`` or ``"cuda:0"``; the latter only where torch is loaded anyway."""
        if device == _CPU:
            return cls(device)
        import torch

        free, total = torch.cuda.mem_get_info(device)
        return cls(f"{device} ({torch.cuda.get_device_name(device)})", total - free, total)

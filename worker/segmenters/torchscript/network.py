"""Loads a TorchScript file and shows it pictures.

TorchScript is a program, but one for torch's own interpreter: it can call torch's operators and nothing else, no Python
and no network. Its constants are read by torch's C++ reader, never by Python's pickle. The few operators that read or
write files are looked for in its code, and a file that names one is refused before it is loaded.
"""

import re
import warnings
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from dicom_core.errors import ConfigurationError, SegmentationError
from worker.segmenters.device_memory import is_out_of_memory

_TOUCHES_FILES = re.compile(rb"\b(save|from_file)\b")
"""The words alone: the language has more ways to call something than a name before a parenthesis."""


class TorchScriptNetwork:
    """One file, ready to be called with ``(pictures, channels, *spatial)`` float32.

    Args:
        file: Its hash was checked.
        device: ``"cpu"``, ``"cuda:0"``.

    Raises:
        ConfigurationError: It is no TorchScript.
    """

    def __init__(self, file: Path, device: str) -> None:
        _check(file)
        self._name, self._device = file.name, torch.device(device)
        try:
            with warnings.catch_warnings():  # torch recommends torch.export for new models; these exist already
                warnings.simplefilter("ignore")
                self._network = torch.jit.load(str(file), map_location=self._device)
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            raise ConfigurationError(f"{file.name} cannot be loaded by torch.jit: it is damaged or too new") from None
        self._network.eval()
        first = next(self._network.parameters(), None)
        self._type = torch.float32 if first is None or not first.is_floating_point() else first.dtype

    @torch.inference_mode()
    def __call__(self, pictures: NDArray[np.float32]) -> NDArray[np.float32]:
        """The answer, ``(pictures, channels, *spatial)`` float32; the first of several.

        Raises:
            SegmentationError: The network cannot be run on such pictures, or answers with no tensor.
        """
        shown = torch.from_numpy(np.ascontiguousarray(pictures)).to(self._device, self._type)
        try:
            answer = self._network(shown)
        except RuntimeError as error:
            if is_out_of_memory(error):
                raise
            text = str(error).strip().splitlines() or ["?"]
            raise SegmentationError(f"{self._name} could not be run: {text[-1][:300]}") from None
        if isinstance(answer, tuple | list) and answer:
            answer = answer[0]
        if not isinstance(answer, torch.Tensor) or answer.ndim != pictures.ndim:
            raise SegmentationError(f"{self._name} does not answer with one number for each pixel and class")
        return np.asarray(answer.float().cpu().numpy())


def _check(file: Path) -> None:
    """Refuse a file of ``torch.save``, which ends alike but would have to be unpickled, and code that touches files."""
    try:
        # torch's own reader: of an archive that holds a name twice another one may see the other entry
        archive = torch._C.PyTorchFileReader(str(file))  # noqa: SLF001  # torch has no public name for it
        names = [name for name in archive.get_all_records() if name.startswith("code/") and name.endswith(".py")]
        code = [bytes(archive.get_record(name)) for name in names]
    except RuntimeError:
        code = []
    if not code:
        raise ConfigurationError(f"{file.name} is no TorchScript: it holds no code; save what torch.jit.trace returns")
    if any(_TOUCHES_FILES.search(text) for text in code):
        raise ConfigurationError(f"{file.name} reads or writes files of its own, which no network needs")

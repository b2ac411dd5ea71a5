"""A segmenter that works, dies, hangs or lies on purpose. Found through the entry point in ``vesselq_faulty-1.0``.

It needs no model: pixels brighter than the mean of their frame are "vessel".
"""

import os
import time
from pathlib import Path

import numpy as np

from dicom_core.errors import RunnerBusyError
from worker.image_stack import Arrangement, ImageStack, Imaging
from worker.segmenters.interface import (
    BLOOD_VESSEL,
    ProgressCallback,
    Prompt,
    Segmentation,
    SegmenterInfo,
    Status,
)


class FaultySegmenter:
    """Does what ``mode`` says; with ``once`` (a path) only the first time.

    With ``gate`` (a path) a try that is to succeed stands at half of its way until that file is there.
    """

    info = SegmenterInfo(
        name="faulty",
        version="1",
        summary="misbehaves on purpose",
        imagings=frozenset(Imaging),
        arrangements=frozenset(Arrangement),
    )

    def __init__(
        self, *, device: str = "cpu", mode: str = "ok", seconds: float = 0.0, once: str = "", gate: str = ""
    ) -> None:
        self._mode = mode
        self._seconds = seconds
        self._once = Path(once) if once else None
        self._gate = Path(gate) if gate else None

    def segment(self, stack: ImageStack, prompt: Prompt, progress: ProgressCallback) -> Segmentation:
        """Misbehave, or mark the bright pixels."""
        progress(0.5)
        time.sleep(self._seconds)
        mode = self._mode
        if self._once is not None:
            mode = "ok" if self._once.exists() else mode
            self._once.touch()
        if mode == "ok" and self._gate is not None:
            while not self._gate.exists():
                time.sleep(0.05)
        if mode == "die":
            os._exit(9)
        if mode == "hang":
            time.sleep(3600)
        if mode == "allocate":
            hoard = [np.empty(1 << 30, np.uint8) for _ in range(64)]  # never touched: the limit is one of addresses
            del hoard
        if mode == "busy":
            raise RunnerBusyError("pretends that memory is exhausted")
        if mode == "raise":
            raise KeyError("Secret^Patient")
        pixels = stack.pixels.astype(np.float32)
        grey = pixels.mean(axis=-1) if stack.is_colour else pixels
        mask = (grey > grey.mean(axis=(1, 2), keepdims=True) + 1)[np.newaxis]
        if mode == "empty":
            mask = np.zeros_like(mask)
        return Segmentation(
            status=Status.OK if mask.any() else Status.NO_MASK,
            mask=mask,
            probability=mask.astype(np.float16),
            classes=(BLOOD_VESSEL,),
        )

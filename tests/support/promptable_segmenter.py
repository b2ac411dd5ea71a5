"""A segmenter that takes every way of asking. Found through the entry point ``promptable`` in ``vesselq_faulty-1.0``.

It needs no model: in each box, or everywhere without one, pixels brighter than the mean of their frame are "vessel".
"""

from dataclasses import replace

import numpy as np
from faulty_segmenter import FaultySegmenter

from dicom_core.prompt import PromptKind
from worker.image_stack import ImageStack
from worker.segmenters.interface import ProgressCallback, Prompt, Segmentation, Status


class PromptableSegmenter(FaultySegmenter):
    """Marks what is bright within the boxes, and answers questions."""

    info = replace(FaultySegmenter.info, name="promptable", version="3", prompts=frozenset(PromptKind))

    def __init__(self, *, device: str = "cpu", threshold: float = 0.5) -> None:
        super().__init__(device=device)
        self._threshold = threshold

    def segment(self, stack: ImageStack, prompt: Prompt, progress: ProgressCallback) -> Segmentation:
        """Look into the boxes."""
        found = super().segment(stack, prompt, progress)
        inside = np.zeros_like(found.mask)
        for index, frame in enumerate(stack.frames):
            for box in prompt.on_frame(frame)[1]:
                rows = slice(round(box.top), round(box.bottom) + 1)
                inside[:, index, rows, round(box.left) : round(box.right) + 1] = True
        mask = found.mask & inside if prompt.boxes else found.mask
        return replace(
            found,
            status=Status.OK if mask.any() else Status.NO_MASK,
            mask=mask,
            probability=mask.astype(np.float16),
            parameters={"threshold": f"{self._threshold:g}"},
            answer=f"Sure: {prompt.questions[0].text}." if prompt.questions else "",
        )

"""A segmenter with a folder of weights that is one number: what is darker than it is vessel. Takes most prompts."""

from collections.abc import Mapping
from importlib.metadata import EntryPoint

import numpy as np
import pytest

from dicom_core.errors import ConfigurationError
from dicom_core.prompt import PromptKind
from worker.image_stack import Arrangement, ImageStack, Imaging
from worker.model_folder.opening import ModelFolder, open_folder
from worker.segmenters import registry
from worker.segmenters.folder_info import info_of
from worker.segmenters.interface import (
    BLOOD_VESSEL,
    ProgressCallback,
    Prompt,
    Segmentation,
    SegmentClass,
    SegmenterInfo,
    Status,
)

WEIGHTS = "model.safetensors"


class ToySegmenter:
    """Each question becomes a class; a box keeps what lies in it."""

    info = SegmenterInfo(
        name="toy", version="0", summary="One number", imagings=frozenset({Imaging.XRAY_ANGIOGRAPHY, Imaging.OTHER}),
        arrangements=frozenset({Arrangement.FRAMES, Arrangement.RUN}), needs_folder=True,
        prompts=frozenset({PromptKind.NONE, PromptKind.TEXT, PromptKind.BOXES, PromptKind.POINTS}),
    )  # fmt: skip

    def __init__(
        self, *, folder: str | ModelFolder, accept_license: str = "", device: str = "cpu", dtype: str = "float32",
        wrong: str = "",
    ) -> None:  # fmt: skip
        from safetensors.numpy import load_file

        model = open_folder(folder, "toy", accept_license=accept_license)
        numbers = load_file(model.path(WEIGHTS))
        if set(numbers) != {"level"}:
            raise ConfigurationError("the weights are those of another network")
        self._level = float(numbers["level"][0])
        self._dtype, self._wrong = dtype, wrong or str(model.manifest.settings.get("wrong", ""))
        self.info = info_of(model, type(self).info)

    def segment(self, stack: ImageStack, prompt: Prompt, progress: ProgressCallback) -> Segmentation:
        """Compare with the number."""
        self.info.check_prompt(prompt)
        grey = stack.pixels.astype(np.float32)
        grey = grey.mean(axis=-1) if stack.is_colour else grey
        mask = grey < self._level
        for number, frame in enumerate(stack.frames):
            for box in prompt.on_frame(frame)[1]:
                inside = np.zeros(mask.shape[1:], np.bool_)
                inside[int(box.top) : int(box.bottom) + 1, int(box.left) : int(box.right) + 1] = True
                mask[number] &= inside
        classes = tuple(SegmentClass(one.segment, one.label or one.text) for one in prompt.questions) or (BLOOD_VESSEL,)
        masks = np.stack([mask] * len(classes))
        fine = np.where(masks, np.float32(0.7), np.float32(0.1))
        if self._wrong == "nan":
            fine[0, 0, 0, 0] = np.nan
        progress(1.0)
        return Segmentation(
            status=Status.OK if masks.any() else Status.NO_MASK,
            mask=masks[:, :, 1:] if self._wrong == "shape" else masks,
            probability=fine.astype(np.float16) * (2 if self._wrong == "large" else 1),
            classes=classes,
            scores=tuple(float(one) for one in mask.mean(axis=(1, 2))),
            parameters={"dtype": self._dtype},
            answer=f"{len(prompt.questions)} questions",
            seconds={"compare": 0.0},
            warnings=("a toy",),
            extras={"probability": fine, "seg_vector": np.full((len(classes), 3), self._level, np.float32)},
        )


def install(patch: pytest.MonkeyPatch) -> None:
    """Let the registry find it under the name ``toy``."""
    points: Mapping[str, EntryPoint] = {
        **registry._entry_points(),
        "toy": EntryPoint("toy", "toy_segmenter:ToySegmenter", registry.GROUP),
    }
    patch.setattr(registry, "_entry_points", lambda: points)

"""Makes YOLOE of ultralytics from safetensors, with everything that reaches for the network turned off."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from dicom_core.errors import ConfigurationError
from vesselq_yoloe.configuration import YoloeSettings
from worker.model_folder.opening import ModelFolder
from worker.segmenters.interface import ExamplePicture

_OFF: Mapping[str, str] = {"YOLO_OFFLINE": "true", "YOLO_AUTOINSTALL": "false", "YOLO_VERBOSE": "false"}


@dataclass(frozen=True, slots=True)
class Found:
    """The instances of one picture.

    Attributes:
        scores: ``(instances,)`` in [0, 1].
        words: ``(instances,)`` index of the word.
        masks: ``(instances, rows, columns)`` bool.
    """

    scores: NDArray[np.float32]
    words: NDArray[np.intp]
    masks: NDArray[np.bool_]


def yoloe_class() -> Any:
    """``ultralytics.YOLOE``, imported with downloads, updates and usage reports turned off.

    Raises:
        ConfigurationError: ultralytics or its torchvision is not installed.
    """
    os.environ.update(_OFF)
    try:
        import ultralytics
    except ImportError as error:
        raise ConfigurationError(f"The yoloe segmenter needs ultralytics and torchvision: {error}") from None
    ultralytics.settings.update({"sync": False})
    return ultralytics.YOLOE


class YoloeNetwork:
    """YOLOE with its words.

    Args:
        folder: Open.
        settings: From its manifest.
        device: ``"cpu"``, ``"cuda:0"``.

    Raises:
        ConfigurationError: Weights, words and architecture do not fit each other.
    """

    def __init__(self, folder: ModelFolder, settings: YoloeSettings, device: str) -> None:
        self._settings, self._device = settings, device
        self._model = yoloe_class()(settings.architecture)
        self._model.model.eval()
        if settings.mode == "prompt_free":
            self._make_prompt_free()
        try:
            self._model.model.load_state_dict(load_file(folder.path(settings.weights)), strict=True)
        except RuntimeError:
            raise ConfigurationError(
                f"{settings.weights} does not hold the weights of {settings.architecture}"
            ) from None
        if settings.mode == "text":
            self._set_words(load_file(folder.path(settings.embeddings)))
        self._model.model.to(device)

    def _set_words(self, tensors: Mapping[str, torch.Tensor]) -> None:
        embeddings = tensors.get("embeddings")
        if embeddings is None or embeddings.ndim != 3 or embeddings.shape[:2] != (1, len(self._settings.names)):
            raise ConfigurationError(
                f"{self._settings.embeddings} must hold `embeddings`, (1, {len(self._settings.names)}, width): one for "
                "each of settings.names"
            )
        self._model.set_classes(list(self._settings.names), embeddings.float())

    def _make_prompt_free(self) -> None:
        """Give the network the form of a prompt-free one; what it knows comes with the weights."""
        names, network = list(self._settings.names), self._model.model
        head = network.model[-1]
        network.set_classes(names, torch.zeros(1, len(names), head.embed))
        head.fuse(network.pe)
        branches = head.one2one_cv3 if getattr(head, "end2end", False) else head.cv3
        self._model.set_vocab(torch.nn.ModuleList(branch[-1] for branch in branches), names)

    def look(self, picture: NDArray[np.uint8], example: ExamplePicture | None = None) -> Found:
        """Find instances in one picture.

        Args:
            picture: ``(rows, columns, 3)`` RGB.
            example: For the mode visual.
        """
        more: dict[str, Any] = {}
        if example is not None:
            boxes = [[box.left, box.top, box.right, box.bottom] for box in example.boxes]
            more["refer_image"] = _bgr(example.picture)
            more["visual_prompts"] = {"bboxes": np.array(boxes), "cls": np.zeros(len(boxes), int)}
        (result,) = self._model.predict(
            _bgr(picture),
            retina_masks=True,
            conf=self._settings.confidence,
            iou=self._settings.overlap,
            max_det=self._settings.most,
            imgsz=self._settings.size,
            device=self._device,
            verbose=False,
            save=False,
            **more,
        )
        if result.masks is None:
            return Found(np.zeros(0, np.float32), np.zeros(0, int), np.zeros((0, *picture.shape[:2]), bool))
        return Found(
            result.boxes.conf.float().cpu().numpy(),
            result.boxes.cls.long().cpu().numpy(),
            result.masks.data.cpu().numpy() > 0,
        )


def _bgr(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Arrays are BGR to ultralytics."""
    return np.ascontiguousarray(picture[..., ::-1])

"""Brings pictures, places and masks to the square that the network looks at, and its answers back to the frames.

Everything that decides it stands in the folder: ``preprocessor_config.json`` as Hugging Face writes it, and in the
settings of the manifest the keys ``stretch`` and ``min_max`` for what that file has no words for (MedSAM).
"""

import json
from collections.abc import Sequence
from typing import Any, Self

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from dicom_core.errors import ConfigurationError
from worker.model_folder.opening import ModelFolder

PREPROCESSOR_FILE = "preprocessor_config.json"
_BILINEAR = 2
"""Number of the bilinear filter in Pillow, which Hugging Face writes as ``resample``."""
_KNOWN = 10.0
"""Logit of a pixel that a mask shows, and with the other sign of one that it does not."""


class PreprocessorFile(BaseModel):
    """What is read of ``preprocessor_config.json``; its other keys change nothing here."""

    model_config = ConfigDict(extra="ignore", frozen=True)

    size: dict[str, int] = Field(default_factory=dict)
    resample: int = _BILINEAR
    do_rescale: bool = True
    rescale_factor: float = Field(default=1 / 255, gt=0)
    do_normalize: bool = True
    image_mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    image_std: tuple[float, float, float] = (0.229, 0.224, 0.225)


class ManifestSettings(BaseModel):
    """What the manifest may say besides; None leaves it to ``preprocessor_config.json``."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    stretch: bool | None = None
    min_max: bool = False


class Preparation(BaseModel):
    """How a picture becomes the input of a network.

    Attributes:
        size: Side of the square in pixels.
        stretch: Fill the square, whatever the aspect; else the longer side fills it and zeros are added at the right
            or at the bottom.
        min_max: Bring each picture to 0..1 by its own darkest and brightest value, as MedSAM learnt it.
        pillow: Resize with Pillow, as the processor of SAM does; else with torch, as that of SAM 2: they round a little
            differently.
        factor: What a pixel (0 to 255) is multiplied by, unless ``min_max``.
        mean: Subtracted from each channel after that.
        std: Divided by after that.
    """

    model_config = ConfigDict(frozen=True)

    size: int
    stretch: bool
    min_max: bool = False
    pillow: bool = True
    factor: float = 1 / 255
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)

    @classmethod
    def of_folder(cls, model: ModelFolder, size: int, *, stretch: bool, pillow: bool) -> Self:
        """Read the preparation that a folder of weights asks for.

        Args:
            model: The folder.
            size: Side of the square that the network takes.
            stretch: Whether to stretch where the folder does not say.
            pillow: As the attribute.

        Raises:
            ConfigurationError: The folder asks for something else than the network takes, or for an unknown way.
        """
        file = _read(model)
        try:
            said = ManifestSettings.model_validate(model.manifest.settings)
        except ValidationError as error:
            raise ConfigurationError(
                f"{model.folder}: the manifest's settings of this system are stretch and min_max, true or false"
            ) from error
        if file.size:
            stretch = "longest_edge" not in file.size
        if file.resample != _BILINEAR or any(side != size for side in file.size.values()):
            raise ConfigurationError(
                f"{model.folder / PREPROCESSOR_FILE} must ask for bilinear resampling to {size}, the size of the "
                "network"
            )
        return cls(
            size=size,
            stretch=stretch if said.stretch is None else said.stretch,
            min_max=said.min_max,
            pillow=pillow,
            factor=file.rescale_factor if file.do_rescale else 1.0,
            mean=file.image_mean if file.do_normalize else (0.0, 0.0, 0.0),
            std=file.image_std if file.do_normalize else (1.0, 1.0, 1.0),
        )

    def inner_size(self, shape: tuple[int, int]) -> tuple[int, int]:
        """Rows and columns of the square that a picture of ``(rows, columns)`` fills."""
        if self.stretch:
            return self.size, self.size
        rows, columns = (int(side * self.size / max(shape) + 0.5) for side in shape)
        return max(rows, 1), max(columns, 1)

    def pixels(self, pictures: Sequence[NDArray[np.uint8]]) -> torch.Tensor:
        """Pictures ``(rows, columns, 3)`` uint8 RGB of any sizes as ``(pictures, 3, size, size)`` float32."""
        return torch.stack([self._pixels(picture) for picture in pictures])

    def _pixels(self, picture: NDArray[np.uint8]) -> torch.Tensor:
        rows, columns = self.inner_size((picture.shape[0], picture.shape[1]))
        # Both round to whole grey levels, as in the pictures that the networks learnt from.
        if self.pillow:
            resized = Image.fromarray(picture).resize((columns, rows), Image.Resampling.BILINEAR)
            values = torch.from_numpy(np.array(resized)).permute(2, 0, 1).float()
        else:
            levels = torch.from_numpy(picture).permute(2, 0, 1)[None]
            values = F.interpolate(levels, size=(rows, columns), mode="bilinear", antialias=True)[0].float()
        if self.min_max:
            low, high = values.min(), values.max()
            values = (values - low) / (high - low).clamp(min=1e-8)
        else:
            values = values * self.factor
        values = (values - torch.tensor(self.mean)[:, None, None]) / torch.tensor(self.std)[:, None, None]
        return F.pad(values, (0, self.size - columns, 0, self.size - rows))

    def places(self, places: NDArray[np.float32], shape: tuple[int, int]) -> torch.Tensor:
        """Places ``(..., 2)``, x and y in pixels of a frame of ``(rows, columns)``, in pixels of the square.

        A place is multiplied by the ratio of the sizes, as the networks learnt it; the half pixel by which its centre
        lies off the corner is added inside the network.
        """
        rows, columns = self.inner_size(shape)
        scale = np.array([columns / shape[1], rows / shape[0]])
        return torch.from_numpy((places * scale).astype(np.float32))

    def mask_logits(self, mask: NDArray[np.bool_], side: int) -> torch.Tensor:
        """A mask ``(rows, columns)`` of a frame as ``(1, side, side)`` logits for the network."""
        rows, columns = (max(1, round(inner * side / self.size)) for inner in self.inner_size(_shape(mask)))
        share = F.interpolate(
            torch.from_numpy(mask).float()[None, None], size=(rows, columns), mode="bilinear", antialias=True
        )
        return F.pad((2 * share - 1) * _KNOWN, (0, side - columns, 0, side - rows), value=-_KNOWN)[0]

    def to_frame(self, logits: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
        """Logits ``(masks, side, side)`` of the square as ``(masks, rows, columns)`` of the frame."""
        logits = logits[:, None]
        if not self.stretch:
            rows, columns = self.inner_size(shape)
            logits = F.interpolate(logits, size=(self.size, self.size), mode="bilinear", align_corners=False)
            logits = logits[..., :rows, :columns]
        return F.interpolate(logits, size=shape, mode="bilinear", align_corners=False)[:, 0]

    def in_words(self) -> str:
        """For the account of a result."""
        fit = "stretched" if self.stretch else "longer side, padded"
        scale = "min-max" if self.min_max else f"x {self.factor:.6g}"
        normal = ", mean and deviation" if self.std != (1.0, 1.0, 1.0) else ""
        return f"{self.size} x {self.size}, {fit}, {scale}{normal}"


def _shape(mask: NDArray[np.bool_]) -> tuple[int, int]:
    return mask.shape[0], mask.shape[1]


def _read(model: ModelFolder) -> PreprocessorFile:
    if not model.has(PREPROCESSOR_FILE):
        return PreprocessorFile()
    path = model.path(PREPROCESSOR_FILE)
    try:
        values: Any = json.loads(path.read_bytes())
        return PreprocessorFile.model_validate(values)
    except (ValueError, RecursionError) as error:  # a ValidationError is a ValueError
        raise ConfigurationError(f"{path} is not what Hugging Face writes for SAM: {_first_line(error)}") from None


def _first_line(error: Exception) -> str:
    if isinstance(error, ValidationError):
        first = error.errors()[0]
        return f"{'.'.join(str(step) for step in first['loc'])}: {first['msg']}"
    return "it is no JSON"

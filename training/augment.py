"""What may differ between cameras, sites and patients: changes of a picture that leave its vessels where they are.

Each function takes and gives ``(1, 1, rows, columns)`` float32 in [0, 1] and draws from the generator it is given.
"""

import io
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from PIL import Image

Change = Callable[[torch.Tensor, np.random.Generator], torch.Tensor]


def changed(picture: torch.Tensor, generator: np.random.Generator) -> torch.Tensor:
    """Return the picture as another camera might have taken it."""
    for probability, change in _CHANGES:
        if generator.random() < probability:
            picture = change(picture, generator)
    return picture.clamp(0.0, 1.0)


def gamma(picture: torch.Tensor, generator: np.random.Generator) -> torch.Tensor:
    """Bend the grey curve."""
    return picture.clamp(1e-4, 1.0) ** float(np.exp(generator.normal(0.0, 0.35)))


def contrast(picture: torch.Tensor, generator: np.random.Generator) -> torch.Tensor:
    """Stretch or squeeze intensities about their mean, and lift or lower them."""
    mean = picture.mean()
    gain, offset = float(generator.uniform(0.35, 1.4)), float(generator.uniform(-0.15, 0.15))
    return (mean + (picture - mean) * gain + offset).clamp(0.0, 1.0)


def illumination(picture: torch.Tensor, generator: np.random.Generator) -> torch.Tensor:
    """Light unevenly, as lamps, scatter and the thickness of the patient do."""
    size = int(generator.integers(2, 6))
    coarse = torch.from_numpy(generator.normal(0.0, 0.25, (1, 1, size, size)).astype(np.float32))
    light = F.interpolate(coarse, size=picture.shape[-2:], mode="bicubic", align_corners=True)
    return picture * torch.exp(light)


def blur(picture: torch.Tensor, generator: np.random.Generator) -> torch.Tensor:
    """Defocus."""
    return _gaussian(picture, float(generator.uniform(0.4, 1.6)))


def sharpen(picture: torch.Tensor, generator: np.random.Generator) -> torch.Tensor:
    """Enhance edges as consoles do, halos included."""
    return picture + float(generator.uniform(0.3, 1.5)) * (picture - _gaussian(picture, 1.5))


def resolution(picture: torch.Tensor, generator: np.random.Generator) -> torch.Tensor:
    """Lose detail and come back to the same size."""
    rows, columns = picture.shape[-2:]
    factor = float(generator.uniform(0.45, 0.9))
    small = F.interpolate(picture, size=(round(rows * factor), round(columns * factor)), mode="area")
    return F.interpolate(small, size=(rows, columns), mode="bilinear", align_corners=False)


def noise(picture: torch.Tensor, generator: np.random.Generator) -> torch.Tensor:
    """Add noise, fine or blotchy, everywhere alike or stronger where it is bright."""
    grain = torch.from_numpy(generator.standard_normal(tuple(picture.shape), np.float32))
    if generator.random() < 0.4:
        grain = 2.2 * _gaussian(grain, 0.8)
    strength = float(generator.uniform(0.005, 0.07))
    if generator.random() < 0.5:
        grain = grain * (0.3 + picture).clamp(min=0).sqrt()
    return picture + strength * grain


def stripes(picture: torch.Tensor, generator: np.random.Generator) -> torch.Tensor:
    """Shift the brightness of rows, as eye movement and detectors do."""
    rows = picture.shape[-2]
    shifts = generator.normal(0.0, 0.04, (1, 1, rows, 1)) * (generator.random((1, 1, rows, 1)) < 0.2)
    return picture + torch.from_numpy(shifts.astype(np.float32))


def compression(picture: torch.Tensor, generator: np.random.Generator) -> torch.Tensor:
    """Go through JPEG."""
    grey = (picture[0, 0].clamp(0, 1).numpy() * 255).astype(np.uint8)
    with io.BytesIO() as buffer:
        Image.fromarray(grey).save(buffer, "JPEG", quality=int(generator.integers(25, 85)))
        with Image.open(buffer) as back:
            return torch.from_numpy(np.asarray(back, np.float32) / 255.0)[None, None]


def depth(picture: torch.Tensor, generator: np.random.Generator) -> torch.Tensor:
    """Keep few grey levels."""
    levels = float(generator.integers(24, 96))
    return torch.round(picture * levels) / levels


def occlusion(picture: torch.Tensor, generator: np.random.Generator) -> torch.Tensor:
    """Cover small patches with an even grey: lesions, electrodes, markers."""
    rows, columns = picture.shape[-2:]
    covered = picture.clone()
    for _ in range(int(generator.integers(1, 4))):
        height, width = generator.integers(4, 28, 2)
        top, left = generator.integers(0, rows - height), generator.integers(0, columns - width)
        covered[..., top : top + height, left : left + width] = float(generator.random())
    return covered


_CHANGES: tuple[tuple[float, Change], ...] = (
    (0.5, gamma),
    (0.4, illumination),
    (0.4, contrast),
    (0.08, occlusion),
    (0.25, blur),
    (0.15, sharpen),
    (0.2, resolution),
    (0.5, noise),
    (0.06, stripes),
    (0.12, compression),
    (0.06, depth),
)
"""In the order in which they come about: light, patient, optics, detector, storage."""


def _gaussian(picture: torch.Tensor, sigma: float) -> torch.Tensor:
    reach = max(1, round(2.5 * sigma))
    steps = torch.arange(-reach, reach + 1, dtype=picture.dtype)
    kernel = torch.exp(-0.5 * (steps / sigma) ** 2)
    kernel = kernel / kernel.sum()
    padded = F.pad(picture, (reach, reach, reach, reach), mode="replicate")
    return F.conv2d(F.conv2d(padded, kernel[None, None, :, None]), kernel[None, None, None, :])

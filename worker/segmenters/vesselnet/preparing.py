"""What the network is given of a picture: one size, one polarity, one contrast, whatever the camera.

Training uses the same functions, so that nothing differs between what was learnt and what is asked.
"""

from collections.abc import Mapping
from types import MappingProxyType

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from numpy.typing import NDArray

from worker.image_stack import Imaging
from worker.segmenters.field_of_view import between_leaves, diameter_of, field_of_view, shrink

BRIGHT = frozenset({Imaging.OCT_ANGIOGRAPHY})
"""Kinds of picture whose vessels are bright; the others' intensities are turned over."""
WORKING_SIZES: Mapping[Imaging, float] = MappingProxyType(
    {Imaging.XRAY_ANGIOGRAPHY: 384.0, Imaging.FUNDUS: 800.0, Imaging.OCT_ANGIOGRAPHY: 448.0}
)
"""Width of the field of view in pixels at which the network looks; there vessels of all kinds have like calibres."""
_RIM = 0.006
"""Share of its diameter by which the field of a fundus picture is narrowed: its border is dark, and no vessel."""
_FINE_SIGMA = 16.0
"""Intensity is compared with its surroundings this wide: wider than any vessel at the working size."""
_COARSE_SIGMA = 48.0
"""Contrast is measured over this width; it must be narrow enough for a crop in training to show it."""
_REDUCED = 8
"""Means over such widths are taken of a picture reduced by this."""
_LEAST_CONTRAST = 0.006
"""Share of the full range below which structure is not blown up: one and a half grey levels of 8 bit."""
_CLIP = 5.0
_NARROWEST = 0.5
"""Share of its picture's longer side that a field of view has at least. What seems narrower is no photograph of the
kind, or not exposed, and would be blown up to more than memory holds."""


def intensity_of(pixels: NDArray[np.float32] | NDArray[np.uint8], imaging: Imaging) -> NDArray[np.float32]:
    """Return ``(frames, rows, columns)`` float32 in [0, 1] of frames that belong together; 1 is the brightest.

    Args:
        pixels: ``(frames, rows, columns)`` in any units, or ``(frames, rows, columns, 3)`` uint8 RGB.
        imaging: Haemoglobin absorbs green most, so the green channel stands for a fundus photograph.
    """
    if pixels.ndim == 4:
        weights = (0.0, 1.0, 0.0) if imaging is Imaging.FUNDUS else (0.299, 0.587, 0.114)
        return np.tensordot(pixels, np.array(weights, np.float32) / 255.0, axes=1).astype(np.float32)
    sample = pixels[:, ::2, ::2]
    low, high = min(0.0, float(np.percentile(sample, 0.1))), float(np.percentile(sample, 99.9))
    if not high > low:
        return np.zeros(pixels.shape, np.float32)
    return np.asarray(np.clip((pixels - low) / (high - low), 0.0, 1.0), np.float32)


def field_of(intensity: NDArray[np.float32], imaging: Imaging) -> tuple[NDArray[np.bool_], float]:
    """Return where frames that share a field of view show something, and the length that decides their scale.

    Args:
        intensity: ``(frames, rows, columns)`` from :func:`intensity_of`.
        imaging: X-ray pictures have a collimator, and their scale follows the detector and not its opening.

    Returns:
        ``(rows, columns)`` bool, and pixels.
    """
    brightest = intensity.max(axis=0)
    shown = field_of_view(brightest)
    if imaging is Imaging.XRAY_ANGIOGRAPHY:
        return between_leaves(brightest, shown), float(min(shown.shape))
    diameter = diameter_of(shown)
    if imaging is Imaging.FUNDUS and not shown.all():
        shown = shrink(shown, _RIM * diameter)
    return shown, diameter


def working_shape(shape: tuple[int, int], diameter: float, working_size: float) -> tuple[int, int]:
    """Return rows and columns of a picture whose field of view is to be ``working_size`` pixels wide.

    Neither is ever more than twice ``working_size``.
    """
    factor = working_size / max(1.0, diameter, _NARROWEST * max(shape))
    return max(1, round(shape[0] * factor)), max(1, round(shape[1] * factor))


def resized(images: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
    """Return ``(pictures, channels, rows, columns)`` images at another size, without aliasing."""
    if tuple(images.shape[-2:]) == shape:
        return images
    return F.interpolate(images, size=shape, mode="bilinear", align_corners=False, antialias=True)


def channels(intensity: torch.Tensor, shown: torch.Tensor, *, bright: bool) -> torch.Tensor:
    """Return what the network takes.

    Args:
        intensity: ``(pictures, 1, rows, columns)`` float in [0, 1] at the working size.
        shown: The same shape, 1 in the field of view and 0 outside.
        bright: Whether vessels are brighter than their surroundings.

    Returns:
        ``(pictures, 3, rows, columns)``: fine and coarse normalised intensity, in which vessels are bright, and the
        field of view. Outside the field all are 0.
    """
    turned = intensity if bright else 1.0 - intensity
    fine = _normalised(turned, shown, _FINE_SIGMA)
    coarse = _normalised(turned, shown, _COARSE_SIGMA)
    return torch.cat([fine, coarse, shown], dim=1)


def _normalised(images: torch.Tensor, shown: torch.Tensor, sigma: float) -> torch.Tensor:
    residual = (images - _local_mean(images, shown, sigma)) * shown
    contrast = _local_mean(residual**2, shown, _COARSE_SIGMA).clamp(min=0).sqrt()
    return (residual / contrast.clamp(min=_LEAST_CONTRAST)).clamp(-_CLIP, _CLIP)


def _local_mean(images: torch.Tensor, shown: torch.Tensor, sigma: float) -> torch.Tensor:
    """Return the mean over a Gaussian neighbourhood inside the field of view."""
    rows, columns = images.shape[-2:]
    edge = (0, -columns % _REDUCED, 0, -rows % _REDUCED)
    sums = F.avg_pool2d(F.pad(torch.cat([images * shown, shown], dim=1), edge), _REDUCED)
    total, weight = _blurred(sums, sigma / _REDUCED).chunk(2, dim=1)
    mean = total / weight.clamp(min=1e-4)
    size = (rows + edge[3], columns + edge[1])
    return F.interpolate(mean, size=size, mode="bilinear", align_corners=False)[..., :rows, :columns]


def _blurred(images: torch.Tensor, sigma: float) -> torch.Tensor:
    reach = round(2.5 * sigma)
    steps = torch.arange(-reach, reach + 1, dtype=images.dtype, device=images.device)
    kernel = torch.exp(-0.5 * (steps / sigma) ** 2)
    count = int(images.shape[1])  # a plain number also while the network is written as ONNX
    kernel = (kernel / kernel.sum()).expand(count, 1, -1)
    along = F.conv2d(images, kernel[:, :, :, None], padding=(reach, 0), groups=count)
    return F.conv2d(along, kernel[:, :, None, :], padding=(0, reach), groups=count)

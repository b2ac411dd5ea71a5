"""Synthetic vessels with known masks, for the ridge segmenter and the contract of all segmenters."""

import numpy as np
from numpy.typing import NDArray

from worker.image_stack import Arrangement, FrameIdentity, ImageStack, Imaging

LEVEL, DEPTH, NOISE = 140.0, 50.0, 3.0
"""Grey level of the background, how far a vessel differs from it, and the standard deviation of the noise."""


def stack_of(
    pixels: NDArray[np.float32] | NDArray[np.uint8],
    imaging: Imaging,
    arrangement: Arrangement = Arrangement.FRAMES,
    spacing_mm: tuple[float, float, float] | None = None,
) -> ImageStack:
    """Return a stack of one multi-frame instance."""
    frames = tuple(FrameIdentity("2.25.7", number) for number in range(1, len(pixels) + 1))
    return ImageStack(pixels, arrangement, imaging, frames, spacing_mm=spacing_mm)


def vessel_mask(size: int = 256, seed: int = 0) -> NDArray[np.bool_]:
    """Return ``(rows, columns)`` bool: two winding vessels, 5 and 9 pixels wide, from border to border."""
    rows, columns = np.mgrid[:size, :size].astype(np.float64)
    phase = np.random.default_rng(seed).uniform(0, 2 * np.pi)
    across = size * (0.35 + 0.08 * np.sin(columns / size * 7 + phase))
    down = size * (0.6 + 0.1 * np.sin(rows / size * 6 + phase))
    return (np.abs(rows - across) < 2.5) | (np.abs(columns - down) < 4.5)


def picture(mask: NDArray[np.bool_], *, bright: bool, seed: int = 0) -> NDArray[np.float32]:
    """Return ``(rows, columns)`` float32: the vessels over a slanting background, with noise."""
    random = np.random.default_rng(seed)
    slant = np.linspace(-20, 20, mask.shape[1])[None, :]
    depth = DEPTH if bright else -DEPTH
    return (LEVEL + slant + depth * mask + random.normal(0, NOISE, mask.shape)).astype(np.float32)


def ct_volume(
    spacing_mm: tuple[float, float, float], radius_mm: float, extent_mm: float = 60.0, seed: int = 0
) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Return Hounsfield units and mask, ``(slices, rows, columns)``: a slanting contrast-filled tube in soft tissue."""
    shape = tuple(int(extent_mm / step) for step in spacing_mm)
    z, y, x = (index * step for index, step in zip(np.indices(shape, np.float32), spacing_mm, strict=True))
    middle = extent_mm / 2
    # The axis runs along (1, 0.4, 0.2): the distance is that to a line through the middle of the volume.
    direction = np.array([1.0, 0.4, 0.2]) / np.linalg.norm([1.0, 0.4, 0.2])
    offsets = np.stack([z - middle, y - middle, x - middle])
    along = np.tensordot(direction, offsets, axes=1)
    distance = np.sqrt(np.maximum((offsets**2).sum(axis=0) - along**2, 0))
    mask = distance < radius_mm
    noise = np.random.default_rng(seed).normal(0, 12, shape)
    return np.where(mask, 320.0, 45.0).astype(np.float32) + noise.astype(np.float32), mask


def dice(mask: NDArray[np.bool_], truth: NDArray[np.bool_]) -> float:
    """Return twice the common pixels over the sum of both."""
    return 2.0 * float((mask & truth).sum()) / max(1.0, float(mask.sum() + truth.sum()))

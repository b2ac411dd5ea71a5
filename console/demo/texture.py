"""Soft irregularity and soft edges for generated pictures."""

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import make_interp_spline


def smooth_noise(shape: tuple[int, ...], scales: tuple[float, ...], rng: np.random.Generator) -> NDArray[np.float32]:
    """Noise without edges, mean 0 and standard deviation 1.

    Args:
        shape: Of the result.
        scales: Size of its blobs in cells, one an axis.
        rng: The source of chance.

    Returns:
        float32 of ``shape``.
    """
    coarse = tuple(int(np.ceil(size / scale)) + 4 for size, scale in zip(shape, scales, strict=True))
    noise = rng.normal(size=coarse).astype(np.float32)
    for axis, (size, scale) in enumerate(zip(shape, scales, strict=True)):
        positions = rng.uniform(0.5, 1.5) + np.arange(size) / scale
        noise = make_interp_spline(np.arange(coarse[axis]), noise, k=3, axis=axis)(positions).astype(np.float32)
    even: NDArray[np.float32] = (noise - noise.mean()) / noise.std()
    return even


def soft_step(distance: NDArray[np.floating], width: float) -> NDArray[np.float32]:
    """0 far below zero, 1 far above, a smooth edge of about ``width`` between."""
    step: NDArray[np.float32] = (1 / (1 + np.exp(np.clip(-4 * distance / width, -40, 40)))).astype(np.float32)
    return step

"""The ridge method on volumes: tubes by the Hessian, large vessels by their Hounsfield units, bone left out."""

import math
from collections.abc import Callable, Iterator

import numpy as np
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from numpy.typing import NDArray

from worker.image_stack import ImageStack
from worker.segmenters.hessian import Spacing, blur, tubes
from worker.segmenters.ridge_pictures import STEEPNESS, Found
from worker.segmenters.ridge_settings import VOLUMES, Polarity, VolumeSettings

_BYTES_PER_VOXEL = 120
"""Peak memory of the filter for each voxel of a slab: about thirty float32 arrays."""
_HALO = 3.0
"""A slab is filtered with this many of the largest standard deviations on either side, then cut."""
_IDEAL_RESPONSE = 0.25
"""What ``tubes`` answers inside a tube of height 1, so that contrasts can be given in the units of the volume."""
_LUMEN_SIGMA_MM = 0.8
"""Noise is averaged over this before a voxel is compared with the range of lumen."""
_LUMEN_SOFTNESS = 15.0
"""Hounsfield units over which the probability of lumen rises from 0.5 to 0.73."""
_CORE_SIGMA_MM = 2.5
"""The neighbourhood in which the inside of a large vessel must look even."""
_CORE_DEVIATION = 30.0
"""Standard deviation in Hounsfield units in that neighbourhood, after averaging: contrast medium is even, marrow
between its trabeculae and ribs are not."""
_CORE_REACH_MM = 4.0
"""From its even core, lumen is followed this far out to the wall."""
_BONE_REACH_MM = 4.0
"""Marrow has the Hounsfield units of lumen, but compact bone is about this near."""
_BONE_SHARE = 0.03
"""Share of compact bone in the neighbourhood above which a tube counts as part of a bone. A small plaque is less."""
_COARSE_MM = 1.5
"""Cores and bones are looked for on a volume reduced to about this spacing."""


def find_in_volume(stack: ImageStack, device: str, memory_bytes: int, progress: Callable[[float], None]) -> Found:
    """Look for vessels in parallel slices.

    Args:
        stack: A volume of CT (Hounsfield units) or MR; spacing 1 mm where it is unknown.
        device: Where torch works.
        memory_bytes: About how much the filter may use at a time; a slab is never thinner than
            its halo, since it would be filtered many times over.
        progress: Called after each slab with the finished share.
    """
    settings = VOLUMES[stack.imaging]
    spacing = stack.spacing_mm or (1.0, 1.0, 1.0)
    window = settings.window or _range_of(stack.pixels)
    probability = np.zeros(stack.pixels.shape[:3], np.float16)
    for slab, around in _slabs(stack.pixels.shape, settings, spacing, memory_bytes):
        voxels = torch.from_numpy(np.ascontiguousarray(_grey(stack.pixels[around]))).to(device)[None, None]
        found = _probability(voxels, window, settings, spacing)[0, 0]
        inner = found[slab.start - around.start : slab.stop - around.start]
        probability[slab] = inner.cpu().numpy().astype(np.float16)
        progress(slab.stop / len(stack.pixels))
    size = max(1, round(settings.minimum_volume_mm3 / math.prod(spacing)))
    return Found(probability, size, Polarity.BRIGHT)


def _probability(
    voxels: torch.Tensor, window: tuple[float, float], settings: VolumeSettings, spacing: Spacing
) -> torch.Tensor:
    low, high = window
    if high <= low:
        return torch.zeros_like(voxels)
    scaled = (voxels.clamp(low, high) - low) / (high - low)
    response = torch.zeros_like(scaled)
    for sigma_mm in settings.scales_mm:
        torch.maximum(response, tubes(scaled, sigma_mm, spacing), out=response)
    probability = _rising(response / (settings.contrast * _IDEAL_RESPONSE))
    if settings.bone is not None:
        share = blur((voxels > settings.bone).to(voxels.dtype), _BONE_REACH_MM, spacing)
        probability = probability * _falling(share / _BONE_SHARE)
    if settings.lumen is not None:
        in_range = _in_range(
            blur(voxels.clamp(low - (high - low), 2 * high - low), _LUMEN_SIGMA_MM, spacing), settings.lumen
        )
        near_core = _near_core(voxels.clamp(low - 50, high + 250), settings.lumen, spacing)
        probability = torch.maximum(probability * _rising(in_range / 0.25), in_range * near_core)
    return probability


def _in_range(smooth: torch.Tensor, lumen: tuple[float, float]) -> torch.Tensor:
    least, most = lumen
    return torch.sigmoid((smooth - least) / _LUMEN_SOFTNESS) * torch.sigmoid((most - smooth) / _LUMEN_SOFTNESS)


def _near_core(voxels: torch.Tensor, lumen: tuple[float, float], spacing: Spacing) -> torch.Tensor:
    """Return 1 near the even inside of a large vessel, 0 elsewhere."""
    shape = voxels.shape[-3:]
    factors = [max(1, min(int(_COARSE_MM / step), n // 4)) for step, n in zip(spacing, shape, strict=True)]
    steps = (spacing[0] * factors[0], spacing[1] * factors[1], spacing[2] * factors[2])
    coarse = blur(F.avg_pool3d(voxels, factors, ceil_mode=True, count_include_pad=False), 1.0, steps)
    mean = blur(coarse, _CORE_SIGMA_MM, steps)
    deviation = (blur(coarse**2, _CORE_SIGMA_MM, steps) - mean**2).clamp(min=0).sqrt()
    core = (mean > lumen[0]) & (mean < lumen[1]) & (deviation < _CORE_DEVIATION)
    grown = (blur(core.to(voxels.dtype), _CORE_REACH_MM / 2, steps) > 0.03).to(voxels.dtype)
    size = tuple(n * f for n, f in zip(grown.shape[-3:], factors, strict=True))
    return F.interpolate(grown, size=size, mode="nearest")[..., : shape[0], : shape[1], : shape[2]]


def _rising(ratio: torch.Tensor) -> torch.Tensor:
    powers = ratio**STEEPNESS
    return powers / (1 + powers)


def _falling(ratio: torch.Tensor) -> torch.Tensor:
    return 1 / (1 + ratio**STEEPNESS)


def _slabs(
    shape: tuple[int, ...], settings: VolumeSettings, spacing: Spacing, memory_bytes: int
) -> Iterator[tuple[slice, slice]]:
    """Yield slices of the first axis: what to keep, and what to filter for it."""
    slices, rows, columns = shape[:3]
    halo = math.ceil(_HALO * max(*settings.scales_mm, _BONE_REACH_MM) / spacing[0])
    step = max(1, halo, memory_bytes // (rows * columns * _BYTES_PER_VOXEL) - 2 * halo)
    for start in range(0, slices, step):
        stop = min(start + step, slices)
        yield slice(start, stop), slice(max(0, start - halo), min(slices, stop + halo))


def _range_of(pixels: NDArray[np.float32] | NDArray[np.uint8]) -> tuple[float, float]:
    """Return the intensities between which almost all of a volume lies."""
    low, high = np.percentile(_grey(pixels[:, ::2, ::2]), (1.0, 99.8))
    return float(low), float(high)


def _grey(pixels: NDArray[np.float32] | NDArray[np.uint8]) -> NDArray[np.float32]:
    return np.asarray(pixels.mean(axis=-1) if pixels.ndim == 4 else pixels, np.float32)

"""Ridges in pictures: elongated second derivatives of Gaussians over several scales, in torch.

For elongation 1 the strongest second derivative over all directions is the larger eigenvalue of the Hessian matrix,
the measure of Sato and Frangi; longer Gaussians average along the vessel and so let noise pass less.
"""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention

_DIRECTIONS_PER_ELONGATION = 4
"""Half a turn has this many directions times the elongation: the longer, the narrower the angle that a kernel sees."""
_WORKING_SIGMA = 1.15
"""Each scale runs on a picture reduced until its Gaussian is this wide or a little more: the narrowest that still
samples a second derivative well. Larger pictures cost more and give the same masks."""
_MEDIAN_TO_DEVIATION = 0.6745
"""The median of the absolute value of Gaussian noise over its standard deviation."""
_DIFFERENCE_GAIN = 6.0
"""Root of the sum of squares of the weights 1 -2 1 by 1 -2 1."""
_SAMPLE = 50_000
"""Pixels that the noise is measured from."""
_REACH = 3.0
"""Kernels end after this many standard deviations across the vessel."""
_REACH_ALONG = 2.0
"""And after this many along it, where only the average suffers."""


def blur(images: torch.Tensor, sigma: float) -> torch.Tensor:
    """Return Gaussian means of ``images``.

    Args:
        images: ``(frames, 1, rows, columns)`` float32.
        sigma: Standard deviation in pixels; wide ones run on a reduced picture.
    """
    rows, columns = images.shape[-2:]
    factor = _reduction(sigma / 2.0, rows, columns)
    reduced = _reduce(images, factor)
    narrow = sigma / factor
    reach = max(1, math.ceil(3 * narrow))
    offsets = torch.arange(-reach, reach + 1, device=images.device, dtype=images.dtype)
    weights = torch.exp(-(offsets**2) / (2 * narrow**2))
    weights = weights / weights.sum()
    reduced = F.conv2d(_pad(reduced, reach, 0), weights[None, None, None, :])
    reduced = F.conv2d(_pad(reduced, 0, reach), weights[None, None, :, None])
    return _enlarge(reduced, factor, rows, columns)


def ridges(
    images: torch.Tensor, sigmas: Sequence[float], *, elongation: float, scale_preference: float = 0.0
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return how much each pixel lies on a bright and on a dark ridge.

    Args:
        images: ``(frames, 1, rows, columns)`` float32 with the background taken off.
        sigmas: Standard deviations in pixels, rising.
        elongation: Length of the Gaussians over their width.
        scale_preference: Exponent of the scale by which its response is multiplied; 0 treats all alike.

    Returns:
        ``(bright, dark)``, each shaped like ``images``, at least 0, in the units of ``images``.
    """
    rows, columns = images.shape[-2:]
    bright = torch.zeros_like(images)
    dark = torch.zeros_like(images)
    for sigma in sigmas:
        factor = _reduction(sigma, rows, columns)
        kernels = _oriented_kernels(sigma / factor, elongation).to(images)
        reach = kernels.shape[-1] // 2
        responses = F.conv2d(_pad(_reduce(images, factor), reach, reach), kernels)
        weight = (sigma / sigmas[0]) ** scale_preference
        for best, strongest in (
            (bright, responses.amax(dim=1, keepdim=True)),
            (dark, -responses.amin(dim=1, keepdim=True)),
        ):
            torch.maximum(best, weight * _enlarge(strongest, factor, rows, columns), out=best)
    return bright, dark


def noise_response(images: torch.Tensor, inside: torch.Tensor, sigma: float, elongation: float) -> float:
    """Return the standard deviation of what ``ridges`` answers at one scale to the white noise in pictures.

    The noise is measured by a difference of two Laplacians, which neither ramps nor ridges wider than a few pixels
    excite (Immerkaer 1996), taken by its median, and carried through the kernel by the sum of its squares.

    Args:
        images: ``(frames, 1, rows, columns)`` float32.
        inside: ``(rows, columns)`` bool, where to look; its median over frames counts.
        sigma: Standard deviation in pixels.
        elongation: As for :func:`ridges`.
    """
    padded = _pad(images, 1, 1)
    down = padded[..., 2:, :] - 2 * padded[..., 1:-1, :] + padded[..., :-2, :]
    difference = (down[..., 2:] - 2 * down[..., 1:-1] + down[..., :-2]).abs()
    samples = difference[:, 0][:, inside].flatten()
    middle = samples[:: max(1, len(samples) // _SAMPLE)].median()
    noise = float(middle) / (_MEDIAN_TO_DEVIATION * _DIFFERENCE_GAIN)
    return noise * float((_oriented_kernels(sigma, elongation)[0] ** 2).sum().sqrt())


def _oriented_kernels(sigma: float, elongation: float) -> torch.Tensor:
    """Return ``(directions, 1, size, size)``: minus the scale-normalised second derivative across each direction."""
    reach = math.ceil(max(_REACH * sigma, _REACH_ALONG * sigma * elongation))
    offsets = torch.arange(-reach, reach + 1, dtype=torch.float64)
    y, x = torch.meshgrid(offsets, offsets, indexing="ij")
    kernels = []
    directions = max(4, round(_DIRECTIONS_PER_ELONGATION * elongation))
    for step in range(directions):
        angle = math.pi * step / directions
        across = x * math.cos(angle) + y * math.sin(angle)
        along = y * math.cos(angle) - x * math.sin(angle)
        gaussian = torch.exp(-(across**2) / (2 * sigma**2) - along**2 / (2 * (elongation * sigma) ** 2))
        gaussian = gaussian / gaussian.sum()
        kernel = gaussian * (1 - across**2 / sigma**2)
        kernels.append(kernel - gaussian * kernel.sum())  # a flat picture has no ridge, whatever the sampling
    return torch.stack(kernels)[:, None].float()


def _reduction(sigma: float, rows: int, columns: int) -> int:
    """Return by which whole number a picture is reduced before a Gaussian of this width."""
    return max(1, min(int(sigma / _WORKING_SIGMA), rows // 8, columns // 8))


def _reduce(images: torch.Tensor, factor: int) -> torch.Tensor:
    if factor == 1:
        return images
    return F.avg_pool2d(images, factor, ceil_mode=True, count_include_pad=False)


def _enlarge(images: torch.Tensor, factor: int, rows: int, columns: int) -> torch.Tensor:
    if factor == 1:
        return images
    return F.interpolate(images, scale_factor=factor, mode="bilinear", align_corners=False)[..., :rows, :columns]


def _pad(images: torch.Tensor, columns: int, rows: int) -> torch.Tensor:
    return F.pad(images, (columns, columns, rows, rows), mode="replicate")

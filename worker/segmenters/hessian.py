"""Tubes in volumes: eigenvalues of the Hessian at scales in millimetres, in torch."""

import math

import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention

Spacing = tuple[float, float, float]
"""Millimetres between slices, rows and columns."""

_WORKING_SIGMA = 1.15
"""Each scale runs on a volume reduced until its Gaussian is about this many voxels wide."""
_LEAST_SIGMA = 0.2
"""In voxels; below, the neighbour would weigh less than 1e-5."""


def blur(volume: torch.Tensor, sigma_mm: float, spacing: Spacing) -> torch.Tensor:
    """Return the Gaussian mean of ``(1, 1, slices, rows, columns)``; of one width in millimetres in all directions."""
    for axis, step in enumerate(spacing, start=2):
        sigma = sigma_mm / step
        if sigma < _LEAST_SIGMA:
            continue
        reach = math.ceil(3 * sigma)
        weights = [math.exp(-(offset**2) / (2 * sigma**2)) for offset in range(-reach, reach + 1)]
        padding = [0] * 6
        padding[2 * (4 - axis)] = padding[2 * (4 - axis) + 1] = reach
        padded = F.pad(volume, padding, mode="replicate")
        length = volume.shape[axis]
        volume = torch.zeros_like(volume)
        for offset, weight in enumerate(weights):  # five times faster on a CPU than conv3d with one channel
            volume.add_(padded.narrow(axis, offset, length), alpha=weight / sum(weights))
    return volume


def tubes(volume: torch.Tensor, sigma_mm: float, spacing: Spacing) -> torch.Tensor:
    """Return how much each voxel lies in a bright tube of one width.

    The measure is minus the middle eigenvalue of the scale-normalised Hessian: large where the intensity falls off in
    two directions, near 0 on sheets and borders, where it falls off in one.

    Args:
        volume: ``(1, 1, slices, rows, columns)`` float32.
        sigma_mm: Standard deviation of the Gaussian.
        spacing: Of the volume.

    Returns:
        The shape of ``volume``, at least 0; 0.25 inside a tube of Gaussian profile, height 1 and width ``sigma_mm``.
    """
    shape = volume.shape[-3:]
    factors = [
        max(1, min(int(sigma_mm / step / _WORKING_SIGMA), length // 4))
        for step, length in zip(spacing, shape, strict=True)
    ]
    reduced = F.avg_pool3d(volume, factors, ceil_mode=True, count_include_pad=False)
    steps = (spacing[0] * factors[0], spacing[1] * factors[1], spacing[2] * factors[2])
    smooth = blur(reduced, sigma_mm, steps)
    middle = middle_eigenvalue(*(sigma_mm**2 * entry for entry in _second_derivatives(smooth, steps)))
    response = (-middle).clamp(min=0)
    if max(factors) > 1:
        response = F.interpolate(
            response, scale_factor=[float(f) for f in factors], mode="trilinear", align_corners=False
        )[..., : shape[0], : shape[1], : shape[2]]
    return response


def middle_eigenvalue(
    zz: torch.Tensor, yy: torch.Tensor, xx: torch.Tensor, zy: torch.Tensor, zx: torch.Tensor, yx: torch.Tensor
) -> torch.Tensor:
    """Return the middle eigenvalue of symmetric 3 x 3 matrices given by their six entries, in closed form.

    With mean eigenvalue m and spread p, the eigenvalues are ``m + 2 p cos(phi + 2 k pi / 3)``, and cos(3 phi) follows
    from the determinant; phi lies in [0, pi / 3], so that the middle one is m + 2 p cos(phi - 2 pi / 3).
    """
    mean = (zz + yy + xx) / 3
    dz, dy, dx = zz - mean, yy - mean, xx - mean
    spread = ((dz**2 + dy**2 + dx**2 + 2 * (zy**2 + zx**2 + yx**2)) / 6).sqrt()
    determinant = dz * (dy * dx - yx**2) - zy * (zy * dx - yx * zx) + zx * (zy * yx - dy * zx)
    cosine = determinant / (2 * spread**3).clamp(min=torch.finfo(mean.dtype).tiny)
    angle = torch.acos(cosine.clamp(-1, 1)) / 3
    return mean + 2 * spread * torch.cos(angle - 2 * math.pi / 3)


def _second_derivatives(smooth: torch.Tensor, steps: Spacing) -> tuple[torch.Tensor, ...]:
    """Return zz, yy, xx, zy, zx, yx by central differences, per square millimetre."""
    padded = F.pad(smooth, (1, 1, 1, 1, 1, 1), mode="replicate")
    slices, rows, columns = smooth.shape[-3:]

    def at(z: int, y: int, x: int) -> torch.Tensor:
        return padded[..., 1 + z : 1 + z + slices, 1 + y : 1 + y + rows, 1 + x : 1 + x + columns]

    dz, dy, dx = steps
    centre = 2 * at(0, 0, 0)
    return (
        (at(1, 0, 0) + at(-1, 0, 0) - centre) / dz**2,
        (at(0, 1, 0) + at(0, -1, 0) - centre) / dy**2,
        (at(0, 0, 1) + at(0, 0, -1) - centre) / dx**2,
        (at(1, 1, 0) + at(-1, -1, 0) - at(1, -1, 0) - at(-1, 1, 0)) / (4 * dz * dy),
        (at(1, 0, 1) + at(-1, 0, -1) - at(1, 0, -1) - at(-1, 0, 1)) / (4 * dz * dx),
        (at(0, 1, 1) + at(0, -1, -1) - at(0, 1, -1) - at(0, -1, 1)) / (4 * dy * dx),
    )

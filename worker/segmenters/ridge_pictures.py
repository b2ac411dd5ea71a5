"""The ridge method on pictures and runs: even out light and contrast, filter, and turn responses into probabilities."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from worker.image_stack import Arrangement, ImageStack, Imaging
from worker.segmenters.field_of_view import between_leaves, diameter_of, field_of_view, shrink
from worker.segmenters.ridge_filter import blur, noise_response, ridges
from worker.segmenters.ridge_settings import PICTURES, PictureSettings, Polarity

STEEPNESS = 4.0
"""Exponent of the curve from response to probability: twice the threshold is 0.94, half of it 0.06."""
_BYTES_PER_PIXEL = 200
"""Peak memory of the filter for each pixel of a chunk: twelve directions, a few copies in float32."""
_LOGARITHM_OFFSET = 0.04
"""Share of the full range that is added before the logarithm, so that noise near black is not blown up."""
_LEAST_CONTRAST = 2e-3
"""A picture whose structures stand out less than this share of the full range is blank: half a grey level of 8 bit."""
_NARROWEST_SIGMA = 0.9
"""In pixels: narrower Gaussians cannot be sampled and would only see noise."""
_OUT_OF_NOISE = 4.0
"""The threshold lies at least this many standard deviations above what white noise alone makes of the filter."""
_SAMPLE = 50_000
"""Pixels that a quantile is taken from; it then is right to 0.001 of its rank."""
_POLARITY_MARGIN = 1.3
"""Bright ridges must be this much stronger than dark ones before dark vessels are given up. Around a dark vessel there
are always two bright flanks of about half its response."""


@dataclass(frozen=True, slots=True)
class Found:
    """What the filter says of a stack before any decision.

    Attributes:
        probability: ``(frames, rows, columns)`` float16 in [0, 1].
        minimum_size: Least number of pixels of a piece.
        polarity: What was looked for, in the end.
    """

    probability: NDArray[np.float16]
    minimum_size: int
    polarity: Polarity


def find_in_pictures(
    stack: ImageStack, polarity: Polarity | None, device: str, memory_bytes: int, progress: Callable[[float], None]
) -> Found:
    """Look for vessels in each frame of a stack.

    Independent frames are looked at one by one, so that a result never depends on the neighbours; the frames of a run
    or a volume share field of view, polarity and threshold.

    Args:
        stack: Any arrangement; slices of a volume are taken as pictures.
        polarity: Instead of the one of the kind of picture; None keeps that.
        device: Where torch works.
        memory_bytes: About how much the filter may use at a time; at least one frame is always taken.
        progress: Called after each chunk with the finished share.
    """
    settings = PICTURES[stack.imaging]
    count = len(stack.pixels)
    groups = [slice(i, i + 1) for i in range(count)] if stack.arrangement is Arrangement.FRAMES else [slice(0, count)]
    probability = np.zeros(stack.pixels.shape[:3], np.float16)
    found: Found | None = None
    sizes = []
    for group in groups:
        intensity = _intensity(stack.pixels[group], stack.imaging, settings.window)
        share = len(intensity) / count
        start = group.start / count

        def report(done: float, start: float = start, share: float = share) -> None:
            progress(start + share * done)

        found = _find_in_group(intensity, settings, polarity or settings.polarity, device, memory_bytes, report)
        probability[group] = found.probability
        sizes.append(found.minimum_size)
    return Found(probability, min(sizes), found.polarity if found else settings.polarity)


def _find_in_group(
    intensity: NDArray[np.float32],
    settings: PictureSettings,
    polarity: Polarity,
    device: str,
    memory_bytes: int,
    progress: Callable[[float], None],
) -> Found:
    brightest = intensity.max(axis=0)
    shown = field_of_view(brightest)
    diameter = diameter_of(shown)
    if settings.collimated:
        shown = between_leaves(brightest, shown)
        diameter = float(min(shown.shape))
    inside = shrink(shown, settings.margin * diameter)
    bright = np.zeros(intensity.shape, np.float16)
    dark = np.zeros(intensity.shape, np.float16)
    sigmas = sorted({max(_NARROWEST_SIGMA, scale * diameter) for scale in settings.scales})
    noise = []
    for chunk in _chunks(intensity.shape, memory_bytes):
        images = torch.from_numpy(intensity[chunk])[:, None].to(device)
        evened = _even_out(images, torch.from_numpy(shown)[None, None].to(images), settings, diameter)
        seen = torch.from_numpy(inside if inside.any() else shown).to(device)
        noise += [noise_response(one[None], seen, sigmas[0], settings.elongation) for one in evened]
        responses = ridges(evened, sigmas, elongation=settings.elongation, scale_preference=settings.scale_preference)
        bright[chunk], dark[chunk] = (response[:, 0].cpu().numpy() * inside for response in responses)
        progress(chunk.stop / len(intensity))
    response, polarity = _choose(bright, dark, inside, polarity)
    size = max(1, round((settings.minimum_extent * diameter) ** 2))
    least = _OUT_OF_NOISE * float(np.median(noise))
    return Found(_probability(response, inside, settings, least), size, polarity)


def _intensity(
    pixels: NDArray[np.float32] | NDArray[np.uint8], imaging: Imaging, window: tuple[float, float] | None
) -> NDArray[np.float32]:
    """Return ``(frames, rows, columns)`` float32 in [0, 1]; 1 is the brightest that the picture may hold."""
    if pixels.ndim == 4:
        # Haemoglobin absorbs green most; red is saturated and blue noise in a fundus photograph.
        weights = (0.0, 1.0, 0.0) if imaging is Imaging.FUNDUS else (0.299, 0.587, 0.114)
        return np.tensordot(pixels, np.array(weights, np.float32) / 255.0, axes=1).astype(np.float32)
    if window is not None:
        low, high = window
    else:
        sample = pixels[:, ::2, ::2]
        low, high = min(0.0, float(np.percentile(sample, 0.1))), float(np.percentile(sample, 99.9))
    if high <= low:
        return np.zeros(pixels.shape, np.float32)
    return np.asarray(np.clip((pixels - low) / (high - low), 0.0, 1.0), np.float32)


def _chunks(shape: tuple[int, ...], memory_bytes: int) -> Iterator[slice]:
    frames, rows, columns = shape
    step = max(1, memory_bytes // (rows * columns * _BYTES_PER_PIXEL))
    for start in range(0, frames, step):
        yield slice(start, min(start + step, frames))


def _even_out(images: torch.Tensor, shown: torch.Tensor, settings: PictureSettings, diameter: float) -> torch.Tensor:
    """Return pictures with background 0 and contrast 1, and 0 outside the field of view."""
    if settings.logarithm:
        images = torch.log(images + _LOGARITHM_OFFSET)
    sigma = max(1.0, settings.background * diameter)
    weight = blur(shown, sigma).clamp(min=1e-3)
    residual = (images - blur(images * shown, sigma) / weight) * shown
    overall = ((residual**2).sum(dim=(1, 2, 3), keepdim=True) / shown.sum()).sqrt()
    local = (blur(residual**2, sigma) / weight).clamp(min=0).sqrt()
    contrast = (settings.local_contrast * local + overall) / (settings.local_contrast + 1)
    return torch.where(overall > _LEAST_CONTRAST, residual / contrast.clamp(min=_LEAST_CONTRAST), 0.0)


def _choose(
    bright: NDArray[np.float16], dark: NDArray[np.float16], inside: NDArray[np.bool_], polarity: Polarity
) -> tuple[NDArray[np.float16], Polarity]:
    if polarity is Polarity.AUTO:
        strengths = [float(np.quantile(_sample(response, inside), 0.99)) for response in (bright, dark)]
        polarity = Polarity.BRIGHT if strengths[0] > _POLARITY_MARGIN * strengths[1] else Polarity.DARK
    return (bright if polarity is Polarity.BRIGHT else dark), polarity


def _sample(response: NDArray[np.float16], inside: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Return evenly spaced responses inside the field of view: quantiles of all take longer than the filter."""
    values = response[:, inside].ravel()
    return values[:: max(1, len(values) // _SAMPLE)].astype(np.float32)


def _probability(
    response: NDArray[np.float16], inside: NDArray[np.bool_], settings: PictureSettings, least: float
) -> NDArray[np.float16]:
    """Return a probability that rises with the response and is 0.5 at the threshold.

    In a run the threshold comes from the frames that hold most contrast medium: the frames before it arrives would
    otherwise be searched until something is found.
    """
    shares = [float(np.quantile(_sample(frame[None], inside), 1 - settings.vessel_share)) for frame in response]
    usual = float(np.quantile(shares, 0.9))
    threshold = max(float(np.sqrt(settings.ridge_threshold * usual)), 0.5 * settings.ridge_threshold, least)
    powers = (response.astype(np.float32) / threshold) ** STEEPNESS
    return np.asarray(powers / (1 + powers), np.float16)

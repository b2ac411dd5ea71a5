"""Which pixels of a picture show the patient, and not the surround of a fundus camera or the leaves of a collimator."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

_SURROUND_LEVEL = 0.12
"""Share of the picture's own range below which a pixel may be surround. The camera's black is never quite 0."""
_LEAST_SURROUND = 0.01
"""A smaller share of the picture than this is a dark structure at the border and stays in the field of view."""
_FLAT_SURROUND = 0.03
"""A surround varies less than this share of the picture's range; a dark heart at the border varies more."""


def field_of_view(intensity: NDArray[np.float32]) -> NDArray[np.bool_]:
    """Return where a picture shows something.

    The surround is what is dark, flat and joined to the border of the picture.

    Args:
        intensity: ``(rows, columns)``, larger is brighter.

    Returns:
        ``(rows, columns)`` bool; all true when there is no surround, or when nothing would be left.
    """
    darkest, brightest = np.percentile(intensity, (0.1, 95.0))
    extent = float(brightest - darkest)
    everything = np.ones(intensity.shape, bool)
    if extent <= 0:
        return everything
    labels, _ = ndimage.label(intensity < darkest + _SURROUND_LEVEL * extent)
    border = np.concatenate([labels[0], labels[-1], labels[:, 0], labels[:, -1]])
    surround = np.isin(labels, np.unique(border[border > 0]))
    if surround.mean() < _LEAST_SURROUND or float(intensity[surround].std()) > _FLAT_SURROUND * extent:
        return everything
    shown = ndimage.binary_opening(ndimage.binary_fill_holes(~surround), iterations=2)
    return shown if shown.mean() > _LEAST_SURROUND else everything


def diameter_of(shown: NDArray[np.bool_]) -> float:
    """Return the diameter in pixels that decides the scales: of the disc as large as the field of view.

    A field that fills the whole picture is measured by the shorter side, since its disc would be larger than it.
    """
    disc = 2.0 * float(np.sqrt(shown.sum() / np.pi))
    return min(disc, float(min(shown.shape))) if shown.all() else disc


def shrink(shown: NDArray[np.bool_], margin: float) -> NDArray[np.bool_]:
    """Return the pixels of ``shown`` at least ``margin`` pixels from the surround and from the picture's border."""
    if margin < 1:
        return shown
    distance = ndimage.distance_transform_edt(np.pad(shown, 1))[1:-1, 1:-1]
    return np.asarray(distance > margin)

"""Which pixels of a picture show the patient, and not the surround of a fundus camera or the leaves of a collimator."""

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

_SURROUND_LEVEL = 0.12
"""Share of the picture's own range below which a pixel may be surround. The camera's black is never quite 0."""
_LEAST_SURROUND = 0.01
"""A smaller share of the picture than this is a dark structure at the border and stays in the field of view."""
_FLAT_SURROUND = 0.025
"""A surround varies less than this share of the picture's range; a dark heart at the border varies more."""
_SMOOTHING = 2
"""Pixels by which specks and spikes of the field of view are taken off."""
_LEAF_STEP = 0.1
"""Least rise of intensity at the edge of a collimator's leaf, as a share of the picture's range."""
_LEAF_BLUR = 0.015
"""Half the width of that edge, as a share of the picture's side: penumbra, and leaves turned by a degree."""
_LEAF_DEPTH = 0.2
"""Leaves are looked for in this outer share of the picture."""
_LEAF_LENGTH = 0.7
"""Share of the side along which the edge must be seen."""


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
    filled = np.pad(ndimage.binary_fill_holes(~surround), _SMOOTHING, mode="edge")  # the picture's corners stay
    inner = slice(_SMOOTHING, -_SMOOTHING)
    shown = np.asarray(ndimage.binary_opening(filled, iterations=_SMOOTHING)[inner, inner])
    return shown if shown.mean() > _LEAST_SURROUND else everything


def between_leaves(intensity: NDArray[np.float32], shown: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Return the part of ``shown`` that the straight leaves of a collimator leave open.

    A leaf is dark but not black, since radiation scatters behind it. Its edge runs along a side of the picture, near it
    and almost from end to end; no vessel, bone or diaphragm does.

    Args:
        intensity: ``(rows, columns)``, larger is brighter.
        shown: ``(rows, columns)`` bool, from :func:`field_of_view`.
    """
    opened = shown.copy()
    low, high = np.percentile(intensity[shown], (5.0, 95.0)) if shown.any() else (0.0, 0.0)
    for turns in range(4):
        side = np.rot90(intensity, turns)
        depth = _depth_of_leaf(side, np.rot90(shown, turns), _LEAF_STEP * float(high - low))
        np.rot90(opened, turns)[:depth] = False
    return opened if opened.mean() > _LEAST_SURROUND else shown


def _depth_of_leaf(side: NDArray[np.float32], shown: NDArray[np.bool_], step: float) -> int:
    """Return how many rows from the top a leaf covers, 0 for no leaf."""
    rows = len(side)
    reach = max(2, round(_LEAF_BLUR * rows))
    lines = np.arange(1, round(_LEAF_DEPTH * rows))
    if step <= 0 or len(lines) == 0 or lines[-1] + reach >= rows:
        return 0
    outer, inner = np.maximum(lines - reach, 0), lines + reach
    # Outside the field of view is black already; there the leaf has no edge that could be seen.
    seen = shown[inner] & shown[outer]
    rises = (side[inner] - side[outer] > step) & seen
    length = seen.sum(axis=1)
    along = rises.sum(axis=1) / np.maximum(length, 1)
    edges = lines[(along > _LEAF_LENGTH) & (length > _LEAF_LENGTH * side.shape[1] / 2)]
    return int(edges.max()) + reach if len(edges) else 0


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

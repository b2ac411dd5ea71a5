"""Colours of segments are seen on their pictures and told apart, also by readers who see colours otherwise.

Distances are CIEDE2000: 2 is just noticed side by side, 10 is seen at a glance, 20 is another colour.
"""

import numpy as np
import pytest
from skimage.color import deltaE_ciede2000, rgb2lab

from worker.image_stack import Imaging
from worker.result_header.catalogue import RGB, VESSEL_TYPES, colour_of

SEEN, SEEN_COLOUR_BLIND = 20, 10

COLOUR_BLINDNESS = {
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.011820, 0.042940, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.303900]],
}
"""What linear RGB becomes (Machado, Oliveira, Fernandes 2009, severity 1)."""
GREY_BACKGROUNDS: dict[str, RGB] = {"mid grey": (128, 128, 128), "dark grey": (40, 40, 40), "OCTA": (15, 15, 15)}
FUNDUS_BACKGROUNDS: dict[str, RGB] = {
    "retina": (200, 100, 45),
    "dark retina": (130, 55, 25),
    "optic disc": (240, 190, 110),
    "vessel": (140, 40, 20),
}
TOLD_APART = [
    ("artery", "vein"),
    ("retinal_artery", "retinal_vein"),
    ("central_retinal_artery", "central_retinal_vein"),
    ("pulmonary_artery", "pulmonary_vein"),
    ("femoral_artery", "femoral_vein"),
    ("renal_artery", "renal_vein"),
    ("hepatic_vein", "portal_vein"),
    ("aorta", "inferior_vena_cava"),
    ("main_vessel", "side_branch"),
    ("main_vessel", "collateral_vessel"),
    ("artery", "capillary"),
    ("vein", "capillary"),
    ("left_anterior_descending_coronary_artery", "circumflex_coronary_artery"),
    ("left_anterior_descending_coronary_artery", "right_coronary_artery"),
    ("circumflex_coronary_artery", "right_coronary_artery"),
    ("left_anterior_descending_coronary_artery", "first_diagonal_coronary_artery"),
    ("circumflex_coronary_artery", "first_marginal_coronary_artery"),
    ("right_coronary_artery", "posterior_descending_coronary_artery"),
]
"""Pairs that one model finds together."""
ON_FUNDUS = ("artery", "vein", "capillary", "retinal_artery", "retinal_vein", "main_vessel", "side_branch")


def as_seen(colour: RGB, matrix: list[list[float]] | None) -> np.ndarray:
    """CIELab of an sRGB colour, through the eyes that ``matrix`` describes."""
    seen = np.array(colour) / 255
    if matrix is not None:
        linear = np.where(seen <= 0.04045, seen / 12.92, ((seen + 0.055) / 1.055) ** 2.4)
        linear = np.clip(np.array(matrix) @ linear, 0, 1)
        seen = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return rgb2lab(seen.reshape(1, 1, 3))


def distance(one: RGB, other: RGB, matrix: list[list[float]] | None = None) -> float:
    return deltaE_ciede2000(as_seen(one, matrix), as_seen(other, matrix)).item()


def assert_told_apart(one: RGB, other: RGB) -> None:
    assert distance(one, other) >= SEEN, (one, other)
    for name, matrix in COLOUR_BLINDNESS.items():
        assert distance(one, other, matrix) >= SEEN_COLOUR_BLIND, (one, other, name)


def test_distances_are_measured() -> None:
    """Equal colours have none, red and green are far apart for most and near for those who confuse them."""
    red, green = (200, 60, 40), (110, 120, 20)
    assert distance(red, red) == 0
    assert distance(red, green) > 3 * distance(red, green, COLOUR_BLINDNESS["deuteranopia"])


@pytest.mark.parametrize("background", GREY_BACKGROUNDS)
def test_colours_are_seen_on_grey_pictures(background: str) -> None:
    """Every colour of the catalogue differs from what CT, MR, XA and OCT angiography show around a vessel."""
    for colour in {entry.colour for entry in VESSEL_TYPES.values()}:
        assert_told_apart(colour, GREY_BACKGROUNDS[background])


@pytest.mark.parametrize("background", FUNDUS_BACKGROUNDS)
def test_colours_are_seen_on_fundus_photographs(background: str) -> None:
    """Every colour differs from the orange of the retina, its vessels, and the yellow disc from which they come."""
    for colour in {entry.fundus_colour for entry in VESSEL_TYPES.values()}:
        assert_told_apart(colour, FUNDUS_BACKGROUNDS[background])


@pytest.mark.parametrize(("one", "other"), TOLD_APART)
def test_neighbours_are_told_apart(one: str, other: str) -> None:
    """Vessels that stand in one object have colours that nobody confuses."""
    assert_told_apart(colour_of(one, Imaging.CT), colour_of(other, Imaging.CT))
    if one in ON_FUNDUS and other in ON_FUNDUS:
        assert_told_apart(colour_of(one, Imaging.FUNDUS), colour_of(other, Imaging.FUNDUS))

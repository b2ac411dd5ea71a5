"""Volumes seen from outside: which way is up, what is in front, and the montage of slices."""

import numpy as np
import pytest
from numpy.typing import NDArray
from seg_cases import CASES

from worker.image_stack import Arrangement, FrameIdentity, ImageStack, Imaging
from worker.pictures.caption import BACKGROUND
from worker.pictures.montage import montage
from worker.pictures.overlay import Style
from worker.pictures.patient_axes import View, patient_axes, views
from worker.pictures.projection import vessel_projections

RED, BLUE = (216, 101, 79), (0, 151, 206)
AXIAL = np.array([[0, 0, 1], [0, 1, 0], [1, 0, 0]], np.float64)


def volume(
    shape: tuple[int, int, int] = (20, 40, 40), spacing: tuple[float, float, float] | None = (1.0, 1.0, 1.0)
) -> ImageStack:
    frames = tuple(FrameIdentity(f"1.2.{number}", 1) for number in range(1, shape[0] + 1))
    pixels = np.full(shape, 40, np.float32)
    return ImageStack(pixels, Arrangement.VOLUME, Imaging.CT, frames, spacing_mm=spacing)


def redness(picture: NDArray[np.uint8]) -> NDArray[np.int64]:
    return picture[..., 0].astype(np.int64) - picture[..., 2]


def centre(picture: NDArray[np.uint8], value: NDArray[np.int64]) -> tuple[float, float]:
    """Middle of what stands out, as a share of height and width."""
    rows, columns = np.nonzero(value > 30)
    return float(rows.mean() / picture.shape[0]), float(columns.mean() / picture.shape[1])


def drawn(view: View, mask: NDArray[np.bool_], stack: ImageStack | None = None) -> NDArray[np.uint8]:
    return vessel_projections(stack or volume(), mask, [RED, BLUE][: len(mask)], [view])


# --- axes -------------------------------------------------------------------------------------------------------------


def test_axes_of_axial_slices() -> None:
    """Slices from feet to head, rows to the back, columns to the left."""
    axes = patient_axes(CASES["ct"].series())
    assert axes is not None
    assert np.allclose(axes, AXIAL)


@pytest.mark.parametrize("name", ["mr", "enhanced_ct", "enhanced_mr", "ct_tilted_with_gap"])
def test_axes_are_known_for_every_volume(name: str) -> None:
    """Functional groups and tilted gantries give unit vectors too."""
    axes = patient_axes(CASES[name].series())
    assert axes is not None
    assert np.allclose(np.linalg.norm(axes, axis=1), 1)


@pytest.mark.parametrize("name", ["xa_run", "op_rgb", "opt_without", "us_run"])
def test_no_axes_without_geometry(name: str) -> None:
    """What has no place in the patient has no sides to write on a picture."""
    assert patient_axes(CASES[name].series()) is None
    assert all(view.letters == ("", "", "", "") for view in views(None))


def test_views_of_axial_slices() -> None:
    """Coronal from the front, sagittal from the left, axial from the feet, as radiologists hang them."""
    coronal, sagittal, axial = views(AXIAL)
    assert [(view.name, view.along) for view in (coronal, sagittal, axial)] == [
        ("Coronal", 1), ("Sagittal", 2), ("Axial", 0),
    ]  # fmt: skip
    assert coronal.letters == ("R", "L", "H", "F")
    assert sagittal.letters == ("A", "P", "H", "F")
    assert axial.letters == ("R", "L", "A", "P")


@pytest.mark.parametrize(
    "axes",
    [
        AXIAL,
        -AXIAL,
        np.array([[0, 1, 0], [0, 0, -1], [1, 0, 0]], np.float64),
        np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]], np.float64),
        np.array([[0.1, 0.2, 0.97], [0, 0.98, -0.2], [0.99, 0, -0.1]], np.float64),
    ],
    ids=["axial", "from head to feet", "coronal", "sagittal", "oblique"],
)
def test_a_place_in_the_patient_is_drawn_where_it_belongs(axes: NDArray[np.float64]) -> None:
    """However the slices lie: head up, right side on the left hand, front up in axial and left in sagittal views."""
    mask = np.zeros((1, 40, 40, 40), np.bool_)
    block = []
    for row in axes:  # a small cube at the patient's left, front and head
        patient = int(np.abs(row).argmax())
        toward = {0: 1, 1: -1, 2: 1}[patient] * np.sign(row[patient])
        block.append(slice(28, 36) if toward > 0 else slice(4, 12))
    mask[(0, *block)] = True
    stack = volume((40, 40, 40))
    places = {}
    for view in views(axes):
        picture = drawn(view, mask, stack)
        places[view.name] = centre(picture, redness(picture))
    assert places["Coronal"] == pytest.approx((0.2, 0.8), abs=0.04)
    assert places["Sagittal"] == pytest.approx((0.2, 0.2), abs=0.04)
    assert places["Axial"] == pytest.approx((0.2, 0.8), abs=0.04)


# --- projections ------------------------------------------------------------------------------------------------------


def crossing() -> NDArray[np.bool_]:
    """Two vessels: the first runs across in front (small row index), the second up and down behind it."""
    mask = np.zeros((2, 40, 40, 40), np.bool_)
    mask[0, 17:23, 8:13, :] = True
    mask[1, :, 28:33, 17:23] = True
    return mask


def test_the_nearer_vessel_hides_the_farther() -> None:
    """Seen from the front, the vessel in front is drawn over the other one, in any order of segments."""
    coronal = views(AXIAL)[0]
    for order in ([0, 1], [1, 0]):
        colours = [(RED, BLUE)[index] for index in order]
        picture = vessel_projections(volume((40, 40, 40)), crossing()[order], colours, [coronal])
        middle = picture[picture.shape[0] // 2, picture.shape[1] // 2].astype(int)
        assert middle[0] > middle[2]
        high = picture[picture.shape[0] // 5, picture.shape[1] // 2].astype(int)
        assert high[2] > high[0]


def test_far_vessels_are_darker() -> None:
    """Depth shows as brightness: the same vessel at the back is drawn darker than at the front."""
    coronal = views(AXIAL)[0]
    brightness = []
    for row in (2, 34):
        mask = np.zeros((1, 20, 40, 40), np.bool_)
        mask[0, 6:14, row : row + 4, 5:35] = True
        picture = drawn(coronal, mask)
        brightness.append(int(picture[picture.shape[0] // 2, picture.shape[1] // 2, 0]))
    assert brightness[0] > 1.3 * brightness[1]


def test_true_proportions() -> None:
    """Thick slices are drawn as thick as they are: 20 slices of 4 mm are as high as 80 rows of 1 mm."""
    stack = volume((20, 80, 80), (4.0, 1.0, 1.0))
    mask = np.zeros((1, 20, 80, 80), np.bool_)
    mask[:, 5:8] = True
    for view in views(AXIAL):
        picture = drawn(view, mask, stack)
        assert picture.shape[0] == picture.shape[1]


def test_three_views_fit_on_a_screen() -> None:
    """Whatever its shape, the picture stays within 900 by 1600 pixels and a gap, and a flat volume fills it well."""
    for shape in ((600, 64, 64), (10, 64, 64), (64, 64, 64)):
        picture = vessel_projections(volume(shape), np.zeros((1, *shape), np.bool_), [RED], views(AXIAL))
        assert picture.shape[0] <= 920
        assert picture.shape[1] <= 1620
        assert max(picture.shape[0] / 900, picture.shape[1] / 1600) > 0.95


def test_bone_does_not_hide_vessels() -> None:
    """A vessel behind the brightest voxels of the volume is drawn in its colour: only the mask is projected."""
    stack = volume((20, 40, 40))
    stack.pixels[:, 5, :] = 3000
    mask = np.zeros((1, 20, 40, 40), np.bool_)
    mask[0, 6:14, 20:25, 15:25] = True
    picture = drawn(views(AXIAL)[0], mask, stack)
    assert redness(picture)[picture.shape[0] // 2, picture.shape[1] // 2] > 30


def test_nothing_found_shows_the_body_alone() -> None:
    """An empty mask, no spacing, colour and flat volumes are drawn without a vessel and without an error."""
    stack = volume((6, 8, 9), None)
    picture = vessel_projections(stack, np.zeros((1, 6, 8, 9), np.bool_), [RED], views(None))
    assert redness(picture).max() < 10
    frames = tuple(FrameIdentity(f"1.{number}", 1) for number in range(6))
    colour = ImageStack(np.zeros((6, 8, 9, 3), np.uint8), Arrangement.VOLUME, Imaging.OTHER, frames)
    assert vessel_projections(colour, np.ones((1, 6, 8, 9), np.bool_), [RED], views(None)).any()


# --- montage ----------------------------------------------------------------------------------------------------------


def test_montage_shows_slices_with_vessels() -> None:
    """At most 20 tiles between the first and the last slice with a vessel, in reading order."""
    stack = volume((100, 30, 30))
    mask = np.zeros((1, 100, 30, 30), np.bool_)
    mask[0, 30:70, 10:14, 10:14] = True
    picture, chosen = montage(stack, mask, [RED])
    assert len(chosen) == 20
    assert (chosen[0], chosen[-1]) == (30, 69)
    assert picture.shape == (4 * 304 - 4, 5 * 304 - 4, 3)
    for tile in range(20):
        top, left = tile // 5 * 304, tile % 5 * 304
        assert redness(picture[top : top + 300, left : left + 300]).max() > 50


def test_montage_of_few_slices_is_small() -> None:
    """Three slices make three tiles in one row, in the proportions of the slices."""
    stack = volume((3, 20, 40), (1.0, 1.0, 1.0))
    picture, chosen = montage(stack, np.zeros((1, 3, 20, 40), np.bool_), [RED])
    assert chosen == [0, 1, 2]
    assert picture.shape == (150, 3 * 304 - 4, 3)


def test_montage_style_and_gaps() -> None:
    """The style of the lines is the caller's; gaps have the colour of the caption strip."""
    mask = np.zeros((1, 3, 20, 40), np.bool_)
    mask[0, :, 8:12, 8:30] = True
    picture, _ = montage(volume((3, 20, 40)), mask, [RED], Style(tint=0, line=1))
    assert picture[75, 302].tolist() == list(BACKGROUND)
    assert redness(picture[70:80, 100:150]).max() < 10
    assert (picture == RED).all(axis=-1).any()

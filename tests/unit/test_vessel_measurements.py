"""Which frames are measured, and what is told of them in numbers, rows and JSON."""

import json
from dataclasses import replace

import dicom_sources
import numpy as np
import pytest
from numpy.typing import NDArray
from seg_cases import ARTERY_AND_VEIN, CASES, as_series, mask_for, segmentation_of
from tube_masks import straight, tube, tube_length

from worker.image_stack import Arrangement, FrameIdentity, ImageStack, Imaging
from worker.measurements.measuring import fields_of_view, measure_vessels
from worker.measurements.vessel_measurements import PIXELS, Quantity, VesselMeasurements
from worker.segmenters.interface import Status
from worker.source_series import SourceKind, SourceSeries


def of(source: SourceSeries, mask: NDArray[np.bool_], **fields: object) -> VesselMeasurements:
    return measure_vessels(source, segmentation_of(mask, ARTERY_AND_VEIN if len(mask) == 2 else None), **fields)


def run_mask(frames: int = 6) -> NDArray[np.bool_]:
    """``(1, frames, 64, 72)``: a bar that grows until frame 4 and shrinks then."""
    mask = np.zeros((1, frames, 64, 72), bool)
    for index, length in enumerate((0, 10, 30, 60, 20, 5)[:frames]):
        mask[0, index, 30:34, 5 : 5 + length] = True
    return mask


def test_a_volume_is_one_region():
    """A tube of known length and diameter in CT: millimetres and cubic millimetres."""
    source = as_series(dicom_sources.ct_series(frames=40, spacing=1.25), SourceKind.SLICES, Imaging.CT)
    curve = straight((25, 22.4, 25.2), (1, 0.4, 0.2), 30)
    mask = np.zeros((40, 64, 72), bool)
    drawn = tube(curve, 4.0, (50, 44.8, 50.4), (1.25, 0.7, 0.7))
    mask[: drawn.shape[0], : drawn.shape[1], : drawn.shape[2]] = drawn
    (region,) = of(source, mask[None]).regions
    assert region.frame is None
    assert region.place == "volume"
    assert region.value(Quantity.LENGTH) == pytest.approx(tube_length(curve, 4.0), abs=1.25)
    assert region.value(Quantity.DIAMETER_MEAN) == pytest.approx(8.0, abs=0.35)
    assert region.value(Quantity.VOLUME) == pytest.approx(np.pi * 16 * 30 + 4 / 3 * np.pi * 64, rel=0.02)
    assert {found.quantity: found.unit for found in region.measurements} == {
        Quantity.VOLUME: "mm3",
        Quantity.LENGTH: "mm",
        Quantity.DIAMETER_MEAN: "mm",
        Quantity.DIAMETER_MEDIAN: "mm",
        Quantity.DIAMETER_MAXIMUM: "mm",
        Quantity.TORTUOSITY: "1",
        Quantity.BRANCH_POINTS: "1",
    }


def test_a_run_is_measured_where_most_vessel_is():
    """Frame 4 of 6, in pixels, and the share of the picture in every frame."""
    source = CASES["xa_run"].series(frames=6)
    found = of(source, run_mask())
    (region,) = found.regions
    assert region.frame == FrameIdentity(source.datasets[0].SOPInstanceUID, 4)
    assert region.place == "frame 4 of 6, the one with most vessel"
    assert region.value(Quantity.AREA) == 240
    assert region.value(Quantity.LENGTH) == pytest.approx(60, abs=1.5)
    assert region.value(Quantity.DIAMETER_MEDIAN) == pytest.approx(4, abs=0.6)
    assert region.value(Quantity.AREA_PERCENT) == pytest.approx(100 * 240 / (64 * 72), rel=1e-5)
    assert {found.unit for found in region.measurements} == {PIXELS, f"/{PIXELS}", "%", "1"}
    assert found.area_percent_by_frame[0] == pytest.approx(
        [100 * 4 * n / 4608 for n in (0, 10, 30, 60, 20, 5)], abs=1e-3
    )


def test_each_picture_of_a_series_has_its_region():
    """Three photographs, one without a vessel: two regions, each named by its instance."""
    source = CASES["several_op"].series()
    mask = np.zeros((1, len(source.frames), int(source.datasets[0].Rows), int(source.datasets[0].Columns)), bool)
    mask[0, 0, 10:14, 5:40] = mask[0, 2, 20:24, 5:40] = True
    regions = of(source, mask).regions
    uids = [header.SOPInstanceUID for header in source.datasets]
    assert [region.frame.sop_instance_uid for region in regions] == [uids[0], uids[2]]
    assert {(region.frame.frame_number, region.frame_count, region.place) for region in regions} == {(1, 1, "picture")}


def test_segments_choose_their_frames_themselves():
    """The vein fills later than the artery; a segment that is empty everywhere has no region."""
    source = CASES["xa_run"].series(frames=6)
    late = np.roll(run_mask(), 1, axis=1)
    regions = of(source, np.concatenate([run_mask(), late])).regions
    assert [(region.segment_number, region.segment_label, region.frame.frame_number) for region in regions] == [
        (1, "Artery", 4),
        (2, "Vein", 5),
    ]
    regions = of(source, np.concatenate([run_mask(), np.zeros_like(late)])).regions
    assert [region.segment_number for region in regions] == [1]


def test_every_picture_is_measured():
    """Three photographs, two segments: six regions, segment by segment; no course over time."""
    source = CASES["several_op"].series()
    found = of(source, mask_for(source, 2, empty_first_frame=False))
    assert [region.segment_number for region in found.regions] == [1, 1, 1, 2, 2, 2]
    assert found.area_percent_by_frame == ()


def test_of_many_pictures_the_fullest_are_measured():
    """30 photographs: 24 regions in the order of the pictures, and a warning that says so."""
    source = as_series(dicom_sources.several_op(30), SourceKind.PICTURES, Imaging.FUNDUS)
    mask = np.zeros((1, 30, 64, 72), bool)
    for index in range(30):
        mask[0, index, 30:33, : index + 4] = True
    found = of(source, mask)
    uids = [str(header.SOPInstanceUID) for header in source.datasets]
    assert [region.frame.sop_instance_uid for region in found.regions] == uids[6:]
    assert found.warnings == ("Of 30 images the 24 with most vessel are measured.",)


@pytest.mark.parametrize("name", CASES)
def test_an_empty_segmentation_has_areas_of_nothing(name):
    """No vessel: an area or volume of 0, and no length, calibre or tortuosity."""
    source = CASES[name].series()
    mask = np.zeros_like(mask_for(source))
    found = measure_vessels(source, replace(segmentation_of(mask), status=Status.NO_MASK))
    assert found.regions
    for region in found.regions:
        assert {Quantity.AREA, Quantity.VOLUME} & {one.quantity for one in region.measurements}
        assert all(one.value == 0 for one in region.measurements)
        assert region.value(Quantity.DIAMETER_MEAN) is None


@pytest.mark.parametrize("name", CASES)
def test_every_class_of_source_is_measured(name):
    """Rows for people and JSON for the summary, with finite numbers and no patient data."""
    source = CASES[name].series()
    found = of(source, mask_for(source, 2))
    text = json.dumps(found.as_json(), allow_nan=False)
    assert "Generated" not in text
    assert "T0001" not in text
    assert {row[0] for row in found.as_rows()} == {"Artery", "Vein"}
    assert all(np.isfinite(float(row[3])) for row in found.as_rows())
    assert len(found.as_rows()) == sum(len(region.measurements) for region in found.regions)


def test_rows_are_for_people():
    """Units without braces, numbers without noise."""
    source = CASES["ct"].series()
    rows = of(source, mask_for(source)).as_rows()
    assert rows[0][:3] == ("Vessel", "volume", "Volume")
    assert rows[0][4] == "mm³"


def test_the_field_of_view_is_the_whole():
    """Area and length are shares of the disc of a fundus camera where it is known."""
    source = CASES["op_rgb"].series()
    mask = np.zeros((1, 1, 64, 72), bool)
    mask[0, 0, 30:34, 20:50] = True
    field = np.zeros((64, 72), bool)
    field[10:50, 20:60] = True
    uid = str(source.datasets[0].SOPInstanceUID)
    (whole,), (part,) = of(source, mask).regions, of(source, mask, fields={uid: field}).regions
    assert whole.value(Quantity.AREA_PERCENT) == pytest.approx(100 * 120 / 4608, rel=1e-5)
    assert part.value(Quantity.AREA_PERCENT) == pytest.approx(100 * 120 / 1600, rel=1e-5)
    assert part.value(Quantity.LENGTH_DENSITY) == pytest.approx(
        whole.value(Quantity.LENGTH_DENSITY) * 4608 / 1600, rel=1e-4
    )
    assert part.value(Quantity.AREA) == whole.value(Quantity.AREA)


def photograph(rows: int = 200, columns: int = 240) -> NDArray[np.uint8]:
    y, x = np.mgrid[0:rows, 0:columns]
    disc = np.hypot(y - rows / 2, x - columns / 2) < 90
    return (disc[..., None] * np.array([190, 110, 60])).astype(np.uint8)[None]


def test_the_disc_of_a_fundus_camera_is_found():
    """A disc of radius 90 on black, within 3 % of its area; by the UID of its instance."""
    stack = ImageStack(photograph(), Arrangement.FRAMES, Imaging.FUNDUS, (FrameIdentity("1.2.3", 1),))
    fields = fields_of_view(stack)
    assert fields.keys() == {"1.2.3"}
    assert fields["1.2.3"].sum() == pytest.approx(np.pi * 90**2, rel=0.03)


@pytest.mark.parametrize(
    ("arrangement", "imaging"),
    [
        (Arrangement.VOLUME, Imaging.FUNDUS),
        (Arrangement.FRAMES, Imaging.OCT_ANGIOGRAPHY),
        (Arrangement.RUN, Imaging.MR),
    ],
)
def test_other_pictures_have_no_surround(arrangement, imaging):
    """Their whole picture counts."""
    frames = (FrameIdentity("1.2.3", 1),)
    assert fields_of_view(ImageStack(photograph(), arrangement, imaging, frames)) == {}


def test_a_run_has_one_field():
    """That of its brightest pixels: vessels that fill and a heart that beats do not change it."""
    grey = np.repeat(photograph()[..., 0].astype(np.float32), 3, axis=0)
    grey[1] *= 0.5
    frames = tuple(FrameIdentity("1.2.3", number) for number in (1, 2, 3))
    fields = fields_of_view(ImageStack(grey, Arrangement.RUN, Imaging.XRAY_ANGIOGRAPHY, frames))
    assert fields["1.2.3"].shape == (200, 240)
    assert fields["1.2.3"].mean() < 0.7


def test_thin_vessels_are_warned_of():
    """A calibre of two pixels is rough, and said so."""
    source = CASES["xa_still"].series()
    mask = np.zeros((1, 1, 64, 72), bool)
    mask[0, 0, 30:32, 5:60] = True
    (region,) = of(source, mask).regions
    assert "thinner than 3 pixels" in region.warnings[0]


def test_slices_far_apart_are_warned_of():
    """Slices of 5 mm with pixels of 0.7 mm."""
    source = as_series(dicom_sources.ct_series(frames=8, spacing=5.0), SourceKind.SLICES, Imaging.CT)
    (region,) = of(source, mask_for(source)).regions
    assert any("far apart" in words for words in region.warnings)


def test_the_same_arguments_give_the_same_numbers():
    """Nothing is drawn at random."""
    source = CASES["ct"].series()
    mask = mask_for(source, 2)
    assert of(source, mask) == of(source, mask)


def test_noise_has_a_size_and_a_warning(monkeypatch):
    """No length, no calibre, no density where the centre line was given up."""
    monkeypatch.setattr("worker.measurements.tubes._MOST_POINTS", 3)
    source = CASES["xa_still"].series()
    (region,) = of(source, mask_for(source)).regions
    assert {one.quantity for one in region.measurements} == {Quantity.AREA, Quantity.AREA_PERCENT}
    assert "too intricate" in region.warnings[0]

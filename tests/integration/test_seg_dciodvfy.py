"""David Clunie's dciodvfy has nothing to say about any segmentation object, nor about the generated sources."""

from dataclasses import replace
from pathlib import Path

import dicom_sources
import numpy as np
import pytest
from seg_cases import ARTERY_AND_VEIN, CASES, IDENTITY, IDENTITY_WITH_WEIGHTS, mask_for, segmentation_of
from seg_checks import dciodvfy_messages, has_dciodvfy

from dicom_core.result import ResultKind
from worker.image_stack import Imaging
from worker.result_header.catalogue import VESSEL_TYPES
from worker.seg_writer.writer import build_segmentation, save_segmentation
from worker.segmenters.interface import SegmentClass, Status

pytestmark = pytest.mark.skipif(not has_dciodvfy(), reason="dciodvfy (package dicom3tools) is missing")

OLDER_EDITION = {"opt_with_frame_of_reference", "opt_without", "opt_en_face"}
"""Sources of which dciodvfy of 2022 follows an older edition of the Standard."""


@pytest.mark.parametrize("name", [name for name in CASES if name not in OLDER_EDITION])
def test_sources_are_valid(name: str, tmp_path: Path) -> None:
    """The generated sources are valid objects themselves, so that tests with them mean something."""
    for path in dicom_sources.save(CASES[name].build()[:2], tmp_path):
        assert dciodvfy_messages(path) == []


@pytest.mark.parametrize("segments", [1, 2])
@pytest.mark.parametrize("name", CASES)
def test_segmentations_are_silent(name: str, segments: int, tmp_path: Path) -> None:
    """No error and no warning for any class of source, with and without weights, hints and empty frames."""
    source = CASES[name].series()
    classes = ARTERY_AND_VEIN if segments == 2 else None
    segmentation = segmentation_of(mask_for(source, segments), classes)
    variants = (
        build_segmentation(source, segmentation, IDENTITY),
        build_segmentation(source, segmentation, IDENTITY_WITH_WEIGHTS, omit_empty_frames=False),
        build_segmentation(source, segmentation, IDENTITY, viewer_hints=False),
    )
    for number, dataset in enumerate(variants):
        save_segmentation(dataset, tmp_path / f"{number}.dcm")
        assert dciodvfy_messages(tmp_path / f"{number}.dcm") == []


@pytest.mark.parametrize("segments", [1, 2])
@pytest.mark.parametrize("name", CASES)
def test_other_kinds_are_silent(name: str, segments: int, tmp_path: Path) -> None:
    """Strict, deflated and fractional objects are as valid; label maps dciodvfy does not know yet."""
    source = CASES[name].series()
    mask = mask_for(source, segments)
    half = np.where(mask, np.float16(0.5), np.float16(0.125))
    for kind in (ResultKind.SEG_STRICT, ResultKind.SEG_DEFLATED, ResultKind.SEG_FRACTIONAL):
        segmentation = replace(segmentation_of(mask), probability=half)
        save_segmentation(build_segmentation(source, segmentation, IDENTITY, kind=kind), tmp_path / "seg.dcm")
        assert dciodvfy_messages(tmp_path / "seg.dcm") == []


def test_label_maps_are_unknown_to_dciodvfy(tmp_path: Path) -> None:
    """The version of 2022 is older than the SOP class; when this fails, label maps belong into the test above."""
    source = CASES["ct"].series()
    dataset = build_segmentation(source, segmentation_of(mask_for(source)), IDENTITY, kind=ResultKind.SEG_LABELMAP)
    save_segmentation(dataset, tmp_path / "seg.dcm")
    assert any("Information Object Not found" in message for message in dciodvfy_messages(tmp_path / "seg.dcm"))


@pytest.mark.parametrize("name", CASES)
def test_empty_segmentations_are_silent(name: str, tmp_path: Path) -> None:
    """An object that says of every frame that no vessel was found is valid too."""
    source = CASES[name].series()
    nothing = segmentation_of(np.zeros_like(mask_for(source)), status=Status.NO_MASK)
    save_segmentation(build_segmentation(source, nothing, IDENTITY), tmp_path / "seg.dcm")
    assert dciodvfy_messages(tmp_path / "seg.dcm") == []


@pytest.mark.parametrize("imaging", [Imaging.CT, Imaging.FUNDUS])
def test_every_type_of_the_catalogue_is_silent(imaging: Imaging, tmp_path: Path) -> None:
    """Each vessel type makes a valid segment; all of them fit into one object."""
    source = CASES["ct" if imaging is Imaging.CT else "op_rgb"].series()
    classes = [SegmentClass(key, key.replace("_", " ")) for key in VESSEL_TYPES]
    segmentation = segmentation_of(mask_for(source, len(classes)), classes)
    save_segmentation(build_segmentation(source, segmentation, IDENTITY), tmp_path / "seg.dcm")
    assert dciodvfy_messages(tmp_path / "seg.dcm") == []


@pytest.mark.parametrize(("region", "side"), [("KNEE", "L"), ("KNEE", ""), ("EYE", "R"), ("CAROTID", "B"), ("LEG", "")])
def test_paired_body_parts_are_silent(region: str, side: str, tmp_path: Path) -> None:
    """A paired body part needs no Laterality in the object: its side is in the segment."""
    source = CASES["us_run"].series(BodyPartExamined=region, Laterality=side)
    save_segmentation(build_segmentation(source, segmentation_of(mask_for(source)), IDENTITY), tmp_path / "seg.dcm")
    assert dciodvfy_messages(tmp_path / "seg.dcm") == []


def test_a_fault_is_heard(tmp_path: Path) -> None:
    """The check itself works: an object with a missing attribute is not silent."""
    source = CASES["sc"].series()
    dataset = build_segmentation(source, segmentation_of(mask_for(source)), IDENTITY)
    del dataset.SegmentSequence[0].SegmentAlgorithmType
    save_segmentation(dataset, tmp_path / "seg.dcm")
    assert any("SegmentAlgorithmType" in message for message in dciodvfy_messages(tmp_path / "seg.dcm"))

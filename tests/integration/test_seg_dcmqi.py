"""dcmqi, the library below 3D Slicer, converts every segmentation that has its place in the patient, voxel by voxel.

Of the others it says why not, or crashes: they are for viewers that follow the references to the source images.
"""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from seg_cases import ARTERY_AND_VEIN, CASES, IDENTITY, mask_for, segmentation_of
from seg_checks import dcmqi_answer, dcmqi_voxels, has_dcmqi

from dicom_core.result import SEGMENTATIONS, ResultKind
from worker.seg_writer.writer import build_segmentation, save_segmentation
from worker.segmenters.interface import Segmentation
from worker.source_series import SourceKind, SourceSeries

pytestmark = pytest.mark.skipif(not has_dcmqi(), reason="dcmqi is not installed")

PLACED = [name for name, case in CASES.items() if case.kind in (SourceKind.SLICES, SourceKind.ENHANCED)]
KINDS = sorted(SEGMENTATIONS)


def found_in(source: SourceSeries, segments: int) -> Segmentation:
    """Tubes that overlap in part, with probabilities that use all 255 steps."""
    mask = mask_for(source, segments)
    steps = np.random.default_rng(7).integers(0, 256, mask.shape)
    classes = ARTERY_AND_VEIN if segments == 2 else None
    return replace(segmentation_of(mask, classes), probability=(steps * mask / 255).astype(np.float16))


def written(path: Path, source: SourceSeries, segmentation: Segmentation, kind: ResultKind) -> Path:
    save_segmentation(build_segmentation(source, segmentation, IDENTITY, kind=kind), path)
    return path


@pytest.mark.parametrize("segments", [1, 2])
@pytest.mark.parametrize("name", PLACED)
def test_voxels_of_binary_segmentations(name: str, segments: int, tmp_path: Path) -> None:
    """Every label has as many voxels as the mask, in both encodings."""
    source = CASES[name].series()
    segmentation = found_in(source, segments)
    expected = {number: int(mask.sum()) for number, mask in enumerate(segmentation.mask, 1)}
    for kind in (ResultKind.SEG, ResultKind.SEG_DEFLATED):
        assert dcmqi_voxels(written(tmp_path / f"{kind}.dcm", source, segmentation, kind)) == expected


@pytest.mark.parametrize("name", PLACED)
def test_values_of_fractional_segmentations(name: str, tmp_path: Path) -> None:
    """The fractions come out as they are stored, 0 to 255."""
    source = CASES[name].series()
    segmentation = found_in(source, 2)
    answer = dcmqi_answer(written(tmp_path / "seg.dcm", source, segmentation, ResultKind.SEG_FRACTIONAL))
    assert answer.converted, answer.message
    for number, probability in enumerate(segmentation.probability, 1):
        values = np.rint(probability.astype(np.float64) * 255).astype(int)
        assert np.array_equal(answer.values[number], np.sort(values[values > 0]))


@pytest.mark.parametrize("name", PLACED)
def test_voxels_of_label_maps(name: str, tmp_path: Path) -> None:
    """Each label has the voxels that no segment with a higher number covers."""
    source = CASES[name].series()
    segmentation = found_in(source, 2)
    artery, vein = segmentation.mask
    path = written(tmp_path / "seg.dcm", source, segmentation, ResultKind.SEG_LABELMAP)
    assert dcmqi_voxels(path) == {1: int((artery & ~vein).sum()), 2: int(vein.sum())}


def test_labels_arrive(tmp_path: Path) -> None:
    """What a segment is called reaches 3D Slicer."""
    source = CASES["ct"].series()
    path = written(tmp_path / "seg.dcm", source, found_in(source, 2), ResultKind.SEG)
    assert dcmqi_answer(path).labels == {1: "Artery", 2: "Vein"}


@pytest.mark.parametrize("name", ["xa_run", "op_rgb", "opt_en_face"])
def test_strict_objects_without_geometry_are_refused_in_words(name: str, tmp_path: Path) -> None:
    """Without orientation dcmqi has no volume to make, and says so."""
    source = CASES[name].series()
    answer = dcmqi_answer(written(tmp_path / "seg.dcm", source, found_in(source, 1), ResultKind.SEG_STRICT))
    assert (answer.converted, answer.message) == (False, "ERROR: Failed to get image directions!")


@pytest.mark.parametrize("name", ["xa_run", "op_rgb", "opt_en_face"])
def test_viewer_hints_do_not_help_dcmqi(name: str, tmp_path: Path) -> None:
    """With an orientation but no position dcmqi 1.5.7 crashes; a position would be invented, so there is none.

    When this test fails, dcmqi has changed: say so in docs/reference/viewers.md.
    """
    source = CASES[name].series()
    answer = dcmqi_answer(written(tmp_path / "seg.dcm", source, found_in(source, 1), ResultKind.SEG))
    assert not answer.converted
    assert "crashed" in answer.message

"""One series from files to a validated object, in this process: several runs, and series without a vessel."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import dicom_sources
import numpy as np
import pytest
from faulty_segmenter import FaultySegmenter
from PIL import Image
from pydicom import Dataset, dcmread

from dicom_core.errors import InvalidSegmentationError, SourceTooLargeError
from worker.image_stack import Arrangement, ImageStack
from worker.pictures import preview_files
from worker.seg_reader.reading import read_masks
from worker.segmenters.interface import ProgressCallback, Prompt, Segmentation, Segmenter, Status
from worker.segmenters.ridge import RidgeSegmenter
from worker.series_messages import SeriesRequest, SeriesResult
from worker.series_work import work_on_series

Masks = dict[tuple[int, str, int], np.ndarray]


def work(
    datasets: Sequence[Dataset], folder: Path, segmenter: Segmenter | None = None, **changes: object
) -> tuple[SeriesResult, list[tuple[str, float]]]:
    """The result, and the progress that was told; the files lie in ``folder / "out"``."""
    paths = dicom_sources.save(datasets, folder / "in")
    out = folder / "out"
    out.mkdir()
    request = SeriesRequest(
        paths=tuple(paths),
        segmenter="ridge",
        decoded_limit_bytes=1 << 30,
        uid_scope=("site", "study"),
        created_at=datetime(2026, 1, 2, tzinfo=UTC),
        series_number=9001,
        software_version="0",
        output_folder=out,
    ).model_copy(update=changes)
    told: list[tuple[str, float]] = []
    result = work_on_series(request, segmenter or RidgeSegmenter(), lambda stage, share: told.append((stage, share)))
    return result, told


def masks_in(folder: Path) -> Masks:
    """By segment, instance and frame, of all segmentations in the folder."""
    masks: Masks = {}
    for path in sorted((folder / "out").glob("seg*.dcm")):
        masks |= read_masks(dcmread(path))
    return masks


class Listing:
    """The ridge filter, noting what it is asked to look at."""

    info = RidgeSegmenter.info

    def __init__(self) -> None:
        self.seen: list[ImageStack] = []

    def segment(self, stack: ImageStack, prompt: Prompt, progress: ProgressCallback) -> Segmentation:
        self.seen.append(stack)
        return RidgeSegmenter().segment(stack, prompt, progress)


def test_each_run_has_an_object_with_what_it_gets_alone(tmp_path: Path) -> None:
    """Through the ridge filter: every run of the series gets exactly the masks that it gets when it is sent alone."""
    runs = dicom_sources.xa_runs((3, 5, 1), rows=128, columns=120)
    runs[1].PixelData = bytes(255 - value for value in runs[1].PixelData)  # another run, another picture
    result, _ = work(runs, tmp_path)
    assert result.status is Status.OK
    assert len({made.series_instance_uid for made in result.objects}) == len(result.objects) == 3
    together = masks_in(tmp_path)
    alone: Masks = {}
    for number, run in enumerate(runs):
        work([run], tmp_path / str(number))
        alone |= masks_in(tmp_path / str(number))
    assert together.keys() == alone.keys()
    assert {uid for _, uid, _ in together} == {str(run.SOPInstanceUID) for run in runs}
    assert all(np.array_equal(together[key], alone[key]) for key in alone)
    assert (result.summary["frames"], result.summary["instances_used"]) == (9, 3)
    assert result.summary["source_kind"] == "run"
    assert result.summary["voxels"] == sum(int(mask.sum()) for mask in alone.values())


def test_segmenters_never_see_two_runs_at_once(tmp_path: Path) -> None:
    """Each run is a stack over time of its own, a still is an independent picture."""
    segmenter = Listing()
    work(dicom_sources.xa_runs((3, 5, 1), rows=128, columns=120), tmp_path, segmenter)
    assert [stack.arrangement for stack in segmenter.seen] == [Arrangement.RUN, Arrangement.RUN, Arrangement.FRAMES]
    assert [len({frame.sop_instance_uid for frame in stack.frames}) for stack in segmenter.seen] == [1, 1, 1]


def test_stills_of_another_size_are_left_out_and_told(tmp_path: Path) -> None:
    """The summary names the picture that no object covers, with the reason."""
    one = {"SeriesInstanceUID": "1.2.3", "StudyInstanceUID": "1.2.4"}
    series = dicom_sources.xa_runs((3, 1, 1), rows=128, columns=120, **one)
    other = dicom_sources.xa_still(rows=96, columns=120, **one)
    result, _ = work([*other, *series], tmp_path)
    assert [entry["sop_instance_uid"] for entry in result.summary["left_out"]] == [other[0].SOPInstanceUID]
    assert "1 images of another size or kind of colour are not segmented" in result.summary["warnings"]
    assert {uid for _, uid, _ in masks_in(tmp_path)} <= {str(run.SOPInstanceUID) for run in series}


def test_progress_of_several_runs_goes_on(tmp_path: Path) -> None:
    """Within decoding and within segmenting the finished share never falls, and ends at the last run."""
    _, told = work(dicom_sources.xa_runs((3, 3), rows=128, columns=120), tmp_path)
    for stage in ("decode", "segment"):
        shares = [share for name, share in told if name == stage]
        assert shares == sorted(shares)
        assert shares[0] == 0
    assert max(share for name, share in told if name == "segment") == 1.0
    ending = [name for name, _ in told if name in ("encode", "validate", "preview")]
    assert ending == ["encode", "validate", "encode", "validate", "preview"]


def test_decoding_is_limited_for_each_run(tmp_path: Path) -> None:
    """A study of many runs takes the pixels of one at a time; a run that is too long is still refused."""
    runs = dicom_sources.xa_runs((3, 3), rows=128, columns=120)
    one_run = 3 * 128 * 120 * 4
    result, _ = work(runs, tmp_path / "fits", decoded_limit_bytes=2 * one_run)
    assert result.status is Status.OK
    with pytest.raises(SourceTooLargeError):
        work(runs[:1], tmp_path / "long", decoded_limit_bytes=one_run - 1)


def test_preview_shows_the_run_with_most_vessel(tmp_path: Path) -> None:
    """The one picture of a series is taken from whichever run shows most."""
    blank, full = dicom_sources.xa_runs((2, 3), rows=128, columns=120)
    blank.PixelData = bytes([170]) * len(blank.PixelData)
    result, _ = work([blank, full], tmp_path)
    assert result.summary["frames_with_vessel"] == 3
    work([full], tmp_path / "alone")
    together, alone = (folder / "out" / preview_files.OVERLAY for folder in (tmp_path, tmp_path / "alone"))
    assert together.read_bytes() == alone.read_bytes()


@pytest.mark.parametrize(
    "build",
    [
        lambda: dicom_sources.ct_series(frames=3, rows=16, columns=24),
        lambda: dicom_sources.enhanced_ct(frames=3, rows=16, columns=24),
        lambda: dicom_sources.xa_runs((2, 1), 16, 24),
        lambda: dicom_sources.op_rgb(rows=16, columns=24),
    ],
    ids=["slices", "enhanced", "runs", "picture"],
)
def test_empty_result_is_an_object_on_request(build: Callable[[], list[Dataset]], tmp_path: Path) -> None:
    """With ``send_empty`` a series without a vessel gets an object with all frames, all empty, and says so."""
    datasets = build()
    segmenter = FaultySegmenter(mode="empty")
    result, _ = work(datasets, tmp_path, segmenter, send_empty=True)
    assert result.status is Status.NO_MASK
    assert {len(made.sha256) for made in result.objects} == {64}
    masks = masks_in(tmp_path)
    frames = sum(int(dataset.get("NumberOfFrames") or 1) for dataset in datasets)
    assert len(masks) == result.summary["frames"] == frames
    assert not any(mask.any() for mask in masks.values())
    assert result.summary["warnings"][-1].endswith("no vessel was found: the object is empty")
    assert result.summary["frames_with_vessel"] == result.summary["voxels"] == 0
    with Image.open(tmp_path / "out" / preview_files.OVERLAY) as preview:
        assert preview.width * 16 == preview.height * 24


def test_empty_result_is_no_object_by_default(tmp_path: Path) -> None:
    """Nothing lies in the output folder, and no UIDs are told."""
    result, _ = work(dicom_sources.xa_runs((2, 1), 16, 24), tmp_path, FaultySegmenter(mode="empty"))
    assert (result.status, result.objects) == (Status.NO_MASK, ())
    assert list((tmp_path / "out").iterdir()) == []
    assert result.summary["warnings"] == ["run: no vessel found", "still: no vessel found"]


class Stranger:
    """Knows no kind of image."""

    info = FaultySegmenter.info

    def __init__(self, cut: int = 0) -> None:
        self._cut = cut

    def segment(self, stack: ImageStack, prompt: Prompt, progress: ProgressCallback) -> Segmentation:
        found = FaultySegmenter(mode="empty").segment(stack, prompt, progress)
        return replace(found, status=Status.OUT_OF_DOMAIN, mask=found.mask[:, self._cut :])


def test_unknown_kind_of_image_is_never_an_object(tmp_path: Path) -> None:
    """The words "no vessel here" must not be said of an image that the model does not know."""
    result, _ = work(dicom_sources.xa_still(16, 24), tmp_path, Stranger(), send_empty=True)
    assert (result.status, result.objects) == (Status.OUT_OF_DOMAIN, ())
    assert list((tmp_path / "out").iterdir()) == []


class Overflowing:
    """Computes in numbers that are too small for its weights."""

    info = FaultySegmenter.info

    def segment(self, stack: ImageStack, prompt: Prompt, progress: ProgressCallback) -> Segmentation:
        found = FaultySegmenter(mode="empty").segment(stack, prompt, progress)
        found.probability[0, -1, 3, 4] = np.nan
        return found


def test_answer_that_is_no_number_is_not_told_as_no_vessel(tmp_path: Path) -> None:
    """NaN lies below every threshold: the mask is empty, and the job must fail all the same."""
    with pytest.raises(InvalidSegmentationError, match="holds what is no number"):
        work(dicom_sources.xa_runs((2,), 16, 24), tmp_path, Overflowing(), send_empty=True)


def test_mask_of_another_shape_ends_in_words(tmp_path: Path) -> None:
    """A segmenter whose mask has too few frames is named as the culprit before anything is built."""
    with pytest.raises(InvalidSegmentationError, match="other frames"):
        work(dicom_sources.xa_runs((2, 2), 16, 24), tmp_path, Stranger(cut=1))

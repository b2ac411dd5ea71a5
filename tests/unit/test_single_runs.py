"""A series of several runs is taken apart for the segmenter and put together for the result."""

from dataclasses import replace
from pathlib import Path

import dicom_sources
import numpy as np
import pytest
from seg_cases import ARTERY_AND_VEIN, CASES, segmentation_of

from dicom_core.errors import InvalidSegmentationError, SourceTooLargeError
from worker.image_stack import Arrangement, FrameIdentity
from worker.segmenters.interface import BLOOD_VESSEL, Segmentation, Status
from worker.single_runs import joined, single_runs
from worker.source_images.reading import read_series
from worker.source_series import SourceKind, SourceSeries

PLENTY = 1 << 30


def runs_of(folder: Path, *lengths: int) -> SourceSeries:
    return read_series(dicom_sources.save(dicom_sources.xa_runs(lengths, 16, 24), folder))[0]


def part(frames: int, value: bool, **changes: object) -> Segmentation:
    mask = np.full((1, frames, 2, 3), value)
    return replace(segmentation_of(mask, [BLOOD_VESSEL], Status.OK if value else Status.NO_MASK), **changes)


@pytest.mark.parametrize("name", [name for name in CASES if name != "xa_runs"])
def test_what_is_not_several_runs_stays_whole(name: str) -> None:
    """Volumes, pictures and a single run come back as the same object."""
    source = CASES[name].series()
    assert single_runs(source, maximum_bytes=1) == (source,)


def test_each_run_is_a_run_and_each_still_a_picture(tmp_path: Path) -> None:
    """Every part holds one instance with its file and frames; together they are the series, in its order."""
    source = runs_of(tmp_path, 4, 1, 3)
    parts = single_runs(source, maximum_bytes=PLENTY)
    assert [one.arrangement for one in parts] == [Arrangement.RUN, Arrangement.FRAMES, Arrangement.RUN]
    assert [one.kind for one in parts] == [SourceKind.RUN, SourceKind.PICTURES, SourceKind.RUN]
    assert [one.paths for one in parts] == [(path,) for path in source.paths]
    assert tuple(frame for one in parts for frame in one.frames) == source.frames
    assert parts[2].frames == tuple(
        FrameIdentity(str(source.datasets[2].SOPInstanceUID), number) for number in (1, 2, 3)
    )


def test_a_part_of_several_runs_is_the_series_of_that_run(tmp_path: Path) -> None:
    """A run among others is read exactly as if it were sent alone."""
    source = runs_of(tmp_path, 4, 1, 3)
    for one in single_runs(source, maximum_bytes=PLENTY):
        alone = read_series(one.paths)[0]
        assert replace(one, datasets=()) == replace(alone, datasets=())


def test_warnings_of_the_series_are_not_repeated_for_each_run(tmp_path: Path) -> None:
    """What was left out belongs to the series."""
    source = replace(runs_of(tmp_path, 2, 2), left_out=(("1.2", "why"),), warnings=("one is left out",))
    assert all((one.left_out, one.warnings) == ((), ()) for one in single_runs(source, maximum_bytes=PLENTY))


def test_results_that_would_not_fit_are_refused_before_any_work(tmp_path: Path) -> None:
    """The limit holds for the masks and probabilities of all runs together: 3 bytes a pixel."""
    source = runs_of(tmp_path, 4, 3)
    needed = 7 * 16 * 24 * 3
    assert len(single_runs(source, maximum_bytes=needed)) == 2
    with pytest.raises(SourceTooLargeError, match="2 runs"):
        single_runs(source, maximum_bytes=needed - 1)


def test_one_part_is_not_touched() -> None:
    """What a segmenter said of a whole series stays the same object."""
    whole = part(3, True)
    assert joined([whole]) is whole


def test_frames_follow_each_other() -> None:
    """Masks, probabilities and scores of all parts, in their order; numbers of seconds are added up."""
    first = part(2, True, scores=(0.5, 0.25), seconds={"filter": 1.0}, warnings=("dim", "small"))
    second = part(3, False, scores=(0.0, 0.0, 0.125), seconds={"filter": 2.0, "clean": 4.0}, warnings=("dim",))
    whole = joined([first, second])
    assert whole.mask.shape == whole.probability.shape == (1, 5, 2, 3)
    assert (whole.mask.dtype, whole.probability.dtype) == (np.bool_, np.float16)
    assert whole.mask.any(axis=(0, 2, 3)).tolist() == [True, True, False, False, False]
    assert np.array_equal(whole.probability, whole.mask.astype(np.float16))
    assert whole.scores == (0.5, 0.25, 0.0, 0.0, 0.125)
    assert whole.seconds == {"filter": 3.0, "clean": 4.0}
    assert whole.warnings == ("dim", "small")


def test_settings_that_differ_are_all_named() -> None:
    """A setting is what all runs agree on, or the list of what they had."""
    parts = [part(1, True, parameters={"polarity": p, "threshold": "0.5"}) for p in ("dark", "bright", "dark")]
    assert joined(parts).parameters == {"polarity": "dark, bright", "threshold": "0.5"}
    assert joined([parts[0], part(1, True, parameters={})]).parameters["polarity"] == "dark, -"


def test_answers_are_kept() -> None:
    """What a language model said of each run, without repetitions."""
    parts = [part(1, True, answer=answer) for answer in ("Left.", "", "Right.", "Left.")]
    assert joined(parts).answer == "Left.\nRight."


@pytest.mark.parametrize(
    ("statuses", "whole"),
    [
        ((Status.NO_MASK, Status.OK), Status.OK),
        ((Status.OUT_OF_DOMAIN, Status.NO_MASK), Status.NO_MASK),
        ((Status.OUT_OF_DOMAIN, Status.OK, Status.NO_MASK), Status.OK),
        ((Status.OUT_OF_DOMAIN, Status.OUT_OF_DOMAIN), Status.OUT_OF_DOMAIN),
    ],
)
def test_the_best_outcome_counts(statuses: tuple[Status, ...], whole: Status) -> None:
    """One run with a vessel is a result; the model does not know the series only when it knows none of its runs."""
    assert joined([part(1, status is Status.OK, status=status) for status in statuses]).status is whole


def test_other_classes_are_refused() -> None:
    """The segments of the object must mean the same in all runs."""
    with pytest.raises(InvalidSegmentationError, match="other classes"):
        joined([part(1, True), part(1, True, classes=ARTERY_AND_VEIN[:1])])

"""The prompt of a request on its way to a segmenter: files read, places checked, parts that nothing is asked of."""

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dicom_sources
import numpy as np
import pytest
from faulty_segmenter import FaultySegmenter
from PIL import Image
from pydicom import Dataset, dcmread

from dicom_core.errors import InvalidPromptError
from dicom_core.prompt import Prompt, PromptKind
from worker import prompt_reading
from worker.image_stack import ImageStack
from worker.prompt_reading import SeriesPrompt
from worker.segmenters.interface import ProgressCallback, Segmentation, Status
from worker.segmenters.interface import Prompt as ShownPrompt
from worker.series_messages import SeriesRequest, SeriesResult
from worker.series_work import work_on_series

ROWS, COLUMNS = 16, 24


class Asked(FaultySegmenter):
    """Takes every way of asking, remembers it, and marks what is bright."""

    info = replace(FaultySegmenter.info, prompts=frozenset(PromptKind))

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[ImageStack, ShownPrompt]] = []

    def segment(self, stack: ImageStack, prompt: ShownPrompt, progress: ProgressCallback) -> Segmentation:
        self.seen.append((stack, prompt))
        return replace(super().segment(stack, prompt, progress), answer="Sure, [SEG].\0" + "x" * 3000)


def work(
    datasets: list[Dataset], folder: Path, segmenter: FaultySegmenter | None = None, **prompt: Any
) -> tuple[SeriesResult, list[tuple[ImageStack, ShownPrompt]]]:
    """The result and what the segmenter was asked; the SEG objects lie in ``folder / "out"``."""
    asked = segmenter or Asked()
    out = folder / "out"
    out.mkdir(parents=True, exist_ok=True)
    request = SeriesRequest(
        paths=tuple(dicom_sources.save(datasets, folder / "in")),
        segmenter="asked",
        prompt=Prompt.model_validate(prompt).stored(),
        decoded_limit_bytes=1 << 30,
        uid_scope=("site", "study"),
        created_at=datetime(2026, 1, 2, tzinfo=UTC),
        series_number=9001,
        software_version="0",
        output_folder=out,
    )
    return work_on_series(request, asked, lambda _stage, _share: None), getattr(asked, "seen", [])


def run(frames: int = 3) -> list[Dataset]:
    return dicom_sources.xa_runs((frames,), ROWS, COLUMNS)


def png(path: Path, rows: int = ROWS, columns: int = COLUMNS) -> Path:
    picture = np.zeros((rows, columns), np.uint8)
    picture[3:5, 7:9] = 255
    Image.fromarray(picture).save(path)
    return path


def test_words_and_places_reach_the_segmenter(tmp_path: Path) -> None:
    """Questions, points and boxes come as they were asked, and the result tells of them."""
    prompt = {
        "questions": [{"text": "artery", "segment": "artery"}, {"text": "vein"}],
        "points": [{"x": 3, "y": 4}],
        "boxes": [{"left": 1, "top": 2, "right": 24, "bottom": 16}],
    }
    result, ((_, shown),) = work(run(), tmp_path, **prompt, by_hand=True)
    assert [question.text for question in shown.questions] == ["artery", "vein"]
    assert (shown.points[0].x, shown.boxes[0].right) == (3, 24)
    assert (shown.mask, shown.example) == (None, None)
    assert result.summary["prompt"] == "artery; vein; 1 point; 1 box"
    assert result.summary["semiautomatic"] is True
    assert result.summary["answer"].startswith("Sure, [SEG].?xxx")
    assert len(result.summary["answer"]) == 2000
    segment = dcmread(tmp_path / "out" / "seg.dcm").SegmentSequence[0]
    assert segment.SegmentAlgorithmType == "SEMIAUTOMATIC"
    assert "Prompt: artery; vein; 1 point; 1 box" in segment.SegmentDescription


def test_prompt_of_a_rule_is_automatic(tmp_path: Path) -> None:
    """Nobody sat there: words in a rule leave the algorithm automatic; other words give other objects."""
    result, _ = work(run(), tmp_path, questions=[{"text": "vessels"}])
    assert dcmread(tmp_path / "out" / "seg.dcm").SegmentSequence[0].SegmentAlgorithmType == "AUTOMATIC"
    assert result.summary["semiautomatic"] is False
    other, _ = work(run(), tmp_path / "other", questions=[{"text": "arteries"}])
    assert other.objects[0].sop_instance_uid != result.objects[0].sop_instance_uid


def test_segmenter_that_takes_no_prompt_refuses_it_unread(tmp_path: Path) -> None:
    """Before any image is read, so that a wrong rule does not cost the time of a whole study."""
    with pytest.raises(InvalidPromptError, match="faulty cannot be asked by text"):
        work(run(), tmp_path, FaultySegmenter(), questions=[{"text": "vessels"}])


def test_picture_of_a_mask_counts_for_every_frame(tmp_path: Path) -> None:
    """A PNG says roughly where, on all frames of a run; black is outside."""
    _, ((stack, shown),) = work(run(), tmp_path, mask=png(tmp_path / "mask.png"))
    assert shown.mask.shape == stack.pixels.shape == (3, ROWS, COLUMNS)
    assert shown.mask.dtype == np.bool_
    assert [int(frame.sum()) for frame in shown.mask] == [4, 4, 4]
    assert shown.mask[0, 3:5, 7:9].all()


def test_segmentation_object_is_a_mask_of_its_frames(tmp_path: Path) -> None:
    """A SEG that was made of the series is put on the frames that it is about, in their order."""
    slices = dicom_sources.ct_series(frames=3, rows=ROWS, columns=COLUMNS)
    work(slices, tmp_path)
    _, ((stack, shown),) = work(slices, tmp_path / "again", mask=tmp_path / "out" / "seg.dcm")
    expected = Asked().segment(stack, ShownPrompt(), lambda _share: None).mask[0]
    assert np.array_equal(shown.mask, expected)
    assert expected.any()
    other = dicom_sources.ct_series(frames=3, rows=ROWS, columns=COLUMNS)
    with pytest.raises(InvalidPromptError, match="about other images"):
        work(other, tmp_path / "other", mask=tmp_path / "out" / "seg.dcm")


@pytest.mark.parametrize(
    ("rows", "build", "said"),
    [
        (ROWS + 1, run, "17 rows and 24 columns, the images have 16 and 24"),
        (ROWS, lambda: dicom_sources.ct_series(frames=3, rows=ROWS, columns=COLUMNS), "no mask of a volume"),
    ],
)
def test_mask_that_does_not_fit_is_refused(rows: int, build: Any, said: str, tmp_path: Path) -> None:
    """Another size, or one picture for a volume, is a mistake that is told and not guessed at."""
    with pytest.raises(InvalidPromptError, match=said):
        work(build(), tmp_path, mask=png(tmp_path / "mask.png", rows))


@pytest.mark.parametrize("name", ["absent.png", "absent.dcm", "text.png", "text.dcm"])
def test_unreadable_files_are_named(name: str, tmp_path: Path) -> None:
    """A mask or example that is not there, or something else, is the prompt's fault and says its path."""
    if name.startswith("text"):
        (tmp_path / name).write_text("no picture")
    with pytest.raises(InvalidPromptError, match=rf"mask of the prompt cannot be used.*{name}"):
        work(run(), tmp_path / "mask", mask=tmp_path / name)
    box = {"left": 0, "top": 0, "right": 1, "bottom": 1}
    with pytest.raises(InvalidPromptError, match="example of the prompt cannot be used"):
        work(run(), tmp_path / "example", example={"picture": tmp_path / name, "boxes": [box]})


def test_example_is_a_picture_with_boxes(tmp_path: Path) -> None:
    """PNG and DICOM become red, green and blue; a box outside of it is refused."""
    (still,) = dicom_sources.save(dicom_sources.xa_still(ROWS, COLUMNS), tmp_path / "still")
    box = {"left": 1, "top": 1, "right": 5, "bottom": 5}
    for picture in (png(tmp_path / "example.png"), still):
        _, ((_, shown),) = work(run(), tmp_path / picture.stem, example={"picture": picture, "boxes": [box]})
        assert shown.example.picture.shape == (ROWS, COLUMNS, 3)
        assert shown.example.picture.dtype == np.uint8
        assert shown.example.picture.any()
        assert shown.example.boxes[0].right == 5
    with pytest.raises(InvalidPromptError, match="column 25, row 5, outside of the example of 24 columns"):
        work(run(), tmp_path, example={"picture": still, "boxes": [{**box, "right": 25}]})


@pytest.mark.parametrize(
    "prompt",
    [
        {"points": [{"x": 24.5, "y": 1}]},
        {"points": [{"x": 1, "y": 17}]},
        {"boxes": [{"left": 1, "top": 1, "right": 99, "bottom": 2}]},
    ],
)
def test_places_outside_are_refused(prompt: dict[str, Any], tmp_path: Path) -> None:
    """A place that is in no picture is a mistake (rows and columns taken for each other), not nothing."""
    with pytest.raises(InvalidPromptError, match="24 columns and 16 rows"):
        work(run(), tmp_path, **prompt)


def test_places_on_images_that_are_not_there_are_refused(tmp_path: Path) -> None:
    """An instance of another series, or a frame beyond the last."""
    for place in ({"sop_instance_uid": "1.2.3"}, {"frame_number": 4}):
        with pytest.raises(InvalidPromptError, match="not among the images"):
            work(run(), tmp_path / place.__repr__()[2:5], points=[{"x": 1, "y": 1, **place}])


def test_parts_that_nothing_is_asked_of_are_passed_over(tmp_path: Path) -> None:
    """A point on the second of two runs: the first is not shown to the segmenter and gets no object."""
    runs = dicom_sources.xa_runs((2, 3), ROWS, COLUMNS)
    place = {"x": 1, "y": 1, "sop_instance_uid": str(runs[1].SOPInstanceUID), "frame_number": 2}
    result, ((stack, shown),) = work(runs, tmp_path, points=[place])
    assert {frame.sop_instance_uid for frame in stack.frames} == {str(runs[1].SOPInstanceUID)}
    assert len(shown.points) == 1
    assert (result.status, len(result.objects)) == (Status.OK, 1)
    assert "the prompt shows nothing on these images" in result.summary["warnings"]
    _, seen = work(runs, tmp_path / "words", points=[place], questions=[{"text": "vessels"}])
    assert [len(shown.points) for _, shown in seen] == [0, 1]


def test_files_are_read_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two parts share one reading of the mask."""
    read: list[Path] = []
    real = prompt_reading.read_masks_of
    monkeypatch.setattr(prompt_reading, "read_masks_of", lambda path: (read.append(path), real(path))[1])
    _, seen = work(dicom_sources.xa_runs((2, 3), ROWS, COLUMNS), tmp_path, mask=png(tmp_path / "mask.png"))
    assert len(seen) == 2
    assert read == [tmp_path / "mask.png"]


def test_nothing_asked_is_nothing(tmp_path: Path) -> None:
    """The empty prompt concerns every part and stays empty."""
    asked = SeriesPrompt(Prompt(), ())
    _, ((stack, shown),) = work(run(), tmp_path)
    assert shown == asked.of(stack) == ShownPrompt()

"""The set of objects that is made of one series: kinds, parts, UIDs, references between them."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

import dicom_sources
import numpy as np
import pytest
from faulty_segmenter import FaultySegmenter
from pydicom import Dataset, dcmread

from dicom_core.errors import InvalidSegmentationError
from dicom_core.result import SEGMENTATIONS, ResultKind, ResultObject
from dicom_core.routing import made_by_vesselq
from worker import result_set
from worker.image_stack import ImageStack
from worker.seg_reader.reading import read_masks
from worker.segmenters.interface import ProgressCallback, Prompt, Segmentation, Segmenter, Status
from worker.series_messages import SeriesRequest, SeriesResult, object_file
from worker.series_work import work_on_series

EVERYTHING = tuple(ResultKind)
SEG, OVERLAY, REPORT = ResultKind.SEG, ResultKind.OVERLAY, ResultKind.REPORT


def work(
    datasets: Sequence[Dataset], folder: Path, segmenter: Segmenter | None = None, **changes: object
) -> SeriesResult:
    """The result; its files lie in ``folder / "out"``."""
    out = folder / "out"
    out.mkdir(parents=True)
    request = SeriesRequest(
        paths=tuple(dicom_sources.save(datasets, folder / "in")),
        segmenter="faulty",
        decoded_limit_bytes=1 << 30,
        uid_scope=("site", "study"),
        created_at=datetime(2026, 1, 2, tzinfo=UTC),
        series_number=9001,
        software_version="0",
        output_folder=out,
    ).model_copy(update=changes)
    return work_on_series(request, segmenter or FaultySegmenter(), lambda *_: None)


def of_kind(result: SeriesResult, kind: ResultKind) -> list[ResultObject]:
    return [made for made in result.objects if made.kind is kind]


def phases(count: int, frames: int = 3) -> list[Dataset]:
    """A CT series with ``count`` volumes at the same places, one a moment of the heart."""
    everything = []
    for phase in range(count):
        slices = dicom_sources.ct_series(
            frames=frames, rows=16, columns=24, SeriesInstanceUID="1.2.3", StudyInstanceUID="1.2.4",
            FrameOfReferenceUID="1.2.5", TemporalPositionIndex=phase + 1, TriggerTime=f"{phase * 100}",
        )  # fmt: skip
        for number, one in enumerate(slices, 1):
            one.AcquisitionNumber = phase + 1
            one.InstanceNumber = phase * frames + number
        everything += slices
    return everything


@pytest.fixture(scope="module")
def volume(tmp_path_factory: pytest.TempPathFactory) -> tuple[SeriesResult, Path]:
    """Everything that can be made of a small CT."""
    folder = tmp_path_factory.mktemp("volume")
    source = dicom_sources.ct_series(frames=4, rows=32, columns=40)
    return work(source, folder, results=EVERYTHING), folder / "out"


def test_every_kind_is_made_and_described(volume: tuple[SeriesResult, Path]) -> None:
    """Each entry says what the file says; the SEG object comes first, the report last."""
    result, out = volume
    assert {made.kind for made in result.objects} == set(EVERYTHING)
    assert [made.order for made in result.objects] == sorted(made.order for made in result.objects)
    for made in result.objects:
        dataset = dcmread(out / made.path)
        assert (dataset.SOPInstanceUID, dataset.SeriesInstanceUID) == (made.sop_instance_uid, made.series_instance_uid)
        assert dataset.SOPClassUID == made.sop_class_uid
        assert made.size_bytes == (out / made.path).stat().st_size
    assert {path.name for path in out.glob("*.dcm")} == {made.path for made in result.objects}


def test_each_kind_is_a_series_of_its_own(volume: tuple[SeriesResult, Path]) -> None:
    """No two kinds share a series, no two objects a UID; numbers and descriptions tell them apart in a list."""
    result, out = volume
    series: dict[str, set[ResultKind]] = {}
    for made in result.objects:
        series.setdefault(made.series_instance_uid, set()).add(made.kind)
    assert [len(kinds) for kinds in series.values()] == [1] * len(EVERYTHING)
    assert len({made.sop_instance_uid for made in result.objects}) == len(result.objects)
    headers = [dcmread(out / of_kind(result, kind)[0].path, stop_before_pixels=True) for kind in EVERYTHING]
    assert [header.SeriesNumber for header in headers] == [9001, 9101, 9201, 9301, 9401, 9501, 9601]
    assert all(len(header.SeriesDescription) <= 64 for header in headers)
    assert len({header.SeriesDescription for header in headers}) == len(EVERYTHING)


def test_an_overlay_may_be_several_objects(volume: tuple[SeriesResult, Path]) -> None:
    """A volume has a projection and a montage, items 1 and 2 of one series."""
    result, _ = volume
    overlays = of_kind(result, OVERLAY)
    assert [(made.item, made.path) for made in overlays] == [(1, "overlay.dcm"), (2, "overlay-2.dcm")]
    assert len({made.series_instance_uid for made in overlays}) == 1


def test_no_kind_of_object_is_a_source_when_it_comes_back(volume: tuple[SeriesResult, Path]) -> None:
    """The loop guard knows them all; the overlay of a CT is a CT for every rule."""
    result, out = volume
    objects = [dcmread(out / made.path, stop_before_pixels=True) for made in result.objects]
    assert {str(one.Modality) for one in objects} == {"SEG", "CT", "SR"}
    assert all(made_by_vesselq(one) for one in objects)


def test_report_and_segmentation_name_the_same_vessel(volume: tuple[SeriesResult, Path]) -> None:
    """The report refers to the SEG object of its part, and the tracking UID in it is that of the segment."""
    result, out = volume
    seg = dcmread(out / of_kind(result, SEG)[0].path, stop_before_pixels=True)
    report = dcmread(out / of_kind(result, REPORT)[0].path)
    said = {str(element.value) for element in report.iterall() if element.VR == "UI"}
    assert {str(seg.SOPInstanceUID), str(seg.SegmentSequence[0].TrackingUID)} <= said
    for kind in SEGMENTATIONS:
        other = dcmread(out / of_kind(result, kind)[0].path, stop_before_pixels=True)
        assert other.SegmentSequence[-1].TrackingUID == seg.SegmentSequence[0].TrackingUID
    (measured,) = result.summary["measurements"]
    assert measured["part"] == 1
    assert measured["regions"]


def test_an_object_stays_itself_whatever_else_is_made(volume: tuple[SeriesResult, Path], tmp_path: Path) -> None:
    """The SEG object alone has the bytes that it has among all others: adding an overlay changes no UID."""
    everything, _ = volume
    source = dicom_sources.ct_series(frames=4, rows=32, columns=40)
    alone = work(source, tmp_path / "alone")
    again = work(source, tmp_path / "again", results=(OVERLAY,))
    assert [made.kind for made in alone.objects] == [SEG]
    assert {made.kind for made in again.objects} == {SEG, OVERLAY}
    assert of_kind(again, SEG) == list(alone.objects)
    assert alone.objects[0].sop_instance_uid == of_kind(everything, SEG)[0].sop_instance_uid


def test_another_try_gives_the_same_set(tmp_path: Path) -> None:
    """Byte for byte: a worker that dies in the middle leaves nothing that contradicts the next one."""
    source = dicom_sources.xa_runs((3, 2), rows=32, columns=40)
    first = work(source, tmp_path / "first", results=(SEG, OVERLAY, REPORT))
    second = work(source, tmp_path / "second", results=(SEG, OVERLAY, REPORT))
    assert first.objects == second.objects
    assert len(of_kind(first, OVERLAY)) == 2  # one a run


class Choosy:
    """Finds vessels in every stack but those that are named by their number."""

    info = FaultySegmenter.info

    def __init__(self, nothing_in: Sequence[int]) -> None:
        self._nothing_in = nothing_in
        self._seen = 0

    def segment(self, stack: ImageStack, prompt: Prompt, progress: ProgressCallback) -> Segmentation:
        self._seen += 1
        mode = "empty" if self._seen in self._nothing_in else "ok"
        return FaultySegmenter(mode=mode).segment(stack, prompt, progress)


def test_each_phase_has_its_own_objects(tmp_path: Path) -> None:
    """Two phases: two SEG objects in two series, each about its own slices; the first as if it were the only one."""
    result = work(phases(2), tmp_path, results=(SEG, REPORT))
    segs = of_kind(result, SEG)
    assert [(made.part, made.path) for made in segs] == [(1, "seg.dcm"), (2, "seg-part2.dcm")]
    assert len({made.series_instance_uid for made in result.objects}) == 4
    used = [{uid for _, uid, _ in read_masks(dcmread(tmp_path / "out" / made.path))} for made in segs]
    assert not used[0] & used[1]
    assert [part["part"] for part in result.summary["parts"]] == [1, 2]
    assert result.summary["frames"] == 6
    reports = [dcmread(tmp_path / "out" / made.path) for made in of_kind(result, REPORT)]
    for seg, report in zip(segs, reports, strict=True):
        assert seg.sop_instance_uid in {str(element.value) for element in report.iterall() if element.VR == "UI"}


def test_a_phase_without_vessels_does_not_hide_the_others(tmp_path: Path) -> None:
    """The job is OK with what was found; the reason for the rest stands in the warnings."""
    result = work(phases(3), tmp_path, Choosy([2]), results=(SEG, OVERLAY))
    assert result.status is Status.OK
    assert [made.part for made in of_kind(result, SEG)] == [1, 3]
    assert [part["status"] for part in result.summary["parts"]] == ["ok", "no_mask", "ok"]
    assert any(warning.endswith("2 of 3: no vessel found") for warning in result.summary["warnings"])


def test_phases_without_any_vessel_are_no_result(tmp_path: Path) -> None:
    """Nothing lies in the output folder, whatever was drawn meanwhile."""
    result = work(phases(2), tmp_path, Choosy([1, 2]), results=EVERYTHING)
    assert (result.status, result.objects, result.previews) == (Status.NO_MASK, (), ())
    assert list((tmp_path / "out").iterdir()) == []


def test_an_empty_set_on_request_is_complete(tmp_path: Path) -> None:
    """With ``send_empty`` overlay and report say too that nothing was found."""
    source = dicom_sources.xa_run(frames=2, rows=32, columns=40)
    result = work(source, tmp_path, Choosy([1]), results=(SEG, OVERLAY, REPORT), send_empty=True)
    assert [made.kind for made in result.objects] == [SEG, OVERLAY, REPORT]
    assert result.status is Status.NO_MASK


def test_an_object_that_is_not_what_was_asked_for_never_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A builder that leaves out what the Standard demands fails the job instead of being kept."""
    build = result_set.build_overlays

    def careless(*arguments: object) -> tuple[Dataset, ...]:
        (dataset,) = build(*arguments)  # type: ignore[arg-type]  # as it was called
        del dataset.StudyID
        return (dataset,)

    monkeypatch.setattr(result_set, "build_overlays", careless)
    with pytest.raises(InvalidSegmentationError, match="overlay object lacks StudyID"):
        work(dicom_sources.xa_still(rows=32, columns=40), tmp_path, results=(SEG, OVERLAY))


def test_overlays_of_runs_are_kept_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A long run is drawn smaller or thinned out."""
    monkeypatch.setattr(result_set, "_DRAWN_BYTES", 1_000_000)
    result = work(dicom_sources.xa_runs((9, 9, 9), rows=128, columns=120), tmp_path, results=(SEG, OVERLAY))
    overlays = of_kind(result, OVERLAY)
    assert len(overlays) == 3
    assert sum(made.size_bytes for made in overlays) < 3_100_000


def test_overlays_of_many_pictures_are_kept_small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Pictures of one series are decoded together, but each is an overlay of its own: the limit is for all of them."""
    monkeypatch.setattr(result_set, "_DRAWN_BYTES", 10_000_000)
    result = work(dicom_sources.several_op(4, rows=1200, columns=1240), tmp_path, results=(SEG, OVERLAY))
    overlays = of_kind(result, OVERLAY)
    assert len(overlays) == 4
    assert sum(made.size_bytes for made in overlays) < 10_100_000


def test_files_are_named_by_what_they_are() -> None:
    """Short where there is one, complete where there are several."""
    assert object_file(SEG) == "seg.dcm"
    assert object_file(OVERLAY, 1, 2) == "overlay-2.dcm"
    assert object_file(ResultKind.SEG_LABELMAP, 12) == "seg_labelmap-part12.dcm"
    assert object_file(OVERLAY, 2, 3) == "overlay-part2-3.dcm"


def test_masks_are_those_of_the_segmenter(volume: tuple[SeriesResult, Path]) -> None:
    """Every BINARY kind holds the same mask."""
    result, out = volume
    seg, strict, deflated = (
        read_masks(dcmread(out / of_kind(result, kind)[0].path))
        for kind in (SEG, ResultKind.SEG_STRICT, ResultKind.SEG_DEFLATED)
    )
    for other in (strict, deflated):
        assert other.keys() == seg.keys()
        assert all(np.array_equal(other[key], seg[key]) for key in seg)

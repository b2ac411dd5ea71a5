"""A series of several volumes, from files to one result set a volume, in this process."""

from datetime import UTC, datetime
from pathlib import Path

import dicom_sources
from pydicom import Dataset, dcmread

from dicom_core.result import ResultKind
from worker.segmenters.interface import Status
from worker.segmenters.ridge import RidgeSegmenter
from worker.series_messages import SeriesRequest, SeriesResult
from worker.series_work import work_on_series

KINDS = (ResultKind.SEG, ResultKind.OVERLAY, ResultKind.REPORT)


def two_phases(missing_of_second: int = 0) -> list[Dataset]:
    """Two time points at the same places; the second one may lack its last slices."""
    first = dicom_sources.ct_series(frames=5)
    second = dicom_sources.ct_series(
        frames=5 - missing_of_second,
        StudyInstanceUID=first[0].StudyInstanceUID,
        SeriesInstanceUID=first[0].SeriesInstanceUID,
        FrameOfReferenceUID=first[0].FrameOfReferenceUID,
        AcquisitionNumber=2,
    )
    return [*second, *first]


def work(datasets: list[Dataset], folder: Path) -> tuple[SeriesResult, list[tuple[ResultKind, Dataset]]]:
    """The result and every object of it, by kind."""
    out = folder / "out"
    out.mkdir(parents=True)
    request = SeriesRequest(
        paths=tuple(dicom_sources.save(datasets, folder / "in")),
        segmenter="ridge",
        decoded_limit_bytes=1 << 30,
        uid_scope=("site", "study"),
        created_at=datetime(2026, 1, 2, tzinfo=UTC),
        series_number=9001,
        software_version="0",
        output_folder=out,
        results=KINDS,
    )
    result = work_on_series(request, RidgeSegmenter(), lambda _stage, _share: None)
    return result, [(made.kind, dcmread(out / made.path)) for made in result.objects]


def test_each_phase_has_a_result_set(tmp_path: Path) -> None:
    """Every kind of object is there for each phase, names it, and has UIDs and a series of its own."""
    result, objects = work(two_phases(missing_of_second=1), tmp_path)
    assert result.status is Status.OK
    for kind in KINDS:
        descriptions = [dataset.SeriesDescription for made, dataset in objects if made is kind]
        for number in (1, 2):
            assert sum(f"acquisition {number} of 2" in text for text in descriptions) == len(descriptions) / 2
    assert len({dataset.SOPInstanceUID for _, dataset in objects}) == len(objects)
    series = {dataset.SeriesInstanceUID for made, dataset in objects if made is ResultKind.SEG}
    assert len(series) == 2


def test_a_result_set_refers_to_its_own_phase(tmp_path: Path) -> None:
    """The segmentation of a phase names the instances of that phase and no other."""
    datasets = two_phases(missing_of_second=2)
    _, objects = work(datasets, tmp_path)
    segmentations = [dataset for made, dataset in objects if made is ResultKind.SEG]
    for number, segmentation in enumerate(segmentations, 1):
        named = segmentation.ReferencedSeriesSequence[0].ReferencedInstanceSequence
        own = {str(dataset.SOPInstanceUID) for dataset in datasets if dataset.AcquisitionNumber == number}
        assert {str(item.ReferencedSOPInstanceUID) for item in named} == own
        assert len(own) == (5, 3)[number - 1]


def test_the_order_of_files_does_not_matter(tmp_path: Path) -> None:
    """Another try, its files listed in another order, gives each phase the same UIDs: nothing is stored twice."""
    datasets = two_phases()
    once = [dataset for _, dataset in work(datasets, tmp_path / "once")[1]]
    again = [dataset for _, dataset in work(datasets[::-1], tmp_path / "again")[1]]
    assert [one.SOPInstanceUID for one in once] == [other.SOPInstanceUID for other in again]
    assert [one.SeriesDescription for one in once] == [other.SeriesDescription for other in again]

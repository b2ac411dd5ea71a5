"""A person asks about a series that has a result: from the question to the second object at the destination."""

from collections.abc import Iterator
from pathlib import Path

import dicom_sources
import numpy as np
import pydicom
import pytest
import worker_bench

from console.runs import run_again
from db import audit, jobs, studies
from db.audit_queries import AuditQuery, audit_rows
from dicom_core.job import Job, JobState
from dicom_core.prompt import Prompt
from worker.delivery import run_next_delivery
from worker.pipeline import run_next_job
from worker.runner import Runner
from worker.seg_reader.reading import read_masks

BOX = '{"questions": [{"text": "Gefäße"}], "boxes": [{"left": 2, "top": 3, "right": 12, "bottom": 13}]}'


@pytest.fixture(scope="module")
def runner() -> Iterator[Runner]:
    with worker_bench.kept_runner() as kept:
        yield kept


class Site:
    """A worker, and a study of two series of which both have a result at the destination."""

    def __init__(self, folder: Path, runner: Runner) -> None:
        models = {"asked": {"system": "promptable", "threshold": 0.25}}
        self.settings = worker_bench.settings_for(folder, models=models)
        self.record = worker_bench.fresh_record(self.settings)
        self.services = worker_bench.services_with(runner, self.settings, self.record)
        one, two = (dicom_sources.ct_series(frames=2, rows=16, columns=24) for _ in range(2))
        for dataset in two:
            dataset.StudyInstanceUID = one[0].StudyInstanceUID
        self.study = worker_bench.receive(self.settings, self.record, [*one, *two])
        self.first, self.other = worker_bench.complete(self.settings, self.record)
        self.work()

    def work(self) -> None:
        while run_next_job(self.services) or run_next_delivery(self.services):
            pass

    def ask(self, prompt: str, segmenter: str) -> Job:
        job = run_again(
            self.settings,
            self.record,
            self.study,
            self.first.series_instance_uid,
            Prompt.from_stored(prompt),
            segmenter=segmenter,
            by="console",
        )
        self.work()
        return jobs.get(self.record, job.job_id)

    def seg(self, job: Job) -> pydicom.Dataset:
        seg = jobs.get(self.record, job.job_id).seg
        assert seg is not None
        return pydicom.dcmread(self.settings.results_folder / seg.path)


@pytest.fixture
def site(tmp_path: Path, runner: Runner) -> Iterator[Site]:
    made = Site(tmp_path, runner)
    yield made
    worker_bench.close(made.services)


def test_question_becomes_a_second_object(site: Site) -> None:
    """The new result is marked semi-automatic, shows the box alone, and stands beside the first at the destination."""
    before = site.seg(site.first)
    job = site.ask(BOX, "asked")
    assert (job.state, job.generation) == (JobState.DONE, 2)
    assert [jobs.get(site.record, one.job_id).state for one in (site.first, site.other)] == [JobState.DONE] * 2
    after = site.seg(job)
    segment = after.SegmentSequence[0]
    assert segment.SegmentAlgorithmType == "SEMIAUTOMATIC"
    assert before.SegmentSequence[0].SegmentAlgorithmType == "AUTOMATIC"
    assert segment.SegmentAlgorithmName == "promptable"
    parameters = segment.SegmentationAlgorithmIdentificationSequence[0].AlgorithmParameters
    assert "prompt=Gefäße; 1 box" in parameters
    assert "threshold=0.25" in parameters
    assert "system" not in parameters
    assert after.SeriesDescription.endswith("v2")
    assert after.SeriesInstanceUID != before.SeriesInstanceUID
    shown = np.any(list(read_masks(after).values()), axis=0)
    assert shown.any()
    assert not shown[14:].any()
    assert not shown[:, 13:].any()
    sent = {str(pydicom.dcmread(path).SOPInstanceUID) for path in (site.settings.data_folder / "shelf").rglob("*.dcm")}
    assert {before.SOPInstanceUID, after.SOPInstanceUID} < sent
    assert len(sent) == 3
    (made,) = audit_rows(site.record, AuditQuery(job_id=job.job_id, event="seg-created"))
    told = {name: made.detail[name] for name in ("prompt", "semiautomatic", "answer")}
    assert told == {"prompt": "Gefäße; 1 box", "semiautomatic": True, "answer": "Sure: Gefäße."}
    assert audit.verify(site.record).first_bad_sequence is None


def test_another_question_is_another_object(site: Site) -> None:
    """The same question finds its job again; the UIDs of another one are others."""
    job = site.ask(BOX, "asked")
    first = site.seg(job)
    assert site.ask(BOX, "asked").job_id == job.job_id
    other = site.ask(BOX.replace("12", "11"), "asked")
    assert other.generation == 3
    assert site.seg(other).SOPInstanceUID != first.SOPInstanceUID


def test_chain_of_two(site: Site) -> None:
    """`faulty+asked` finds with the one and refines with the other; the object names both."""
    site.settings.models["faulty+asked"] = {"agreement": 0.1}
    job = site.ask("", "faulty+asked")
    assert job.state is JobState.DONE, job.reason
    assert job.result["model"] == "faulty+promptable"
    assert job.result["parameters"]["chain.agreement"] == "0.1"
    assert "kept of" in job.result["parameters"]["promptable.components"]
    algorithm = site.seg(job).SegmentSequence[0].SegmentationAlgorithmIdentificationSequence[0]
    assert algorithm.AlgorithmName == "faulty+promptable"
    assert algorithm.AlgorithmVersion == "1+3+chain1"
    assert "asked.threshold=0.25" in algorithm.AlgorithmParameters


def test_late_image_of_another_series_leaves_the_answer(site: Site) -> None:
    """The study opens again; what the person asked about the same images still counts."""
    job = site.ask(BOX, "asked")
    more = dicom_sources.ct_series(frames=1, rows=16, columns=24, StudyInstanceUID=site.study)
    worker_bench.receive(site.settings, site.record, more)
    (new,) = worker_bench.complete(site.settings, site.record)
    assert (new.generation, new.series_instance_uid) == (3, str(more[0].SeriesInstanceUID))
    assert jobs.get(site.record, job.job_id).state is JobState.DONE
    assert studies.source_of(site.record, new)

"""What `vesselq demo` believes: a result counts only if it is in the PACS, unchanged, valid and recorded."""

import dataclasses
import hashlib
import json
from datetime import UTC, datetime
from io import BytesIO
from pathlib import Path
from typing import Any

import dicom_sources
import numpy as np
import pytest
from pydicom import dcmread
from seg_cases import IDENTITY, segmentation_of

from console.demo.outcome import Outcome, outcome_of, save_previews
from console.demo.report import print_as_json, print_report
from console.demo.studies import DemoStudy
from db.audit import Verification
from dicom_core.errors import NotFoundError
from dicom_core.job import Job, JobState
from dicom_core.result import ResultKind, ResultObject
from worker.seg_writer.writer import build_segmentation, save_segmentation
from worker.source_images.reading import read_series

NOW = datetime(2026, 1, 1, tzinfo=UTC)
HOLDS = Verification(rows=7, first_bad_sequence=None, problem="", head_hash="a" * 64)


class FakePacs:
    """A result PACS that has what it is given."""

    port = 0

    def __init__(self, objects: dict[str, bytes]) -> None:
        self.objects = objects

    def start(self) -> None:
        """Nothing to start."""

    def stop(self) -> None:
        """Nothing to stop."""

    def describe(self) -> str:
        """For the reader."""
        return "a fake"

    def fetch(self, sop_instance_uid: str) -> tuple[bytes, str]:
        """The object."""
        if sop_instance_uid not in self.objects:
            raise NotFoundError(f"the fake has no object {sop_instance_uid}")
        return self.objects[sop_instance_uid], f"fake/{sop_instance_uid}"


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> DemoStudy:
    folder = tmp_path_factory.mktemp("study")
    run = dicom_sources.xa_run(frames=4, rows=64, columns=72)
    paths = tuple(dicom_sources.save(run, folder))
    truth = dicom_sources.vessel_mask(4, 64, 72)
    return DemoStudy(run[0].StudyInstanceUID, "a run", "XA", paths, truth, read_series(paths)[0].frames)


@pytest.fixture
def results(tmp_path: Path) -> Path:
    (tmp_path / "aa").mkdir()
    return tmp_path


def kept_object(path: Path) -> ResultObject:
    """The file as the record knows it."""
    return ResultObject(
        kind=ResultKind.SEG, part=1, path="aa/segmentation.dcm", sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        sop_class_uid="1.2.840.10008.5.1.4.1.1.66.4", sop_instance_uid=IDENTITY.sop_instance_uid,
        series_instance_uid=IDENTITY.series_instance_uid, size_bytes=path.stat().st_size,
    )  # fmt: skip


@pytest.fixture
def job(study: DemoStudy, results: Path) -> Job:
    """A job that is DONE; its result is the truth itself."""
    source = read_series(study.paths)[0]
    dataset = build_segmentation(source, segmentation_of(study.truth[np.newaxis]), IDENTITY)
    path = results / "aa" / "segmentation.dcm"
    save_segmentation(dataset, path)
    (results / "aa" / "preview.png").write_bytes(b"png")
    return Job(
        job_id="f" * 32, study_instance_uid=study.study_instance_uid, series_instance_uid="1.2", generation=1,
        modality="XA", state=JobState.DONE, reason="", rule="r", segmenter="ridge", prompt="", destinations=("pacs",),
        priority=0, attempts=1, fence=1, input_hash="", configuration_hash="", created_at=NOW, updated_at=NOW,
        results=(kept_object(path),),
        result={"seconds": {"segment": 2.0}, "preview_path": "aa/preview.png"},
    )  # fmt: skip


def with_result(job: Job, **changes: Any) -> Job:
    """The job with another entry for its object."""
    return dataclasses.replace(job, results=(dataclasses.replace(job.results[0], **changes),))


def pacs_of(results: Path) -> FakePacs:
    return FakePacs({IDENTITY.sop_instance_uid: (results / "aa" / "segmentation.dcm").read_bytes()})


def test_a_good_result(study: DemoStudy, job: Job, results: Path) -> None:
    """The truth itself scores 1, and everything about it is told."""
    outcome = outcome_of(study, job, results, pacs_of(results))
    assert outcome.problems == ()
    assert outcome.dice == 1.0
    assert outcome.seconds == {"segment": 2.0}
    assert outcome.where == f"fake/{IDENTITY.sop_instance_uid}"
    assert outcome.preview == results / "aa" / "preview.png"


def test_not_in_the_pacs(study: DemoStudy, job: Job, results: Path) -> None:
    """A job that says DONE is not believed when the PACS has nothing."""
    outcome = outcome_of(study, job, results, FakePacs({}))
    assert outcome.problems == (f"the fake has no object {IDENTITY.sop_instance_uid}",)


def changed(content: bytes, **attributes: Any) -> bytes:
    dataset = dcmread(BytesIO(content))
    for keyword, value in attributes.items():
        setattr(dataset, keyword, value)
    out = BytesIO()
    dataset.save_as(out)
    return out.getvalue()


def test_another_object_in_the_pacs(study: DemoStudy, job: Job, results: Path) -> None:
    """One changed pixel or one changed attribute in the PACS is found."""
    pacs = pacs_of(results)
    content = pacs.objects[IDENTITY.sop_instance_uid]
    pixels = bytearray(dcmread(BytesIO(content)).PixelData)
    pixels[0] ^= 1
    for other in (changed(content, PixelData=bytes(pixels)), changed(content, SeriesNumber=1)):
        outcome = outcome_of(study, job, results, FakePacs({IDENTITY.sop_instance_uid: other}))
        assert outcome.problems == ("the object in the result PACS is not the one that was kept",)


def test_the_pacs_may_write_its_own_file_meta(study: DemoStudy, job: Job, results: Path) -> None:
    """Another preamble and implementation in the File Meta Information is the PACS's right."""
    dataset = dcmread(results / "aa" / "segmentation.dcm")
    dataset.file_meta.ImplementationVersionName = "PACS"
    dataset.save_as(out := BytesIO())
    pacs = FakePacs({IDENTITY.sop_instance_uid: out.getvalue()})
    assert outcome_of(study, job, results, pacs).problems == ()


def test_a_kept_file_that_changed(study: DemoStudy, job: Job, results: Path) -> None:
    """The kept file must have the recorded hash."""
    outcome = outcome_of(study, with_result(job, sha256="0" * 64), results, pacs_of(results))
    assert "the kept result is not what was recorded" in outcome.problems


def test_an_invalid_object(study: DemoStudy, job: Job, results: Path) -> None:
    """An object that fails validation does not count, wherever it is."""
    path = results / "aa" / "segmentation.dcm"
    path.write_bytes(changed(path.read_bytes(), PatientID="SOMEBODYELSE"))
    job = with_result(job, sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    outcome = outcome_of(study, job, results, pacs_of(results))
    assert len(outcome.problems) == 1
    assert "PatientID differs from the source" in outcome.problems[0]


@pytest.mark.parametrize("state", [JobState.FAILED, JobState.SKIPPED, JobState.SEND_FAILED, JobState.NO_VESSEL_FOUND])
def test_every_other_end_is_a_problem(study: DemoStudy, job: Job, results: Path, state: JobState) -> None:
    """The reason of the record is given."""
    outcome = outcome_of(study, dataclasses.replace(job, state=state, reason="because"), results, pacs_of(results))
    assert outcome.problems == (f"its job is {state.value}: because",)
    assert outcome.dice is None


def test_no_job_at_all(study: DemoStudy, results: Path) -> None:
    """A study without a job is told as such."""
    assert outcome_of(study, None, results, FakePacs({})).problems == ("no job was made for it",)


def test_pictures_outlive_the_data(study: DemoStudy, job: Job, results: Path, tmp_path: Path) -> None:
    """Previews are copied out of a data folder that will be removed."""
    good, bad = outcome_of(study, job, results, pacs_of(results)), outcome_of(study, None, results, FakePacs({}))
    saved = save_previews([good, bad], tmp_path / "previews")
    assert saved[0].preview == tmp_path / "previews" / "XA.png"
    assert saved[0].preview.read_bytes() == b"png"
    assert saved[1] == bad


def some_outcome(**values: Any) -> Outcome:
    return Outcome(study_instance_uid="1.2", source="a run", modality="XA", frames=4, state="DONE", **values)


def test_json_is_one_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """`--json` prints one line; `ok` needs every study and the chain."""
    broken = dataclasses.replace(HOLDS, first_bad_sequence=3, problem="it")
    for outcomes, chain, ok in (
        ([some_outcome(dice=0.9)], HOLDS, True),
        ([some_outcome(dice=0.9), some_outcome(problems=("lost",))], HOLDS, False),
        ([some_outcome(dice=0.9)], broken, False),
    ):
        print_as_json(outcomes, chain, tmp_path)
        text = capsys.readouterr().out
        assert text.count("\n") == 1
        document = json.loads(text)
        assert document["ok"] is ok
        assert document["studies"][0]["dice"] == 0.9
        assert document["data_folder"] == str(tmp_path)


def test_report_for_people(capsys: pytest.CaptureFixture[str]) -> None:
    """The report names Dice, stages, place, preview and every problem, and the chain."""
    good = some_outcome(
        dice=0.876, seconds={"segment": 1.25}, sop_instance_uid="2.25.5", where="here", preview=Path("/x/XA.png")
    )
    print_report([good, some_outcome(problems=("it is lost",))], HOLDS, [])
    text = capsys.readouterr().out
    for words in ("0.88", "segment s", "1.25", "2.25.5", "here", "/x/XA.png", "problem: it is lost", "holds: 7 rows"):
        assert words in text
    print_report([], dataclasses.replace(HOLDS, first_bad_sequence=3, problem="changed"), [])
    assert "broken at row 3: changed" in capsys.readouterr().out

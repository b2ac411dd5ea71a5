"""The duties of the dispatcher over a real record, with a doorbell that only listens."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import dicom_sources
import pytest
import worker_bench

from db import jobs, retention, studies
from db.session import Record
from dicom_core.errors import UnavailableError
from dicom_core.job import JobState
from dicom_core.messages import SEGMENT_TASK
from dicom_core.settings import Settings
from dicom_listener.dispatcher import Dispatcher


class ListeningDoorbell:
    """Takes every ring, or none when ``away``."""

    def __init__(self) -> None:
        self.rings: list[tuple[str, str]] = []
        self.away = False
        self.waiting = 0

    def unanswered(self, queue: str) -> int:
        if self.away:
            raise UnavailableError("Redis does not answer")
        return self.waiting

    def ring(self, task: str, queue: str, ids: Sequence[str], rung: Callable[[str], None]) -> None:
        for identifier in ids:
            self.rings.append((task, identifier))
            rung(identifier)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return worker_bench.settings_for(
        tmp_path,
        dispatcher={"ring_interval_seconds": 3600, "rings_per_pass": 2},
        listener={"stable_after_seconds": 0.001},
    )


@pytest.fixture
def record(settings: Settings) -> Iterator[Record]:
    record = worker_bench.fresh_record(settings)
    yield record
    record.close()


@pytest.fixture
def doorbell() -> ListeningDoorbell:
    return ListeningDoorbell()


@pytest.fixture
def dispatcher(settings: Settings, record: Record, doorbell: ListeningDoorbell) -> Dispatcher:
    return Dispatcher(settings, record, doorbell)  # type: ignore[arg-type]  # it quacks like one


def _receive(settings: Settings, record: Record) -> str:
    return worker_bench.receive(settings, record, dicom_sources.xa_still(rows=8, columns=8))


def test_quiet_study_becomes_a_job_and_rings_once(
    settings: Settings, record: Record, dispatcher: Dispatcher, doorbell: ListeningDoorbell
) -> None:
    """One pass makes the job, one ring announces it; a second pass within the interval stays silent."""
    study = _receive(settings, record)
    dispatcher.close_studies()
    (job_id,) = jobs.due(record, 3600, 10)
    dispatcher.ring()
    dispatcher.ring()
    assert jobs.get(record, job_id).study_instance_uid == study
    assert doorbell.rings == [(SEGMENT_TASK, job_id)]


def test_two_dispatchers_make_one_job(settings: Settings, record: Record, dispatcher: Dispatcher) -> None:
    """A second dispatcher that saw the same quiet study changes nothing."""
    _receive(settings, record)
    (seen_by_both,) = studies.quiet_studies(record, 0)
    requests = dispatcher._requests.for_study(seen_by_both)
    assert len(studies.complete(record, seen_by_both, requests)) == 1
    assert studies.complete(record, seen_by_both, requests) == []


def test_one_impossible_study_does_not_stop_the_others(
    settings: Settings, record: Record, dispatcher: Dispatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever goes wrong with one study, those behind it become complete."""
    bad, good = _receive(settings, record), _receive(settings, record)
    decide = dispatcher._requests.for_study

    def stumble(study):
        if study.study_instance_uid == bad:
            raise RuntimeError("unforeseen")
        return decide(study)

    monkeypatch.setattr(dispatcher._requests, "for_study", stumble)
    dispatcher.close_studies()
    assert [one.study_instance_uid for one in studies.quiet_studies(record, 0)] == [bad]
    (job_id,) = jobs.due(record, 3600, 10)
    assert jobs.get(record, job_id).study_instance_uid == good


def test_redis_away_costs_only_the_ring(
    settings: Settings, record: Record, dispatcher: Dispatcher, doorbell: ListeningDoorbell
) -> None:
    """A ring that Redis did not take is rung again at the next pass, not after the interval."""
    _receive(settings, record)
    dispatcher.close_studies()
    doorbell.away = True
    with pytest.raises(UnavailableError):
        dispatcher.ring()
    doorbell.away = False
    dispatcher.ring()
    assert len(doorbell.rings) == 1


def test_rings_are_bounded_by_what_workers_answer(
    settings: Settings, record: Record, dispatcher: Dispatcher, doorbell: ListeningDoorbell
) -> None:
    """With as many rings unanswered as a pass may have, none is added: a backlog never floods Redis."""
    for _ in range(3):
        _receive(settings, record)
    dispatcher.close_studies()
    doorbell.waiting = 2
    dispatcher.ring()
    assert doorbell.rings == []
    doorbell.waiting = 0
    dispatcher.ring()
    assert len(doorbell.rings) == settings.dispatcher.rings_per_pass


def test_silent_worker_loses_its_job(settings: Settings, record: Record, dispatcher: Dispatcher) -> None:
    """A lease that ran out brings the job back to the queue."""
    _receive(settings, record)
    dispatcher.close_studies()
    job = jobs.claim(record, "w", 0.0)
    assert job is not None
    dispatcher.reap()
    assert jobs.get(record, job.job_id).state is JobState.QUEUED


def test_purge_removes_the_files(settings: Settings, record: Record, doorbell: ListeningDoorbell) -> None:
    """Source files of a study that is finished for long enough go; the record keeps its rows."""
    skipping = settings.model_copy(
        update={"rules": (), "retention": settings.retention.model_copy(update={"purge_sources_after_days": 1e-9})}
    )
    _receive(skipping, record)
    dispatcher = Dispatcher(skipping, record, doorbell)  # type: ignore[arg-type]  # it quacks like one
    dispatcher.close_studies()
    assert list(settings.spool_folder.glob("instances/??/*.dcm"))
    dispatcher.purge()
    assert not list(settings.spool_folder.glob("instances/??/*.dcm"))


def test_purge_leaves_no_picture_behind(
    settings: Settings, dispatcher: Dispatcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a result its preview goes, which shows the patient too; other results stay."""
    for name in ("ab/old-1", "ab/young-1"):
        folder = settings.results_folder / name
        folder.mkdir(parents=True)
        (folder / "segmentation.dcm").touch()
        (folder / "preview.png").touch()
    monkeypatch.setattr(retention, "results_to_remove", lambda *_: ["ab/old-1/segmentation.dcm"])
    dispatcher.purge()
    assert [path.name for path in (settings.results_folder / "ab").iterdir()] == ["young-1"]

"""A series that a person asks about again: a new generation with one job; everything else stays as it is."""

import pytest
from record_story import (
    STUDY,
    assert_sound,
    association,
    complete,
    events,
    instance,
    kept,
    listener,
    queued,
    ready,
    receive,
    running,
    state,
    words,
)

from db import deliveries, job_actions, jobs, register, reports, studies
from db.models import Instance, Study
from db.session import Record
from dicom_core.errors import ConflictError, LeaseLostError, NotFoundError
from dicom_core.job import Job, JobRequest, JobState
from dicom_core.study import input_hash

SERIES = f"{STUDY}.1"
ASKED = '{"questions":[{"text":"the left coronary artery"}],"by_hand":true}'


def ask(record: Record, *, prompt: str = ASKED, configuration: str = "asked", series_uid: str = SERIES) -> Job:
    """A person asks about the first series."""
    series = studies.series_to_run_again(record, STUDY, series_uid)
    request = JobRequest(
        series_instance_uid=series_uid,
        modality=series.modality,
        state=JobState.QUEUED,
        reason="",
        rule="all",
        segmenter="sa2va",
        prompt=prompt,
        destinations=("pacs",),
        priority=0,
        input_hash=input_hash(series.instances),
        configuration_hash=configuration,
    )
    return studies.run_again(record, series, request, by="web", address="10.0.0.9")


def finished(record: Record) -> Job:
    """A study whose first result was sent."""
    job = ready(record)
    delivery = deliveries.claim(record, "worker-1", 60)
    assert delivery is not None
    deliveries.sent(record, delivery, "0x0000 stored")
    return jobs.get(record, job.job_id)


def test_question_opens_a_generation_with_one_job(record: Record) -> None:
    """The result that was sent stays DONE, the new job is claimed with its prompt and the images that there are."""
    first = finished(record)
    job = ask(record)
    assert (job.generation, job.state, job.prompt, job.segmenter) == (2, JobState.QUEUED, ASKED, "sa2va")
    assert (job.calling_ae_title, job.destinations) == ("SENDER", ("pacs",))
    assert state(record, first) is JobState.DONE
    claimed = jobs.claim(record, "worker-1", 60)
    assert claimed is not None
    assert claimed.job_id == job.job_id
    assert input_hash(studies.source_of(record, claimed)) == job.input_hash
    assert reports.study(record, STUDY).generation == 2
    assert_sound(record)


def test_who_asked_what_is_audited(record: Record) -> None:
    """By what means, from where, in which words, and that the result will be semi-automatic; the user where known."""
    finished(record)
    record.user = "jane"
    job = ask(record)
    (row,) = events(record, event="run-requested")
    assert (row.user, row.address, row.study_instance_uid) == ("jane", "10.0.0.9", STUDY)
    assert row.detail == {
        "by": "web",
        "series_instance_uid": SERIES,
        "generation": 2,
        "segmenter": "sa2va",
        "prompt": "the left coronary artery",
        "semiautomatic": True,
    }
    assert words(record, job) == ["job-queued"]


def test_answer_is_in_the_audit_row_of_the_result(record: Record) -> None:
    """Prompt, answer, warnings and what was done when memory ran out stand beside the objects; empty ones do not."""
    job = running(record)
    told = {"answer": "Sure, [SEG].", "memory": "ran out", "warnings": ["half the frames at a time"], "prompt": ""}
    jobs.keep_result(record, job, type(kept(job))(kept(job).objects, {**kept(job).summary, **told}))
    (row,) = events(record, event="seg-created")
    del told["prompt"]
    assert {name: row.detail.get(name) for name in told} == told
    assert "prompt" not in row.detail
    receive(record, 1, study="1.2.9")
    complete(record, "1.2.9")
    other = jobs.claim(record, "worker-1", 60)
    assert other is not None
    jobs.finish_without_result(record, other, JobState.NO_VESSEL_FOUND, "no vessel found", {"answer": "There is none."})
    (row,) = events(record, event="job-no-vessel-found")
    assert row.detail["answer"] == "There is none."
    assert "objects" not in row.detail


def test_other_series_keep_their_jobs(record: Record) -> None:
    """Only the series that is asked about gets a job; a job of another that still waits goes on."""
    receive(record, 1, 2)
    receive(record, 1, series=2)
    one, two = complete(record)
    job = ask(record)
    assert state(record, one) is JobState.SUPERSEDED
    assert state(record, two) is JobState.QUEUED
    assert {item.job_id for item in reports.jobs(record)} == {one.job_id, two.job_id, job.job_id}
    assert studies.source_of(record, jobs.get(record, two.job_id))


def test_running_job_of_the_series_is_superseded(record: Record) -> None:
    """Its worker comes too late."""
    old = running(record)
    ask(record)
    with pytest.raises(LeaseLostError):
        jobs.keep_result(record, old, kept(old))


def test_same_question_is_not_asked_twice(record: Record) -> None:
    """A second click finds the job that answers it; another question, or one that came to nothing, opens a new one."""
    finished(record)
    job = ask(record)
    assert ask(record) == job
    assert len(events(record, event="run-requested")) == 1
    other = ask(record, configuration="other")
    assert (other.generation, state(record, job)) == (3, JobState.SUPERSEDED)
    job_actions.cancel(record, other.job_id, "not wanted")
    assert ask(record, configuration="other").generation == 4


def test_person_stands_above_the_rules(record: Record) -> None:
    """An image of another series that comes late opens a generation: what was asked of the same images still counts."""
    finished(record)
    asked = ask(record)
    receive(record, 1, series=2)
    (new,) = complete(record)
    assert new.series_instance_uid == f"{STUDY}.2"
    assert state(record, asked) is JobState.QUEUED
    receive(record, 3)
    (again,) = complete(record)
    assert (again.series_instance_uid, again.segmenter) == (SERIES, "ridge")
    assert state(record, asked) is JobState.SUPERSEDED


def test_question_that_came_to_nothing_leaves_the_first_result(record: Record) -> None:
    """A failed or cancelled question does not make the rules' job new: its result was sent already."""
    first = finished(record)
    job_actions.cancel(record, ask(record).job_id, "not wanted")
    receive(record, 1, series=2)
    (new,) = complete(record)
    assert new.series_instance_uid == f"{STUDY}.2"
    assert state(record, first) is JobState.DONE


def test_study_that_is_being_received_is_refused(record: Record) -> None:
    """Before and after the first look: the images that are still coming would be missing."""
    queued(record)
    series = studies.series_to_run_again(record, STUDY, SERIES)
    receive(record, 3)
    with pytest.raises(ConflictError, match="is being received"):
        studies.series_to_run_again(record, STUDY, SERIES)
    request = JobRequest(
        SERIES, "CT", JobState.QUEUED, "", "", "ridge", "", (), 0, input_hash(series.instances), "asked"
    )
    with pytest.raises(ConflictError, match="is being received"):
        studies.run_again(record, series, request, by="web")
    complete(record)
    with pytest.raises(ConflictError, match="have changed meanwhile"):
        studies.run_again(record, series, request, by="web")
    with record.reading() as session:
        assert session.get_one(Study, STUDY).generation == 2


@pytest.mark.parametrize("gone", ["PURGED", "MISSING"])
def test_files_that_are_gone_are_refused(record: Record, gone: str) -> None:
    """A series with one file less is not the series that the person saw."""
    finished(record)
    with record.writing() as transaction:
        transaction.session.get_one(Instance, f"{SERIES}.1").state = gone
    with pytest.raises(ConflictError, match="no longer kept"):
        studies.series_to_run_again(record, STUDY, SERIES)


def test_unknown_study_and_series(record: Record) -> None:
    """Not found, in words; the series must be of that study."""
    finished(record)
    by = association(listener(record))
    register.record_instances(record, [instance(by, 1, study="1.2.9")])
    for study, series in (("1.2.8", SERIES), (STUDY, "1.2.9.1")):
        with pytest.raises(NotFoundError):
            studies.series_to_run_again(record, study, series)

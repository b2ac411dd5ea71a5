"""The questions that the audit log answers, row by row: what is found, in which order, page by page."""

from datetime import timedelta

import pytest
from audit_tampering import execute
from record_story import complete, kept, queued, ready, receive, running

from db import audit, audit_answers, deliveries, jobs
from db.audit import Event, Outcome
from db.audit_queries import AuditQuery, audit_page, audit_rows, each_audit_row
from db.models import AuditForwarding, Study
from dicom_core.errors import NotFoundError
from dicom_core.job import JobState, KeptResult

PATIENT = "a" * 64


def note(record, event=Event.SIGNED_IN, **facts):
    """One row, on behalf of nobody."""
    audit.record_event(record, event, **facts)


def sequences(record, **wanted):
    """Numbers of the rows that fit."""
    return [row.sequence for row in audit_rows(record, AuditQuery(**wanted))]


def test_rows_are_found_by_what_they_tell(record):
    """Person, AE title, address, event, outcome, study and job, alone and together."""
    note(record.on_behalf_of("anna"), address="192.0.2.7")
    note(record.on_behalf_of("bert"), Event.ACCESS_REFUSED, outcome=Outcome.MINOR_FAILURE, address="192.0.2.7")
    note(record, Event.ASSOCIATION_REFUSED, outcome=Outcome.SERIOUS_FAILURE, ae_title="CT1", address="192.0.2.8")
    note(record, Event.INSTANCES_RECEIVED, ae_title="CT1", address="192.0.2.8", study_instance_uid="1.2", job_id="f0")
    assert sequences(record, user="anna") == [1]
    assert sequences(record, address="192.0.2.7") == [1, 2]
    assert sequences(record, ae_title="CT1") == [3, 4]
    assert sequences(record, event="signed-in") == [1]
    assert sequences(record, outcome=8) == [3]
    assert sequences(record, outcome=0) == [1, 4]
    assert sequences(record, failed_only=True) == [2, 3]
    assert sequences(record, study_instance_uid="1.2") == sequences(record, job_id="f0") == [4]
    assert sequences(record, address="192.0.2.7", failed_only=True) == [2]
    assert sequences(record, ae_title="CT1", event="instances-received") == [4]
    assert sequences(record, user="anna", event="access-refused") == []
    assert sequences(record, user="nobody") == []


def test_a_patient_is_found_by_the_pseudonym(record):
    """Everything about the studies of one patient, nothing about those without one."""
    for number in range(3):
        receive(record, 1, study=f"1.2.{number}")
    with record.writing() as transaction:
        for uid in ("1.2.0", "1.2.2"):
            transaction.session.get_one(Study, uid).patient_hash = PATIENT
    found = audit_rows(record, AuditQuery(patient_hash=PATIENT))
    assert {row.study_instance_uid for row in found} == {"1.2.0", "1.2.2"}
    assert [one.study_instance_uid for one in audit_answers.studies_of_patient(record, PATIENT)] == ["1.2.2", "1.2.0"]
    assert audit_answers.studies_of_patient(record, "") == []
    assert audit_rows(record, AuditQuery(patient_hash="b" * 64)) == []


def test_a_range_of_time_includes_its_begin_and_not_its_end(record, clock):
    """``since`` and ``until`` at the times of rows."""
    for _ in range(3):
        note(record)
        clock.advance(10)
    at = [audit.parsed_time(row.at) for row in audit_rows(record, AuditQuery())]
    assert sequences(record, since=at[1]) == [2, 3]
    assert sequences(record, until=at[1]) == [1]
    assert sequences(record, since=at[1], until=at[2]) == [2]
    assert sequences(record, since=at[2] + timedelta(milliseconds=1)) == []


def test_pages_lead_from_the_latest_row_to_the_first(record):
    """Every row is on one page; the last page says that there is no other."""
    for _ in range(7):
        note(record)
    pages, before = [], 0
    while True:
        page = audit_page(record, AuditQuery(limit=3, before=before))
        pages.append([row.sequence for row in page.rows])
        before = page.before
        if not before:
            break
    assert pages == [[5, 6, 7], [2, 3, 4], [1]]


def test_pages_lose_nothing_when_the_clock_was_set_back(record, clock):
    """Rows that are later in the chain and earlier in time are on exactly one page, and in their range of time."""
    for step in (100, -90, 50, -200, 300, 10):
        note(record)
        clock.advance(step)
    seen, before = [], 0
    while True:
        page = audit_page(record, AuditQuery(limit=2, before=before, event="signed-in"))
        assert [row.sequence for row in page.rows] == sorted(row.sequence for row in page.rows)
        seen += [row.sequence for row in page.rows]
        before = page.before
        if not before:
            break
    assert sorted(seen) == [1, 2, 3, 4, 5, 6]
    at = {row.sequence: audit.parsed_time(row.at) for row in audit_rows(record, AuditQuery())}
    earliest = min(at.values()) + timedelta(seconds=1)
    assert set(sequences(record, until=earliest)) == {one for one, moment in at.items() if moment < earliest}


def test_a_page_before_a_row_that_is_archived(record):
    """A number that is in no row any more still bounds the page."""
    for _ in range(4):
        note(record)
    execute(record, "DELETE FROM audit_events WHERE sequence = 3")
    assert sequences(record, before=3) == [1, 2]


def test_all_rows_come_in_the_order_of_the_chain(record, clock):
    """Without limit, filtered, and in order even when the clock was set back."""
    for step in (100, -300, 10):
        note(record)
        note(record, Event.SIGNED_OUT)
        clock.advance(step)
    everything = AuditQuery(limit=1, before=2)
    assert [row.sequence for row in each_audit_row(record, everything)] == [1, 2, 3, 4, 5, 6]
    assert [row.sequence for row in each_audit_row(record, AuditQuery(event="signed-out"))] == [2, 4, 6]
    rows = each_audit_row(record, AuditQuery())
    assert next(rows).sequence == 1
    rows.close()
    note(record)
    assert len(audit_rows(record, AuditQuery())) == 7, "who stops early leaves no lock"


@pytest.mark.parametrize("damage", ["[1]", "null"])
def test_a_damaged_detail_does_not_hide_its_row(record, damage):
    """What somebody wrote past this program is shown as it is."""
    note(record)
    execute(record, f"UPDATE audit_events SET detail = '{damage}'")  # noqa: S608  words of this file
    (row,) = audit_rows(record, AuditQuery())
    assert row.detail == {"unreadable": damage}


def test_who_saw_a_study(record, clock):
    """Persons with what they did and how often, and the destinations of its results; not the processes."""
    job = ready(record, "1.2.3")
    deliveries.sent(record, deliveries.claim(record, "w", 60), "0x0000")
    for name, what in (("anna", Event.STUDY_VIEWED), ("bert", Event.STUDY_VIEWED), ("anna", Event.PRIORITY_CHANGED)):
        note(record.on_behalf_of(name), what, study_instance_uid="1.2.3", address="192.0.2.7")
        clock.advance(60)
    note(record.on_behalf_of("anna"), Event.STUDY_VIEWED, study_instance_uid="1.2.3", address="192.0.2.7")
    note(record.on_behalf_of("eve"), Event.STUDY_VIEWED, study_instance_uid="1.2.4")
    found = audit_answers.who_saw(record, job.study_instance_uid)
    assert [(one.who, one.event, one.times) for one in found] == [
        ("pacs", "instances-sent", 1),
        ("anna", "study-viewed", 2),
        ("bert", "study-viewed", 1),
        ("anna", "priority-changed", 1),
    ]
    viewed = found[1]
    assert viewed.address == "192.0.2.7"
    assert audit.parsed_time(viewed.last_at) - audit.parsed_time(viewed.first_at) >= timedelta(seconds=180)
    assert audit_answers.who_saw(record, "9.9") == []


def test_the_story_of_a_job(record):
    """The job as it is, its rows in order, its own deliveries; a beginning of its id is enough."""
    other = ready(record, "1.2.4")
    job = ready(record, "1.2.3")
    story = audit_answers.job_story(record, job.job_id[:12])
    assert story.job.job_id == job.job_id
    assert [row.event for row in story.events] == ["job-queued", "job-running", "seg-created"]
    assert [one.job_id for one in story.deliveries] == [job.job_id]
    assert other.job_id not in {row.job_id for row in story.events}
    with pytest.raises(NotFoundError):
        audit_answers.job_story(record, "0" * 32)


def answered(record, study, model, version):
    """A job whose result was made by a model."""
    job = running(record, study)
    made = kept(job)
    jobs.keep_result(record, job, KeptResult(made.objects, {"model": model, "model_version": version}))
    return job


def test_a_recall_finds_what_a_version_touched(record, clock):
    """Alone or in a chain, latest first, with objects and the destinations that have them; other versions not."""
    first = answered(record, "1.2.1", "vesselnet", "1.0")
    deliveries.sent(record, deliveries.claim(record, "w", 60), "0x0000")
    clock.advance(1)
    second = answered(record, "1.2.2", "vesselnet+sam", "1.0+2+1")
    clock.advance(1)
    answered(record, "1.2.3", "vesselnet", "1.1")
    clock.advance(1)
    nothing = running(record, "1.2.4")
    summary = {"model": "vesselnet", "model_version": "1.0"}
    jobs.finish_without_result(record, nothing, JobState.NO_VESSEL_FOUND, "nothing there", summary)
    found = audit_answers.recall(record, "vesselnet", "1.0")
    assert found.jobs == 3
    assert [row.job_id for row in found.rows] == [nothing.job_id, second.job_id, first.job_id]
    assert [row.destinations for row in found.rows] == [(), (), ("pacs",)]
    assert [len(row.sop_instance_uids) for row in found.rows] == [0, 1, 1]
    assert (found.rows[0].state, found.before) == ("NO_VESSEL_FOUND", "")
    assert audit_answers.recall(record, "vesselnet").jobs == 4
    assert audit_answers.recall(record, "sam", "2").jobs == 1
    assert audit_answers.recall(record, "vesselnet+sam", "1.0+2+1").jobs == 1
    assert audit_answers.recall(record, "vessel").jobs == 0
    assert audit_answers.models_used(record) == [
        ("vesselnet", "1.0"), ("vesselnet", "1.1"), ("vesselnet+sam", "1.0+2+1")
    ]  # fmt: skip


def test_a_recall_comes_in_pages(record, clock):
    """Over several versions at once, each job on one page."""
    made = []
    for number, version in enumerate(("1", "2", "1", "2", "1")):
        made.append(answered(record, f"1.2.{number}", "vesselnet", version).job_id)
        clock.advance(1)
    seen, before = [], ""
    while True:
        page = audit_answers.recall(record, "vesselnet", before=before, limit=2)
        assert page.jobs == 5
        seen.append([row.job_id for row in page.rows])
        before = page.before
        if not before:
            break
    newest = made[::-1]
    assert seen == [newest[:2], newest[2:4], newest[4:]]


def test_studies_without_a_result_say_why(record, clock):
    """Skipped, failed, still waiting and still being received; not those that have an object."""
    ready(record, "1.2.1")
    clock.advance(1)
    receive(record, 1, study="1.2.2")
    complete(record, "1.2.2", skip="no rule wants it")
    clock.advance(1)
    job = running(record, "1.2.3")
    jobs.fail_attempt(record, job, "no memory", retryable=False, maximum_attempts=1, retry_after_seconds=0)
    clock.advance(1)
    queued(record, "1.2.4")
    middle = record.now()
    clock.advance(1)
    receive(record, 1, study="1.2.5")
    found = audit_answers.without_result(record)
    assert [(one.study_instance_uid, one.reasons) for one in found] == [
        ("1.2.5", ()),
        ("1.2.4", ("QUEUED",)),
        ("1.2.3", ("FAILED: no memory",)),
        ("1.2.2", ("SKIPPED: no rule wants it",)),
    ]
    assert found[0].state == "RECEIVING"
    assert [one.study_instance_uid for one in audit_answers.without_result(record, since=middle)] == ["1.2.5"]
    assert len(audit_answers.without_result(record, until=middle)) == 3
    assert len(audit_answers.without_result(record, limit=1)) == 1


def test_a_study_whose_later_generation_failed_has_a_result(record):
    """The result of the first generation counts; the study is not listed."""
    ready(record, "1.2.1")
    receive(record, 3, study="1.2.1")
    complete(record, "1.2.1", skip="too late")
    assert audit_answers.without_result(record) == []


def test_the_state_of_the_log(record):
    """Its ends, and how much each repository does not have yet."""
    assert audit_answers.log_state(record) == audit_answers.LogState(0, 0, "", "", [])
    for _ in range(5):
        note(record)
    with record.writing() as transaction:
        transaction.session.add(AuditForwarding(repository="siem", next_sequence=4, last_error="no route"))
    found = audit_answers.log_state(record)
    last = audit_rows(record, AuditQuery())[-1]
    assert (found.first_sequence, found.head_sequence, found.head_hash) == (1, 5, last.row_hash)
    assert found.head_at == last.at
    (repository,) = found.repositories
    assert (repository.name, repository.sent, repository.waiting, repository.last_error) == ("siem", 3, 2, "no route")

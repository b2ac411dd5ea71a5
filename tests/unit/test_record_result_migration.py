"""A database of release 0.1.0 with data comes to the schema of result sets: nothing is lost, nothing is sent twice."""

from datetime import UTC, datetime

import pytest
from alembic import command
from sqlalchemy import DateTime, bindparam, text

from db import audit, deliveries, jobs, migrate, reports, retention
from db.session import Record
from dicom_core.job import DeliveryState, JobState
from dicom_core.result import ResultKind, ResultObject

STUDY, SEGMENTATION = "1.2.826.7", "1.2.840.10008.5.1.4.1.1.66.4"
DONE, SENDING, QUEUED, REMOVED = (digit * 32 for digit in "abcd")
SENT, WAITING = "1" * 32, "2" * 32
NOW = datetime(2026, 11, 1, 12, tzinfo=UTC)
_JOB = text(
    "INSERT INTO jobs (job_id, study_instance_uid, series_instance_uid, generation, modality, rule, segmenter, prompt,"
    " destinations, priority, input_hash, configuration_hash, calling_ae_title, peer_address, state, reason, attempts,"
    " fence, lease_owner, queue_key, created_at, updated_at, finished_at, result_path, result_sha256,"
    " result_sop_instance_uid, result_series_instance_uid, result) VALUES (:job_id, :study, :series, 1, 'XA', 'all',"
    " 'ridge', '', '[\"pacs\", \"archive\"]', 0, 'i', 'c', 'ANGIO', '10.0.0.7', :state, '', 1, 1, '', 1.0, :now,"
    ' :now, :finished, :path, :sha256, :sop, :sop_series, \'{"model": "ridge"}\')'
).bindparams(bindparam("now", type_=DateTime(timezone=True)), bindparam("finished", type_=DateTime(timezone=True)))
_DELIVERY = text(
    "INSERT INTO deliveries (delivery_id, job_id, destination, lane, state, attempts, refusals, fence, answer,"
    " lease_owner, next_try_at, created_at) VALUES (:delivery_id, :job_id, :destination, :destination, :state, 1, 0, 1,"
    " '', '', :now, :now)"
).bindparams(bindparam("now", type_=DateTime(timezone=True)))


def _as_release_0_1_0_leaves_it(empty_record: Record) -> Record:
    """A job of each sort, one of them half delivered."""
    command.upgrade(migrate._configuration(empty_record), "0001")
    with empty_record.engine.begin() as connection:
        connection.execute(
            text(
                "INSERT INTO studies (study_instance_uid, state, generation, first_received_at, last_received_at,"
                " revision, close_requested) VALUES (:study, 'COMPLETE', 1, :now, :now, 1, :no)"
            ).bindparams(bindparam("now", type_=DateTime(timezone=True))),
            {"study": STUDY, "now": NOW, "no": False},
        )
        for number, (job_id, state, path, built) in enumerate(
            [
                (DONE, "DONE", "aa/a-1/segmentation.dcm", True),
                (SENDING, "SENDING", "bb/b-1/segmentation.dcm", True),
                (QUEUED, "QUEUED", "", False),
                (REMOVED, "PURGED", "", True),
            ]
        ):
            facts = {"job_id": job_id, "study": STUDY, "series": f"{STUDY}.{number}", "state": state, "path": path}
            uids = {"sop": f"2.25.{number}" if built else "", "sop_series": f"2.25.9{number}" if built else ""}
            sha256 = f"{number}" * 64 if built else ""
            finished = NOW if state in ("DONE", "PURGED") else None
            connection.execute(_JOB, {**facts, **uids, "sha256": sha256, "now": NOW, "finished": finished})
        for delivery_id, job_id, destination, state in (
            ("0" * 32, DONE, "pacs", "SENT"), (SENT, SENDING, "pacs", "SENT"), (WAITING, SENDING, "archive", "WAITING"),
        ):  # fmt: skip
            one = {"delivery_id": delivery_id, "job_id": job_id, "destination": destination, "state": state}
            connection.execute(_DELIVERY, {**one, "now": NOW})
    return empty_record


def test_the_object_of_a_job_becomes_its_result_set(empty_record):
    """Path, hash and UIDs stay; a removed file stays removed; a job without an object has none."""
    old_record = _as_release_0_1_0_leaves_it(empty_record)
    migrate.upgrade(old_record)
    assert jobs.get(old_record, SENDING).results == (
        ResultObject(
            kind=ResultKind.SEG, part=1, path="bb/b-1/segmentation.dcm", sha256="1" * 64, sop_class_uid=SEGMENTATION,
            sop_instance_uid="2.25.1", series_instance_uid="2.25.91", size_bytes=0,
        ),
    )  # fmt: skip
    assert jobs.get(old_record, QUEUED).results == ()
    assert [result.path for result in jobs.get(old_record, REMOVED).results] == [""]
    assert jobs.get(old_record, DONE).result == {"model": "ridge"}
    assert jobs.get(old_record, QUEUED).kinds == (ResultKind.SEG,)


def test_what_was_sent_is_not_sent_again_and_what_waits_is_sent(empty_record):
    """The waiting delivery carries the old object to the end of its job."""
    old_record = _as_release_0_1_0_leaves_it(empty_record)
    migrate.upgrade(old_record)
    delivery = deliveries.claim(old_record, "w", 60)
    assert (delivery.delivery_id, delivery.result.path) == (WAITING, "bb/b-1/segmentation.dcm")
    assert deliveries.claim(old_record, "w", 60) is None
    deliveries.sent(old_record, delivery, "0x0000")
    assert jobs.get(old_record, SENDING).state is JobState.DONE
    assert {one.state for one in deliveries.of_job(old_record, SENDING)} == {DeliveryState.SENT}
    assert len(reports.deliveries(old_record, STUDY)) == 3
    assert audit.verify(old_record).first_bad_sequence is None


def test_retention_goes_on_where_it_was(empty_record):
    """The file of a migrated job is forgotten in its time, one that is gone already is not named again."""
    old_record = _as_release_0_1_0_leaves_it(empty_record)
    migrate.upgrade(old_record)
    assert retention.results_to_remove(old_record, 0.0001) == ["aa/a-1/segmentation.dcm"]


def test_a_second_upgrade_changes_nothing(empty_record):
    """The rows are moved once."""
    old_record = _as_release_0_1_0_leaves_it(empty_record)
    migrate.upgrade(old_record)
    before = jobs.get(old_record, SENDING)
    migrate.upgrade(old_record)
    assert jobs.get(old_record, SENDING) == before


def test_keys_hold_after_the_upgrade(empty_record):
    """SQLite remakes the table of deliveries: references and uniqueness must stand afterwards."""
    old_record = _as_release_0_1_0_leaves_it(empty_record)
    migrate.upgrade(old_record)
    columns = "delivery_id, job_id, result_id, place, destination, lane, state, attempts, refusals, fence, answer,"
    columns += " lease_owner, next_try_at, created_at"
    for values in (
        f"'9', '{DONE}', '{'e' * 32}', 1, 'x'",  # no such object
        f"'9', '{DONE}', '{DONE}', 1, 'pacs'",  # twice the same object to the same destination
    ):
        statement = f"INSERT INTO deliveries ({columns}) VALUES ({values}, 'x', 'WAITING', 0, 0, 0, '', '', '2026-01-01', '2026-01-01')"  # noqa: E501, S608
        with pytest.raises(Exception, match=r"(?i)foreign key|unique"), old_record.engine.begin() as connection:
            connection.execute(text(statement))


def test_a_failed_upgrade_leaves_the_old_database(empty_record, monkeypatch):
    """Half a migration never stays: the revision, the columns and the rows are those of before."""
    old_record = _as_release_0_1_0_leaves_it(empty_record)
    from alembic.operations import Operations

    def broken(*_: object, **__: object) -> None:
        raise RuntimeError("power cut")

    with monkeypatch.context() as patch:
        patch.setattr(Operations, "add_column", broken)
        with pytest.raises(RuntimeError):
            migrate.upgrade(old_record)
    assert migrate.current_revision(old_record) == "0001"
    with old_record.engine.connect() as connection:
        assert connection.execute(text("SELECT count(*) FROM jobs WHERE result_path <> ''")).scalar_one() == 2
    migrate.upgrade(old_record)
    assert len(jobs.get(old_record, SENDING).results) == 1

"""What is recorded of instances and associations that arrive."""

from dataclasses import replace

import pytest
from databases import as_owner
from record_story import STUDY, assert_sound, association, complete, events, instance, listener, quiet, receive
from sqlalchemy import event, select, text, update

from db import prepared, processes, register, retention, studies
from db.models import AssociationStudy, ConflictingInstance, Installation, Instance, Series, Study
from db.session import Record, by_driver
from dicom_core.study import AssociationOutcome, Registration

STORED, DUPLICATE, CONFLICT = Registration.STORED, Registration.DUPLICATE, Registration.CONFLICT


def _study(record: Record, uid: str = STUDY) -> Study:
    with record.reading() as session:
        return session.get_one(Study, uid)


def _instances(record: Record) -> list[Instance]:
    with record.reading() as session:
        return list(session.scalars(select(Instance).order_by(Instance.sop_instance_uid)))


def test_new_instances_are_stored_and_open_their_study(record):
    """A first instance makes study and series, once each, and one audit row says that the study is being received."""
    by = association(listener(record))
    made = register.record_instances(record, [instance(by, 1), instance(by, 2), instance(by, 3, series=2)])
    assert made == [STORED] * 3
    study = _study(record)
    assert (study.state, study.generation, study.revision) == ("RECEIVING", 0, 3)
    with record.reading() as session:
        assert {row.series_instance_uid for row in session.scalars(select(Series))} == {f"{STUDY}.1", f"{STUDY}.2"}
    assert [row.detail for row in events(record, event="study-receiving")] == [
        {"late_instance": False, "patient_hash": ""}
    ]
    assert [row.generation for row in _instances(record)] == [1, 1, 1]


def test_the_same_bytes_again_are_a_duplicate_even_within_one_group(record):
    """The same UID with the same hash is counted, changes nothing, and does not open a complete study."""
    by = association(listener(record))
    assert register.record_instances(record, [instance(by, 1), instance(by, 1)]) == [STORED, DUPLICATE]
    register.close_association(record, by, AssociationOutcome.RELEASED)
    complete(record)
    before = _study(record)
    assert receive(record, 1) == [DUPLICATE]
    after = _study(record)
    assert (after.state, after.revision) == ("COMPLETE", before.revision)
    assert len(_instances(record)) == 1


def test_other_bytes_under_a_known_uid_are_kept_aside(record):
    """The first content stays, the other one has a row of its own, once, and every arrival is audited."""
    receive(record, 1)
    first = _instances(record)[0]
    assert receive(record, 1, content="other") == [CONFLICT]
    assert receive(record, 1, content="other") == [CONFLICT]
    assert receive(record, 1, content="third") == [CONFLICT]
    assert [(row.fingerprint, row.path) for row in _instances(record)] == [(first.fingerprint, first.path)]
    with record.reading() as session:
        assert len(session.scalars(select(ConflictingInstance)).all()) == 2
    assert [row.detail["seen_before"] for row in events(record, event="instance-conflict")] == [False, True, False]
    assert {row.outcome for row in events(record, event="instance-conflict")} == {4}


def _upgraded(record: Record, upgraded: bool) -> None:
    with as_owner(record) as connection:
        connection.execute(update(Installation).values(older_fingerprints=upgraded))


def test_older_fingerprints_are_found_where_there_may_be_some(record):
    """That of the instance asked for, not one of today's; a record that is younger is asked nothing."""
    by = association(listener(record))
    older, newer = instance(by, 1), replace(instance(by, 2), fingerprint=f"blake3-{'A' * 43}")
    register.record_instances(record, [older, newer])
    assert register.older_fingerprints(record)(older.sop_instance_uid) == ""
    _upgraded(record, True)
    find = register.older_fingerprints(record)
    _upgraded(record, False)
    assert find(older.sop_instance_uid) == older.fingerprint
    assert find(newer.sop_instance_uid) == find("1.2.3.4.5") == ""


def test_a_study_remembers_the_first_pseudonym_that_it_is_told(record):
    """An instance that names no patient neither hides nor replaces it; each opening is audited with its own."""
    by = association(listener(record))
    register.record_instances(record, [instance(by, 1)])
    assert _study(record).patient_hash == ""
    register.record_instances(record, [replace(instance(by, 2), patient_hash="a" * 64), instance(by, 3)])
    register.record_instances(record, [replace(instance(by, 4), patient_hash="b" * 64)])
    assert _study(record).patient_hash == "a" * 64
    register.record_instances(record, [replace(instance(by, 1, study="1.2.826.2"), patient_hash="c" * 64)])
    assert [row.detail["patient_hash"] for row in events(record, event="study-receiving")] == ["", "c" * 64]


def test_a_conflict_in_another_study_opens_no_study(record):
    """A SOP Instance UID that another study uses already is kept aside; no empty study appears."""
    by = association(listener(record))
    stored = instance(by, 1)
    stolen = replace(instance(by, 1, study="1.2.826.9"), sop_instance_uid=stored.sop_instance_uid)
    assert register.record_instances(record, [stored, stolen]) == [STORED, CONFLICT]
    with record.reading() as session:
        assert session.scalars(select(Study.study_instance_uid)).all() == [STUDY]


def test_a_late_instance_opens_the_study_again(record):
    """After COMPLETE a new instance brings the study back to RECEIVING; it belongs to the next generation."""
    receive(record, 1)
    complete(record)
    receive(record, 2)
    assert (_study(record).state, _study(record).generation) == ("RECEIVING", 1)
    assert [row.generation for row in _instances(record)] == [1, 2]
    assert [row.detail["late_instance"] for row in events(record, event="study-receiving")] == [False, True]


def test_what_the_policy_purged_is_stored_again_when_it_is_sent_again(record, clock):
    """A purged instance that is resent is STORED, not DUPLICATE, and opens the study."""
    receive(record, 1)
    complete(record, skip="no rule")
    clock.advance(40 * 86400)
    assert [len(study.paths) for study in retention.purge_sources(record, 30)] == [1]
    assert receive(record, 1) == [STORED]
    assert [row.state for row in _instances(record)] == ["RECEIVED"]
    assert [len(series.instances) for series in quiet(record).series] == [1]


def test_a_missing_instance_is_alarmed_once_and_comes_back_when_it_is_sent_again(record):
    """Marking twice audits once, as a major failure; resending stores it again in its old generation."""
    receive(record, 1)
    complete(record)
    uid = _instances(record)[0].sop_instance_uid
    register.mark_missing(record, uid, "gone")
    register.mark_missing(record, uid, "gone")
    assert [(row.outcome, row.detail["reason"]) for row in events(record, event="instance-missing")] == [(12, "gone")]
    assert register.recorded_files(record) == []
    assert receive(record, 1) == [STORED]
    assert [(row.state, row.generation) for row in _instances(record)] == [("RECEIVED", 1)]
    assert _study(record).state == "RECEIVING"


def test_hostile_text_does_not_take_the_group_along(record):
    """A modality that is too long or holds NUL is cut and cleaned; the neighbours of its group are stored as well."""
    by = association(listener(record), calling="X" * 40 + "\x00", address="::1")
    made = register.record_instances(
        record, [instance(by, 1), instance(by, 2, series=2, modality="CT\x00" + "Z" * 60 + "\ud800"), instance(by, 3)]
    )
    assert made == [STORED] * 3
    assert [series.modality for series in quiet_or_open(record)] == ["CT", "CT?ZZZZZZZZZZZZZ"]
    register.close_association(record, by, AssociationOutcome.ABORTED)
    assert events(record, event="instances-received")[0].ae_title == "X" * 16
    assert_sound(record)


def quiet_or_open(record: Record) -> list[Series]:
    """All series."""
    with record.reading() as session:
        return list(session.scalars(select(Series).order_by(Series.series_instance_uid)))


def test_a_group_is_recorded_whole_or_not_at_all(record):
    """An instance that the database refuses leaves nothing of its group behind, the audit rows included."""
    by = association(listener(record))
    before = len(events(record))
    broken = replace(instance(by, 2), path=None)
    with pytest.raises(Exception, match=r"(?i)null"):
        register.record_instances(record, [instance(by, 1), broken])
    assert _instances(record) == []
    assert len(events(record)) == before


def test_an_open_association_holds_its_study(record):
    """A study is quiet only when no association that feeds it is open, however long nothing came."""
    process = listener(record)
    first, second = association(process), association(process, calling="OTHER")
    register.record_instances(record, [instance(first, 1), instance(second, 2)])
    register.close_association(record, first, AssociationOutcome.RELEASED)
    assert studies.quiet_studies(record, 0) == []
    register.close_association(record, second, AssociationOutcome.RELEASED)
    assert len(quiet(record).series[0].instances) == 2


def test_the_end_of_an_association_is_audited_per_study_with_counts(record):
    """One row a (study, association) says what came; closing twice says it once; another association is not meant."""
    by = association(listener(record))
    register.record_instances(
        record, [instance(by, 1), instance(by, 1), instance(by, 1, content="x"), instance(by, 5, study="1.2.826.2")]
    )
    register.close_association(record, by, AssociationOutcome.RELEASED)
    register.close_association(record, by, AssociationOutcome.ABORTED)
    rows = events(record, event="instances-received")
    assert [(row.study_instance_uid, row.outcome, row.detail) for row in rows] == [
        (
            STUDY,
            0,
            {"association": "RELEASED", "stored": 1, "duplicates": 1, "conflicts": 1, "size_bytes": 1001},
        ),
        ("1.2.826.2", 0, {"association": "RELEASED", "stored": 1, "duplicates": 0, "conflicts": 0, "size_bytes": 1005}),
    ]
    assert {(row.ae_title, row.address) for row in rows} == {("SENDER", "10.0.0.7")}


def test_closing_an_association_that_brought_nothing_is_no_error(record):
    """An association without instances has no row and leaves none."""
    before = len(events(record))
    register.close_association(record, association("f" * 32), AssociationOutcome.RELEASED)
    assert len(events(record)) == before


@pytest.mark.parametrize("how", ["silent", "stopped", "unknown"])
def test_associations_of_a_listener_that_is_gone_are_closed(record, clock, how):
    """A listener that stopped, fell silent or was never announced does not hold studies open for ever."""
    process = "9" * 32 if how == "unknown" else listener(record)
    by = association(process)
    register.record_instances(record, [instance(by, 1)])
    if how != "unknown":
        assert register.close_lost_associations(record, 30) == 0
    if how == "stopped":
        processes.stop(record, process)
    elif how == "silent":
        clock.advance(31)
    assert register.close_lost_associations(record, 30) == 1
    assert register.close_lost_associations(record, 30) == 0
    (row,) = events(record, event="instances-received")
    assert (row.outcome, row.detail["association"]) == (4, "LOST")
    assert len(quiet(record).series) == 1


def test_a_beating_listener_keeps_its_associations(record, clock):
    """Beats reset the silence."""
    process = listener(record)
    register.record_instances(record, [instance(association(process), 1)])
    clock.advance(25)
    processes.beat(record, process)
    clock.advance(25)
    assert register.close_lost_associations(record, 30) == 0


def test_an_association_taken_for_lost_holds_its_study_again_when_it_goes_on(record, clock):
    """A listener that was only stopped for a while: its association counts anew and is audited a second time."""
    process = listener(record)
    by = association(process)
    register.record_instances(record, [instance(by, 1)])
    clock.advance(31)
    register.close_lost_associations(record, 30)
    processes.beat(record, process)
    register.record_instances(record, [instance(by, 2), instance(by, 3)])
    assert studies.quiet_studies(record, 0) == []
    register.close_association(record, by, AssociationOutcome.RELEASED)
    rows = events(record, event="instances-received")
    assert [(row.detail["association"], row.detail["stored"]) for row in rows] == [("LOST", 1), ("RELEASED", 2)]


def test_an_instance_that_comes_after_an_abort_does_not_hold_the_study(record):
    """What was still being committed when the peer aborted is stored; nobody will close that association again."""
    by = association(listener(record))
    register.record_instances(record, [instance(by, 1)])
    register.close_association(record, by, AssociationOutcome.ABORTED)
    assert register.record_instances(record, [instance(by, 2)]) == [STORED]
    assert len(quiet(record).series[0].instances) == 2


def test_files_without_a_row_are_found(record, clock):
    """Paths of stored and conflicting instances are known; purged and never recorded ones are not."""
    receive(record, 1, 2)
    receive(record, 1, content="other")
    known = [path for _, path, _ in register.recorded_files(record)]
    with record.reading() as session:
        aside = session.scalars(select(ConflictingInstance.path)).all()
    assert len(known) == 2
    strange = [f"instances/00/{number}.dcm" for number in range(2500)]
    assert register.unrecorded_paths(record, iter([*known, *strange, *aside])) == strange
    complete(record, skip="no rule")
    clock.advance(40 * 86400)
    retention.purge_sources(record, 30)
    assert register.unrecorded_paths(record, [*known, *aside]) == known


def test_counts_survive_many_groups(record):
    """Counters of one association add up over transactions."""
    by = association(listener(record))
    for number in range(20):
        register.record_instances(record, [instance(by, number)])
    with record.reading() as session:
        assert session.scalars(select(AssociationStudy.stored)).all() == [20]
        assert session.execute(text("SELECT count(*) FROM associations")).scalar_one() == 1


def _statements(record: Record, received) -> list[str]:
    """First words of what the database is asked while one group is recorded."""
    seen: list[str] = []

    def note(statement: str) -> None:
        seen.append(" ".join(statement.split()[:3]))

    def by_orm(_connection, _cursor, statement: str, *_: object) -> None:
        note(statement)

    def past_it(connection, statement, values):
        note(statement)
        return by_driver(connection, statement, values)

    event.listen(record.engine, "before_cursor_execute", by_orm)
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(prepared, "by_driver", past_it)
            register.record_instances(record, received)
    finally:
        event.remove(record.engine, "before_cursor_execute", by_orm)
    return seen


def test_further_instances_of_a_series_cost_an_insert_each(record):
    """No SELECT, and one UPDATE for study, series and association, however many instances the group has."""
    by = association(listener(record))
    register.record_instances(record, [instance(by, 1)])
    inserted = "INSERT INTO instances"
    group = ["UPDATE studies SET", "UPDATE series SET", "UPDATE association_studies SET"]
    assert _statements(record, [instance(by, 2)]) == [inserted, *group]
    assert _statements(record, [instance(by, number) for number in (3, 4, 5)]) == [inserted] * 3 + group
    assert _study(record).revision == 5
    with record.reading() as session:
        counts = session.scalars(select(AssociationStudy)).one()
        assert (counts.stored, counts.duplicates, counts.conflicts) == (5, 0, 0)
        assert counts.size_bytes == sum(row.size_bytes for row in _instances(record))


def test_an_instance_is_the_same_whichever_way_it_is_recorded(record):
    """The row of the first instance of a series has what the quick row of the second has, but for what names it."""
    by = association(listener(record))
    register.record_instances(record, [instance(by, 1)])
    register.record_instances(record, [instance(by, 2)])
    own = {"sop_instance_uid", "fingerprint", "size_bytes", "path", "received_at"}
    first, second = (
        {column.name: getattr(row, column.name) for column in Instance.__table__.columns if column.name not in own}
        for row in _instances(record)
    )
    assert first == second
    for row, sent in zip(_instances(record), (instance(by, 1), instance(by, 2)), strict=True):
        assert (row.fingerprint, row.size_bytes, row.path) == (sent.fingerprint, sent.size_bytes, sent.path)
    assert all(row.received_at.tzinfo is not None for row in _instances(record))


def test_groups_of_several_studies_and_associations_are_counted_apart(record):
    """Every pair of association and study gets its own numbers, every study its own growth."""
    one, other = association(listener(record)), association(listener(record))
    register.record_instances(record, [instance(one, 1), instance(other, 2, study="1.2.826.2", series=2)])
    register.record_instances(
        record,
        [
            instance(one, 3),
            instance(other, 4, study="1.2.826.2", series=2),
            instance(one, 3),
            instance(other, 5),
            instance(one, 3, content="other"),
        ],
    )
    with record.reading() as session:
        rows = session.scalars(select(AssociationStudy)).all()
    found = {(row.association_id, row.study_instance_uid): (row.stored, row.duplicates, row.conflicts) for row in rows}
    assert found == {
        (one.association_id, STUDY): (2, 1, 1),
        (other.association_id, "1.2.826.2"): (2, 0, 0),
        (other.association_id, STUDY): (1, 0, 0),
    }
    assert (_study(record).revision, _study(record, "1.2.826.2").revision) == (3, 2)


def test_a_series_that_several_associations_bring_remembers_the_last(record):
    """Turn by turn and within one group, at the cost of a single UPDATE."""
    one, other = association(listener(record)), association(listener(record))
    register.record_instances(record, [instance(one, 1), instance(other, 2)])

    def last() -> str:
        with record.reading() as session:
            return session.scalars(select(Series)).one().last_association_id

    assert last() == other.association_id
    asked = _statements(record, [instance(other, 3), instance(one, 4)])
    assert asked.count("INSERT INTO instances") == 2
    assert asked.count("UPDATE series SET") == 1
    assert not [statement for statement in asked if statement.startswith("SELECT")]
    assert last() == one.association_id
    register.record_instances(record, [instance(other, 4)])
    assert last() == one.association_id, "a duplicate brings nothing"

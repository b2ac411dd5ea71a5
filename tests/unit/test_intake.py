"""Intake without a network: statuses, what reaches the spool, what is thrown away, and the refusal audit."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, MRImageStorage, SegmentationStorage
from sqlalchemy import select
from store_scu import data_set, element, fingerprint

from db import models
from db.audit import Event
from db.session import Record
from dicom_core.errors import SpoolFullError, UnavailableError
from dicom_core.pseudonym import patient_hash
from dicom_core.spool import Spool
from dicom_core.study import Association, ReceivedInstance, Registration
from dicom_listener.committer import Committer
from dicom_listener.free_space import FreeSpace
from dicom_listener.handlers import (
    HEADER_BYTES,
    Answer,
    Intake,
    OpenAssociation,
    Status,
    StoreRequest,
    answer_echo,
)
from dicom_listener.refusals import MAXIMUM_KINDS, WINDOW_SECONDS, Refusal, RefusalAudit, printable

NAME = "1.2.826.0.1.3680043.10.3"


class _Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class _Bench:
    """An intake whose record is a list."""

    def __init__(self, folder: Path, record: Record) -> None:
        self.recorded: list[ReceivedInstance] = []
        self.answers: list[Registration] = []
        self.error: Exception | None = None
        self.free_bytes = 10**12
        self.spool = Spool(folder / "spool")
        self.spool.prepare()
        self.refusals = RefusalAudit(record)
        self.opened = OpenAssociation(Association("a" * 32, "b" * 32, "TESTER", "VESSELQ", "127.0.0.1"))
        self.committer = Committer(self.spool, self._record, window_seconds=0.002, batch=8, on_failure=lambda _: None)

    def _record(self, instances: Sequence[ReceivedInstance]) -> list[Registration]:
        if self.error is not None:
            raise self.error
        self.recorded += instances
        return self.answers or [Registration.STORED] * len(instances)

    def intake(self, *, maximum_object_bytes: int = 10**9) -> Intake:
        return Intake(
            spool=self.spool,
            committer=self.committer,
            refusals=self.refusals,
            free_bytes=lambda: self.free_bytes,
            critical_water_bytes=1000,
            maximum_object_bytes=maximum_object_bytes,
            site_key="the site key",
            older_fingerprint=lambda _: "",
        )

    def store(
        self, data: bytes, *, name: str = NAME, sop_class: str = CTImageStorage, piece: int = 1000, limit: int = 10**9
    ) -> Answer:
        request = StoreRequest(sop_class, name, CTImageStorage, ExplicitVRLittleEndian)
        incoming = self.intake(maximum_object_bytes=limit).begin(self.opened, request)
        for start in range(0, len(data), piece):
            incoming.write(data[start : start + piece])
        return incoming.finish()

    def files(self) -> list[str]:
        return [*self.spool.kept_paths(), *map(str, self.spool.unfinished_paths())]


@pytest.fixture
def record(tmp_path: Path) -> Iterator[Record]:
    opened = Record(f"sqlite:///{tmp_path / 'record.sqlite3'}", process="test")
    models.Base.metadata.create_all(opened.engine)
    yield opened
    opened.close()


@pytest.fixture
def bench(tmp_path: Path, record: Record) -> _Bench:
    return _Bench(tmp_path, record)


def _audited(record: Record) -> list[models.AuditEvent]:
    with record.reading() as session:
        return list(session.scalars(select(models.AuditEvent).order_by(models.AuditEvent.sequence)))


@pytest.mark.parametrize("piece", [1, 7, 1000, 10**6])
def test_stored_whatever_the_pieces(bench: _Bench, piece: int) -> None:
    """However the data set is cut on the wire, its facts and its bytes are the same."""
    data = data_set(NAME, pixels=bytes(range(256)) * 20)
    assert bench.store(data, piece=piece) == Answer(Status.SUCCESS)
    (received,) = bench.recorded
    assert (received.sop_instance_uid, received.sop_class_uid, received.modality) == (NAME, CTImageStorage, "CT")
    assert received.study_instance_uid == "1.2.826.0.1.3680043.10.1"
    assert received.fingerprint == fingerprint(data)
    assert received.size_bytes == bench.spool.path(received.path).stat().st_size
    assert bench.files() == [received.path]
    assert bench.opened.counts == {"STORED": 1}


@pytest.mark.parametrize("pixels", [b"\1\2", bytes(200_000)], ids=["small", "large"])
def test_the_record_gets_a_pseudonym_of_the_patient(bench: _Bench, pixels: bytes) -> None:
    """PatientID goes no further than intake: what is recorded holds its keyed hash."""
    assert bench.store(data_set(NAME, patient_id=b"MRN-4711", pixels=pixels)) == Answer(Status.SUCCESS)
    (received,) = bench.recorded
    assert received.patient_hash == patient_hash("the site key", "MRN-4711")
    assert "4711" not in repr(received)


def test_an_object_without_patient_has_no_pseudonym(bench: _Bench) -> None:
    """It is stored all the same."""
    assert bench.store(data_set(NAME)) == Answer(Status.SUCCESS)
    assert bench.recorded[0].patient_hash == ""


@pytest.mark.parametrize(
    ("registration", "status"),
    [
        (Registration.STORED, 0x0000),
        (Registration.DUPLICATE, 0x0000),
        (Registration.CONFLICT, 0x0111),
    ],
)
def test_answer_of_each_registration(bench: _Bench, registration: Registration, status: int) -> None:
    """The sender of other content learns that it was not taken in place of the first; duplicates are fine."""
    bench.answers = [registration]
    assert bench.store(data_set(NAME)).status == status
    assert bench.files(), "a file that may belong to an acknowledged instance is never removed"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (UnavailableError("the database does not answer: locked"), 0xA700),
        (SpoolFullError("no space"), 0xA700),
        (ValueError("Doe^Jane"), 0x0110),
    ],
)
def test_failing_record(bench: _Bench, record: Record, error: Exception, status: int) -> None:
    """Nothing is acknowledged when the record fails; the kept file stays for the next try; no foreign text gets out."""
    bench.error = error
    answer = bench.store(data_set(NAME))
    assert answer.status == status
    assert "Doe" not in answer.comment
    assert len(bench.files()) == 1
    bench.error = None
    assert bench.store(data_set(NAME)).status == 0x0000
    assert len(bench.files()) == 1
    assert [row.detail["code"] for row in _audited(record)] == [f"0x{status:04X}"]


def test_classes(bench: _Bench) -> None:
    """0x0122 for the class of another context and for Segmentation, whatever context it came in."""
    assert bench.store(data_set(NAME), sop_class=MRImageStorage).status == 0x0122
    request = StoreRequest(SegmentationStorage, NAME, SegmentationStorage, ExplicitVRLittleEndian)
    incoming = bench.intake().begin(bench.opened, request)
    incoming.write(data_set(NAME, sop_class=SegmentationStorage))
    assert incoming.finish().status == 0x0122
    assert bench.files() == []


def test_early_refusal_writes_nothing(bench: _Bench) -> None:
    """An object that the command or the space rules out never touches the disk."""
    bench.free_bytes = 999
    request = StoreRequest(CTImageStorage, NAME, CTImageStorage, ExplicitVRLittleEndian)
    incoming = bench.intake().begin(bench.opened, request)
    incoming.write(data_set(NAME))
    assert bench.files() == []
    assert incoming.finish().status == 0xA700


def test_object_cap_frees_the_disk_at_once(bench: _Bench) -> None:
    """The byte beyond the cap removes the part; later bytes are thrown away; exactly the cap is taken."""
    data = data_set(NAME, pixels=bytes(5000))
    request = StoreRequest(CTImageStorage, NAME, CTImageStorage, ExplicitVRLittleEndian)
    incoming = bench.intake(maximum_object_bytes=len(data) - 1).begin(bench.opened, request)
    incoming.write(data[:100])
    assert len(bench.files()) == 1
    incoming.write(data[100:])
    assert bench.files() == []
    incoming.write(bytes(10**6))
    assert incoming.finish().status == 0xA700
    assert bench.store(data, limit=len(data)).status == 0x0000


def test_mismatch_is_found_before_the_end(bench: _Bench) -> None:
    """The header of a large object is looked at while it arrives: a wrong one costs no more disk."""
    data = data_set(NAME + ".9", pixels=bytes(200_000))
    request = StoreRequest(CTImageStorage, NAME, CTImageStorage, ExplicitVRLittleEndian)
    incoming = bench.intake().begin(bench.opened, request)
    incoming.write(data[:100_000])
    assert bench.files() == []
    incoming.write(data[100_000:])
    assert incoming.finish().status == 0xA900


def test_long_header_is_read_within_its_limit(bench: _Bench) -> None:
    """Half a megabyte before the study's UIDs is fine; beyond the limit the answer is 0xC000."""
    data = data_set(NAME)
    patient = data.index(b"\x10\x00\x10\x00")
    for size, status in ((500_000, 0x0000), (HEADER_BYTES + 100_000, 0xC000)):
        longer = data[:patient] + element(0x0009, 0x1001, b"OB", bytes(size)) + data[patient:]
        assert bench.store(longer, piece=50_000).status == status, size


@pytest.mark.parametrize("size", [10_000, 40_000, 100_000, 1_000_000])
def test_long_header_in_one_piece(bench: _Bench, size: int) -> None:
    """A view as the connection hands it out: the header is found on the way, and a wrong one refused at once."""
    data = data_set(NAME, pixels=bytes(2_000_000))
    patient = data.index(b"\x10\x00\x10\x00")
    longer = data[:patient] + element(0x0009, 0x1001, b"OB", bytes(size)) + data[patient:]
    for name, status in ((NAME, 0x0000), (f"{NAME}.9", 0xA900)):
        request = StoreRequest(CTImageStorage, name, CTImageStorage, ExplicitVRLittleEndian)
        incoming = bench.intake().begin(bench.opened, request)
        view = memoryview(longer)
        incoming.write(view[:1_500_000])
        assert len(bench.files()) == (1 if status == 0x0000 else 0) + len(bench.recorded)
        incoming.write(view[1_500_000:])
        assert incoming.finish().status == status
    assert [received.fingerprint for received in bench.recorded] == [fingerprint(longer)]


def test_an_older_fingerprint_that_cannot_be_asked_for(bench: _Bench) -> None:
    """The database is away at that moment: 0xA700, and nothing stays."""

    def away(_: str) -> str:
        raise UnavailableError("the database does not answer")

    intake = replace(bench.intake(), older_fingerprint=away)
    incoming = intake.begin(bench.opened, StoreRequest(CTImageStorage, NAME, CTImageStorage, ExplicitVRLittleEndian))
    incoming.write(data_set(NAME))
    assert incoming.finish().status == 0xA700
    assert bench.files() == []


def test_empty_object(bench: _Bench) -> None:
    """A C-STORE without a single byte of data set is refused with words."""
    answer = bench.store(b"")
    assert answer.status == 0xC000
    assert answer.comment
    assert bench.files() == []


def test_abandoned_object_leaves_nothing(bench: _Bench) -> None:
    """A dropped connection removes the part, twice is harmless, and a late finish is not acknowledged."""
    request = StoreRequest(CTImageStorage, NAME, CTImageStorage, ExplicitVRLittleEndian)
    incoming = bench.intake().begin(bench.opened, request)
    incoming.write(data_set(NAME))
    incoming.abandon()
    incoming.abandon()
    assert bench.files() == []
    assert incoming.finish().status != 0x0000
    assert bench.recorded == []


@pytest.mark.parametrize(("modality", "kept"), [(b"ct", ""), (b"X" * 18, ""), (b"CT;DROP ", ""), (b"OPT ", "OPT")])
def test_odd_modalities(bench: _Bench, modality: bytes, kept: str) -> None:
    """A modality that is no Code String is recorded as empty, and the object is taken."""
    assert bench.store(data_set(NAME, modality=modality)).status == 0x0000
    assert bench.recorded[0].modality == kept


def test_refused_object_is_audited_with_its_study(bench: _Bench, record: Record) -> None:
    """The audit row names status, reason, peer, association and, where it is known, the instance; no patient."""
    bench.store(data_set(NAME, study=""))
    (row,) = _audited(record)
    assert (row.event, row.outcome, row.ae_title, row.address) == ("instance-refused", 4, "TESTER", "127.0.0.1")
    assert row.detail == {
        "code": "0xC000",
        "reason": "Study Instance UID is missing",
        "sop_instance_uids": [NAME],
        "association_id": "a" * 32,
    }


def test_echo() -> None:
    """C-ECHO is always success."""
    assert answer_echo() == 0x0000


# --- refusals ---------------------------------------------------------------------------------------------------------


def _refusal(**changes: str) -> Refusal:
    facts = {"calling_ae_title": "X", "peer_address": "192.0.2.1", "code": "1/1/3", "reason": "not known", **changes}
    return Refusal(Event.ASSOCIATION_REFUSED, **facts)


def test_repeated_refusals_become_a_count(record: Record) -> None:
    """The first is a row at once, the next thousand are one row when their minute is over, then it begins anew."""
    clock = _Clock()
    refusals = RefusalAudit(record, clock)
    for index in range(1001):
        refusals.note(_refusal(calling_ae_title=f"X{index}"))
    assert len(_audited(record)) == 1
    clock.now += WINDOW_SECONDS
    refusals.flush()
    assert [row.detail.get("repeated") for row in _audited(record)] == [None, 1000]
    refusals.note(_refusal())
    assert len(_audited(record)) == 3
    refusals.flush(everything=True)
    assert len(_audited(record)) == 3


def test_many_addresses_share_rows(record: Record) -> None:
    """A thousand addresses at once make at most one row a kind up to the limit, and one for all others together."""
    clock = _Clock()
    refusals = RefusalAudit(record, clock)
    for index in range(1000):
        refusals.note(_refusal(peer_address=f"10.0.{index // 256}.{index % 256}"))
    assert len(_audited(record)) == MAXIMUM_KINDS + 1
    clock.now += WINDOW_SECONDS
    refusals.flush()
    rows = _audited(record)
    assert len(rows) == MAXIMUM_KINDS + 2
    assert (rows[-1].detail["repeated"], rows[-1].detail["from_many"]) == (1000 - MAXIMUM_KINDS - 1, True)


def test_different_reasons_are_different_rows(record: Record) -> None:
    """Another reason or code from the same address is a row of its own at once."""
    refusals = RefusalAudit(record, _Clock())
    for code in ("1/1/3", "1/1/7", "2/3/2", "1/1/3"):
        refusals.note(_refusal(code=code))
    assert [row.detail["code"] for row in _audited(record)] == ["1/1/3", "1/1/7", "2/3/2"]


def test_failing_audit_does_not_raise(record: Record, monkeypatch: pytest.MonkeyPatch) -> None:
    """The refusal stands when its row cannot be written."""

    def fails(*_: object, **__: object) -> None:
        from dicom_core.errors import AuditError

        raise AuditError("the audit log cannot be written")

    monkeypatch.setattr("dicom_listener.refusals.record_event", fails)
    RefusalAudit(record, _Clock()).note(_refusal())
    assert _audited(record) == []


@pytest.mark.parametrize(
    ("title", "shown"),
    [("PACS ", "PACS"), ("A\nB", "A?B"), ("\x1b[31m", "?[31m"), ("Ä" * 20, "?" * 16), ("", "")],
)
def test_printable(title: str, shown: str) -> None:
    """What an AE title may show: printable ASCII, at most 16 characters."""
    assert printable(title) == shown


def test_free_space_is_asked_once_a_second() -> None:
    """Many questions cost one look; a file system that does not answer has no space."""
    asked: list[int] = []

    def ask() -> int:
        asked.append(1)
        return 77

    space = FreeSpace(ask)
    assert [space.free_bytes for _ in range(50)] == [77] * 50
    assert len(asked) == 1

    def fails() -> int:
        raise OSError("stale handle")

    failing: Callable[[], int] = fails
    assert FreeSpace(failing).free_bytes == 0

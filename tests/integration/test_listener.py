"""A real listener against DCMTK and a scripted SCU: what is stored, what is refused, what is told."""

import contextlib
import os
import re
import shutil
import signal
import socket
import struct
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from dicom_sources import ct_series, op_rgb, save, xa_run
from listener_process import RunningListener, listener_process, listener_thread, settings_tables
from loopback import wait_until
from pydicom import dcmread, uid
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid
from sqlalchemy import select
from store_scu import StoreAnswer, association, data_set, fingerprint, store, store_command

from db import audit, migrate, models
from db.session import Record
from dicom_core.pseudonym import patient_hash
from dicom_core.spool import PREAMBLE, Spool

pytestmark = pytest.mark.skipif(shutil.which("storescu") is None, reason="DCMTK is not installed")

TESTER = ("-aet", "TESTER", "-aec", "VESSELQ")


class Site:
    """A running listener with eyes on its record and spool."""

    def __init__(self, port: int, folder: Path) -> None:
        self.port = port
        self.log = folder / "listener.log"
        self.stop: Callable[[], None] = lambda: None
        self.record = Record(f"sqlite:///{folder / 'vesselq.sqlite3'}", process="test")
        self.spool = Spool(folder / "spool")

    def instance(self, sop_instance_uid: str) -> models.Instance | None:
        with self.record.reading() as session:
            return session.get(models.Instance, sop_instance_uid)

    def stored_bytes(self, sop_instance_uid: str) -> bytes:
        """The data set in the spool file of a recorded instance, its hash checked on the way."""
        row = self.instance(sop_instance_uid)
        assert row is not None, f"{sop_instance_uid} is not recorded"
        self.spool.verify(row.path, row.fingerprint)
        content = self.spool.path(row.path).read_bytes()
        assert content[: len(PREAMBLE)] == PREAMBLE
        return content[len(PREAMBLE) + 12 + struct.unpack("<L", content[140:144])[0] :]

    def events(self, event: audit.Event, **columns: object) -> list[models.AuditEvent]:
        with self.record.reading() as session:
            rows = session.scalars(select(models.AuditEvent).where(models.AuditEvent.event == event.word)).all()
        return [row for row in rows if all(getattr(row, name) == value for name, value in columns.items())]

    def association_row(self, association_id: str) -> models.AssociationRow:
        with self.record.reading() as session:
            row = session.get(models.AssociationRow, association_id)
        assert row is not None
        return row

    def no_parts(self) -> bool:
        return not list(self.spool.unfinished_paths())


@pytest.fixture(scope="module", params=["own", "pynetdicom"])
def site(tmp_path_factory: pytest.TempPathFactory, request: pytest.FixtureRequest) -> Iterator[Site]:
    """One listener, with each data path, for all tests that leave it as it was."""
    folder = tmp_path_factory.mktemp("listener")
    with listener_process(folder, **settings_tables(data_path=request.param)) as listener:
        opened = Site(listener.port, folder)
        yield opened
        assert opened.no_parts(), "unfinished files were left behind"
        assert audit.verify(opened.record).problem == ""
        opened.record.close()


@pytest.fixture
def own_site(tmp_path: Path) -> Iterator[Callable[..., Site]]:
    """Start a listener with settings of its own, in a thread of the tests; ``site.stop`` ends it."""
    with contextlib.ExitStack() as stack, contextlib.ExitStack() as running:

        def start(**listener: object) -> Site:
            folder = tmp_path / "data"
            port, _ = running.enter_context(listener_thread(folder, **settings_tables(**listener)))
            opened = Site(port, folder)
            opened.stop = running.close
            stack.callback(opened.record.close)
            return opened

        yield start


def dcmtk(program: str, port: int, *arguments: str | Path) -> subprocess.CompletedProcess[str]:
    """Run a DCMTK sender against the listener; without Nagle's delay."""
    files = [str(argument) for argument in arguments if isinstance(argument, Path)]
    options = [argument for argument in arguments if isinstance(argument, str)]
    command = [program, *options, "127.0.0.1", str(port), *files]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, env={**os.environ, "TCP_NODELAY": "1"}, check=False
    )


def test_echo(site: Site) -> None:
    """C-ECHO from a configured peer succeeds."""
    result = dcmtk("echoscu", site.port, "-v", *TESTER)
    assert result.returncode == 0
    assert "Received Echo Response (Success)" in result.stdout + result.stderr


@pytest.mark.parametrize(
    ("titles", "reason", "code"),
    [
        (("-aet", "TESTER", "-aec", "ORTHANC"), "Called AE Title Not Recognized", "1/1/7"),
        (("-aet", "STRANGER", "-aec", "VESSELQ"), "Calling AE Title Not Recognized", "1/1/3"),
    ],
)
def test_refused_peers(site: Site, titles: tuple[str, ...], reason: str, code: str) -> None:
    """DCMTK prints the exact reason of PS3.8 table 9-21, and the audit log has it."""
    result = dcmtk("echoscu", site.port, "-v", *titles)
    assert result.returncode != 0
    assert "Result: Rejected Permanent, Source: Service User" in result.stderr + result.stdout
    assert f"Reason: {reason}" in result.stderr + result.stdout
    wait_until(lambda: site.events(audit.Event.ASSOCIATION_REFUSED, ae_title=titles[1]) != [], "the audit row")
    rows = site.events(audit.Event.ASSOCIATION_REFUSED, ae_title=titles[1])
    assert [row.detail["code"] for row in rows] == [code]
    assert rows[0].address == "127.0.0.1"


@pytest.mark.parametrize("program", ["storescu", "dcmsend"])
def test_dcmtk_sends_a_study(site: Site, tmp_path: Path, program: str) -> None:
    """What DCMTK sends is stored, equal element by element, and the association is recorded as released."""
    source = ct_series(frames=6)
    result = dcmtk(program, site.port, "-v", *TESTER, *save(source, tmp_path))
    assert result.returncode == 0, result.stderr
    for sent in source:
        row = site.instance(sent.SOPInstanceUID)
        assert row is not None
        stored = dcmread(site.spool.path(row.path))
        sent.remove_private_tags()
        assert stored.to_json_dict() == sent.to_json_dict()
    wait_until(
        lambda: site.events(audit.Event.INSTANCES_RECEIVED, study_instance_uid=source[0].StudyInstanceUID) != [],
        "the association's audit row",
    )
    (row,) = site.events(audit.Event.INSTANCES_RECEIVED, study_instance_uid=source[0].StudyInstanceUID)
    assert row.detail == {
        "association": "RELEASED",
        "stored": 6,
        "duplicates": 0,
        "conflicts": 0,
        "size_bytes": row.detail["size_bytes"],
    }
    assert (row.ae_title, row.outcome) == ("TESTER", 0)


def test_a_study_is_found_by_the_pseudonym_of_its_patient(site: Site, tmp_path: Path) -> None:
    """The listener hashes with the site key of its record; the identifier is in no file of the database."""
    (source,) = ct_series(frames=1, PatientID="MRN-31415926", IssuerOfPatientID="HOSPITAL")
    result = dcmtk("storescu", site.port, *TESTER, *save([source], tmp_path))
    assert result.returncode == 0, result.stderr
    pseudonym = patient_hash(migrate.site_key(site.record), "MRN-31415926", "HOSPITAL")
    with site.record.reading() as session:
        study = session.scalars(select(models.Study).where(models.Study.patient_hash == pseudonym)).one()
    assert study.study_instance_uid == source.StudyInstanceUID
    (row,) = site.events(audit.Event.STUDY_RECEIVING, study_instance_uid=source.StudyInstanceUID)
    assert row.detail["patient_hash"] == pseudonym
    files = list(site.log.parent.glob("vesselq.sqlite3*"))
    assert any(pseudonym.encode() in file.read_bytes() for file in files)
    assert not any(b"31415926" in file.read_bytes() for file in files)


def test_multi_frame_and_photograph(site: Site, tmp_path: Path) -> None:
    """A multi-frame XA run and a colour fundus photograph are stored as well."""
    sources = [*xa_run(frames=8, rows=256, columns=256), *op_rgb()]
    result = dcmtk("storescu", site.port, *TESTER, *save(sources, tmp_path))
    assert result.returncode == 0, result.stderr
    for sent in sources:
        row = site.instance(sent.SOPInstanceUID)
        assert row is not None
        assert dcmread(site.spool.path(row.path)).PixelData == sent.PixelData


@pytest.mark.parametrize(
    "syntax",
    [ExplicitVRLittleEndian, uid.JPEG2000Lossless, uid.HTJ2KLossless, uid.JPEGLSLossless, uid.RLELossless],
)
def test_bytes_are_stored_as_received(site: Site, syntax: str) -> None:
    """The data set in the spool equals the data set on the wire, byte for byte, in the syntax that was agreed."""
    sop_instance_uid = generate_uid()
    sent = data_set(sop_instance_uid, study=generate_uid(), pixels=os.urandom(300_000))
    with association(site.port, contexts=[(CTImageStorage, (syntax,))]) as opened:
        assert store(opened, sop_instance_uid, sent) == StoreAnswer(0x0000)
    assert site.stored_bytes(sop_instance_uid) == sent
    row = site.instance(sop_instance_uid)
    assert row is not None
    assert row.fingerprint == fingerprint(sent)
    assert row.transfer_syntax_uid == syntax
    meta = dcmread(site.spool.path(row.path), stop_before_pixels=True).file_meta
    assert meta.TransferSyntaxUID == syntax
    assert meta.MediaStorageSOPInstanceUID == sop_instance_uid


def test_several_associations_bring_one_study(site: Site) -> None:
    """Eight associations at the same time bring parts of one study: all is stored, each is audited with its part."""
    study = generate_uid()
    names = [[generate_uid() for _ in range(5)] for _ in range(8)]

    def send(mine: Sequence[str]) -> list[StoreAnswer]:
        with association(site.port) as opened:
            return [store(opened, name, data_set(name, study=study)) for name in mine]

    with ThreadPoolExecutor(8) as pool:
        answers = [answer for part in pool.map(send, names) for answer in part]
    assert answers == [StoreAnswer(0x0000)] * 40
    for name in (name for mine in names for name in mine):
        assert site.stored_bytes(name) == data_set(name, study=study)
    wait_until(
        lambda: len(site.events(audit.Event.INSTANCES_RECEIVED, study_instance_uid=study)) == 8, "eight audit rows"
    )
    assert [row.detail["stored"] for row in site.events(audit.Event.INSTANCES_RECEIVED, study_instance_uid=study)] == [
        5
    ] * 8
    assert len(site.events(audit.Event.STUDY_RECEIVING, study_instance_uid=study)) == 1


def test_duplicates_and_conflicts(site: Site) -> None:
    """Equal content again: 0x0000, stored once. Other content: 0x0111, kept aside, audited; the first one stays."""
    name, study = generate_uid(), generate_uid()
    first, other = data_set(name, study=study), data_set(name, study=study, pixels=b"\x09\x09")
    with association(site.port) as opened:
        assert store(opened, name, first).status == 0x0000
        assert store(opened, name, first).status == 0x0000
        conflict = store(opened, name, other)
        assert store(opened, name, other).status == 0x0111
    assert conflict.status == 0x0111
    assert "kept aside" in conflict.comment
    assert site.stored_bytes(name) == first
    with site.record.reading() as session:
        (aside,) = session.scalars(
            select(models.ConflictingInstance).where(models.ConflictingInstance.sop_instance_uid == name)
        ).all()
    site.spool.verify(aside.path, fingerprint(other))
    assert len(site.events(audit.Event.INSTANCE_CONFLICT, study_instance_uid=study)) == 2


def test_duplicates_at_the_same_moment(site: Site) -> None:
    """Six associations send the same object at once: six times 0x0000, one row, one file."""
    name, study = generate_uid(), generate_uid()
    sent = data_set(name, study=study)

    def send(_: int) -> StoreAnswer:
        with association(site.port) as opened:
            return store(opened, name, sent)

    with ThreadPoolExecutor(6) as pool:
        assert list(pool.map(send, range(6))) == [StoreAnswer(0x0000)] * 6
    assert site.stored_bytes(name) == sent


@pytest.mark.parametrize(
    ("context", "result"),
    [
        ((CTImageStorage, (uid.DeflatedExplicitVRLittleEndian,)), 0x04),
        ((uid.SegmentationStorage, (ExplicitVRLittleEndian,)), 0x03),
        ((uid.ComprehensiveSRStorage, (ExplicitVRLittleEndian,)), 0x03),
        ((uid.GrayscaleSoftcopyPresentationStateStorage, (ExplicitVRLittleEndian,)), 0x03),
    ],
    ids=["deflated", "segmentation", "report", "presentation state"],
)
def test_contexts_that_are_not_accepted(site: Site, context: tuple[str, tuple[str, ...]], result: int) -> None:
    """Deflated is 'transfer syntaxes not supported', objects that are no images 'abstract syntax not supported'."""
    with association(site.port, contexts=[context, (CTImageStorage, (ExplicitVRLittleEndian,))]) as opened:
        assert opened.is_established
        assert [refused.result for refused in opened.rejected_contexts] == [result]
    proposed = {"abstract_syntax_uid": context[0], "transfer_syntax_uids": [*context[1]], "result": result}
    wait_until(
        lambda: any(row.detail["code"] == str(result) for row in site.events(audit.Event.CONTEXT_REFUSED)), "the row"
    )
    rows = [row for row in site.events(audit.Event.CONTEXT_REFUSED) if row.detail["code"] == str(result)]
    assert rows[0].detail["reason"] == "some presentation contexts were refused"
    assert rows[0].detail["contexts"][0].keys() == proposed.keys()


def test_explicit_is_preferred_to_implicit(site: Site) -> None:
    """A sender that offers Implicit first still gets Explicit little endian."""
    offered = (uid.ImplicitVRLittleEndian, uid.ExplicitVRBigEndian, ExplicitVRLittleEndian)
    with association(site.port, contexts=[(CTImageStorage, offered)]) as opened:
        assert opened.accepted_contexts[0].transfer_syntax == [ExplicitVRLittleEndian]


NAME = "1.2.826.0.1.3680043.10.7"


@pytest.mark.parametrize(
    ("name", "data", "status"),
    [
        ("1.2.3\n[INFO] fake", data_set(NAME), 0x0117),
        ("../../../tmp/evil", data_set(NAME), 0x0117),
        ("1.2.03", data_set("1.2.03"), 0x0117),
        (NAME, data_set(NAME + ".1"), 0xA900),
        (NAME, data_set(NAME, sop_class=uid.MRImageStorage), 0xA900),
        (NAME, data_set(""), 0xC000),
        (NAME, data_set(NAME, study=""), 0xC000),
        (NAME, data_set(NAME, series=""), 0xC000),
        (NAME, data_set(NAME, study="1.2.x"), 0xC000),
        (NAME, b"\x08\x00\x16\x00UI\xff\xff garbage", 0xC000),
        (NAME, b"\x08\x00\x10\x11SQ\x00\x00\xff\xff\xff\xff" * 3000, 0xC000),
        (NAME, data_set(NAME)[:60], 0xC000),
    ],
    ids=[
        "line break in UID", "path as UID", "leading zero", "other instance", "other class", "no instance",
        "no study", "no series", "study no UID", "garbage", "deep nesting", "cut off",
    ],
)  # fmt: skip
def test_refused_objects(site: Site, name: str, data: bytes, status: int) -> None:
    """Each kind of bad object gets its status, leaves no file and no row, and does not end the association."""
    good = generate_uid()
    with association(site.port) as opened:
        answer = store(opened, name, data)
        assert answer.status == status, answer
        assert 0 < len(answer.comment) <= 64
        assert "Doe" not in answer.comment
        assert store(opened, good, data_set(good, study=generate_uid())).status == 0x0000
    assert site.instance(name) is None
    assert site.instance(NAME) is None
    assert site.no_parts()
    codes = {row.detail["code"] for row in site.events(audit.Event.INSTANCE_REFUSED)}
    assert f"0x{status:04X}" in codes


def test_class_of_another_context_is_refused(site: Site) -> None:
    """An Affected SOP Class UID that is not that of the presentation context, or unknown, is 0x0122."""
    with association(site.port) as opened:
        assert store(opened, NAME, data_set(NAME), sop_class=uid.MRImageStorage).status == 0x0122
        assert store(opened, NAME, data_set(NAME), sop_class="1.2.3.4.5").status == 0x0122
    assert site.instance(NAME) is None


@pytest.mark.parametrize("character_set", [b"ISO_IR 192", b"NO SUCH SET ", b"\\ISO 2022 IR 87", b"\xff\xfe"])
def test_odd_character_sets_are_accepted(site: Site, character_set: bytes) -> None:
    """Character sets are the reader's business: the bytes are stored whatever they say."""
    name = generate_uid()
    sent = data_set(name, study=generate_uid(), character_set=character_set, patient_name=b"\xff\xfe\x1b$B;3ED")
    with association(site.port) as opened:
        assert store(opened, name, sent).status == 0x0000
    assert site.stored_bytes(name) == sent


def test_aborted_in_the_middle_of_an_object(site: Site) -> None:
    """A sender that vanishes in the middle leaves no file; what it stored before stays, recorded as aborted."""
    name, study = generate_uid(), generate_uid()
    with association(site.port) as opened:
        assert store(opened, name, data_set(name, study=study)).status == 0x0000
        context = opened.accepted_contexts[0].context_id
        command = store_command(CTImageStorage, NAME)
        connection = opened.dul.socket.socket
        for flags, payload in ((b"\x03", command), (b"\x00", data_set(NAME)[:200])):
            fragment = struct.pack(">LB", len(payload) + 2, context) + flags + payload
            connection.sendall(struct.pack(">BBL", 4, 0, len(fragment)) + fragment)
        wait_until(lambda: not site.no_parts(), "the unfinished file")
        connection.shutdown(socket.SHUT_RDWR)
        wait_until(site.no_parts, "the unfinished file to go")
    wait_until(lambda: site.events(audit.Event.INSTANCES_RECEIVED, study_instance_uid=study) != [], "the audit row")
    (row,) = site.events(audit.Event.INSTANCES_RECEIVED, study_instance_uid=study)
    assert (row.detail["association"], row.detail["stored"], row.outcome) == ("ABORTED", 1, 4)
    assert site.instance(name) is not None


def test_huge_pdu_is_cut_before_it_costs_memory(site: Site) -> None:
    """A PDU that announces 4 GiB before any association ends the connection at once, and the audit log tells."""
    with socket.create_connection(("127.0.0.1", site.port), timeout=10) as connection:
        connection.sendall(b"\x01\x00\xff\xff\xff\xff" + b"x" * 1000)
        with contextlib.suppress(ConnectionResetError):
            assert connection.recv(100) == b""
    _wait_for_refused_connection(site, "the PDU announces more bytes than allowed")
    assert dcmtk("echoscu", site.port, *TESTER).returncode == 0


def _wait_for_refused_connection(site: Site, reason: str) -> models.AuditEvent:
    def found() -> list[models.AuditEvent]:
        rows = site.events(audit.Event.CONNECTION_REFUSED, address="127.0.0.1")
        return [row for row in rows if row.detail["reason"] == reason]

    wait_until(lambda: found() != [], f"the audit row '{reason}'")
    return found()[0]


@pytest.mark.parametrize(
    ("sent", "reason"),
    [
        (b"GET / HTTP/1.1\r\nHost: pacs\r\nCookie: Doe\r\n\r\n", "the peer speaks HTTP, not DICOM"),
        (b"\x16\x03\x01\x00\x10\x01" + bytes(15), "the peer speaks TLS, and this port takes DICOM without TLS"),
        (b"\x05\x00\x00\x00\x00\x04" + bytes(4), "the first PDU is no A-ASSOCIATE-RQ"),
        (b"\x04\x00\x00\x00\x00\x08" + bytes(8), "the first PDU is no A-ASSOCIATE-RQ"),
        (b"\x01\x00\x00\x00\x00\x50" + bytes(80), "the A-ASSOCIATE-RQ is malformed or came too late"),
        (b"\x01\x00\x00", "the connection ended within a PDU"),
        (b"\x99" * 20, "what came is no DICOM PDU"),
    ],
    ids=["HTTP", "TLS", "A-RELEASE", "P-DATA", "malformed", "cut off", "garbage"],
)
def test_what_is_no_association_is_audited(site: Site, sent: bytes, reason: str) -> None:
    """A connection that says something else than an A-ASSOCIATE-RQ leaves a row that says what, and quotes nothing."""
    with socket.create_connection(("127.0.0.1", site.port), timeout=10) as connection:
        connection.sendall(sent)
        connection.shutdown(socket.SHUT_WR)
        with contextlib.suppress(ConnectionResetError):
            connection.recv(100)
    row = _wait_for_refused_connection(site, reason)
    assert row.detail == {"code": "closed", "reason": reason}
    assert (row.ae_title, row.outcome) == ("", 4)


def test_ae_titles_from_the_wire_are_harmless(site: Site) -> None:
    """Control characters in AE titles reach neither log nor audit log."""
    title = b"EVIL\n[INFO] ok\t "
    body = struct.pack(">HH", 1, 0) + b"VESSELQ".ljust(16) + title + bytes(32)
    body += b"\x10\x00\x00\x15" + b"1.2.840.10008.3.1.1.1"
    syntax = b"\x30\x00\x00\x11" + b"1.2.840.10008.1.1" + b"\x40\x00\x00\x11" + b"1.2.840.10008.1.2"
    body += b"\x20\x00" + struct.pack(">H", len(syntax) + 4) + b"\x01\0\0\0" + syntax
    body += b"\x50\x00\x00\x08" + b"\x51\x00\x00\x04" + struct.pack(">L", 16384)
    before = len(site.events(audit.Event.ASSOCIATION_REFUSED))
    with socket.create_connection(("127.0.0.1", site.port), timeout=10) as connection:
        connection.sendall(struct.pack(">BBL", 1, 0, len(body)) + body)
        answer = connection.recv(100)
    # A-ASSOCIATE-RJ or A-ABORT: both refuse
    assert answer[:1] in (b"\x03", b"\x07", b"")
    assert "\n[INFO] ok" not in site.log.read_text().replace("\\n", "")
    for row in site.events(audit.Event.ASSOCIATION_REFUSED)[before:]:
        assert re.fullmatch(r"[ -~]{0,16}", row.ae_title)


def test_log_tells_no_patient_data(site: Site) -> None:
    """After all the tests above no line of the log holds the patient's name, and every line is JSON."""
    text = site.log.read_text()
    assert "Doe" not in text
    assert "Traceback" not in text
    assert all(line.startswith("{") for line in text.splitlines())


# --- listeners with settings of their own -----------------------------------------------------------------------------


def test_too_little_space(own_site: Callable[..., Site]) -> None:
    """Below the critical mark objects get 0xA700; the association and C-ECHO go on."""
    site = own_site(critical_water_bytes=2**60)
    with association(site.port) as opened:
        answer = store(opened, NAME, data_set(NAME))
        assert answer.status == 0xA700
        assert "critical_water_bytes" in answer.comment
        assert store(opened, NAME, data_set(NAME)).status == 0xA700
    assert site.no_parts()
    assert site.instance(NAME) is None
    assert dcmtk("echoscu", site.port, *TESTER).returncode == 0


def test_low_water_rejects_associations(own_site: Callable[..., Site]) -> None:
    """Below the low-water mark new associations are rejected as transient, local limit exceeded."""
    site = own_site(low_water_bytes=2**60)
    result = dcmtk("echoscu", site.port, "-v", *TESTER)
    text = result.stdout + result.stderr
    assert "Result: Rejected Transient, Source: Service Provider (Presentation Related)" in text
    assert "Local Limit Exceeded" in text


def test_object_that_is_too_large(own_site: Callable[..., Site]) -> None:
    """An object beyond the cap gets 0xA700 after its last byte, is not kept, and the next one is taken."""
    site = own_site(maximum_object_bytes=2**20)
    small = generate_uid()
    with association(site.port) as opened:
        answer = store(opened, NAME, data_set(NAME, pixels=bytes(3 * 2**20)))
        assert (answer.status, answer.comment) == (0xA700, "object is larger than maximum_object_bytes")
        assert store(opened, small, data_set(small)).status == 0x0000
    assert site.instance(NAME) is None
    assert site.no_parts()
    (row,) = site.events(audit.Event.INSTANCE_REFUSED)
    assert row.detail["sop_instance_uids"] == [NAME]


def test_most_associations_of_a_peer(own_site: Callable[..., Site]) -> None:
    """The third association of an address with a limit of two is rejected; after a release there is room again."""
    site = own_site(maximum_associations_per_peer=2)
    with association(site.port) as first, association(site.port) as second:
        assert first.is_established
        assert second.is_established
        text = dcmtk("echoscu", site.port, "-v", *TESTER)
        assert "Local Limit Exceeded" in text.stdout + text.stderr
    wait_until(lambda: dcmtk("echoscu", site.port, *TESTER).returncode == 0, "room for an association")


def test_refusals_cannot_fill_the_audit_log(own_site: Callable[..., Site]) -> None:
    """Sixty objects refused for one reason and forty rejected associations are two rows now, and counts at the end."""
    site = own_site()
    with association(site.port) as opened:
        for _ in range(60):
            assert store(opened, "../x", data_set(NAME)).status == 0x0117
    for index in range(40):
        with association(site.port, calling=f"X{index}") as refused:
            # not is_rejected: a rejection that comes very soon looks like a closed connection to pynetdicom's SCU
            assert not refused.is_established
    assert len(site.events(audit.Event.INSTANCE_REFUSED)) == 1
    wait_until(lambda: len(site.events(audit.Event.ASSOCIATION_REFUSED)) == 1, "the first row")
    site.stop()
    assert [row.detail.get("repeated") for row in site.events(audit.Event.INSTANCE_REFUSED)] == [None, 59]
    assert [row.detail.get("repeated") for row in site.events(audit.Event.ASSOCIATION_REFUSED)] == [None, 39]


def test_reports_alone_are_audited(own_site: Callable[..., Site]) -> None:
    """An association that brings nothing but reports is a row with what was proposed, fifty more are one count."""
    site = own_site()
    reports = [(uid.ComprehensiveSRStorage, (ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian))]
    for _ in range(50):
        with association(site.port, contexts=reports) as opened:
            assert opened.accepted_contexts == []
    site.stop()
    first, repeated = site.events(audit.Event.CONTEXT_REFUSED)
    assert (first.ae_title, first.address, first.outcome) == ("TESTER", "127.0.0.1", 4)
    proposed = {
        "abstract_syntax_uid": uid.ComprehensiveSRStorage,
        "transfer_syntax_uids": [ExplicitVRLittleEndian, uid.ImplicitVRLittleEndian],
        "result": 3,
    }
    assert (first.detail["code"], first.detail["contexts"]) == ("3", [proposed])
    assert first.detail["reason"] == "no presentation context was accepted"
    assert (repeated.detail["repeated"], repeated.detail["contexts"]) == (49, [proposed])


def test_a_sender_that_proposes_everything_is_one_row(own_site: Callable[..., Site]) -> None:
    """A hundred refused contexts beside an accepted one are one row that lists twenty; accepted alone: none."""
    site = own_site()
    with association(site.port) as opened:
        assert opened.is_established
    everything = [(f"1.2.826.0.1.3680043.10.{number}", (ExplicitVRLittleEndian,)) for number in range(1, 101)]
    with association(site.port, contexts=[*everything, (CTImageStorage, (ExplicitVRLittleEndian,))]) as opened:
        assert len(opened.accepted_contexts) == 1
    site.stop()
    (row,) = site.events(audit.Event.CONTEXT_REFUSED)
    assert [context["abstract_syntax_uid"] for context in row.detail["contexts"]] == [
        proposed for proposed, _ in everything[:20]
    ]
    assert row.detail["contexts_not_listed"] == 80
    assert row.detail["reason"] == "some presentation contexts were refused"


def test_connections_without_a_byte_leave_no_row(own_site: Callable[..., Site]) -> None:
    """Fifty bare connects, as of a load balancer, leave no row; fifty browsers leave one, and a count."""
    site = own_site(maximum_associations=64, maximum_associations_per_peer=64)
    for _ in range(50):
        socket.create_connection(("127.0.0.1", site.port), timeout=10).close()
    for _ in range(50):
        with socket.create_connection(("127.0.0.1", site.port), timeout=10) as connection:
            connection.sendall(b"GET / HTTP/1.1\r\n\r\n")
            with contextlib.suppress(ConnectionResetError):
                connection.recv(100)
    _wait_for_refused_connection(site, "the peer speaks HTTP, not DICOM")
    time.sleep(0.3)  # the threads of the last connections
    site.stop()
    rows = site.events(audit.Event.CONNECTION_REFUSED)
    assert {row.detail["reason"] for row in rows} == {"the peer speaks HTTP, not DICOM"}
    assert [row.detail.get("repeated") for row in rows] == [None, 49]


def test_terminated_listener_lets_associations_end(tmp_path: Path) -> None:
    """SIGTERM: no new association, the open one may still store and release, exit code 0, all of it in the record."""
    name = generate_uid()
    with listener_process(tmp_path, **settings_tables()) as listener:
        site = Site(listener.port, tmp_path)
        _terminate_while_storing(listener, site, name)
    assert site.stored_bytes(name) == data_set(name)
    (row,) = site.events(audit.Event.INSTANCES_RECEIVED)
    assert row.detail["association"] == "RELEASED"
    assert len(site.events(audit.Event.APPLICATION_STOP)) == 1
    with site.record.reading() as session:
        (process,) = session.scalars(select(models.Process)).all()
    assert process.stopped_at is not None
    site.record.close()


def _terminate_while_storing(listener: RunningListener, site: Site, name: str) -> None:
    with association(site.port) as opened:
        listener.process.send_signal(signal.SIGTERM)
        time.sleep(0.4)
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", site.port), timeout=2)
        assert store(opened, name, data_set(name)).status == 0x0000
    assert listener.process.wait(10) == 0


def test_idle_association_is_aborted_when_the_listener_stops(own_site: Callable[..., Site]) -> None:
    """An association that does not end is aborted after the grace time, and its studies are not held open."""
    site = own_site()
    name = generate_uid()
    with association(site.port) as opened:
        assert store(opened, name, data_set(name)).status == 0x0000
        site.stop()
        wait_until(lambda: not opened.is_established, "the abort")
    (row,) = site.events(audit.Event.INSTANCES_RECEIVED)
    assert row.detail["association"] == "ABORTED"

"""Audit messages reach a syslog server over TLS: framed, in order, at least once, across restarts of it."""

import os
import re
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import record_story
from audit_schema import validate
from certificates import Authority
from databases import Clock
from loopback import free_port, wait_until
from sqlalchemy import func, select
from syslog_server import SyslogServer

from db import audit, audit_forwarding
from db.audit import Event, Outcome
from db.models import AuditEvent, AuditForwarding
from db.session import Record
from dicom_core.errors import ConfigurationError, LeaseLostError, UnavailableError
from dicom_core.setting_tables import AuditRepositorySettings, AuditSettings
from dicom_core.settings import Settings
from dicom_listener import audit_forwarder, dispatcher
from dicom_listener.audit_forwarder import AuditForwarder, forwarders
from dicom_listener.audit_repository import SyslogMessage, sender, syslog_line

AT = "2026-05-04T03:02:01.000Z"
MESSAGE = SyslogMessage(AT, "listener/4f1c", failure=False, xml="<AuditMessage>影</AuditMessage>")


def repository(authority: Authority, port: int, **changes: object) -> AuditRepositorySettings:
    """A repository of the settings that shows the certificate of PACS."""
    own = authority.pacs
    values: dict[str, object] = {
        "name": "arr", "host": "127.0.0.1", "port": port, "ca_file": authority.ca_file, "timeout_seconds": 5,
        "certificate_file": own.certificate_file, "key_file": own.key_file,
    }  # fmt: skip
    return AuditRepositorySettings(**{**values, **changes})


def forwarder(record: Record, authority: Authority, port: int, **changes: object) -> AuditForwarder:
    (made,) = forwarders(Settings(audit={"repositories": [repository(authority, port, **changes)]}), record)
    return made


def cursor(record: Record) -> AuditForwarding:
    with record.reading() as session:
        return session.scalars(select(AuditForwarding)).one()


def head(record: Record) -> int:
    with record.reading() as session:
        return session.scalar(select(func.max(AuditEvent.sequence))) or 0


def note(record: Record, event: Event = Event.AUDIT_READ, **facts: object) -> None:
    audit.record_event(record, event, **facts)


def told(messages: list[bytes]) -> list[str]:
    """The event words in messages, each of which is checked against the structure of PS3.15."""
    words = []
    for message in messages:
        text = message.decode("utf-8").partition('<?xml version="1.0" encoding="UTF-8"?>')[2]
        validate(text)
        words.append(re.findall(r'<EventTypeCode csd-code="([a-z-]+)"', text)[-1])
    return words


def test_a_message_has_the_head_of_rfc_5424() -> None:
    """Priority 85, or 84 for a failure; names without spaces and controls; no BOM, XML in UTF-8."""
    line = syslog_line(MESSAGE, "host.example.org")
    head, _, xml = line.partition(b"<?xml")
    assert head == b"<85>1 2026-05-04T03:02:01.000Z host.example.org vesselq listener/4f1c DICOM+RFC3881 - "
    assert xml.decode() == ' version="1.0" encoding="UTF-8"?><AuditMessage>影</AuditMessage>'
    odd = syslog_line(SyslogMessage(AT, "a b\n\x7f", failure=True, xml=""), "")
    assert odd.startswith(b"<84>1 2026-05-04T03:02:01.000Z - vesselq a?b?? DICOM+RFC3881 - <?xml")


def test_the_log_arrives_in_order_and_once(record: Record, authority: Authority) -> None:
    """A study that was sent, as valid messages in the order of the log; a second look sends nothing again."""
    record_story.ready(record)
    with record.reading() as session:
        known = [row.event for row in session.scalars(select(AuditEvent).order_by(AuditEvent.sequence)) if row.event_id]
    rows = head(record)
    with SyslogServer(authority) as server:
        one = forwarder(record, authority, server.port)
        one.forward()
        one.forward()
    assert told(server.messages) == known
    assert len(known) > 4
    assert server.connections == 1
    found = cursor(record)
    assert (found.next_sequence, found.attempts, found.last_error, found.lease_owner) == (rows + 1, 0, "", "")
    assert found.last_sent_at is not None
    assert head(record) == rows, "forwarding must leave nothing to forward"


def test_batches_follow_each_other(record: Record, authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    """More than one batch is sent in one pass, each over a connection of its own, without gap or repetition."""
    monkeypatch.setattr(audit_forwarder, "ROWS_AT_ONCE", 3)
    for number in range(8):
        note(record, detail={"number": number})
    with SyslogServer(authority) as server:
        forwarder(record, authority, server.port).forward()
    assert server.connections == 3
    assert len(told(server.messages)) == 8
    assert cursor(record).next_sequence == 9


def test_what_a_repository_misses_is_sent_after_its_restart(record: Record, authority: Authority, clock: Clock) -> None:
    """Down means stored and sent later: first what it had, then, after a pause that grows, all the rest in order."""
    note(record)
    with SyslogServer(authority) as server:
        port = server.port
        one = forwarder(record, authority, port)
        one.forward()
        assert told(server.messages) == ["audit-read"]
    note(record, Event.STUDY_VIEWED)
    for attempts, pause in ((1, 5), (2, 10), (3, 20)):
        with pytest.raises(UnavailableError, match=r"arr at 127.0.0.1:.* cannot be reached: Connection refused"):
            one.forward()
        found = cursor(record)
        assert (found.attempts, found.next_sequence) == (attempts, 2)
        assert "Connection refused" in found.last_error
        clock.advance(pause - 1)
        one.forward()  # not yet: neither an attempt nor an error
        assert cursor(record).attempts == attempts
        clock.advance(1.1)
    note(record, Event.SIGNED_OUT)
    with SyslogServer(authority, port=port) as again:
        one.forward()
    assert told(again.messages) == ["study-viewed", "signed-out"]
    assert (cursor(record).attempts, cursor(record).last_error, cursor(record).next_try_at) == (0, "", None)


def test_pauses_have_an_end(record: Record, clock: Clock) -> None:
    """Five minutes are the longest, however often it failed; a failure of somebody else changes nothing."""
    note(record)
    for _ in range(12):
        batch = audit_forwarding.claim(record, "arr", "me", lease_seconds=60, limit=5)
        assert batch is not None
        audit_forwarding.failed(record, batch, "away")
        clock.advance(audit_forwarding.LONGEST_PAUSE_SECONDS + 0.1)
    assert cursor(record).attempts == 12
    batch = audit_forwarding.claim(record, "arr", "me", lease_seconds=60, limit=5)
    assert batch is not None
    audit_forwarding.failed(record, audit_forwarding.Batch("arr", "other", batch.rows), "away")
    assert cursor(record).attempts == 12


@pytest.mark.parametrize(
    ("end", "problem"),
    [("reset", "cannot be reached: Connection reset|does not agree on TLS"), ("silent", "does not answer in 0.3 s")],
)
def test_a_batch_counts_only_after_an_orderly_end(
    record: Record, authority: Authority, clock: Clock, end: str, problem: str
) -> None:
    """Whoever dies over unread bytes, or never says that it has read them, gets them again."""
    note(record)
    with SyslogServer(authority, end=end) as server:
        one = forwarder(record, authority, server.port, timeout_seconds=0.3)
        with pytest.raises(UnavailableError, match=problem):
            one.forward()
        assert cursor(record).next_sequence == 1
    clock.advance(6)
    with SyslogServer(authority, port=server.port) as again:
        one.forward()
    assert told(again.messages) == ["audit-read"]


def test_an_early_goodbye_proves_nothing(record: Record, authority: Authority) -> None:
    """A server that ends idle connections may say goodbye before it has read the rows: they are sent again."""
    note(record)
    with SyslogServer(authority, end="early") as server:
        settings = repository(authority, server.port)

        def lines() -> Iterator[SyslogMessage]:
            assert server.said_goodbye.wait(5)
            yield MESSAGE

        with pytest.raises(UnavailableError, match="said goodbye before it could have read all"):
            sender(settings)(lines())


def test_a_refusal_after_the_handshake_is_no_end(record: Record, authority: Authority, clock: Clock) -> None:
    """TLS 1.3 lets a client finish before the server refuses its certificate; OpenSSL takes that alert for an end."""
    note(record)
    with SyslogServer(authority) as server:
        one = forwarder(record, authority, server.port, certificate_file=None, key_file=None)
        for _ in range(20):
            with pytest.raises(UnavailableError, match=r"CERTIFICATE_REQUIRED|cannot be reached"):
                one.forward()
            assert cursor(record).next_sequence == 1
            clock.advance(audit_forwarding.LONGEST_PAUSE_SECONDS + 1)
        assert server.messages == []


def test_a_server_without_manners_has_read_all_the_same(record: Record, authority: Authority) -> None:
    """Some end the connection without close_notify; all bytes were acknowledged and no reset came, so they are read."""
    note(record)
    with SyslogServer(authority, end="close") as server:
        forwarder(record, authority, server.port).forward()
    assert told(server.messages) == ["audit-read"]
    assert cursor(record).next_sequence == 2


def test_strangers_get_nothing(record: Record, authority: Authority, stranger: Authority, clock: Clock) -> None:
    """A server of another authority, one with another name, one that does not know us: no message leaves, all wait."""
    note(record)
    with SyslogServer(stranger) as server:
        with pytest.raises(UnavailableError, match="a certificate that is not trusted"):
            forwarder(record, authority, server.port).forward()
        assert server.messages == []
    clock.advance(6)
    with SyslogServer(authority) as server:
        with pytest.raises(UnavailableError, match="not trusted: Hostname mismatch"):
            forwarder(record, authority, server.port, server_name="arr.example.org").forward()
        clock.advance(11)
        with pytest.raises(UnavailableError, match=r"does not agree on TLS|cannot be reached"):
            forwarder(record, authority, server.port, certificate_file=None, key_file=None).forward()
        assert server.messages == []
        clock.advance(21)
        forwarder(record, authority, server.port, server_name="vesselq").forward()
        assert told(server.messages) == ["audit-read"]


def test_bad_files_are_told_at_the_start(record: Record, authority: Authority, tmp_path: Path) -> None:
    """A wrong CA file or key stops the dispatcher with a sentence, before it does anything."""
    for changes, said in (
        ({"ca_file": tmp_path / "none.pem"}, "none.pem cannot be read"),
        ({"key_file": authority.vesselq.key_file}, "is not that of the certificate"),
    ):
        with pytest.raises(ConfigurationError, match=said):
            forwarder(record, authority, 6514, **changes)


def test_a_file_that_goes_bad_later_is_a_failure(record: Record, authority: Authority, tmp_path: Path) -> None:
    """A renewal that went wrong is seen in the record; the rows wait."""
    note(record)
    ca_file = tmp_path / "ca.pem"
    ca_file.write_bytes(authority.ca_file.read_bytes())
    one = forwarder(record, authority, 6514, ca_file=ca_file)
    ca_file.unlink()
    with pytest.raises(ConfigurationError, match=r"ca.pem cannot be read"):
        one.forward()
    assert "ca.pem cannot be read" in cursor(record).last_error


def test_udp_is_sent_when_asked(record: Record, authority: Authority) -> None:
    """One datagram a message (RFC 5426); a message that no datagram holds is cut and does not stop the others."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.settimeout(5)
        files = {"ca_file": None, "certificate_file": None, "key_file": None}
        settings = repository(authority, server.getsockname()[1], transport="udp", **files)
        note(record)
        AuditForwarder(Settings(), settings, record).forward()
        assert told([server.recv(65536)]) == ["audit-read"]
        sender(settings)([SyslogMessage(AT, "web/1", failure=False, xml="影" * 40_000)])
        cut = server.recv(65536)
        assert 64_990 < len(cut) <= 65_000
        assert cut.decode().endswith("影")
    with pytest.raises(UnavailableError, match="cannot be reached"):
        sender(repository(authority, free_port(), transport="udp", **files))([MESSAGE] * 9)


def test_two_dispatchers_do_not_send_the_same(record: Record, clock: Clock) -> None:
    """The lease keeps the other away until it runs out; who lost it moves no cursor."""
    note(record)
    mine = audit_forwarding.claim(record, "arr", "me", lease_seconds=60, limit=5)
    assert mine is not None
    assert audit_forwarding.claim(record, "arr", "other", lease_seconds=60, limit=5) is None
    clock.advance(61)
    theirs = audit_forwarding.claim(record, "arr", "other", lease_seconds=60, limit=5)
    assert theirs is not None
    assert theirs.rows == mine.rows
    with pytest.raises(LeaseLostError, match="another dispatcher"):
        audit_forwarding.sent(record, mine)
    audit_forwarding.sent(record, theirs)
    with pytest.raises(LeaseLostError):
        audit_forwarding.sent(record, theirs)
    assert cursor(record).next_sequence == 2
    assert audit_forwarding.claim(record, "arr", "me", lease_seconds=60, limit=5) is None


def test_a_lost_lease_ends_the_pass(record: Record, authority: Authority, monkeypatch: pytest.MonkeyPatch) -> None:
    """The other one goes on; nothing is wrong."""

    def lost(*_: object) -> None:
        raise LeaseLostError("another dispatcher")

    note(record)
    monkeypatch.setattr(audit_forwarding, "sent", lost)
    with SyslogServer(authority) as server:
        forwarder(record, authority, server.port).forward()
    assert server.connections == 1


def test_events_of_our_own_need_no_connection(record: Record, authority: Authority) -> None:
    """PS3.15 has no message for them: the cursor passes them, and the server is not asked."""
    note(record, Event.PEER_CHECKED)
    forwarder(record, authority, free_port()).forward()
    assert cursor(record).next_sequence == 2


def test_each_repository_has_a_cursor_of_its_own(record: Record, authority: Authority) -> None:
    """One that is away keeps nothing from the others; a new one gets the log from its beginning."""
    note(record, outcome=Outcome.MINOR_FAILURE)
    with SyslogServer(authority) as server:
        both = [repository(authority, free_port(), name="away"), repository(authority, server.port, name="here")]
        away, here = forwarders(Settings(audit={"repositories": both}), record)
        with pytest.raises(UnavailableError):
            away.forward()
        here.forward()
    assert server.messages[0].startswith(b"<84>1 ")
    with record.reading() as session:
        assert {row.repository: row.next_sequence for row in session.scalars(select(AuditForwarding))} == {
            "away": 1, "here": 2,
        }  # fmt: skip


def test_the_dispatcher_forwards(
    record_url: str, authority: Authority, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its own start and stop reach the repository while it runs; and bad files keep it from starting."""
    monkeypatch.setattr(dispatcher, "FORWARD_SECONDS", 0.02)
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    with SyslogServer(authority) as server:

        def wait_and_stop() -> None:
            wait_until(lambda: len(server.messages) >= 2, "the start in the repository")
            os.kill(os.getpid(), signal.SIGTERM)

        settings = Settings(
            data_folder=tmp_path,
            database_url=record_url,
            redis_url=f"redis://127.0.0.1:{free_port()}/0",
            audit={"repositories": [repository(authority, server.port)]},
        )
        waiting = threading.Thread(target=wait_and_stop)
        waiting.start()
        try:
            dispatcher.run(settings)
        finally:
            waiting.join()
            for number, handler in before.items():
                signal.signal(number, handler)
    assert told(server.messages)[:2] == ["application-start", "configuration-loaded"]
    bad = repository(authority, 6514, ca_file=authority.folder / "none.pem")
    with pytest.raises(ConfigurationError, match=r"none.pem cannot be read"):
        dispatcher.run(settings.model_copy(update={"audit": AuditSettings(repositories=[bad])}))

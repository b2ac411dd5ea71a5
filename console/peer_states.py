"""The systems of the settings with what the record knows of them, and asking one whether it answers."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from db import peers, queue_reports
from db.peers import Check, Contact
from db.queue_reports import Lane
from db.session import Record
from dicom_core.errors import ConflictError, NotFoundError, VesselqError
from dicom_core.setting_tables import DestinationSettings, FolderSettings, PeerSettings, StorageSCUSettings
from dicom_core.settings import SENDER, Settings

ANSWER_SECONDS = 5.0
"""Longest wait for a peer; a destination has a setting of its own."""
PEER, DESTINATION = "peer", "destination"


@dataclass(frozen=True, slots=True)
class PeerState:
    """One system of the settings, or one that sent something and is not in them any more.

    Attributes:
        key: ``peer/NAME`` or ``destination/NAME``; "" for one that is not in the settings.
        kind: ``peer``, or the kind of the destination; "" for one that is not in the settings.
        where: Host and port, URL or folder; "" where results go back to whatever address it calls from.
        heard: What it sent lately.
        sent_at: When it took a result last.
        check: The last time that somebody asked it.
        lanes: Names of its lanes, for having sent what waits there.
        waiting: Objects that wait for it.
        failed: Objects that it refused for good.
        held_until: After a failure: when it is tried again at the earliest.
        answer: One of its last answers to what waits or failed.
    """

    key: str
    name: str
    kind: str
    ae_title: str
    where: str
    heard: Contact | None
    sent_at: datetime | None
    check: Check | None
    lanes: tuple[str, ...] = ()
    waiting: int = 0
    sending: int = 0
    failed: int = 0
    oldest_since: datetime | None = None
    held_until: datetime | None = None
    next_try_at: datetime | None = None
    answer: str = ""


def peer_states(settings: Settings, record: Record) -> list[PeerState]:
    """Peers and destinations in the order of the settings, then who else sent something lately."""
    contacts = peers.contacts(record)
    lanes = queue_reports.lanes(record)
    sent = peers.last_sent(record)
    checks = peers.checks(record)
    found = []
    for peer in settings.peers:
        own = [lane for lane in lanes if _is_of(peer, lane.lane)]
        heard = next((one for one in contacts if one.ae_title == peer.ae_title and _from(peer, one.address)), None)
        took = max((at for lane, at in sent.items() if _is_of(peer, lane)), default=None)
        key = f"{PEER}/{peer.name}"
        where = f"{host_of(peer)}:{peer.port}" if host_of(peer) else ""
        found.append(_state(key, PEER, peer.ae_title, where, own, heard, took, checks.get(key)))
    for one in settings.destinations:
        key = f"{DESTINATION}/{one.name}"
        own = [lane for lane in lanes if lane.lane == one.name]
        ae_title = one.ae_title if isinstance(one, StorageSCUSettings) else ""
        found.append(_state(key, one.kind, ae_title, _where(one), own, None, sent.get(one.name), checks.get(key)))
    return [*found, *_others(settings, contacts, lanes)]


def _state(
    key: str, kind: str, ae_title: str, where: str, lanes: Sequence[Lane], heard: Contact | None,
    sent_at: datetime | None, check: Check | None,
) -> PeerState:  # fmt: skip
    return PeerState(
        key=key,
        name=key.partition("/")[2],
        kind=kind,
        ae_title=ae_title,
        where=where,
        heard=heard,
        sent_at=sent_at,
        check=check,
        lanes=tuple(lane.lane for lane in lanes),
        waiting=sum(lane.waiting for lane in lanes),
        sending=sum(lane.sending for lane in lanes),
        failed=sum(lane.failed for lane in lanes),
        oldest_since=min(_known(lane.oldest_since for lane in lanes), default=None),
        held_until=max(_known(lane.held_until for lane in lanes), default=None),
        next_try_at=min(_known(lane.next_try_at for lane in lanes), default=None),
        answer=next((lane.answer for lane in lanes if lane.answer), ""),
    )


def _known(moments: Iterable[datetime | None]) -> list[datetime]:
    return [moment for moment in moments if moment is not None]


def _others(settings: Settings, contacts: Sequence[Contact], lanes: Sequence[Lane]) -> Iterator[PeerState]:
    """Senders and lanes that the settings do not name any more."""
    names = {one.name for one in settings.destinations}
    ours = {lane.lane for lane in lanes for peer in settings.peers if _is_of(peer, lane.lane)} | names
    left = [lane for lane in lanes if lane.lane not in ours]
    for heard in contacts:
        if any(peer.ae_title == heard.ae_title and _from(peer, heard.address) for peer in settings.peers):
            continue
        own = [lane for lane in left if lane.lane == f"{SENDER}:{heard.ae_title}@{heard.address}"]
        left = [lane for lane in left if lane not in own]
        yield _state(f"/{heard.ae_title}", "", heard.ae_title, heard.address, own, heard, None, None)
    for lane in left:
        yield _state(f"/{lane.lane}", "", "", "", [lane], None, None, None)


def _is_of(peer: PeerSettings, lane: str) -> bool:
    """Whether results of this lane go back to that peer."""
    sender, _, caller = lane.partition(":")
    ae_title, _, address = caller.rpartition("@")
    return sender == SENDER and ae_title == peer.ae_title and _from(peer, address)


def _from(peer: PeerSettings, address: str) -> bool:
    from dicom_listener.job_requests import calls_from  # with it comes pydicom, which most pages do not need

    try:
        return calls_from(peer, address)
    except ValueError:  # no address: of a record that a test or another release wrote
        return not peer.addresses


def host_of(peer: PeerSettings) -> str:
    """Where a peer can be asked, "" where the settings do not tell."""
    return peer.host or (peer.addresses[0] if len(peer.addresses) == 1 and "/" not in peer.addresses[0] else "")


def _where(destination: DestinationSettings) -> str:
    if isinstance(destination, StorageSCUSettings):
        return f"{destination.host}:{destination.port}"
    return str(destination.path) if isinstance(destination, FolderSettings) else destination.url


def ask_peer(settings: Settings, peer: PeerSettings) -> str:
    """C-ECHO to the Storage SCP of a peer (PS3.4 annex A). Returns its answer in words.

    Raises:
        NotFoundError: The settings do not tell where it is.
        VesselqError: It does not answer, or refuses.
    """
    from dicom_listener.storage_scu import receiver_of, verify  # pynetdicom, which a page that only shows does not need

    host = host_of(peer)
    if not host:
        raise NotFoundError(f"peer {peer.name} has no host in the settings, so that it cannot be asked")
    seconds = verify(receiver_of(peer, host, settings.listener, ANSWER_SECONDS))
    return f"C-ECHO answered in {seconds * 1000:.0f} ms"


def ask_destination(settings: Settings, destination: DestinationSettings) -> str:
    """Whether a destination would take results now: C-ECHO, a query, or a file. Returns its answer in words.

    Raises:
        VesselqError: It would not.
    """
    from worker.destinations.registry import make_destination

    made = make_destination(destination, calling_ae_title=settings.listener.ae_title)
    try:
        return f"{made.describe()}: {made.check()}"
    finally:
        made.close()


def check(settings: Settings, record: Record, key: str) -> Check:
    """Ask one system whether it answers, and write down what it said.

    Args:
        settings: Where it is.
        record: On behalf of who asks.
        key: Of ``PeerState``.

    Raises:
        NotFoundError: The settings have no such system, or do not tell where it is.
        UnavailableError: The answer cannot be written down.
    """
    kind, _, name = key.partition("/")
    peer = next((one for one in settings.peers if kind == PEER and one.name == name), None)
    destination = next((one for one in settings.destinations if kind == DESTINATION and one.name == name), None)
    if peer is None and destination is None:
        raise NotFoundError(f"the settings have no {key}; `vesselq peers` lists what they have")
    try:
        if peer is not None:
            answer = ask_peer(settings, peer)
        elif destination is not None:
            answer = ask_destination(settings, destination)
        answered = True
    except NotFoundError:
        raise
    except VesselqError as error:
        answer, answered = str(error), False
    ae_title = peer.ae_title if peer else getattr(destination, "ae_title", "")
    address = host_of(peer) if peer else getattr(destination, "host", "")
    return peers.keep_check(record, key, answered=answered, answer=answer, ae_title=ae_title, address=address)


def state_of(settings: Settings, record: Record, key: str) -> PeerState:
    """One system.

    Raises:
        NotFoundError: The settings have no such system.
    """
    found = next((one for one in peer_states(settings, record) if one.key == key and one.kind), None)
    if found is None:
        raise NotFoundError(f"the settings have no {key}; `vesselq peers` lists what they have")
    return found


def resend(settings: Settings, record: Record, keys: Sequence[str], reason: str) -> tuple[int, int]:
    """Have sent at once what waits for systems, and again what they refused: the same bytes under the same UIDs.

    Returns:
        How many objects are due now, and how many jobs are sent again.

    Raises:
        NotFoundError: The settings have no such system.
        ConflictError: Nothing waits for them, and they refused nothing that can be sent again.
    """
    lanes = tuple(lane for key in keys for lane in state_of(settings, record, key).lanes)
    hurried, repeated = peers.try_now(record, lanes, reason), peers.resend_failed(record, lanes, reason)
    if not hurried and not repeated:
        raise ConflictError("nothing waits for it, and it refused nothing that can be sent again")
    return hurried, repeated

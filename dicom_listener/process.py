"""The listener process: start, recovery, run until asked to stop."""

import hashlib
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from importlib import metadata
from queue import SimpleQueue

from db import migrate, processes, register
from db.session import Record
from dicom_core.errors import SpoolError, VesselqError
from dicom_core.logs import get_logger
from dicom_core.settings import Settings
from dicom_core.spool import Spool
from dicom_core.study import Association, AssociationOutcome
from dicom_listener.association_policy import AssociationPolicy, allowed_peers, storage_contexts
from dicom_listener.committer import Committer
from dicom_listener.free_space import FreeSpace
from dicom_listener.handlers import Intake, OpenAssociation
from dicom_listener.recovery import SpoolLock, recover
from dicom_listener.refusals import RefusalAudit
from dicom_listener.server import PynetdicomServer, StorageServer
from dicom_listener.siblings import Siblings

GRACE_SECONDS = 5.0
"""How long open associations may go on after the order to stop."""
log = get_logger("listener.process")


def run(
    settings: Settings,
    *,
    ready: Callable[[str, int], None] | None = None,
    stop: threading.Event | None = None,
    first: bool = True,
) -> None:
    """Take studies in until SIGTERM, SIGINT or ``stop``.

    Args:
        settings: All of them; the record must have the schema of this release.
        ready: Told host and port once associations are accepted.
        stop: Ends the listener when it is set, for callers that own the signals.
        first: Whether this process starts the others of ``listener.processes``.

    Raises:
        UnavailableError: The record cannot be written: nothing was opened.
        ConfigurationError: The schema is another one, the address cannot be bound, a peer's host name not resolved.
        SpoolError: The disk failed (also in the middle: nothing was acknowledged since), or is not the right one.
    """
    stop = stop or threading.Event()
    failures: list[SpoolError] = []
    record = Record(settings.effective_database_url, process="listener")
    spool = Spool(settings.spool_folder)
    spool.prepare()
    lock = SpoolLock(spool)
    try:
        migrate.require_current(record)
        with _announced(record, settings) as process_id, _signals(stop):
            recover(record, spool, alone=lock.alone)
            lock.share()

            def disk_failed(error: SpoolError) -> None:
                log.critical("disk-failed", problem=str(error))
                failures.append(error)
                stop.set()

            refusals = RefusalAudit(record)
            committer = Committer(
                spool,
                partial(register.record_instances, record),
                window_seconds=settings.listener.commit_window_seconds,
                batch=settings.listener.commit_batch,
                on_failure=disk_failed,
            )
            closer = _Closer(record)
            server = _server(
                settings,
                process_id,
                site_key=migrate.site_key(record),
                spool=spool,
                committer=committer,
                refusals=refusals,
                closer=closer,
                older_fingerprint=register.older_fingerprints(record),
            )
            host, port = server.start()
            log.info("listening", host=host, port=port, ae_title=settings.listener.ae_title, peers=len(settings.peers))
            siblings = Siblings(
                _on_port(settings, port), _sibling, count=settings.listener.processes - 1 if first else 0
            )
            try:
                siblings.keep_up()
                if ready is not None:
                    ready(host, port)
                while not stop.wait(processes.BEAT_SECONDS):
                    _beat(record, process_id, server, refusals, closer)
                    siblings.keep_up()
            finally:
                server.stop(0.0 if failures else GRACE_SECONDS)
                siblings.stop()
                closer.try_again()
                refusals.flush(everything=True)
    finally:
        lock.close()
        record.close()
    if failures:
        raise failures[0]


def _on_port(settings: Settings, port: int) -> Settings:
    return settings.model_copy(update={"listener": settings.listener.model_copy(update={"port": port})})


def _sibling(settings: Settings, stop: threading.Event) -> None:
    run(settings, stop=stop, first=False)


@contextmanager
def _announced(record: Record, settings: Settings) -> Iterator[str]:
    """Be known to the record as a living process; the audit row of the start is there before anything is opened."""
    configuration = {
        "settings_sha256": hashlib.sha256(settings.model_dump_json().encode()).hexdigest(),
        "peers": len(settings.peers),
        "ae_title": settings.listener.ae_title,
    }
    process_id = processes.start(record, "listener", version=_version(), configuration=configuration)
    record.process = f"listener/{process_id[:8]}"
    try:
        yield process_id
    finally:
        try:
            processes.stop(record, process_id)
        except VesselqError as error:  # silence will tell the others; what ended the process matters more
            log.warning("stop-not-recorded", problem=str(error))


def _server(
    settings: Settings,
    process_id: str,
    *,
    site_key: str,
    spool: Spool,
    committer: Committer,
    refusals: RefusalAudit,
    closer: "_Closer",
    older_fingerprint: Callable[[str], str],
) -> StorageServer:
    listener = settings.listener
    free_space = FreeSpace(spool.free_bytes)
    intake = Intake(
        spool=spool,
        committer=committer,
        refusals=refusals,
        free_bytes=lambda: free_space.free_bytes,
        critical_water_bytes=listener.critical_water_bytes,
        maximum_object_bytes=listener.maximum_object_bytes,
        site_key=site_key,
        older_fingerprint=older_fingerprint,
    )
    return PynetdicomServer(
        listener,
        process_id=process_id,
        policy=AssociationPolicy(listener, allowed_peers(settings.peers, _resolve)),
        contexts=storage_contexts(),
        intake=intake,
        closed=closer.closed,
    )


class _Closer:
    """Tells the record of associations that ended; again at the next beat when it did not answer."""

    def __init__(self, record: Record) -> None:
        self._record = record
        self._left: SimpleQueue[tuple[Association, AssociationOutcome]] = SimpleQueue()

    def closed(self, opened: OpenAssociation, outcome: AssociationOutcome) -> None:
        """An association is over."""
        association = opened.association
        log.info(
            "association-closed",
            association_id=association.association_id,
            calling_ae_title=association.calling_ae_title,
            peer_address=association.peer_address,
            outcome=outcome.value,
            **{name.lower(): count for name, count in sorted(opened.counts.items())},
        )
        if opened.counts:  # otherwise the record does not know it
            self._close(association, outcome)

    def try_again(self) -> None:
        """Close what could not be closed before."""
        for _ in range(self._left.qsize()):
            self._close(*self._left.get())

    def _close(self, association: Association, outcome: AssociationOutcome) -> None:
        try:
            register.close_association(self._record, association, outcome)
        except VesselqError as error:
            log.warning("association-not-closed", association_id=association.association_id, problem=str(error))
            self._left.put((association, outcome))


def _beat(record: Record, process_id: str, server: StorageServer, refusals: RefusalAudit, closer: _Closer) -> None:
    try:
        refusals.flush()
        closer.try_again()
        processes.beat(record, process_id, f"{server.open_associations} open associations")
    except VesselqError as error:
        log.warning("beat-failed", problem=str(error))


@contextmanager
def _signals(stop: threading.Event) -> Iterator[None]:
    """Have SIGTERM and SIGINT set ``stop``, where this is the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, lambda *_: stop.set()) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _resolve(host: str) -> list[str]:
    return sorted({str(found[4][0]) for found in socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)})


def _version() -> str:
    try:
        return metadata.version("vesselq")
    except metadata.PackageNotFoundError:  # run from a checkout
        return "0"

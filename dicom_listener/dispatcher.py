"""The dispatcher process: closes quiet studies, makes jobs of them, rings workers, takes work from dead ones, purges.

Everything it does is a guarded change in the record, so that two of them side by side, or one that is killed at any
moment, do no harm. Ringing has a thread of its own: Redis being away never keeps a study from becoming complete.
"""

import shutil
import signal
import threading
from collections.abc import Callable
from importlib.metadata import version

from db import deliveries, jobs, migrate, processes, register, retention, studies
from db.session import Record
from dicom_core.errors import UnavailableError, VesselqError
from dicom_core.logs import configure_logs, get_logger
from dicom_core.messages import DELIVER_QUEUE, DELIVER_TASK, SEGMENT_QUEUE, SEGMENT_TASK
from dicom_core.settings import Settings
from dicom_core.spool import Spool
from dicom_listener.audit_forwarder import FORWARD_SECONDS, forwarders
from dicom_listener.checkpoint_duty import CheckpointDuty
from dicom_listener.doorbell import Doorbell
from dicom_listener.job_requests import JobRequests

HOUSEKEEPING_SECONDS = 60.0
"""Pause between two looks for what may be purged."""
GIVE_UP_AFTER_HOURS = 72.0
"""For deliveries whose worker died; the worker's own setting decides in all other cases."""
log = get_logger("dispatcher")


class Dispatcher:
    """The duties of the dispatcher, each one pass at a time."""

    def __init__(self, settings: Settings, record: Record, doorbell: Doorbell) -> None:
        self._settings = settings
        self._record = record
        self._doorbell = doorbell
        self._spool = Spool(settings.spool_folder)
        self._requests = JobRequests(settings, self._spool)

    def close_studies(self) -> None:
        """Turn studies that have been quiet for long enough into jobs."""
        register.close_lost_associations(self._record, processes.SILENT_AFTER_SECONDS)
        for study in studies.quiet_studies(self._record, self._settings.listener.stable_after_seconds):
            try:
                created = studies.complete(self._record, study, self._requests.for_study(study))
            except UnavailableError:
                raise
            except Exception:  # the edge of one study: whatever is wrong with it, the others go on
                log.exception("study cannot be completed", study_instance_uid=study.study_instance_uid)
                continue
            log.info("study complete", study_instance_uid=study.study_instance_uid, jobs=len(created))

    def reap(self) -> None:
        """Take work from workers that fell silent."""
        worker = self._settings.worker
        taken = jobs.reap_expired(self._record, worker.maximum_attempts, worker.retry_after_seconds)
        taken += deliveries.reap_expired(self._record, GIVE_UP_AFTER_HOURS)
        if taken:
            log.warning("work taken from silent workers", number=taken)

    def ring(self) -> None:
        """Ring for work that waits, but not more often than workers answer."""
        for task, queue, source in (
            (SEGMENT_TASK, SEGMENT_QUEUE, jobs),
            (DELIVER_TASK, DELIVER_QUEUE, deliveries),
        ):
            room = self._settings.dispatcher.rings_per_pass - self._doorbell.unanswered(queue)
            if room <= 0:
                continue
            waiting = source.due(self._record, self._settings.dispatcher.ring_interval_seconds, room)
            rung: list[str] = []
            try:
                self._doorbell.ring(task, queue, waiting, rung.append)
            finally:
                source.mark_rung(self._record, rung)

    def purge(self) -> None:
        """Remove files that the retention policy lets go."""
        policy = self._settings.retention
        for study in retention.purge_sources(self._record, policy.purge_sources_after_days):
            removed = retention.remove_purged(self._record, study, self._spool.remove)
            log.info("sources purged", study_instance_uid=study.study_instance_uid, files=removed)
        for path in retention.results_to_remove(self._record, policy.purge_results_after_days):
            # the folder of the try: the preview shows the patient as much as the object does
            shutil.rmtree((self._settings.results_folder / path).parent, ignore_errors=True)


def run(settings: Settings) -> None:
    """Dispatch until SIGTERM or SIGINT.

    Raises:
        ConfigurationError: The database has another schema, or a certificate for an audit repository is no good.
        UnavailableError: The database does not answer.
    """
    configure_logs("dispatcher", settings.log_level)
    record = Record(settings.effective_database_url, process="dispatcher")
    try:
        migrate.require_current(record)
        audit_forwarders = forwarders(settings, record)
    except VesselqError:
        record.close()
        raise
    checkpoints = CheckpointDuty(settings, record)
    process_id = processes.start(
        record,
        "dispatcher",
        version=version("vesselq"),
        configuration={"rules": [rule.name for rule in settings.rules]},
    )
    record.process = f"dispatcher/{process_id[:8]}"
    doorbell = Doorbell(settings.redis_url)
    dispatcher = Dispatcher(settings, record, doorbell)
    over = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: over.set())
    pause = settings.dispatcher.interval_seconds
    threads = [
        threading.Thread(target=_repeat, args=(over, seconds, duty), name=duty.__name__)
        for seconds, duty in (
            (pause, dispatcher.close_studies),
            (pause, dispatcher.ring),
            (pause, dispatcher.reap),
            (HOUSEKEEPING_SECONDS, dispatcher.purge),
            (processes.BEAT_SECONDS, lambda: processes.beat(record, process_id)),
            (checkpoints.pause_seconds, checkpoints.sign_when_due),
            *((FORWARD_SECONDS, forwarder.forward) for forwarder in audit_forwarders),
        )
    ]
    for thread in threads:
        thread.start()
    over.wait()
    for thread in threads:
        thread.join()
    doorbell.close()
    processes.stop(record, process_id)
    checkpoints.sign_the_rest()
    record.close()


def _repeat(over: threading.Event, pause_seconds: float, duty: Callable[[], None]) -> None:
    """Do one duty again and again; a failure is logged once until it works again."""
    failing = False
    while not over.wait(pause_seconds):
        try:
            duty()
            failing = False
        except VesselqError as error:
            if not failing:
                log.warning("duty failed, will be tried again", reason=str(error))
            failing = True
        except Exception:  # the edge of the thread: a duty that fails must not end the others
            log.exception("unexpected error in a duty")

"""The worker process: a Celery worker with the threads pool around the two use cases."""

import socket
import threading
import warnings
from collections.abc import Sequence

from celery import Celery
from celery.platforms import SecurityWarning
from celery.signals import worker_shutting_down

from db import migrate, processes
from db.session import Record
from dicom_core.logs import configure_logs, get_logger
from dicom_core.messages import DELIVER_QUEUE, SEGMENT_QUEUE, celery_settings
from dicom_core.settings import Settings
from worker.leftovers import remove_leftovers
from worker.services import SOFTWARE_VERSION, Services
from worker.tasks import register_tasks

log = get_logger("worker")


def run(settings: Settings, *, queues: Sequence[str] = (SEGMENT_QUEUE, DELIVER_QUEUE)) -> None:
    """Work until SIGTERM or SIGINT, then hand back what is under way.

    Args:
        settings: Of this site.
        queues: ``segment``, ``deliver`` or both.

    Raises:
        ConfigurationError: The database has another schema.
        UnavailableError: The database does not answer.
    """
    configure_logs("worker", settings.log_level)
    record = Record(settings.effective_database_url, process="worker")
    migrate.require_current(record)
    owner = processes.start(
        record,
        "worker",
        version=SOFTWARE_VERSION,
        configuration={"queues": list(queues), "device": settings.worker.device},
    )
    record.process = f"worker/{owner[:8]}"
    services = Services(settings, record, owner)
    over = threading.Event()
    beat = threading.Thread(target=_beat, args=(services, over), daemon=True, name="beat")
    beat.start()
    try:
        if SEGMENT_QUEUE in queues:
            remove_leftovers(services)
        _serve(settings, services, queues)
    finally:
        over.set()
        beat.join()
        services.close()
        processes.stop(record, owner)
        record.close()


def _serve(settings: Settings, services: Services, queues: Sequence[str]) -> None:
    app = Celery("vesselq", set_as_current=False)
    app.conf.update(celery_settings(settings.redis_url))
    register_tasks(app, services)

    def tell_to_stop(**_: object) -> None:
        services.stopping.set()

    worker_shutting_down.connect(tell_to_stop)
    # in a container of its own a worker may be root; the many lines of this warning would stand between the JSON lines
    warnings.filterwarnings("ignore", category=SecurityWarning)
    # one thread segments; the bell of a busy desk is answered by a second one at once
    threads = (2 if SEGMENT_QUEUE in queues else 0) + (
        settings.worker.delivery_threads if DELIVER_QUEUE in queues else 0
    )
    worker = app.Worker(
        pool="threads",
        concurrency=threads,
        queues=list(queues),
        hostname=f"{services.owner[:8]}@{socket.gethostname()}",
        quiet=True,
        loglevel="WARNING",
        without_gossip=True,
        without_mingle=True,
        without_heartbeat=True,
        optimization="fair",
    )
    worker.start()


def _beat(services: Services, over: threading.Event) -> None:
    while not over.wait(processes.BEAT_SECONDS):
        try:
            processes.beat(services.record, services.owner, resources=services.runner.resources())
        except Exception as error:  # noqa: BLE001  the edge of the thread: a process that works must not look dead
            log.warning("beat failed", kind=type(error).__name__)

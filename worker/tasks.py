"""The Celery tasks. A message is a ring of the bell: the id in it is a hint, the record decides what is done."""

import threading
from collections.abc import Callable

from celery import Celery

from dicom_core.errors import VesselqError
from dicom_core.logs import get_logger
from dicom_core.messages import DELIVER_TASK, SEGMENT_TASK
from worker.delivery import run_next_delivery
from worker.pipeline import run_next_job
from worker.services import Services

log = get_logger("tasks")


class Desk:
    """Works until nothing is due, in one thread at a time; a ring that comes meanwhile makes it look once more."""

    def __init__(self, work_next: Callable[[], bool], stopping: threading.Event) -> None:
        self._work_next = work_next
        self._stopping = stopping
        self._rung = threading.Event()
        self._busy = threading.Lock()

    def ring(self) -> None:
        """Work, or leave it to the thread that works already."""
        self._rung.set()
        while self._rung.is_set() and self._busy.acquire(blocking=False):
            try:
                self._rung.clear()
                while not self._stopping.is_set() and self._work_next():
                    pass
            finally:
                self._busy.release()


def register_tasks(app: Celery, services: Services) -> None:
    """Give ``app`` the two tasks, bound to the services of this process."""
    desk = Desk(lambda: run_next_job(services), services.stopping)

    def segment_series(job_id: str) -> None:
        _at_the_edge(desk.ring, job_id)

    def deliver_result(delivery_id: str) -> None:
        _at_the_edge(lambda: _deliver_all(services), delivery_id)

    app.task(segment_series, name=SEGMENT_TASK, ignore_result=True)
    app.task(deliver_result, name=DELIVER_TASK, ignore_result=True)


def _deliver_all(services: Services) -> None:
    while not services.stopping.is_set() and run_next_delivery(services):
        pass


def _at_the_edge(work: Callable[[], None], hint: str) -> None:
    try:
        work()
    except VesselqError as error:
        log.warning("work interrupted", hint=hint, kind=type(error).__name__, reason=str(error))
    except Exception as error:  # the edge of the task: leases bring the work back
        log.exception("unexpected error", hint=hint, kind=type(error).__name__)

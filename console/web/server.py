"""The web process: announce it, serve until told to stop."""

import signal
import threading

import uvicorn

from console.output import software_version
from console.web.application import make_application
from db import processes
from db.session import Record
from dicom_core.errors import VesselqError
from dicom_core.logs import get_logger
from dicom_core.settings import Settings

_STOP_SECONDS = 5
_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
log = get_logger("web")


def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        UnavailableError: The database does not answer.
    """
    record = Record(settings.effective_database_url, process="web")
    process_id = processes.start(
        record, "web", version=software_version(), configuration={"host": settings.web.host, "port": settings.web.port}
    )
    record.process = f"web/{process_id[:8]}"
    if settings.web.host not in _LOOPBACK:
        log.warning("the web pages have no sign-in and are reachable from other machines", host=settings.web.host)
    over = threading.Event()
    beat = threading.Thread(target=_beat, args=(record, process_id, over), name="beat", daemon=True)
    beat.start()
    server = uvicorn.Server(
        uvicorn.Config(
            make_application(settings, record),
            host=settings.web.host,
            port=settings.web.port,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=_STOP_SECONDS,
        )
    )

    def end(*_: object) -> None:
        server.should_exit = True

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)  # uvicorn raises the signal once more when it is done: it must not end us early
    try:
        server.run()
    finally:
        over.set()
        beat.join()
        try:
            processes.stop(record, process_id)
        except VesselqError as error:  # silence will tell the others
            log.warning("stop not recorded", reason=str(error))
        record.close()


def _beat(record: Record, process_id: str, over: threading.Event) -> None:
    while not over.wait(processes.BEAT_SECONDS):
        try:
            processes.beat(record, process_id)
        except VesselqError as error:
            log.warning("beat failed", reason=str(error))

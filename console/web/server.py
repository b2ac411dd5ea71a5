"""The web process: announce it, serve until told to stop."""

import signal
import threading
from typing import Any

import uvicorn

from console.output import software_version
from console.web.application import make_application
from console.web.forms import is_https
from db import accounts, processes
from db.session import Record
from dicom_core.errors import ConfigurationError, VesselqError
from dicom_core.logs import get_logger
from dicom_core.setting_tables import WebSettings, is_loopback
from dicom_core.settings import Settings
from dicom_core.tls import server_context

_STOP_SECONDS = 5
log = get_logger("web")


def run(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT.

    Raises:
        ConfigurationError: Everybody would be let in from other machines, or the certificate cannot be used.
        UnavailableError: The database does not answer.
    """
    spoken = protocol(settings.web)
    record = Record(settings.effective_database_url, process="web")
    process_id = processes.start(
        record, "web", version=software_version(), configuration={"host": settings.web.host, "port": settings.web.port}
    )
    record.process = f"web/{process_id[:8]}"
    warn(settings, record)
    over = threading.Event()
    beat = threading.Thread(target=_beat, args=(record, process_id, over), name="beat", daemon=True)
    beat.start()
    application = make_application(settings, record)
    server = uvicorn.Server(
        uvicorn.Config(
            application,
            host=settings.web.host,
            port=settings.web.port,
            log_config=None,
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=_STOP_SECONDS,
            **spoken,
        )
    )

    def end(*_: object) -> None:
        server.should_exit = True
        application.state.live_feed.stop()  # pages that are open would hold their connection

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


def protocol(web: WebSettings) -> dict[str, Any]:
    """Options of uvicorn: HTTPS with our certificate, and whose word on the real sender is believed.

    Raises:
        ConfigurationError: Everybody would be let in from other machines, or the certificate cannot be used.
    """
    if web.sign_in == "off" and not is_loopback(web.host):
        raise ConfigurationError(f'web.sign_in = "off" is for a loopback address, not for {web.host}')
    options: dict[str, Any] = {
        "proxy_headers": web.behind_https,
        "forwarded_allow_ips": list(web.proxies) if web.behind_https else [],
    }
    if web.certificate_file is not None and web.key_file is not None:
        context = server_context(web.certificate_file, web.key_file, None)
        options["ssl_context_factory"] = lambda _config, _default: context
    return options


def warn(settings: Settings, record: Record) -> None:
    """Say in the log what an operator should not overlook."""
    web = settings.web
    if web.sign_in == "off":
        log.warning("sign-in is switched off: whoever reaches the pages may do everything", host=web.host)
    elif not web.oidc.issuer and not accounts.has_accounts(record):
        log.warning("nobody can sign in yet: make an account with `vesselq users add NAME --role admin`")
    if not is_loopback(web.host) and not is_https(web):
        log.warning("passwords go over the network unencrypted: set web.certificate_file", host=web.host)


def _beat(record: Record, process_id: str, over: threading.Event) -> None:
    while not over.wait(processes.BEAT_SECONDS):
        try:
            processes.beat(record, process_id)
        except VesselqError as error:
            log.warning("beat failed", reason=str(error))

"""Everything on one machine: private Redis, database, listener, dispatcher, two workers and web pages."""

import http.client
import shutil
import signal
import socket
import ssl
import sys
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Self

import redis

from console.child_environment import environment_of
from console.children import Child, Children
from console.data_folder import make_data_folder, sole_use
from console.first_account import offer_first_account
from console.options import person
from console.redis_server import (
    find_redis_server,
    make_socket_folder,
    redis_arguments,
    redis_is_explicit,
    socket_path,
)
from db import migrate, reports
from db.session import Record
from dicom_core.errors import UnavailableError
from dicom_core.logs import configure_logs, get_logger
from dicom_core.setting_tables import WebSettings
from dicom_core.settings import Settings

READY_SECONDS = 90.0
"""Longest wait for all processes; torch alone can take many seconds on a cold disk."""
_REDIS_SECONDS = 15.0
_PAUSE_SECONDS = 0.1
_FIRST_STOPS, _THEN_STOPS, _LAST_STOPS = range(3)
"""Intake first, so that nothing new comes; then those who work on what came; then what they talk over."""
log = get_logger("up")


class AllInOne:
    """All processes of a site, as children of this one.

    ::

        with AllInOne(settings, log_folder=folder) as site:
            site.wait_ready()
            ...   # site.settings has the ports that were chosen

    Attributes:
        settings: Those of the children: with real ports where 0 was asked for, and with the Redis in use.
        children: The processes; empty before ``start``.
    """

    def __init__(self, settings: Settings, *, log_folder: Path | None = None) -> None:
        """Prepare, start nothing.

        Args:
            settings: Of the site. Without ``redis_url`` a private Redis is started.
            log_folder: One file a process; None: all print where this process prints.
        """
        self.settings = _with_ports(settings)
        self.children: tuple[Child, ...] = ()
        self._log_folder = log_folder
        self._stack = ExitStack()

    def start(self) -> None:
        """Start everything. Leaves nothing behind when it fails.

        Raises:
            ConfigurationError: No Redis is there, or the data folder cannot be used.
            ConflictError: Another one uses the data folder.
            UnavailableError: Redis or the database does not start.
        """
        with ExitStack() as stack:
            make_data_folder(self.settings.data_folder)
            stack.enter_context(sole_use(self.settings.data_folder))
            if self._log_folder is not None:
                self._log_folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            redis_children = [] if redis_is_explicit(self.settings) else [self._private_redis(stack)]
            self._migrate()
            supervisor = Children([*redis_children, *self._services()])
            stack.callback(supervisor.stop)
            supervisor.start()
            self.children = supervisor.children
            self._stack = stack.pop_all()

    def _private_redis(self, stack: ExitStack) -> Child:
        path = socket_path(self.settings)
        program = find_redis_server()
        make_socket_folder(path)
        path.unlink(missing_ok=True)
        stack.callback(shutil.rmtree, path.parent, ignore_errors=True)
        self.settings = self.settings.model_copy(update={"redis_url": f"unix://{path}"})
        return self._child("redis", redis_arguments(program, path), _LAST_STOPS)

    def _migrate(self) -> None:
        record = Record(self.settings.effective_database_url, process="up")
        try:
            migrate.upgrade(record)
        finally:
            record.close()

    def _services(self) -> list[Child]:
        plan = (
            ("listener", ["listener"], _FIRST_STOPS),
            ("dispatcher", ["dispatcher"], _THEN_STOPS),
            ("worker-segment", ["worker", "--queues", "segment"], _THEN_STOPS),
            ("worker-deliver", ["worker", "--queues", "deliver"], _THEN_STOPS),
            ("web", ["web"], _THEN_STOPS),
        )
        vesselq = [sys.executable, "-P", "-m", "console.cli"]
        return [self._child(name, [*vesselq, *arguments], round_) for name, arguments, round_ in plan]

    def _child(self, name: str, arguments: list[str], stop_round: int) -> Child:
        log_file = self._log_folder / f"{name}.log" if self._log_folder else None
        return Child(name, arguments, environment_of(self.settings), log_file, stop_round)

    def wait_ready(self, timeout_seconds: float = READY_SECONDS) -> None:
        """Wait until Redis answers, every process has announced itself, and listener and web take connections.

        Raises:
            UnavailableError: Names what was waited for in vain.
        """
        deadline = time.monotonic() + timeout_seconds
        record = Record(self.settings.effective_database_url, process="up")
        listener, web = self.settings.listener, self.settings.web
        try:
            self._wait(self._redis_answers, "Redis", deadline)
            for child in self.children:
                if child.name != "redis":
                    self._wait(partial(_announced, record, child), f"the {child.name} process", deadline)
            self._wait(lambda: _takes_connections(listener.host, listener.port), "the listener's port", deadline)
            self._wait(lambda: _is_healthy(web), "the web pages", deadline)
        finally:
            record.close()

    def _wait(self, condition: Callable[[], bool], what: str, deadline: float) -> None:
        while not condition():
            if time.monotonic() > deadline:
                where = f"; see {self._log_folder}" if self._log_folder else ""
                raise UnavailableError(f"waited in vain for {what} to be ready{where}")
            time.sleep(_PAUSE_SECONDS)

    def _redis_answers(self) -> bool:
        with redis.Redis.from_url(self.settings.redis_url, socket_timeout=2, socket_connect_timeout=2) as client:
            try:
                return bool(client.ping())
            except redis.RedisError:
                return False

    def stop(self) -> None:
        """Stop everything in order, by force what does not stop in time; nothing is left when it returns."""
        self._stack.close()
        self.children = ()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


def run(settings: Settings) -> None:
    """``vesselq up``: run until SIGTERM or SIGINT.

    Raises:
        VesselqError: It could not be started.
    """
    configure_logs("up", settings.log_level)
    over = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: over.set())
    with AllInOne(settings) as site:
        _offer_first_account(site.settings)
        waiting = threading.Thread(target=_say_when_ready, args=(site,), daemon=True)
        waiting.start()
        over.wait()
        log.info("stopping")


def _offer_first_account(settings: Settings) -> None:
    record = Record(settings.effective_database_url, process="up", user=person())
    try:
        offer_first_account(settings, record, sys.stdout)
    finally:
        record.close()


def _say_when_ready(site: AllInOne) -> None:
    try:
        site.wait_ready()
    except UnavailableError as error:
        log.warning("not ready yet; it goes on trying", reason=str(error))
        return
    listener, web = site.settings.listener, site.settings.web
    log.info(
        "ready",
        ae_title=listener.ae_title,
        listener=f"{listener.host}:{listener.port}",
        web=f"{'https' if web.certificate_file else 'http'}://{web.host}:{web.port}/",
        data_folder=str(site.settings.data_folder),
        peers=len(site.settings.peers),
    )


def free_port(host: str = "127.0.0.1") -> int:
    """A TCP port on which nothing listens now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def _with_ports(settings: Settings) -> Settings:
    """Choose the ports that may be any: the children and their users must agree on them."""
    tables = {}
    for name in ("listener", "web"):
        table = getattr(settings, name)
        if table.port == 0:
            tables[name] = table.model_copy(update={"port": free_port(table.host)})
    return settings.model_copy(update=tables)


def _announced(record: Record, child: Child) -> bool:
    """Whether the process that runs now has written its row: it has read its settings and reached the database."""
    pid = child.process.pid if child.process is not None else None
    return any(
        row.pid == pid and row.host == socket.gethostname() and row.stopped_at is None
        for row in reports.processes(record)
    )


def _reachable(host: str) -> str:
    return {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104  compared, not bound


def _takes_connections(host: str, port: int) -> bool:
    try:
        with socket.create_connection((_reachable(host), port), timeout=1):
            return True
    except OSError:
        return False


def _connection(web: WebSettings) -> http.client.HTTPConnection:
    if web.certificate_file is None:
        return http.client.HTTPConnection(_reachable(web.host), web.port, timeout=2)
    # our own server on this machine, under a name that its certificate does not have; nothing secret is sent
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return http.client.HTTPSConnection(_reachable(web.host), web.port, timeout=2, context=context)


def _is_healthy(web: WebSettings) -> bool:
    """Whether ``GET /healthz`` of our own server answers 200."""
    name = web.allowed_hosts[0] if web.allowed_hosts else "localhost"
    connection = _connection(web)
    try:
        connection.request("GET", "/healthz", headers={"Host": name.replace("*", "localhost")})
        return connection.getresponse().status == http.HTTPStatus.OK
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()

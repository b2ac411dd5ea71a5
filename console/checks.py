"""The checks of ``vesselq doctor``. Each says what it found and, unless all is well, what to do about it."""

import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import redis
from pydantic import ValidationError

from console.checkpoint_checks import audit_checkpoints
from console.findings import Finding, Health
from console.redis_server import find_redis_server, redis_is_explicit, socket_path
from console.security_checks import audit_repositories, dicom_security
from console.web_checks import web_findings
from db import migrate
from db.session import Record
from dicom_core.errors import ConfigurationError, VesselqError
from dicom_core.routing import Rule
from dicom_core.setting_tables import PeerSettings
from dicom_core.settings import Place, Settings
from dicom_core.spool import Spool
from dicom_listener.storage_scu import receiver_of, verify
from worker.result_header.catalogue import vessel_type

_TORCH_SECONDS = 120
_PEER_SECONDS = 5
_ASK_TORCH = (
    "import torch\n"
    "for number in range(torch.cuda.device_count()):\n"
    "    about = torch.cuda.get_device_properties(number)\n"
    "    print(f'cuda:{number} {about.name}, {about.total_memory // 1024**2} MiB')\n"
)


def examine(settings: Settings) -> list[Finding]:
    """Run all checks, in the order in which their results depend on each other."""
    return [finding for check in _CHECKS for finding in check(settings)]


def _configuration(settings: Settings) -> Iterator[Finding]:
    listener = settings.listener
    found = f"{listener.ae_title} at {listener.host}:{listener.port}, {len(settings.rules)} rules"
    if settings.peers:
        yield Finding("configuration", Health.OK, f"{found}, {len(settings.peers)} peers")
    else:
        yield Finding(
            "configuration", Health.WARNING, f"{found}, no peers", "nobody may send: add [[peers]] to the settings"
        )


def _redis(settings: Settings) -> Iterator[Finding]:
    explicit = redis_is_explicit(settings)
    private = socket_path(settings)
    url = settings.redis_url if explicit or not private.exists() else f"unix://{private}"
    try:
        with redis.Redis.from_url(url, socket_timeout=3, socket_connect_timeout=3) as client:
            client.ping()
    except (redis.RedisError, ValueError) as error:
        if explicit:
            found = f"does not answer ({type(error).__name__})"
            yield Finding("redis", Health.FAILS, found, "start it, or correct redis_url (VESSELQ_REDIS_URL)")
        else:
            yield _installed_redis()
        return
    yield Finding("redis", Health.OK, "answers")


def _installed_redis() -> Finding:
    try:
        return Finding("redis", Health.OK, f"not running; `vesselq up` starts {find_redis_server()}")
    except ConfigurationError as error:
        return Finding("redis", Health.FAILS, "none is running and none is installed", str(error))


def _database(settings: Settings) -> Iterator[Finding]:
    if not settings.database_url and not (settings.data_folder / "vesselq.sqlite3").exists():
        yield Finding(
            "database", Health.WARNING, "there is none yet", "run `vesselq db upgrade`; `vesselq up` does it by itself"
        )
        return
    record = Record(settings.effective_database_url, process="console")
    try:
        record.now()
        found, wanted = migrate.current_revision(record), migrate.expected_revision()
    except VesselqError as error:
        yield Finding("database", Health.FAILS, str(error), "start it, or correct database_url (VESSELQ_DATABASE_URL)")
        return
    finally:
        record.close()
    if found == wanted:
        yield Finding("database", Health.OK, f"answers, schema {found}")
    else:
        yield Finding(
            "database", Health.FAILS, f"schema {found or 'none'}, needed is {wanted}", "run `vesselq db upgrade`"
        )


def _spool(settings: Settings) -> Iterator[Finding]:
    folder = settings.data_folder
    while not folder.exists():
        folder = folder.parent
    if not folder.is_dir():
        yield Finding("spool", Health.FAILS, f"{folder} is no folder", "name another data_folder in the settings")
        return
    free = Spool(folder).free_bytes()
    words = f"{free // 1024**2} MiB free at {settings.data_folder}"
    advice = f"free some space, or lower listener.low_water_bytes ({settings.listener.low_water_bytes // 1024**2} MiB)"
    if free < settings.listener.critical_water_bytes:
        yield Finding("spool", Health.FAILS, f"{words}: every object is refused", advice)
    elif free < settings.listener.low_water_bytes:
        yield Finding("spool", Health.FAILS, f"{words}: new associations are refused", advice)
    elif free < 2 * settings.listener.low_water_bytes:
        yield Finding("spool", Health.WARNING, f"{words}, near the low-water mark", advice)
    else:
        yield Finding("spool", Health.OK, words)


def _device(settings: Settings) -> Iterator[Finding]:
    """Ask torch in a process of its own: a broken driver must not break the doctor."""
    wanted = settings.worker.device
    try:
        answer = subprocess.run(
            [sys.executable, "-c", _ASK_TORCH], capture_output=True, text=True, timeout=_TORCH_SECONDS, check=True
        )
    except (subprocess.SubprocessError, OSError) as error:
        yield Finding("device", Health.FAILS, f"torch does not work ({type(error).__name__})", "install vesselq again")
        return
    devices = answer.stdout.splitlines()
    if wanted.startswith("cuda") and not any(line.split()[0] == wanted for line in devices):
        advice = 'correct worker.device, or look at the driver with nvidia-smi; device = "auto" falls back to the CPU'
        yield Finding("device", Health.FAILS, f"torch does not see {wanted}", advice)
    elif devices:
        yield Finding("device", Health.OK, "; ".join(devices))
    else:
        yield Finding("device", Health.OK, "no GPU is seen: the CPU does the work, more slowly")


def _segmenters(settings: Settings) -> Iterator[Finding]:
    from worker.segmenters import registry

    for word in sorted({rule.segments_by for rule in settings.rules if rule.segmenter} | set(settings.models)):
        try:
            registry.check_settings(word, settings.models)
            info = registry.info(word, settings.models)
            for rule in settings.rules:
                if rule.segments_by == word:
                    info.check_prompt(rule.prompt)
        except VesselqError as error:
            yield Finding(f"model {word}", Health.FAILS, str(error), "correct the rule or the [models] table with it")
            continue
        yield Finding(f"model {word}", Health.OK, f"version {info.version}: {info.summary}")


def segmenter_misfits(values: Mapping[str, Any]) -> Iterator[tuple[Place, str]]:
    """Segmenters that are not installed, in rules and ``[models]``, keywords and prompts that they do not take.

    Args:
        values: The settings as they were read; they may be wrong otherwise.

    Yields:
        The place in the settings and a sentence.
    """
    given = values.get("models")
    tables = given if isinstance(given, Mapping) else {}
    models = {name: table for name, table in tables.items() if isinstance(table, Mapping)}
    rules = values.get("rules")
    for index, rule in enumerate(rules if isinstance(rules, list | tuple) else ()):
        if isinstance(rule, Mapping):
            yield from ((("rules", index, key), said) for key, said in _rule_misfits(rule, models))
    for name in models:
        yield from _model_misfits(name, models)


def _rule_misfits(rule: Mapping[str, Any], models: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[str, str]]:
    """The key of the rule and a sentence; of a chain and of prompts only what can be told of a rule that is right."""
    from worker.segmenters import registry

    chain = rule.get("chain") or ()
    named = [("segmenter", rule.get("segmenter")), *(("chain", name) for name in chain if not isinstance(chain, str))]
    wrong = False
    for key, name in named:
        try:
            if isinstance(name, str) and name:
                registry.info(name, models)
                if name not in models:  # what stands there is looked at where it stands
                    registry.check_settings(name, models)
        except VesselqError as error:
            wrong = True
            yield key, str(error)
    try:
        checked = Rule.model_validate(rule)
    except ValidationError:
        return
    if wrong or not checked.segmenter:
        return
    try:
        info = registry.info(checked.segments_by, models)
    except VesselqError as error:
        yield "chain", str(error)
        return
    try:
        info.check_prompt(checked.prompt)
        for question in checked.prompt.questions:
            vessel_type(question.segment)
    except VesselqError as error:
        yield "prompt", str(error)


def _model_misfits(name: str, models: Mapping[str, Mapping[str, Any]]) -> Iterator[tuple[Place, str]]:
    from worker.segmenters import registry

    left = {key: dict(table) for key, table in models.items()}
    while True:
        try:
            registry.check_settings(name, left)
        except VesselqError as error:
            wrong = next((key for key in left[name] if repr(key) in str(error)), None)
            yield ("models", name) if wrong is None else ("models", name, wrong), str(error)
            if wrong is None:
                return
            # the registry stops at the first one; the next look finds the next
            del left[name][wrong]
            continue
        return


def _peers(settings: Settings) -> Iterator[Finding]:
    for peer in settings.peers:
        what = f"peer {peer.name}"
        host = peer.host or _only_host(peer)
        if not host:
            yield Finding(what, Health.OK, "not asked: its host is not configured")
            continue
        try:
            seconds = verify(receiver_of(peer, host, settings.listener, _PEER_SECONDS))
        except VesselqError as error:
            advice = "fine for a system that only sends; else start it, or correct its host, port and ae_title"
            yield Finding(what, Health.WARNING, str(error), advice)
            continue
        yield Finding(what, Health.OK, f"C-ECHO answered in {seconds * 1000:.0f} ms")


def _only_host(peer: PeerSettings) -> str:
    return peer.addresses[0] if len(peer.addresses) == 1 and "/" not in peer.addresses[0] else ""


def _destinations(settings: Settings) -> Iterator[Finding]:
    from worker.destinations.registry import make_destination

    for one in settings.destinations:
        what = f"destination {one.name}"
        try:
            destination = make_destination(one, calling_ae_title=settings.listener.ae_title)
        except VesselqError as error:
            yield Finding(what, Health.FAILS, str(error), "correct its entry in the settings")
            continue
        try:
            yield Finding(what, Health.OK, f"{destination.describe()}: {destination.check()}")
        except VesselqError as error:
            yield Finding(what, Health.FAILS, str(error), "results wait for it: start it, or correct its entry")
        finally:
            destination.close()


_CHECKS: tuple[Callable[[Settings], Iterator[Finding]], ...] = (
    _configuration, _redis, _database, _spool, _device, _segmenters, dicom_security, _peers, _destinations,
    audit_repositories, audit_checkpoints, web_findings,
)  # fmt: skip

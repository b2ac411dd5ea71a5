"""``vesselq demo``: the whole way at work on one machine, from generated studies to DICOM-SEG in a result PACS."""

import os
import shutil
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

from console.data_folder import make_data_folder
from console.demo.interruption import Interruption
from console.demo.outcome import Outcome, outcome_of, save_previews
from console.demo.progress import LiveTable, StudyProgress
from console.demo.report import print_as_json, print_farewell, print_report
from console.demo.result_pacs import AE_TITLE, ResultPacs, find_result_pacs
from console.demo.studies import DemoStudy, demo_studies
from console.first_account import offer_first_account
from console.up import AllInOne
from db import audit, reports
from db.audit_queries import AuditQuery, audit_rows
from db.session import Record
from dicom_core.default_rules import DEFAULT_RULES
from dicom_core.errors import NotFoundError, UnavailableError
from dicom_core.job import FINISHED
from dicom_core.logs import configure_logs
from dicom_core.setting_tables import ListenerSettings, PeerSettings, StorageSCUSettings, WebSettings
from dicom_core.settings import Settings
from dicom_core.settings_file import load_settings
from dicom_core.study import StudyState
from dicom_listener.storage_scu import Receiver, find_dicom_files, send_files

SENDER_AE_TITLE = "DEMOSENDER"
LONGEST_SECONDS = 300.0
"""Everything must be done in this time, from the first process to the last result."""
_STABLE_AFTER_SECONDS = 2.0
_LOW_WATER_BYTES = 256 * 1024**2
_LOOK_SECONDS = 0.2


def run_demo(*, data_folder: Path | None, keep: bool, json: bool, seed: int) -> bool:
    """Run the demonstration.

    Args:
        data_folder: Where the data stays; None: in a temporary folder that is removed at the end.
        keep: Whether everything goes on running, after the table, until SIGINT or SIGTERM.
        json: Print one line of JSON and nothing else on standard output.
        seed: Which pictures are generated.

    Returns:
        Whether every result is in the result PACS, is valid, and the audit chain holds.

    Raises:
        VesselqError: It could not be started, or took too long; the text says what was waited for.
    """
    configure_logs("demo", "ERROR")
    interruption = Interruption()
    deadline = time.monotonic() + LONGEST_SECONDS
    with ExitStack() as stack:
        folder = stack.enter_context(_folder(data_folder))
        table = stack.enter_context(LiveTable(quiet=json))
        table.say("generating three studies with a known vessel tree")
        studies = demo_studies(folder / "generated", seed)
        pacs = find_result_pacs(folder / "pacs", folder / "logs")
        stack.callback(pacs.stop)
        pacs.start()
        table.say(pacs.describe())
        table.say("starting redis, listener, dispatcher, workers and web pages")
        site = stack.enter_context(AllInOne(_settings(folder, pacs), log_folder=folder / "logs"))
        site.wait_ready(deadline - time.monotonic())
        record = Record(site.settings.effective_database_url, process="demo")
        stack.callback(record.close)
        _send(studies, site.settings, table)
        _wait_for_results(record, studies, table, deadline, interruption)
        outcomes = [_outcome(record, study, site.settings, pacs) for study in studies]
        if data_folder is None:
            outcomes = save_previews(outcomes, folder.with_name(f"{folder.name}-previews"))
        chain = audit.verify(record)
        table.close()
        trail = audit_rows(record, AuditQuery(study_instance_uid=studies[0].study_instance_uid))
        if json:
            print_as_json(outcomes, chain, folder if data_folder or keep else None)
        else:
            print_report(outcomes, chain, trail)
            print_farewell(site.settings, folder, kept=data_folder is not None, running=keep)
        if keep:
            if not json:
                offer_first_account(site.settings, record, sys.stdout)
            _wait_for_signal()
        return chain.first_bad_sequence is None and not any(outcome.problems for outcome in outcomes)


@contextmanager
def _folder(wanted: Path | None) -> Iterator[Path]:
    """The folder of everything; a temporary one has a short name, for the unix socket of Redis."""
    if wanted is not None:
        folder = wanted.expanduser().absolute()
        make_data_folder(folder)
        yield folder
        return
    folder = Path(tempfile.mkdtemp(prefix="vesselq-demo-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _settings(folder: Path, pacs: ResultPacs) -> Settings:
    """Defaults and environment, with free ports, one peer that sends, and one destination for every rule."""
    site = load_settings(Path(os.devnull))  # no settings file, but VESSELQ_REDIS_URL and the like
    destination = StorageSCUSettings(
        kind="storage_scu", name="result-pacs", ae_title=AE_TITLE, host="127.0.0.1", port=pacs.port
    )
    rules = tuple(rule.model_copy(update={"destinations": (destination.name,)}) for rule in DEFAULT_RULES)
    return site.model_copy(
        update={
            "data_folder": folder,
            "database_url": "",
            "listener": ListenerSettings(
                port=0,
                stable_after_seconds=_STABLE_AFTER_SECONDS,
                low_water_bytes=_LOW_WATER_BYTES,
                critical_water_bytes=_LOW_WATER_BYTES // 2,
            ),
            "web": WebSettings(port=0),
            "peers": (PeerSettings(name="demo-sender", ae_title=SENDER_AE_TITLE, addresses=("127.0.0.1",)),),
            "destinations": (destination,),
            "rules": rules,
        }
    )


def _send(studies: Sequence[DemoStudy], settings: Settings, table: LiveTable) -> None:
    """One C-STORE association a study, as a modality would."""
    receiver = Receiver("127.0.0.1", settings.listener.port, settings.listener.ae_title, SENDER_AE_TITLE)
    for study in studies:
        table.show([StudyProgress(study, "sending")])
        files, _ = find_dicom_files(study.paths)
        report = send_files(files, receiver)
        if report.problems:
            raise UnavailableError(f"the listener did not take {len(report.problems)} objects: {report.problems[0][1]}")


def _wait_for_results(
    record: Record, studies: Sequence[DemoStudy], table: LiveTable, deadline: float, interruption: Interruption
) -> None:
    while True:
        interruption.unwind_if_wanted()
        progress = [_progress(record, study) for study in studies]
        table.show(progress)
        waiting = [one for one in progress if not one.finished]
        if not waiting:
            return
        if time.monotonic() > deadline:
            names = "; ".join(f"{one.study.source} is {one.state}" for one in waiting)
            raise UnavailableError(f"waited {LONGEST_SECONDS:.0f} s in vain for all results: {names}")
        time.sleep(_LOOK_SECONDS)


def _progress(record: Record, study: DemoStudy) -> StudyProgress:
    try:
        summary = reports.study(record, study.study_instance_uid)
    except NotFoundError:
        return StudyProgress(study, "sending")
    jobs = reports.current_jobs(record, study.study_instance_uid)
    if summary.state != StudyState.COMPLETE or not jobs:
        return StudyProgress(study, summary.state, instances=summary.instances)
    return StudyProgress(
        study,
        jobs[0].state.value,
        instances=summary.instances,
        reason=jobs[0].reason,
        finished=all(job.state in FINISHED for job in jobs),
    )


def _outcome(record: Record, study: DemoStudy, settings: Settings, pacs: ResultPacs) -> Outcome:
    jobs = reports.current_jobs(record, study.study_instance_uid)
    return outcome_of(study, jobs[0] if jobs else None, settings.results_folder, pacs)


def _wait_for_signal() -> None:
    over = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: over.set())
    over.wait()

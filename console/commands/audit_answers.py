"""``vesselq audit who-saw | job | recall | failures | without-result | patient``: what auditors ask in words."""

import sys
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

import typer

from console import options
from console.moments import moment

if TYPE_CHECKING:
    from collections.abc import Sequence

    from db.audit_answers import Recall
    from db.audit_queries import AuditRow
    from db.session import Record

_DAYS_LOOKED_BACK = 7
_PAGE = 1000
_LONGEST_IDENTIFIER = 64
"""Of a PatientID, VR LO (PS3.5 section 6.2)."""


def register(group: typer.Typer) -> None:
    """Add the commands to ``vesselq audit``."""
    group.command("who-saw")(who_saw)
    group.command()(job)
    group.command()(recall)
    group.command()(failures)
    group.command("without-result")(without_result)
    group.command()(patient)


def who_saw(
    study: Annotated[
        str, typer.Argument(metavar="UID", help="StudyInstanceUID of the study.", callback=options.checked_uid)
    ],
    config: options.Config = None,
    data_folder: options.DataFolder = None,
    json: options.Json = False,
) -> None:
    """Everybody who opened a study or did something to it, and where its results were sent."""
    from console.output import print_json, print_table
    from db import audit_answers

    with options.open_record(options.settings_of(config, data_folder)) as record:
        _note(record, "who-saw", study_instance_uid=study)
        found = audit_answers.who_saw(record, study)
    if json:
        print_json({"study_instance_uid": study, "seen_by": found})
        return
    print_table(
        f"Who saw {study}",
        ("who", "address", "what", "times", "first (UTC)", "last (UTC)"),
        [(one.who, one.address, one.event, one.times, one.first_at, one.last_at) for one in found],
        empty="nobody",
    )


def job(
    job_id: Annotated[str, typer.Argument(metavar="JOB", help="Id of the job, or its first six digits or more.")],
    config: options.Config = None,
    data_folder: options.DataFolder = None,
    json: options.Json = False,
) -> None:
    """What happened to a job: from the queue to the answers of the destinations."""
    from console.output import print_json
    from db import audit_answers

    with options.open_record(options.settings_of(config, data_folder)) as record:
        _note(record, "job", job_id=job_id)
        story = audit_answers.job_story(record, job_id)
    if json:
        print_json(story)
        return
    told = story.job
    typer.echo(f"job {told.job_id} of study {told.study_instance_uid}, series {told.series_instance_uid}")
    typer.echo(f"{told.state.value}{': ' if told.reason else ''}{told.reason}")
    for one in story.deliveries:
        typer.echo(f"{one.kind} {one.sop_instance_uid} to {one.destination}: {one.state} {one.answer}".rstrip())
    print_rows(f"Job {told.job_id[:8]}", story.events)


def recall(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Name of the model.")],
    version: Annotated[str, typer.Argument(metavar="[VERSION]", help="Its version; else every one.")] = "",
    limit: options.Limit = 100_000,
    config: options.Config = None,
    data_folder: options.DataFolder = None,
    json: options.Json = False,
) -> None:
    """Every study that a version of a model touched, alone or in a chain, with or without a result."""
    from console.output import print_json, print_table

    with options.open_record(options.settings_of(config, data_folder)) as record:
        _note(record, "recall", model=model, model_version=version)
        found = _whole_recall(record, model, version, limit)
        known = _models_in_words(record) if not found.jobs else ""
    if json:
        print_json({"model": model, "model_version": version, "jobs": found.jobs, "touched": found.rows})
        return
    print_table(
        f"Touched by {model} {version}".rstrip(),
        ("StudyInstanceUID", "job", "gen.", "state", "model", "version", "finished", "destinations", "SOPInstanceUID"),
        [
            (
                one.study_instance_uid, one.job_id[:8], one.generation, one.state, one.model, one.model_version,
                one.finished_at, " ".join(one.destinations), " ".join(one.sop_instance_uids),
            )
            for one in found.rows
        ],
        empty=f"nothing; models that answered: {known or 'none'}",
    )  # fmt: skip
    _say_if_cut(len(found.rows), found.jobs)


def _whole_recall(record: "Record", model: str, version: str, limit: int) -> "Recall":
    from db import audit_answers

    rows: list[audit_answers.Recalled] = []
    page = audit_answers.recall(record, model, version, limit=min(limit, _PAGE))
    jobs = page.jobs
    rows += page.rows
    while page.before and len(rows) < limit:
        left = min(limit - len(rows), _PAGE)
        page = audit_answers.recall(record, model, version, before=page.before, limit=left)
        rows += page.rows
    return audit_answers.Recall(jobs, rows, page.before)


def _models_in_words(record: "Record") -> str:
    from db import audit_answers

    return ", ".join(f"{name} {version}".rstrip() for name, version in audit_answers.models_used(record))


def failures(
    hours: Annotated[float, typer.Option("--hours", min=0.01, metavar="N", help="Of so many hours.")] = 24,
    limit: options.Limit = 1000,
    config: options.Config = None,
    data_folder: options.DataFolder = None,
    json: options.Json = False,
) -> None:
    """What did not succeed in the last day: refused peers, failed jobs, failed deliveries, failed sign-ins."""
    from console.audit_reading import read_page
    from console.output import print_json
    from db.audit_queries import AuditQuery

    with options.open_record(options.settings_of(config, data_folder)) as record:
        since = record.now() - timedelta(hours=hours)
        page = read_page(record, AuditQuery(failed_only=True, since=since, limit=limit))
    if json:
        print_json({"since": since, "events": page.rows, "before": page.before})
        return
    print_rows(f"Failures of {hours:g} hours", page.rows)
    _say_if_more(page.before)


def without_result(
    since: Annotated[
        datetime | None,
        typer.Option(metavar="TIME", parser=moment, help="First received from this time on; else a week ago."),
    ] = None,
    until: Annotated[
        datetime | None, typer.Option(metavar="TIME", parser=moment, help="First received before this time.")
    ] = None,
    limit: options.Limit = 1000,
    config: options.Config = None,
    data_folder: options.DataFolder = None,
    json: options.Json = False,
) -> None:
    """Studies that no result was made for, with the reasons: skipped, failed, nothing found, still under way."""
    from console.output import print_json, print_table
    from db import audit_answers

    with options.open_record(options.settings_of(config, data_folder)) as record:
        since = since or record.now() - timedelta(days=_DAYS_LOOKED_BACK)
        _note(record, "without-result", since=since, until=until)
        found = audit_answers.without_result(record, since=since, until=until, limit=limit)
    if json:
        print_json({"since": since, "until": until, "studies": found})
        return
    print_table(
        "Studies without a result",
        ("StudyInstanceUID", "state", "first received", "complete", "reasons"),
        [
            (one.study_instance_uid, one.state, one.first_received_at, one.completed_at, "; ".join(one.reasons))
            for one in found
        ],
    )
    if len(found) == limit:
        typer.echo("there may be more: give --until, or a larger --limit", err=True)


def patient(
    issuer: Annotated[
        str, typer.Option("--issuer", metavar="TEXT", help="IssuerOfPatientID, where the studies have one.")
    ] = "",
    limit: options.Limit = 1000,
    config: options.Config = None,
    data_folder: options.DataFolder = None,
    json: options.Json = False,
) -> None:
    """The studies of one patient and what happened to them. The PatientID is asked for, or read from standard input."""
    from console.audit_reading import pseudonym, read_page
    from console.output import print_json, print_table
    from db import audit_answers
    from db.audit_queries import AuditQuery

    settings = options.settings_of(config, data_folder)
    with options.open_record(settings) as record:
        of_patient = pseudonym(record, _asked_for_patient(), issuer)
        page = read_page(record, AuditQuery(patient_hash=of_patient, limit=limit))
        studies = audit_answers.studies_of_patient(record, of_patient)
    if json:
        print_json({"patient_hash": of_patient, "studies": studies, "events": page.rows, "before": page.before})
        return
    typer.echo(f"pseudonym {of_patient}")
    print_table(
        "Studies of the patient",
        ("StudyInstanceUID", "state", "first received", "last received"),
        [(one.study_instance_uid, one.state, one.first_received_at, one.last_received_at) for one in studies],
    )
    print_rows("Audit log", page.rows)
    _say_if_more(page.before)


def _asked_for_patient() -> str:
    """Never from the command line, which everybody on this machine can read and the shell remembers."""
    given = str(typer.prompt("PatientID", err=True)) if _at_a_terminal() else sys.stdin.readline()
    given = given.strip()
    if not 0 < len(given) <= _LONGEST_IDENTIFIER:
        raise typer.BadParameter("give a PatientID of 1 to 64 characters at the prompt or on standard input")
    return given


def _at_a_terminal() -> bool:
    return sys.stdin.isatty()


def print_rows(title: str, rows: "Sequence[AuditRow]") -> None:
    """Rows of the audit log as a table for people."""
    from console.output import in_words, print_table

    print_table(
        title,
        ("no.", "time (UTC)", "event", "outcome", "by", "StudyInstanceUID", "job", "detail"),
        [
            (
                row.sequence, row.at, row.event, "ok" if row.outcome == 0 else f"failure {row.outcome}", row.by,
                row.study_instance_uid, row.job_id[:8], in_words(row.detail),
            )
            for row in rows
        ],
        empty="nothing fits",
    )  # fmt: skip


def _note(record: "Record", question: str, **asked: Any) -> None:
    from console.audit_reading import note_reading

    note_reading(record, {"question": question, **asked})


def _say_if_more(before: int) -> None:
    if before:
        typer.echo("these are the latest: give a larger --limit", err=True)


def _say_if_cut(shown: int, there_are: int) -> None:
    if shown < there_are:
        typer.echo(f"these are {shown} of {there_are} jobs: give a larger --limit", err=True)

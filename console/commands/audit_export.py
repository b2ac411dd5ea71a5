"""``vesselq audit export``: rows of the audit log for others to read."""

import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from console import audit_options, options

if TYPE_CHECKING:
    from db.audit_queries import AuditQuery
    from db.session import Record
    from dicom_core.settings import Settings

_FORMATS = ("xml", "fhir", "csv", "jsonl")
_FORMAT_HELP = (
    "xml: messages of DICOM PS3.15 A.5; fhir: FHIR R4 AuditEvent, one a line; csv: a table; "
    "jsonl: every column with the proof of the chain."
)


def _known_format(word: str) -> str:
    if word not in _FORMATS:
        raise typer.BadParameter(f"{word!r} is no format; there are {', '.join(_FORMATS)}")
    return word


def export(
    to: Annotated[Path, typer.Option("--to", metavar="FILE", help="Where to write it; - for standard output.")],
    form: Annotated[
        str, typer.Option("--format", metavar="FORMAT", help=_FORMAT_HELP, callback=_known_format)
    ] = "jsonl",
    study: audit_options.Study = "",
    since: audit_options.Since = None,
    until: audit_options.Until = None,
    user: audit_options.User = "",
    event: audit_options.Event = "",
    failed: audit_options.Failed = False,
    force: Annotated[bool, typer.Option("--force", help="Replace a file that is there.")] = False,
    config: options.Config = None,
    data_folder: options.DataFolder = None,
    json: options.Json = False,
) -> None:
    """Write audit rows into a file. The export itself is written into the log."""
    from console.output import print_json
    from console.progress_bars import share_bar
    from db.audit_export.facts import site_of
    from db.audit_export.forms import FORMS
    from db.audit_export.to_file import export_to_file
    from db.audit_queries import AuditQuery
    from dicom_core.errors import ConfigurationError

    if to.exists() and not force and str(to) != "-":
        raise ConfigurationError(f"{to} exists; --force replaces it, another name leaves it alone")
    query = AuditQuery(study_instance_uid=study, since=since, until=until, user=user, event=event, failed_only=failed)
    settings = options.settings_of(config, data_folder)
    with options.open_record(settings) as record:
        if str(to) == "-":
            _print(record, settings, query, form)
            return
        with share_bar("exporting", quiet=json) as progress:
            written = export_to_file(record, site_of(settings), query, FORMS[form], to, progress=progress)
    if json:
        print_json({"file": to, "format": form, **asdict(written)})
    else:
        typer.echo(f"wrote {written.rows} rows as {form} into {to}, SHA-256 {written.sha256}")


def _print(record: "Record", settings: "Settings", query: "AuditQuery", form: str) -> None:
    """To standard output; audited before the first byte is out of our hands."""
    from db.audit import Event, record_event
    from db.audit_export.facts import site_of
    from db.audit_export.forms import FORMS
    from db.audit_export.to_file import asked
    from db.audit_queries import each_audit_row

    record_event(record, Event.AUDIT_EXPORTED, detail={"form": form, "asked": asked(query)})
    for piece in FORMS[form].lines(record, site_of(settings), each_audit_row(record, query)):
        sys.stdout.buffer.write(piece.encode("utf-8"))

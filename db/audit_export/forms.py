"""The forms by name, and the way from rows to text in each of them."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

from db.audit_export.csv_rows import csv_lines
from db.audit_export.dicom_xml import audit_message
from db.audit_export.facts import Site, facts_of
from db.audit_export.fhir import audit_event
from db.audit_export.json_lines import json_lines
from db.audit_export.mapping import message_of
from db.audit_export.message import Message
from db.audit_queries import AuditRow
from db.session import Record

_ROWS_AT_ONCE = 500


@dataclass(frozen=True, slots=True)
class Form:
    """One form.

    Attributes:
        word: What people call it.
        suffix: Of files.
        media_type: Of answers over HTTP.
        summary: What it is, for help texts.
        lines: From the record, the site and rows to text, piece by piece.
    """

    word: str
    suffix: str
    media_type: str
    summary: str
    lines: Callable[[Record, Site, Iterable[AuditRow]], Iterator[str]]


def messages(record: Record, site: Site, rows: Iterable[AuditRow]) -> Iterator[Message]:
    """The messages that tell of ``rows``, all of them, in their order."""
    iterator = iter(rows)
    while some := list(islice(iterator, _ROWS_AT_ONCE)):
        facts = facts_of(record, some)
        yield from (message_of(row, site, facts) for row in some)


def _xml(record: Record, site: Site, rows: Iterable[AuditRow]) -> Iterator[str]:
    """The messages of PS3.15 inside one element, which is ours: the Standard has none for several messages."""
    yield '<?xml version="1.0" encoding="UTF-8"?>\n<AuditMessages>\n'
    for message in messages(record, site, rows):
        if message.standard:
            yield audit_message(message) + "\n"
    yield "</AuditMessages>\n"


def _fhir(record: Record, site: Site, rows: Iterable[AuditRow]) -> Iterator[str]:
    for message in messages(record, site, rows):
        yield audit_event(message) + "\n"


FORMS: Mapping[str, Form] = {
    form.word: form
    for form in (
        Form("xml", ".xml", "application/xml", "messages of DICOM PS3.15 A.5, without events it has none for", _xml),
        Form("fhir", ".ndjson", "application/fhir+ndjson", "FHIR R4 AuditEvent resources, one a line", _fhir),
        Form("csv", ".csv", "text/csv; charset=utf-8", "a table for spreadsheets", lambda _, __, rows: csv_lines(rows)),
        Form("jsonl", ".jsonl", "application/x-ndjson", "every column with the proof of the chain, one row a line",
             lambda _, site, rows: json_lines(rows, site.checkpoints.unchecked() if site.checkpoints else ())),
    )
}  # fmt: skip
"""By word."""

"""Audit rows in the forms of others: messages of PS3.15 A.5, FHIR, CSV, JSON lines that a stranger can check."""

import base64
import csv
import hashlib
import io
import json
import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import record_story
import xmlschema
from audit_schema import validate
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from sqlalchemy import update

from db import audit, deliveries
from db.audit import Event, Outcome
from db.audit_archive import archived_rows
from db.audit_checkpoints import CheckpointFile
from db.audit_export.csv_rows import COLUMNS, csv_lines
from db.audit_export.dicom_xml import audit_message
from db.audit_export.facts import Facts, Node, Site, facts_of, site_of
from db.audit_export.fhir import audit_event
from db.audit_export.forms import FORMS, messages
from db.audit_export.json_lines import json_lines
from db.audit_export.mapping import AUDIT_LOG_URI, message_of
from db.audit_export.message import OWN_CODES
from db.audit_queries import AuditQuery, AuditRow, audit_rows
from db.audit_signing import sign_checkpoint
from db.models import Study
from db.session import Record
from dicom_core.settings import Settings

STUDY = "1.2.826.7"
CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"
SEGMENTATION = "1.2.840.10008.5.1.4.1.1.66.4"
HASH = "ab" * 32
SITE = Site("vesselq", "north wing", "VESSELQ", {"pacs": Node("PACS", ("PACS",), "10.0.0.9")})
FACTS = Facts(
    patients={STUDY: HASH}, study_classes={STUDY: ((CT_IMAGE, 3),)}, result_classes={"1.2.826.9": SEGMENTATION}
)
ODD = "=<&>\"'\u0000\u001b\ud800\ufffe 影像 \U0001f9e0\n"
"""What no writer may stumble over, half of it being no XML at all."""


def row(event: Event, sequence: int = 7, **changes: object) -> AuditRow:
    """A row of ``event`` as a peer, a person and a job would leave it."""
    values: dict[str, object] = {
        "sequence": sequence, "at": "2026-05-04T03:02:01.000Z", "event": event.word, "event_id": event.event_id,
        "event_type": event.event_type, "action": event.action, "outcome": 0, "process": "listener/4f1c", "user": "",
        "ae_title": "SENDER", "address": "10.0.0.7", "study_instance_uid": STUDY, "job_id": "", "detail": {},
        "previous_hash": "0" * 64, "row_hash": "1" * 64,
    }  # fmt: skip
    return AuditRow(**{**values, **changes})


def xml(event: Event, **changes: object) -> ET.Element:
    """The valid XML of such a row."""
    text = audit_message(message_of(row(event, **changes), SITE, FACTS))
    validate(text)
    return ET.fromstring(text)  # noqa: S314  what we wrote ourselves


def fhir(event: Event, **changes: object) -> dict:
    """The resource of such a row."""
    return json.loads(audit_event(message_of(row(event, **changes), SITE, FACTS)).encode("utf-8"))


def codes(element: ET.Element, path: str) -> list[str]:
    return [found.attrib["csd-code"] for found in element.findall(path)]


def objects(element: ET.Element) -> dict[str, ET.Element]:
    return {found.attrib["ParticipantObjectID"]: found for found in element.iter("ParticipantObjectIdentification")}


def details(element: ET.Element) -> dict[str, str]:
    return {
        found.attrib["type"]: base64.b64decode(found.attrib["value"]).decode()
        for found in element.iter("ParticipantObjectDetail")
    }


STANDARD = [event for event in Event if event.event_id]


@pytest.mark.parametrize("event", STANDARD, ids=lambda event: event.word)
def test_every_message_of_the_standard_has_its_structure(event: Event) -> None:
    """With and without a person, a study, a peer; with text that XML has no place for; as success and as failure."""
    for changes in (
        {},
        {"study_instance_uid": "", "ae_title": "", "address": ""},
        {"user": "mlee", "job_id": "f" * 32, "detail": {"sop_instance_uid": "1.2.826.9", "destination": "pacs"}},
        {"outcome": 12, "user": ODD, "ae_title": "<X>", "detail": {"reason": ODD, "account": ODD, "a": [1, {"b": 2}]}},
    ):
        message = xml(event, **changes)
        assert codes(message, "EventIdentification/EventID") == [event.event_id]
        types = codes(message, "EventIdentification/EventTypeCode")
        assert types == [code for code in (event.event_type, event.word) if code]
        asking = [found for found in message.iter("ActiveParticipant") if found.attrib["UserIsRequestor"] == "true"]
        assert len(asking) <= 1
        assert message.find("AuditSourceIdentification").attrib["AuditSourceID"] == "vesselq"


def test_the_schema_of_the_tests_refuses_wrong_messages() -> None:
    """A check that cannot fail proves nothing: each of these breaks one rule of section A.5.1."""
    good = audit_message(message_of(row(Event.INSTANCES_RECEIVED), SITE, FACTS))
    for wrong, instead in (
        ('EventOutcomeIndicator="0"', 'EventOutcomeIndicator="1"'),
        ('EventActionCode="C"', 'EventActionCode="X"'),
        (' EventDateTime="2026-05-04T03:02:01.000Z"', ""),
        ("UserIsRequestor", "IsRequestor"),
        ("<ParticipantObjectName>study</ParticipantObjectName>", ""),
        ('csd-code="110104"', 'code="110104"'),
        ('NumberOfInstances="3"', ""),
    ):
        assert wrong in good
        with pytest.raises(xmlschema.XMLSchemaValidationError):
            validate(good.replace(wrong, instead, 1))


def test_a_study_that_arrives_names_both_ends() -> None:
    """A.5.3.7: source with its address, destination, the study with its classes, the patient by pseudonym."""
    message = xml(Event.INSTANCES_RECEIVED, detail={"stored": 3, "association": "RELEASED"})
    source, destination = message.iter("ActiveParticipant")
    assert (source.attrib["UserID"], source.attrib["NetworkAccessPointID"]) == ("SENDER", "10.0.0.7")
    assert source.attrib["NetworkAccessPointTypeCode"] == "2"
    assert (codes(source, "RoleIDCode"), source.attrib["UserIsRequestor"]) == (["110153"], "true")
    assert codes(destination, "RoleIDCode") == ["110152"]
    assert destination.attrib["AlternativeUserID"] == "AETITLES=VESSELQ"
    found = objects(message)
    assert set(found) == {STUDY, HASH}
    assert codes(found[STUDY], "ParticipantObjectIDTypeCode") == ["110180"]
    assert found[STUDY].attrib["ParticipantObjectDataLifeCycle"] == "2"
    (sop_class,) = found[STUDY].iter("SOPClass")
    assert sop_class.attrib == {"UID": CT_IMAGE, "NumberOfInstances": "3"}
    assert details(found[STUDY]) == {"event": "instances-received", "stored": "3", "association": "RELEASED"}
    assert found[HASH].attrib["ParticipantObjectTypeCode"] == "1"
    assert found[HASH].findtext("ParticipantObjectName") == "pseudonym"


def test_a_result_that_is_sent_names_the_destination() -> None:
    """Begin and end of a transfer: we are the source, the destination has its AE title and host, one instance goes."""
    detail = {"destination": "pacs", "sop_instance_uid": "1.2.826.9", "kind": "seg"}
    for event in (Event.TRANSFER_BEGUN, Event.INSTANCES_SENT):
        message = xml(event, ae_title="", address="", process="worker/1", job_id="e" * 32, detail=detail)
        source, destination = message.iter("ActiveParticipant")
        assert (source.attrib["UserID"], codes(source, "RoleIDCode")) == ("worker/1", ["110153"])
        assert (destination.attrib["UserID"], destination.attrib["NetworkAccessPointID"]) == ("PACS", "10.0.0.9")
        (sop_class,) = objects(message)[STUDY].iter("SOPClass")
        assert sop_class.attrib == {"UID": SEGMENTATION, "NumberOfInstances": "1"}
        assert [found.attrib["UID"] for found in sop_class] == ["1.2.826.9"]
    unknown = xml(Event.INSTANCES_SENT, detail={"destination": "gone"})
    assert [found.attrib["UserID"] for found in unknown.iter("ActiveParticipant")] == ["listener/4f1c", "gone"]


def test_a_patient_without_identifier_is_unknown() -> None:
    """The object must be there, and nothing is made up for it."""
    message = xml(Event.SEG_CREATED, study_instance_uid="1.2.3")
    assert list(objects(message)) == ["1.2.3", "unknown"]
    assert list(objects(message)["1.2.3"].iter("SOPClass")) == []


def test_signing_in_names_person_and_place_and_no_object() -> None:
    """A.5.3.12; a failed try names the account that was tried."""
    event = {"study_instance_uid": "", "ae_title": "", "address": "10.1.1.1"}
    message = xml(Event.SIGNED_IN, user="mlee", **event)
    person = message.find("ActiveParticipant")
    assert (person.attrib["UserID"], person.attrib["NetworkAccessPointID"]) == ("mlee", "10.1.1.1")
    assert codes(message, "EventIdentification/EventTypeCode") == ["110122", "signed-in"]
    assert objects(message) == {}
    failed = xml(Event.SIGNED_IN, outcome=4, detail={"account": "root", "reason": "wrong password"}, **event)
    assert failed.find("ActiveParticipant").attrib["UserID"] == "root"
    assert failed.findtext("EventIdentification/EventOutcomeDescription") == "wrong password"


def test_reading_the_audit_log_names_the_log() -> None:
    """A.5.3.2: person and process, and the log as a security resource."""
    for event in (Event.AUDIT_READ, Event.AUDIT_EXPORTED, Event.AUDIT_VERIFIED):
        message = xml(event, user="ann", study_instance_uid="", ae_title="", address="", process="web/1")
        assert [found.attrib["UserID"] for found in message.iter("ActiveParticipant")] == ["ann", "web/1"]
        log = objects(message)[AUDIT_LOG_URI]
        assert log.findtext("ParticipantObjectName") == "Security Audit Log"
        assert log.attrib["ParticipantObjectTypeCodeRole"] == "13"


def test_an_alert_says_what_it_is_about() -> None:
    """A.5.3.11: a node, an account, or an object; a type is there even where the Standard has none."""
    refused = xml(Event.ASSOCIATION_REFUSED, study_instance_uid="", outcome=4, detail={"reason": "not known"})
    assert codes(objects(refused)["SENDER"], "ParticipantObjectIDTypeCode") == ["110182"]
    assert details(refused)["Alert Description"] == "not known"
    changed = xml(Event.ROLES_CHANGED, study_instance_uid="", user="boss", detail={"account": "mlee"})
    assert codes(objects(changed)["mlee"], "ParticipantObjectIDTypeCode") == ["11"]
    missing = xml(Event.INSTANCE_MISSING, detail={"sop_instance_uid": "1.2.3.4", "reason": "gone"})
    assert list(objects(missing)) == ["urn:oid:1.2.3.4", STUDY, HASH]
    assert codes(missing, "EventIdentification/EventTypeCode") == ["instance-missing"]


@pytest.mark.parametrize("event", [event for event in Event if not event.event_id], ids=lambda event: event.word)
def test_events_of_our_own_are_told_in_fhir_only(event: Event) -> None:
    """PS3.15 has no message for them, so that none is made up; FHIR takes codes of other systems."""
    message = message_of(row(event, job_id="f" * 32), SITE, FACTS)
    with pytest.raises(ValueError, match=event.word):
        audit_message(message)
    resource = json.loads(audit_event(message))
    assert resource["type"] == {"system": OWN_CODES, "code": event.word, "display": event.word}


@pytest.mark.parametrize("event", list(Event), ids=lambda event: event.word)
def test_fhir_resources_have_what_r4_demands(event: Event) -> None:
    """Cardinalities of AuditEvent in R4: type, recorded, agent with requestor, source with observer; no empty list."""
    for changes in (
        {},
        {"study_instance_uid": "", "ae_title": "", "address": "", "outcome": 8},
        {"study_instance_uid": "", "job_id": "a" * 32, "user": "ann", "detail": {"reason": ODD}},
    ):
        resource = fhir(event, **changes)
        assert re.fullmatch(r"[A-Za-z0-9\-.]{1,64}", resource["id"])
        assert resource["resourceType"] == "AuditEvent"
        assert {"type", "recorded", "agent", "source", "action", "outcome"} <= set(resource)
        assert resource["type"]["system"] in ("http://dicom.nema.org/resources/ontology/DCM", OWN_CODES)
        assert all(agent["requestor"] in (True, False) and agent["who"]["identifier"] for agent in resource["agent"])
        assert resource["source"]["observer"] == {"display": "vesselq"}
        assert resource.get("entity") != []
        for entity in resource.get("entity", []):
            assert entity["what"]["identifier"]["value"]
            assert all(detail["valueString"] for detail in entity.get("detail", [{"valueString": "x"}]))


def test_both_forms_tell_the_same() -> None:
    """The patient of a viewed study by pseudonym, as BALP asks, beside the study; codes in FHIR's systems."""
    resource = fhir(Event.STUDY_VIEWED, user="ann")
    study, patient = resource["entity"]
    assert study["what"]["identifier"]["value"] == STUDY
    assert {"type": "SOPClass", "valueString": CT_IMAGE} in study["detail"]
    assert patient["what"]["type"] == "Patient"
    assert patient["what"]["identifier"]["value"] == HASH
    assert (patient["type"]["code"], patient["role"]["code"]) == ("1", "1")
    assert resource["type"]["code"] == "110103"
    message = xml(Event.STUDY_VIEWED, user="ann")
    assert set(objects(message)) == {STUDY, HASH}
    assert [agent["who"]["identifier"]["value"] for agent in resource["agent"]] == [
        found.attrib["UserID"] for found in message.iter("ActiveParticipant")
    ]


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "＝", "\t", "\r", "\n", "  ="])
def test_csv_holds_no_formulas(start: str) -> None:
    """Text from outside that begins like a formula is text for every spreadsheet; all of it can be read back."""
    hostile = row(Event.SIGNED_IN, user=f'{start}HYPERLINK("http://x")', ae_title=f"{start}1", detail={"a": "=1"})
    odd = row(Event.SIGNED_IN, process=ODD)
    heading, line, second = list(csv.reader(io.StringIO("".join(csv_lines([hostile, odd])), newline="")))
    assert "\n".join(second).encode("utf-8")
    cells = dict(zip(heading, line, strict=True))
    assert tuple(heading) == COLUMNS
    assert cells["user"] == f"'{hostile.user}"
    assert cells["ae_title"] == f"'{hostile.ae_title}"
    assert cells["sequence"] == "7"
    assert json.loads(cells["detail"]) == {"a": "=1"}


def _story(record: Record) -> list[AuditRow]:
    """A study arrives, is segmented and sent; somebody with an odd name reads the log."""
    job = record_story.ready(record)
    delivery = deliveries.claim(record, "worker-1", 60)
    assert delivery is not None
    deliveries.sent(record, delivery, "0x0000")
    audit.record_event(
        record.on_behalf_of("=Ann Ö"), Event.AUDIT_READ, outcome=Outcome.SUCCESS, detail={"seconds": 0.1, "x": ODD[:3]}
    )
    assert job.job_id
    return audit_rows(record, AuditQuery())


def _recomputed(text: str) -> list[str]:
    """What a stranger finds wrong who has nothing but the lines and the sentence in the first one."""
    head, *lines = (json.loads(line) for line in text.splitlines())
    end = lines.pop()["end"]
    problems, previous = [], head["first_previous_hash"] if end.get("first_sequence") == 1 else end["continues_hash"]
    for line in lines:
        content = {name: value for name, value in line.items() if name != "row_hash"}
        written = json.dumps(content, sort_keys=True, separators=(",", ":"))
        if hashlib.sha256(written.encode("ascii")).hexdigest() != line["row_hash"]:
            problems.append(f"row {line['sequence']} was changed")
        if line["previous_hash"] != previous:
            problems.append(f"row {line['sequence']} does not follow")
        previous = line["row_hash"]
    if (end["rows"], end.get("head_hash", previous)) != (len(lines), previous):
        problems.append("the end does not fit")
    return problems


def test_a_stranger_can_check_json_lines(record: Record) -> None:
    """With the first line's sentence alone: the chain holds, and every kind of change is found."""
    rows = _story(record)
    lines = list(json_lines(rows))
    assert _recomputed("".join(lines)) == []
    changed = [line.replace("listener", "nobody", 1) for line in lines]
    assert any("was changed" in problem for problem in _recomputed("".join(changed)))
    assert "does not follow" in _recomputed("".join(lines[:3] + lines[4:]))[0]
    assert "the end does not fit" in _recomputed("".join(lines[:-2] + lines[-1:]))
    swapped = [*lines[:2], lines[3], lines[2], *lines[4:]]
    assert any("does not follow" in problem for problem in _recomputed("".join(swapped)))


def test_json_lines_tell_of_gaps(record: Record) -> None:
    """Rows that were chosen by a question are not the whole chain; an empty answer has an end as well."""
    rows = _story(record)
    end = json.loads(list(json_lines([rows[0], rows[2], rows[5]]))[-1])["end"]
    assert (end["rows"], end["gaps"], end["head_hash"]) == (3, 2, rows[5].row_hash)
    assert json.loads(list(json_lines([]))[-1]) == {"end": {"rows": 0, "gaps": 0, "checkpoints": 0}}


def test_a_stranger_can_check_who_signed_the_rows(record: Record, tmp_path: Path) -> None:
    """Each checkpoint stands behind its row and names its hash; its signature is one of the key that the site gives."""
    file = CheckpointFile(tmp_path / "audit", tmp_path / "keys" / "signing_key.pem")
    signed = []
    for _ in range(3):
        audit.record_event(record, Event.AUDIT_READ)
        signed.append(sign_checkpoint(record, file))
        audit.record_event(record, Event.AUDIT_READ)
    rows = audit_rows(record, AuditQuery())
    lines = [json.loads(line) for line in json_lines(rows[1:4], file.unchecked())]
    assert lines[-1]["end"]["checkpoints"] == 1
    assert [row.sequence for row in rows[1:4]] == [line["sequence"] for line in lines if "sequence" in line]
    (place,) = (number for number, line in enumerate(lines) if "checkpoint" in line)
    checkpoint = lines[place]["checkpoint"]
    assert signed[1] is not None
    assert (checkpoint["sequence"], checkpoint["row_hash"]) == (signed[1].sequence, signed[1].row_hash)
    assert (lines[place - 1]["sequence"], lines[place - 1]["row_hash"]) == (signed[1].sequence, signed[1].row_hash)
    signature = bytes.fromhex(checkpoint.pop("signature"))
    key = load_pem_public_key((tmp_path / "audit" / "public_key.pem").read_bytes())
    assert isinstance(key, Ed25519PublicKey)
    assert hashlib.sha256(key.public_bytes_raw()).hexdigest() == checkpoint["key"]
    key.verify(signature, json.dumps(checkpoint, sort_keys=True, separators=(",", ":")).encode("ascii"))
    written = tmp_path / "rows.jsonl"
    written.write_text("".join(json_lines(rows, file.unchecked())))
    assert [one[0] for one in archived_rows([written])] == [row.sequence for row in rows]


def test_rows_are_exported_without_checkpoints_that_cannot_be_read(record: Record, tmp_path: Path) -> None:
    """All rows are there, and the end says why nothing vouches for them; a site without checkpoints has none."""
    audit.record_event(record, Event.AUDIT_READ)
    rows = audit_rows(record, AuditQuery())
    file = CheckpointFile(tmp_path, tmp_path / "key.pem")
    assert list(file.unchecked()) == []
    file.path.mkdir()
    *_, end = (json.loads(line)["end"] for line in list(json_lines(rows, file.unchecked()))[-1:])
    assert (end["rows"], end["checkpoints"]) == (1, 0)
    assert "cannot be read" in end["checkpoints_problem"]
    assert len(list(json_lines(rows))) == 3


def test_every_form_is_made_from_the_record(record: Record) -> None:
    """What a study left behind, in each form: valid, complete, with the facts that only the record knows."""
    rows = _story(record)
    settings = Settings(destinations=[{"name": "pacs", "kind": "storage_scu", "ae_title": "PACS", "host": "10.0.0.9"}])
    site = site_of(settings)
    text = {word: "".join(form.lines(record, site, rows)) for word, form in FORMS.items()}
    document = ET.fromstring(text["xml"].encode())  # noqa: S314  what we wrote ourselves
    told = document.findall("AuditMessage")
    for message in told:
        validate(ET.tostring(message, encoding="unicode"))
    assert len(told) == sum(bool(found.event_id) for found in rows)
    (received,) = [
        found for found in told if codes(found, "EventIdentification/EventTypeCode") == ["instances-received"]
    ]
    assert [found.attrib["NumberOfInstances"] for found in received.iter("SOPClass")] == ["2"]
    (sent,) = [found for found in told if codes(found, "EventIdentification/EventTypeCode") == ["instances-sent"]]
    assert [found.attrib["UID"] for found in sent.iter("SOPClass")] == [SEGMENTATION]
    assert [found.attrib["UserID"] for found in sent.iter("ActiveParticipant")][1] == "PACS"
    resources = [json.loads(line) for line in text["fhir"].splitlines()]
    assert [resource["id"] for resource in resources] == [f"vesselq-{found.sequence}" for found in rows]
    table = list(csv.reader(io.StringIO(text["csv"], newline="")))
    assert len(table) == 1 + len(rows)
    assert table[-1][COLUMNS.index("user")] == "'=Ann Ö"
    assert _recomputed(text["jsonl"]) == []


def test_the_patient_comes_from_the_study(record: Record) -> None:
    """The pseudonym that intake wrote is the one in the messages, for all rows of a batch at once."""
    rows = _story(record)
    with record.writing() as transaction:
        transaction.session.connection().execute(update(Study).values(patient_hash=HASH))
    assert facts_of(record, rows).patients == {record_story.STUDY: HASH}
    (seg,) = [found for found in messages(record, SITE, rows) if "seg-created" in {t.value for t in found.event_types}]
    assert [one.object_id for one in seg.objects] == [record_story.STUDY, HASH]
    assert facts_of(record, []) == Facts()

"""The reference pages are those of the code: settings, states, events, and the conformance statement."""

import re
from collections.abc import Iterator

import pytest
import seg_cases
from doc_pages import DOCS, REFERENCE, table_cells
from pydantic import BaseModel
from pydicom.datadict import tag_for_keyword
from pydicom.dataset import Dataset

from db.audit import Event
from dicom_core.job import TRANSITIONS, DeliveryState, JobState
from dicom_core.routing import Condition, Rule
from dicom_core.setting_tables import FolderSettings, PeerSettings, StorageSCUSettings, StowRSSettings
from dicom_core.settings import Settings
from dicom_listener.association_policy import storage_contexts
from dicom_listener.handlers import Status
from worker.seg_writer.writer import build_segmentation


def _tables(model: type[BaseModel]) -> Iterator[type[BaseModel]]:
    yield model
    for field in model.model_fields.values():
        if isinstance(field.default, BaseModel):
            yield type(field.default)


MODELS = [*_tables(Settings), PeerSettings, StorageSCUSettings, StowRSSettings, FolderSettings, Rule]


@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.__name__)
def test_every_setting_is_described(model: type[BaseModel]) -> None:
    """Every setting has a description, and stands in settings.md with it."""
    text = (REFERENCE / "settings.md").read_text(encoding="utf-8")
    for name, field in model.model_fields.items():
        if isinstance(field.default, BaseModel) or name == "kind":
            continue
        assert field.description, f"{model.__name__}.{name} has no description"
        if not re.search(rf"^## `\[\[([a-z]+\.)?{name}\]\]`", text, re.MULTILINE):
            described = re.escape(field.description).replace(r"\ ", r"\s+")
            assert re.search(rf"\| `{name}` \| {described} ", text), f"{model.__name__}.{name} is not in settings.md"


def test_every_word_of_a_condition_is_explained() -> None:
    """All words that a condition may hold are in the guide to rules."""
    explained = table_cells((DOCS / "how-to" / "write-rules.md").read_text(encoding="utf-8"), 0)
    assert {field.alias or name for name, field in Condition.model_fields.items()} <= explained


def _statement_section(title: str) -> str:
    text = (REFERENCE / "dicom-conformance-statement.md").read_text(encoding="utf-8")
    found = re.search(rf"^#+ {title}\n(.*?)(?=^#+ |\Z)", text, re.MULTILINE | re.DOTALL)
    assert found is not None, title
    return found[1]


def test_conformance_tables_equal_the_code() -> None:
    """SOP classes, transfer syntaxes and status codes of the statement are those of the listener."""
    contexts = storage_contexts()
    classes = re.findall(r"`(1\.2\.840[\d.]+)`", _statement_section("SOP Classes"))
    assert classes == [context.abstract_syntax_uid for context in contexts]
    syntaxes = re.findall(r"`(1\.2\.840[\d.]+)`", _statement_section("Transfer syntaxes"))
    assert {tuple(context.transfer_syntax_uids) for context in contexts[1:]} == {tuple(syntaxes)}
    statuses = re.findall(r"^\| `(0x[0-9A-F]{4})` ", _statement_section("Status codes of C-STORE"), re.MULTILINE)
    assert statuses == [f"0x{status:04X}" for status in Status]


@pytest.mark.parametrize("case", ["ct", "enhanced_ct", "xa_run", "op_rgb"])
def test_attributes_of_segmentations_are_listed(case: str) -> None:
    """Every attribute of a real object is in the statement."""
    listed = set(re.findall(r"\b[A-Z]\w+\b", _statement_section("Attributes")))
    dataset = _segmentation(case)
    assert {element.keyword for element in dataset} - listed == set()
    assert {element.keyword for element in dataset.SegmentSequence[0]} - listed == set()


def test_listed_attributes_are_written() -> None:
    """Every attribute that the table of the statement lists is written for some class of source."""
    rows = [line.strip("| ").split(" | ") for line in _statement_section("Attributes").splitlines() if line[:1] == "|"]
    listed = {word for row in rows[2:] for cell in row[-2:-1] for word in re.findall(r"\w+", cell)}
    assert [word for word in listed if tag_for_keyword(word) is None] == []
    written = {element.keyword for case in seg_cases.CASES for element in _segmentation(case)}
    # these need a source that has them, which the sources of these tests have not
    rare = {
        "IssuerOfPatientID", "PatientIdentityRemoved", "DeidentificationMethod", "LossyImageCompressionRatio",
        "LossyImageCompressionMethod", "TimezoneOffsetFromUTC", "StudyDescription", "PatientAge", "PatientSize",
        "PatientWeight", "BodyPartExamined",
    }  # fmt: skip
    assert listed - written - rare == set()


def _segmentation(case: str) -> Dataset:
    source = seg_cases.CASES[case].series()
    return build_segmentation(source, seg_cases.segmentation_of(seg_cases.mask_for(source)), seg_cases.IDENTITY)


def test_every_state_and_change_is_documented() -> None:
    """All states of jobs and deliveries are in states.md, and every change of state that the code allows."""
    text = (REFERENCE / "states.md").read_text(encoding="utf-8")
    assert {state.value for state in JobState} | {state.value for state in DeliveryState} <= table_cells(text, 0)
    rows = set(re.findall(r"^\| `([A-Z_]+)` \| `([A-Z_]+)` \| \S", text, re.MULTILINE)) - {
        ("RECEIVING", "COMPLETE"), ("COMPLETE", "RECEIVING"),
    }  # fmt: skip
    assert rows == {(before.value, after.value) for before, states in TRANSITIONS.items() for after in states}


def test_every_event_is_documented() -> None:
    """All events of the audit log are in audit-events.md with their code."""
    text = (REFERENCE / "audit-events.md").read_text(encoding="utf-8")
    for event in Event:
        assert re.search(rf"^\| `{event.word}` \|.*\| {event.event_id}", text, re.MULTILINE), event.word

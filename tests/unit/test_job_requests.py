"""From the headers of a quiet study to what is done with each of its series."""

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import dicom_sources
import pytest
from pydicom.dataset import Dataset

from dicom_core.errors import ConfigurationError, ConflictError, SpoolError
from dicom_core.job import JobRequest, JobState
from dicom_core.prompt import Prompt
from dicom_core.result import ResultKind
from dicom_core.settings import Settings
from dicom_core.spool import Spool
from dicom_core.study import QuietStudy, StoredInstance, StoredSeries
from dicom_listener.job_requests import JobRequests

CT_RULE = {
    "name": "ct",
    "when": {
        "all": [{"keyword": "Modality", "equals": "CT"}, {"not": {"keyword": "ImageType", "equals": "LOCALIZER"}}]
    },
    "segmenter": "ridge",
    "priority": 7,
}
SKIP_LOCALIZERS = {"name": "localizers", "when": {"keyword": "ImageType", "equals": "LOCALIZER"}, "skip": "a localizer"}


@pytest.fixture
def spool(tmp_path: Path) -> Spool:
    spool = Spool(tmp_path / "spool")
    spool.prepare()
    return spool


def decide(spool: Spool, datasets: Sequence[Dataset], *, absent: int = 0, **tables: Any) -> JobRequest:
    """The request for one series whose files lie in the spool."""
    settings = Settings(**{"rules": [SKIP_LOCALIZERS, CT_RULE], **tables})
    instances = []
    for number, dataset in enumerate(datasets):
        path = f"instances/00/{number}.dcm"
        dataset.save_as(spool.path(path), enforce_file_format=True)
        instances.append(
            StoredInstance(str(dataset.SOPInstanceUID), "1.2", "1.2.840.10008.1.2.1", f"{number}" * 64, path)
        )
    series = StoredSeries("1.2.3", "1.2.3.4", "CT", tuple(instances), "A", "B", "127.0.0.1", absent)
    study = QuietStudy("1.2.3", 0, None, (series,), 0)  # type: ignore[arg-type]  # the time plays no part
    (request,) = JobRequests(settings, spool).for_study(study)
    return request


def test_matching_rule_decides(spool: Spool) -> None:
    """The first rule that wants the series gives segmenter, destinations and priority."""
    request = decide(spool, dicom_sources.ct_series(frames=2, rows=8, columns=8))
    assert (request.state, request.rule, request.segmenter) == (JobState.QUEUED, "ct", "ridge")
    assert (request.priority, request.destinations) == (7, ("sender",))


def test_localizer_among_the_slices_does_not_hide_the_series(spool: Spool) -> None:
    """A rule that segments one instance wins over one that skips another."""
    datasets = dicom_sources.ct_series(frames=3, rows=8, columns=8)
    datasets[0].ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    assert decide(spool, datasets).rule == "ct"


def test_series_of_localizers_is_skipped_in_words(spool: Spool) -> None:
    """The reason is the rule's."""
    datasets = dicom_sources.ct_series(frames=2, rows=8, columns=8)
    for dataset in datasets:
        dataset.ImageType = ["ORIGINAL", "PRIMARY", "LOCALIZER"]
    request = decide(spool, datasets)
    assert (request.state, request.reason, request.segmenter) == (JobState.SKIPPED, "a localizer", "")


def test_series_that_no_rule_wants_is_skipped_in_words(spool: Spool) -> None:
    """No match names the modality."""
    request = decide(spool, dicom_sources.ct_series(frames=2, rows=8, columns=8), rules=[SKIP_LOCALIZERS])
    assert (request.state, request.reason) == (JobState.SKIPPED, "no rule wants it (Modality CT)")


def test_own_objects_are_left_alone_whatever_the_rules_say(spool: Spool) -> None:
    """The loop guard is not a rule that a site could lose: vesselq's own manufacturer name ends it."""
    datasets = dicom_sources.ct_series(frames=2, rows=8, columns=8)
    for dataset in datasets:
        dataset.Manufacturer = "vesselq"
    request = decide(spool, datasets, rules=[CT_RULE])
    assert (request.state, request.reason) == (JobState.SKIPPED, "made by vesselq itself")


def test_unreadable_header_is_named(spool: Spool) -> None:
    """A file that cannot be parsed ends in words with its UID, never in an exception."""
    datasets = dicom_sources.ct_series(frames=1, rows=8, columns=8)
    request = decide(spool, datasets)
    assert request.state is JobState.QUEUED
    spool.path("instances/00/0.dcm").write_bytes(b"\0" * 200)
    settings = Settings(rules=[CT_RULE])
    instance = StoredInstance(
        str(datasets[0].SOPInstanceUID), "1.2", "1.2.840.10008.1.2.1", "0" * 64, "instances/00/0.dcm"
    )
    series = StoredSeries("1.2.3", "1.2.3.4", "CT", (instance,), "A", "B", "127.0.0.1")
    study = QuietStudy("1.2.3", 0, None, (series,), 0)  # type: ignore[arg-type]  # the time plays no part
    (request,) = JobRequests(settings, spool).for_study(study)
    assert request.state is JobState.SKIPPED
    assert datasets[0].SOPInstanceUID in request.reason


def test_disk_that_fails_is_not_the_objects_fault(spool: Spool) -> None:
    """A file that cannot be opened for now leaves the study for the next pass instead of skipping it for good."""
    datasets = dicom_sources.ct_series(frames=1, rows=8, columns=8)
    decide(spool, datasets)
    spool.path("instances/00/0.dcm").unlink()
    spool.path("instances/00/0.dcm").mkdir()
    instance = StoredInstance(str(datasets[0].SOPInstanceUID), "1.2", "1.2.3", "0" * 64, "instances/00/0.dcm")
    series = StoredSeries("1.2.3", "1.2.3.4", "CT", (instance,), "A", "B", "127.0.0.1")
    study = QuietStudy("1.2.3", 0, None, (series,), 0)  # type: ignore[arg-type]  # the time plays no part
    with pytest.raises(SpoolError):
        JobRequests(Settings(rules=[CT_RULE]), spool).for_study(study)


def test_late_slice_of_a_purged_series_is_not_segmented_alone(spool: Spool) -> None:
    """Without the slices that were purged the result would be wrong: the series is asked for again."""
    request = decide(spool, dicom_sources.ct_series(frames=1, rows=8, columns=8), absent=59)
    assert request.state is JobState.SKIPPED
    assert request.reason == "59 of its images are no longer kept; send the whole series again"


def test_hashes_tell_content_and_configuration_apart(spool: Spool) -> None:
    """Other content is another input; another model setting is another configuration; another priority is neither."""
    datasets = dicom_sources.ct_series(frames=2, rows=8, columns=8)
    first = decide(spool, datasets)
    assert decide(spool, datasets[:1]).input_hash != first.input_hash
    assert decide(spool, datasets, models={"ridge": {"threshold": 0.6}}).configuration_hash != first.configuration_hash
    other_priority = decide(spool, datasets, rules=[{**CT_RULE, "priority": 100}])
    assert (other_priority.input_hash, other_priority.configuration_hash) == (
        first.input_hash,
        first.configuration_hash,
    )


def shelf(**changes: Any) -> dict[str, Any]:
    return {"name": "shelf", "kind": "folder", "path": "/shelf", **changes}


def test_request_says_what_each_destination_gets(spool: Spool) -> None:
    """The settings of the moment go into the job; a destination without the setting gets the SEG object."""
    datasets = dicom_sources.ct_series(frames=2, rows=8, columns=8)
    request = decide(
        spool,
        datasets,
        rules=[{**CT_RULE, "destinations": ["shelf", "plain", "sender"]}],
        destinations=[shelf(results=["seg", "report"]), shelf(name="plain")],
    )
    seg, report = ResultKind.SEG, ResultKind.REPORT
    assert request.wanted == {"shelf": (seg, report), "plain": (seg,), "sender": (seg,)}


def test_what_the_sender_gets_is_that_of_the_peer_that_called(spool: Spool) -> None:
    """The peer is found by AE title and network; one whose addresses are names counts when no other fits."""
    datasets = dicom_sources.ct_series(frames=2, rows=8, columns=8)
    peers = [
        {"name": "other", "ae_title": "OTHER", "results": ["seg_deflated"]},
        {"name": "far", "ae_title": "A", "addresses": ["10.0.0.0/8"], "results": ["report"]},
        {"name": "near", "ae_title": "A", "addresses": ["127.0.0.0/8"], "results": ["overlay"]},
    ]
    assert decide(spool, datasets, peers=peers).wanted == {"sender": (ResultKind.OVERLAY,)}
    peers[2]["addresses"] = ["pacs.example"]
    peers[1]["ae_title"] = "B"
    assert decide(spool, datasets, peers=peers).wanted == {"sender": (ResultKind.OVERLAY,)}


def test_what_destinations_get_does_not_change_the_configuration(spool: Spool) -> None:
    """Adding an overlay leaves the UID of the SEG object as it is, so it must not enter the hash."""
    datasets = dicom_sources.ct_series(frames=2, rows=8, columns=8)
    rules = [{**CT_RULE, "destinations": ["shelf"]}]
    one, other = (
        decide(spool, datasets, rules=rules, destinations=[shelf(results=results)])
        for results in (["seg"], ["seg", "overlay", "report"])
    )
    assert one.wanted != other.wanted
    assert one.configuration_hash == other.configuration_hash
    assert decide(spool, datasets, rules=rules, destinations=[shelf()], segmentation={"viewer_hints": False}) != one


def _stored(spool: Spool, datasets: Sequence[Dataset]) -> StoredSeries:
    instances = []
    for number, dataset in enumerate(datasets):
        path = f"instances/00/{number}.dcm"
        dataset.save_as(spool.path(path), enforce_file_format=True)
        instances.append(
            StoredInstance(str(dataset.SOPInstanceUID), "1.2", "1.2.840.10008.1.2.1", f"{number}" * 64, path)
        )
    return StoredSeries("1.2.3", "1.2.3.4", "CT", tuple(instances), "A", "B", "127.0.0.1")


def test_rule_s_prompt_and_chain_reach_the_job(spool: Spool) -> None:
    """The words as they are, a full prompt as JSON, a chain as one word; each is another configuration."""
    datasets = dicom_sources.ct_series(frames=1, rows=8, columns=8)
    plain = decide(spool, datasets)
    words = decide(spool, datasets, rules=[{**CT_RULE, "prompt": "Gefäße"}])
    table = {"questions": [{"text": "artery", "segment": "artery"}]}
    asked = decide(spool, datasets, rules=[{**CT_RULE, "prompt": table}])
    chain = decide(spool, datasets, rules=[{**CT_RULE, "chain": ["medsam"]}])
    tuned = decide(
        spool, datasets, rules=[{**CT_RULE, "chain": ["medsam"]}], models={"ridge+medsam": {"agreement": 0.6}}
    )
    assert (plain.prompt, words.prompt) == ("", "Gefäße")
    assert Prompt.from_stored(asked.prompt).questions[0].segment == "artery"
    assert (plain.segmenter, chain.segmenter) == ("ridge", "ridge+medsam")
    assert len({one.configuration_hash for one in (plain, words, asked, chain, tuned)}) == 5


def test_configuration_hash_of_earlier_releases_is_kept(spool: Spool) -> None:
    """An upgrade does not make studies new that were segmented by one model without a prompt, tuned or not."""
    datasets = dicom_sources.ct_series(frames=1, rows=8, columns=8)
    for table in ({}, {"threshold": 0.4}):
        decides = {
            "segmenter": "ridge",
            "prompt": "",
            "model": table,
            "segmentation": Settings().segmentation.model_dump(exclude={"series_number"}),
        }
        expected = hashlib.sha256(json.dumps(decides, sort_keys=True, default=str).encode()).hexdigest()
        models = {"ridge": table, "other": {"system": "ridge"}} if table else {}
        assert decide(spool, datasets, models=models).configuration_hash == expected


def test_person_asks_by_hand(spool: Spool) -> None:
    """The rule gives destinations and priority; prompt and segmenter are the person's."""
    requests = JobRequests(Settings(rules=[SKIP_LOCALIZERS, CT_RULE]), spool)
    series = _stored(spool, dicom_sources.ct_series(frames=2, rows=8, columns=8))
    request = requests.by_hand(series, Prompt.of_text("vessels"))
    assert (request.state, request.rule, request.segmenter, request.priority) == (JobState.QUEUED, "ct", "ridge", 7)
    assert Prompt.from_stored(request.prompt).by_hand
    assert requests.by_hand(series, Prompt.of_text("vessels"), "sam").segmenter == "sam"
    rule_says = decide(
        spool, dicom_sources.ct_series(frames=1, rows=8, columns=8), rules=[{**CT_RULE, "prompt": "vessels"}]
    )
    assert request.configuration_hash != rule_says.configuration_hash


def test_person_asks_about_a_series_that_no_rule_wants(spool: Spool) -> None:
    """With a segmenter it goes back to the sender; without one there is nothing to ask."""
    requests = JobRequests(Settings(rules=[]), spool)
    series = _stored(spool, dicom_sources.ct_series(frames=2, rows=8, columns=8))
    request = requests.by_hand(series, Prompt(), "ridge")
    assert (request.rule, request.segmenter, request.destinations) == ("", "ridge", ("sender",))
    with pytest.raises(ConfigurationError, match=r"name a segmenter: .*no rule wants it"):
        requests.by_hand(series, Prompt.of_text("vessels"))
    own = _stored(spool, dicom_sources.ct_series(frames=1, rows=8, columns=8, Manufacturer="vesselq"))
    with pytest.raises(ConflictError, match="never segmented"):
        requests.by_hand(own, Prompt(), "ridge")

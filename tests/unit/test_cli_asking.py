"""How a person asks on the command line: the options, `segment` and `studies rerun`."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dicom_sources
import pytest
import typer
import worker_bench
from typer.testing import CliRunner

from console import asking
from console.cli import app
from db import jobs, reports
from db.audit_queries import AuditQuery, audit_rows
from db.session import Record
from dicom_core.errors import InvalidPromptError
from dicom_core.job import JobState
from dicom_core.prompt import Prompt
from worker import local

CONFIG = """
data_folder = "{folder}"
[[rules]]
name = "all"
when = {{ keyword = "SOPClassUID", exists = true }}
segmenter = "ridge"
destinations = ["shelf"]
[[destinations]]
name = "shelf"
kind = "folder"
path = "{folder}/shelf"
"""


def test_options_become_a_prompt(tmp_path: Path) -> None:
    """Several questions, a coded type before the equals sign, places, a mask; a person gave it."""
    prompt = asking.asked(
        ["artery=the left coronary artery", "blood vessels", "Is x = y?"],
        ["1,2,30,40.5"],
        ["5,6", "7,8,out", "9,10,outside"],
        tmp_path / "mask.png",
    )
    assert [(one.segment, one.text) for one in prompt.questions] == [
        ("artery", "the left coronary artery"),
        ("blood_vessel", "blood vessels"),
        ("blood_vessel", "Is x = y?"),
    ]
    assert prompt.boxes[0].bottom == 40.5
    assert [(one.x, one.inside) for one in prompt.points] == [(5, True), (7, False), (9, False)]
    assert prompt.mask == tmp_path / "mask.png"
    assert prompt.by_hand
    assert Prompt.from_stored(prompt.stored()) == prompt


def test_places_may_lie_on_one_frame() -> None:
    """Behind an @ stands the number of the frame, from 1; without it a place is meant on every frame."""
    prompt = asking.asked([], ["1,2,30,40@3", "1,2,3,4"], ["5,6@2", "7,8,out@2", "9,9"])
    assert [one.frame_number for one in prompt.boxes] == [3, 0]
    assert [(one.frame_number, one.inside) for one in prompt.points] == [(2, True), (2, False), (0, True)]


def test_nothing_asked_is_the_rule_s() -> None:
    """Without any option the prompt is empty and nobody's."""
    assert asking.asked(None, [], None) == Prompt()


@pytest.mark.parametrize(
    ("words", "boxes", "points", "said"),
    [
        (["nose=the nose"], [], [], "'nose' is no type of segment"),
        ([], ["1,2,3"], [], "is no box"),
        ([], ["9,2,3,4"], [], "is no box"),
        ([], ["1,2,3,4@0"], [], "is no box"),
        ([], [], ["a,b"], "is no point"),
        ([], [], ["1,2@last"], "is no point"),
        ([], [], ["1,2,in"], "is no point"),
    ],
)
def test_wrong_options_are_named(words: list[str], boxes: list[str], points: list[str], said: str) -> None:
    """A mistake of usage, with the form that is wanted."""
    with pytest.raises(typer.BadParameter, match=said):
        asking.asked(words, boxes, points)


def test_too_long_a_question_is_refused() -> None:
    """In words, by the prompt itself."""
    with pytest.raises(InvalidPromptError, match="1000"):
        asking.asked(["x" * 1001], [], [])


def test_segment_hands_the_prompt_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`segment` with all ways of asking and a chain."""
    seen: dict[str, Any] = {}
    monkeypatch.setattr(local, "segment_folder", lambda *_places, **given: seen.update(given) or [])
    options = ["--prompt", "vein=veins", "--box", "1,2,3,4", "--point", "1,2,out", "--segmenter", "vesselnet+medsam"]
    result = CliRunner().invoke(app, ["segment", str(tmp_path), "--out", str(tmp_path), *options, "--json"])
    assert result.exit_code == 0, result.output
    assert seen["segmenter"] == "vesselnet+medsam"
    assert seen["prompt"].in_words() == "veins; 1 point; 1 box"
    assert seen["prompt"].by_hand


class Site:
    """A complete study of one series whose rule names ridge, and a settings file."""

    def __init__(self, folder: Path) -> None:
        self.config = folder / "vesselq.toml"
        self.config.write_text(CONFIG.format(folder=folder))
        rules = [{**worker_bench.RULE, "segmenter": "ridge", "destinations": ["shelf"]}]
        self.settings = worker_bench.settings_for(folder, rules=rules)
        self.record: Record = worker_bench.fresh_record(self.settings)
        self.study = worker_bench.receive(self.settings, self.record, dicom_sources.xa_runs((2,), 16, 24))
        (self.job,) = worker_bench.complete(self.settings, self.record)

    def rerun(self, *options: str) -> Any:
        series = self.job.series_instance_uid
        command = ["studies", "rerun", self.study, "--series", series, "--config", str(self.config), *options]
        return CliRunner().invoke(app, command)


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made = Site(tmp_path)
    yield made
    made.record.close()


def test_rerun_makes_a_job(site: Site) -> None:
    """A new generation for the named segmenter, to the rule's destinations, with the name of who asked."""
    result = site.rerun("--segmenter", "ridge", "--json")
    assert result.exit_code == 0, result.stderr
    job = jobs.get(site.record, json.loads(result.stdout)["job_id"])
    assert (job.state, job.generation, job.destinations) == (JobState.QUEUED, 2, ("shelf",))
    (row,) = audit_rows(site.record, AuditQuery(event="run-requested"))
    assert row.user
    assert (row.detail["by"], row.detail["semiautomatic"]) == ("console", True)
    assert f"job {job.job_id} of generation 2 is QUEUED: ridge" in site.rerun("--segmenter", "ridge").stdout


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--prompt", "vessels"], 1, "ridge cannot be asked by text"),
        (["--box", "1,2,3,4"], 1, "ridge cannot be asked by boxes"),
        ([], 1, "nothing is asked"),
        (["--segmenter", "rigde"], 4, "no segmenter 'rigde'"),
        (["--segmenter", "+".join(["ridge"] * 11)], 2, "more than 64 characters"),
        (["--point", "1"], 2, "is no point"),
    ],
)
def test_rerun_refuses_at_once(site: Site, options: list[str], code: int, said: str) -> None:
    """What the worker would refuse makes no job."""
    result = site.rerun(*options)
    assert (result.exit_code, said in result.stderr) == (code, True), result.output
    assert len(reports.jobs(site.record)) == 1

"""Why a rule is for a series, in words; headers that people give; rules that people write; dry runs of these."""

import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dicom_sources
import pytest
import worker_bench
from pydicom.dataset import Dataset

from console import rule_trial_process
from console.given_headers import header_of_bytes, header_of_file, header_of_json
from console.rule_files import read_rules
from console.rule_trial_process import try_in_process
from db import reports
from db.session import Record
from dicom_core.default_rules import DEFAULT_RULES
from dicom_core.errors import ConfigurationError, NotFoundError, SourceError
from dicom_core.routing import Rule
from dicom_core.rule_explanation import HIDDEN, described, explain, lines, outcome_of
from dicom_core.settings import Settings
from dicom_core.spool import Spool
from dicom_listener.rule_trial import Trial, try_rules

XA_RULE = """
[[rules]]
name = "angio"
when = { keyword = "Modality", equals = "XA" }
segmenter = "ridge"
priority = 50
"""


def rule(when: dict[str, Any], **more: Any) -> Rule:
    return Rule.model_validate({"name": "r", "when": when, **({"segmenter": "ridge"} | more)})


def header(**values: Any) -> Dataset:
    made = Dataset()
    for keyword, value in values.items():
        setattr(made, keyword, value)
    return made


def test_the_first_that_holds_fires() -> None:
    """Of several that hold the first decides; the others are told to hold as well, and the rest not to."""
    rules = [
        rule({"keyword": "Modality", "equals": "CT"}, name="ct"),
        rule({"keyword": "Modality", "equals": "XA"}, name="angio"),
        rule({"keyword": "Modality", "exists": True}, name="all"),
    ]
    found = explain(rules, header(Modality="XA"))
    assert found.rule == "angio"
    assert [(one.rule, one.holds, one.fires) for one in found.verdicts] == [
        ("ct", False, False), ("angio", True, True), ("all", True, False),
    ]  # fmt: skip


def test_every_comparison_has_what_was_found() -> None:
    """Each leaf of a condition tells the value of the header; nodes that join others tell their parts."""
    tree = {"all": [{"keyword": "Modality", "equals": "CT"}, {"not": {"keyword": "ImageType", "equals": "LOCALIZER"}},
                    {"any": [{"keyword": "SliceThickness", "at_most": 3}]}]}  # fmt: skip
    found = explain([rule(tree)], header(Modality="CT", ImageType=["ORIGINAL", "LOCALIZER"]))
    told = [(depth, node.words, node.holds, node.found) for depth, node in lines(found.verdicts[0].why)]
    assert told == [
        (0, "all", False, ""),
        (1, "Modality is CT", True, "CT"),
        (1, "not", False, ""),
        (2, "ImageType is LOCALIZER", True, "ORIGINAL \\ LOCALIZER"),
        (1, "any", False, ""),
        (2, "SliceThickness ≤ 3", False, "absent"),
    ]


@pytest.mark.parametrize(
    "keyword", ["PatientID", "PatientName", "PatientBirthDate", "AccessionNumber", "OperatorsName"]
)
def test_values_that_tell_whose_it_is_are_not_shown(keyword: str) -> None:
    """Of the attributes of a person only their presence is told, whatever a rule asks of them."""
    value = "19700101" if keyword.endswith("Date") else "Secret"
    found = explain([rule({"keyword": keyword, "equals": value})], header(**{keyword: value}))
    assert (found.verdicts[0].why.holds, found.verdicts[0].why.found) == (True, HIDDEN)
    assert explain([rule({"keyword": keyword, "exists": False})], Dataset()).verdicts[0].why.found == "absent"


def test_values_that_many_share_are_shown() -> None:
    """Age and sex are what rules are about."""
    found = explain([rule({"keyword": "PatientAge", "matches": "0.*"})], header(PatientAge="012Y"))
    assert found.verdicts[0].why.found == "012Y"


def test_shown_values_are_short_and_printable() -> None:
    """A value cannot fill the screen or move the cursor."""
    found = explain([rule({"keyword": "ImageComments", "exists": True})], header(ImageComments="\x1b[2J" + "x" * 99))
    assert found.verdicts[0].why.found == "?[2J" + "x" * 76 + "…"


def test_no_rule_and_own_results_are_told() -> None:
    """Without a rule the modality is named; a result of vesselq is left out although a rule holds."""
    assert explain([], header(Modality="US")).decision == "left out: no rule wants it (Modality US)"
    own = explain([rule({"keyword": "Modality", "equals": "SEG"})], header(Modality="SEG", Manufacturer="vesselq"))
    assert own.own_result
    assert (own.rule, own.verdicts[0].holds) == ("", True)


def test_rules_in_words() -> None:
    """What a rule does names segmenter, destinations and priority, or the reason to leave a series out."""
    wanted = rule(
        {"keyword": "Modality", "equals": "XA"}, destinations=["pacs", "sender"], priority=100, prompt="the LAD"
    )
    assert outcome_of(wanted) == "segmented by ridge, sent to pacs, sender, priority 100"
    assert "the LAD" in described(wanted).asked
    assert outcome_of(rule({"keyword": "Modality", "equals": "XA"}, destinations=[])) == "segmented by ridge, kept here"
    words = {one.rule: one for one in map(described, DEFAULT_RULES)}
    assert words["not-images"].outcome.startswith("left out: not an image")
    assert words["own-results"].when == "Manufacturer is one of vesselq"
    assert not words["own-results"].asked


def test_headers_of_files(tmp_path: Path) -> None:
    """The beginning of a file is enough; what is none is refused in a sentence."""
    (path,) = dicom_sources.save(dicom_sources.xa_still(rows=32, columns=32), tmp_path)
    assert header_of_file(path).Modality == "XA"
    assert "PixelData" not in header_of_file(path)
    begin = path.read_bytes()[:-500]
    assert header_of_bytes(begin).SOPInstanceUID == header_of_file(path).SOPInstanceUID
    with pytest.raises(SourceError, match="no DICOM file"):
        header_of_bytes(b"%PDF-1.7 and so on" * 50)
    with pytest.raises(NotFoundError):
        header_of_file(tmp_path / "missing.dcm")


@pytest.mark.parametrize("cut", [140, 200, 333, 700])
def test_damaged_headers_end_in_words(tmp_path: Path, cut: int) -> None:
    """A file that ends in the middle of its header gives what is there or a sentence, never another error."""
    (path,) = dicom_sources.save(dicom_sources.xa_still(rows=8, columns=8), tmp_path)
    try:
        found = explain(DEFAULT_RULES, header_of_bytes(path.read_bytes()[:cut])).decision
    except SourceError as error:
        found = str(error)
    assert found.startswith(("left out: ", "segmented by ", "the header of this file cannot be read"))


def test_headers_in_json() -> None:
    """The DICOM JSON Model is taken; other JSON is refused in a sentence."""
    made = header_of_json({"00080060": {"vr": "CS", "Value": ["XA"]}})
    assert explain(DEFAULT_RULES, made).rule == "xray-angiography"
    for odd in (
        {"00080060": 5},
        {"x": {"vr": "CS"}},
        {"00080060": {"vr": "CS", "Value": "XA", "more": 1, "BulkDataURI": 2}},
    ):
        with pytest.raises(SourceError, match="DICOM JSON"):
            header_of_json(odd)


def test_rules_of_a_text() -> None:
    """The rules of a TOML text are read, with destinations that stand beside them."""
    (found,) = read_rules(XA_RULE, Settings())
    assert (found.name, found.priority) == ("angio", 50)
    named = XA_RULE + 'destinations = ["vna"]\n'
    with pytest.raises(ConfigurationError, match=r"rule 1 \(angio\): there is no destination vna"):
        read_rules(named, Settings())
    beside = '\n[[destinations]]\nname = "vna"\nkind = "folder"\npath = "x"\n'
    assert read_rules(named + beside, Settings())[0].destinations == ("vna",)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("rules = ", "not TOML"),
        ("[listener]\nport = 1\n", "no \\[\\[rules\\]\\]"),
        ("rules = [1]", "rule 1: "),
        (
            '[[rules]]\nname = "a"\nwhen = { keyword = "Modalty", equals = "x" }\nsegmenter = "ridge"\n',
            "no DICOM keyword",
        ),
        (XA_RULE + XA_RULE, "rule 2 .angio.: the name is used twice"),
        (XA_RULE.replace('"ridge"', '"nonsense"'), "rule 1 .angio.: .*nonsense"),
        (XA_RULE + "weight = 1\n", "rule 1 .angio., weight"),
    ],
)
def test_wrong_rules_are_told_by_name(text: str, said: str) -> None:
    """Each mistake names the rule."""
    with pytest.raises(ConfigurationError, match=said):
        read_rules(text, Settings())


def test_models_of_a_text_are_not_opened() -> None:
    """A text from the web cannot have a folder of this machine opened as a model."""
    text = XA_RULE.replace('"ridge"', '"mine"') + '\n[models.mine]\nsystem = "torchscript"\nfolder = "/etc"\n'
    with pytest.raises(ConfigurationError, match="mine"):
        read_rules(text, Settings())


@pytest.fixture(scope="module")
def trial_site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Settings, Record]]:
    """A site with two angiograms and a fundus picture, and rules that want angiograms. Dry runs leave it as it is."""
    settings = worker_bench.settings_for(
        tmp_path_factory.mktemp("site"),
        rules=[{"name": "xa", "when": {"keyword": "Modality", "equals": "XA"}, "segmenter": "ridge"}],
    )
    record = worker_bench.fresh_record(settings)
    worker_bench.receive(settings, record, dicom_sources.xa_still(rows=8, columns=8))
    worker_bench.receive(settings, record, dicom_sources.xa_still(rows=8, columns=8, SeriesDescription="left coronary"))
    worker_bench.receive(settings, record, dicom_sources.op_rgb(rows=8, columns=8))
    yield settings, record
    record.close()


def run_trial(site: tuple[Settings, Record], *rules: Rule, days: float = 7, most: int = 100) -> Trial:
    settings, record = site
    return try_rules(record, Spool(settings.spool_folder), settings.rules, rules, days=days, most_studies=most)


def test_a_dry_run_tells_the_difference(trial_site: tuple[Settings, Record]) -> None:
    """Series that would be treated otherwise are listed with both decisions; nothing is written."""
    _, record = trial_site
    left = rule({"keyword": "SeriesDescription", "contains": "left"}, name="left", priority=9)
    eye = rule({"keyword": "Modality", "equals": "OP"}, name="eye")
    unused = rule({"keyword": "Modality", "equals": "MR"}, name="mr")
    found = run_trial(trial_site, left, eye, unused)
    assert (found.studies, found.series, found.same, found.unknown) == (3, 3, 0, 0)
    told = {(one.modality, one.now.rule, one.then.rule) for one in found.changed}
    assert told == {("XA", "xa", ""), ("XA", "xa", "left"), ("OP", "", "eye")}
    assert (found.segmented_now, found.segmented_then) == ({"xa": 2}, {"left": 1, "eye": 1})
    assert found.unused == ("mr",)
    assert run_trial(trial_site, *trial_site[0].rules).same == 3
    assert reports.jobs(record) == []


def test_a_dry_run_looks_at_so_many_days_and_studies(trial_site: tuple[Settings, Record]) -> None:
    """The newest studies when there are more; none from before."""
    assert run_trial(trial_site, *trial_site[0].rules, most=2).studies == 2
    assert run_trial(trial_site, *trial_site[0].rules, days=1e-9).studies == 0


def test_a_dry_run_says_what_cannot_be_told(trial_site: tuple[Settings, Record], tmp_path: Path) -> None:
    """Series whose files are gone are counted, not guessed."""
    settings, record = trial_site
    assert run_trial((settings.model_copy(update={"data_folder": tmp_path}), record), *settings.rules).unknown == 3


def test_rules_from_the_web_run_in_a_process_of_their_own(
    trial_site: tuple[Settings, Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A pattern that looks for ever is ended with a sentence; others give the answer of the command."""
    settings, _ = trial_site
    # the bench names a segmenter of the tests, which the process that is started would not find
    answer = try_in_process(settings.model_copy(update={"models": {}}), XA_RULE, days=7, most_studies=100)
    assert (answer["series"], len(answer["changed"])) == (3, 2)
    assert answer["changed"][0]["then"]["outcome"] == "segmented by ridge, sent to sender, priority 50"

    def for_ever(*arguments: Any, timeout: float, **_: Any) -> None:
        raise subprocess.TimeoutExpired(arguments[0], timeout)

    monkeypatch.setattr(rule_trial_process.subprocess, "run", for_ever)
    with pytest.raises(ConfigurationError, match="ended after 60 seconds"):
        try_in_process(settings, XA_RULE, days=7, most_studies=100)

"""Help, versions, exit codes of usage, and errors as sentences."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from console import cli, options
from console.cli import app

HEAVY = ("torch", "sqlalchemy", "pynetdicom", "fastapi", "celery", "highdicom", "pydantic", "numpy", "redis")
COMMANDS = (
    ["up"], ["listener"], ["dispatcher"], ["worker"], ["web"], ["demo"], ["send"], ["segment"], ["studies"],
    ["studies", "close"], ["jobs"], ["jobs", "priority"], ["jobs", "resend"], ["retry"], ["cancel"],
    ["top"], ["peers"], ["peers", "check"], ["peers", "resend"], ["rules"], ["rules", "explain"], ["rules", "try"],
    ["audit"], ["audit", "verify"], ["audit", "checkpoint"], ["audit", "archive"],
    ["db"], ["db", "upgrade"], ["db", "grant"],
    ["users"], ["users", "list"], ["users", "add"], ["users", "roles"], ["users", "password"], ["users", "disable"],
    ["users", "enable"], ["tokens"], ["tokens", "list"], ["tokens", "create"], ["tokens", "revoke"],
    ["config"], ["config", "init"], ["config", "check"], ["doctor"], ["models"], ["models", "list"],
    ["models", "show"], ["models", "convert"], ["models", "verify"], ["models", "predict"], ["models", "benchmark"],
    ["models", "export-onnx"], ["seg"], ["seg", "show"], ["seg", "compare"], ["version"],
)  # fmt: skip


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_every_command_has_help(command: list[str]) -> None:
    """`--help` of every command tells what it is for."""
    result = CliRunner().invoke(app, [*command, "--help"])
    assert result.exit_code == 0
    assert "Usage:" in result.stdout
    assert len(result.stdout.split("\n\n")[1].strip()) > 20, "there is a sentence about it"


def test_help_imports_nothing_heavy() -> None:
    """Asking every command for help loads none of the libraries that make a start slow."""
    script = f"""
import sys
from typer.testing import CliRunner
from console.cli import app
for command in {list(COMMANDS)!r}:
    assert CliRunner().invoke(app, [*command, "--help"]).exit_code == 0, command
print(sorted(set({HEAVY!r}) & set(sys.modules)))
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_exit_codes_are_documented() -> None:
    """`vesselq --help` says what the exit codes mean."""
    text = " ".join(CliRunner().invoke(app, ["--help"]).stdout.split())
    for meaning in ("0 ok", "1 the answer is no", "2 usage", "3 a needed service", "4 not found", "5 the record"):
        assert meaning in text


@pytest.mark.parametrize(
    "arguments",
    [["nonsense"], ["retry"], ["jobs", "--limit", "0"], ["jobs", "--unknown"], ["worker", "--queues", "coffee"]],
    ids=" ".join,
)
def test_usage_errors_end_with_2(arguments: list[str]) -> None:
    """What is not understood ends with 2 and a hint, without a trace."""
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 2
    assert "Traceback" not in result.output


def test_version() -> None:
    """`version --json` names vesselq and its libraries; `--version` the program alone."""
    result = CliRunner().invoke(app, ["version", "--json"])
    assert result.exit_code == 0
    assert {"vesselq", "python", "pydicom", "pynetdicom", "torch"} <= set(json.loads(result.stdout))
    assert CliRunner().invoke(app, ["--version"]).stdout.startswith("vesselq ")


def test_wrong_settings_are_told_with_their_lines(tmp_path: Path) -> None:
    """All mistakes of a settings file come at once, with file and line, and exit code 2, from any command."""
    file = tmp_path / "vesselq.toml"
    file.write_text('[listener]\nport = "many"\ncolour = "blue"\n', encoding="utf-8")
    for command in (["config", "check"], ["studies"], ["doctor"]):
        result = CliRunner().invoke(app, [*command, "--config", str(file)])
        assert result.exit_code == 2
        assert f"{file}:2: listener.port" in result.stderr
        assert f"{file}:3: listener.colour: no such setting" in result.stderr
        assert "Traceback" not in result.stderr


MISTAKES = """\
[listener]
port = "many"

[[peers]]
name = "pacs"
ae_title = "PACS"
addresses = ["192.0.2.1", "10.0.0.0/33"]

[[rules]]
name = "one"
segmenter = "magic"
destinations = ["nowhere"]
[rules.when]
keyword = "Modality"
exists = true

[models.wand]
length = 1

[models.ridge]
colour = "blue"
size = 2
"""


@pytest.mark.parametrize("with_field_error", [True, False])
def test_config_check_finds_everything_at_once(tmp_path: Path, with_field_error: bool) -> None:
    """Segmenters, their keywords, addresses and names are checked together, whether or not fields are wrong."""
    file = tmp_path / "vesselq.toml"
    text = MISTAKES if with_field_error else MISTAKES.replace('"many"', "104").replace("/33", "/8")
    file.write_text(text, encoding="utf-8")
    result = CliRunner().invoke(app, ["config", "check", "--config", str(file), "--json"])
    assert result.exit_code == 2
    found = json.loads(result.stdout)
    assert found["valid"] is False
    told = {problem["where"]: problem["text"] for problem in found["problems"]}
    expected = {
        f"{file}:12": "rules[0].destinations: there is no destination nowhere; known are sender",
    }
    if with_field_error:
        expected[f"{file}:2"] = "listener.port: Input should be a valid integer"
        expected[f"{file}:7"] = "peers[0].addresses: '10.0.0.0/33'"
    expected[f"{file}:11"] = "rules[0].segmenter: There is no segmenter 'magic'"
    expected[f"{file}:17"] = "models.wand: There is no segmenter 'wand'"
    expected[f"{file}:21"] = "models.ridge.colour: [models.ridge] knows no setting 'colour'"
    expected[f"{file}:22"] = "models.ridge.size: [models.ridge] knows no setting 'size'"
    assert told.keys() == expected.keys()
    for where, start in expected.items():
        assert told[where].startswith(start)
    in_words = CliRunner().invoke(app, ["config", "check", "--config", str(file)])
    assert in_words.exit_code == 2
    for where, said in told.items():
        assert f"{where}: {said}" in in_words.stderr


def test_config_check_of_models_alone(tmp_path: Path) -> None:
    """A file whose fields are all right still fails for a segmenter that is not there."""
    file = tmp_path / "vesselq.toml"
    file.write_text("[models.wand]\n", encoding="utf-8")
    result = CliRunner().invoke(app, ["config", "check", "--config", str(file)])
    assert result.exit_code == 2
    assert f"{file}:1: models.wand: There is no segmenter 'wand'" in result.stderr


def test_config_check_blames_the_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A keyword that a segmenter does not have is told with the variable that gives it."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("VESSELQ_MODELS__RIDGE__COLOUR", "blue")
    result = CliRunner().invoke(app, ["config", "check", "--json"])
    assert result.exit_code == 2
    (problem,) = json.loads(result.stdout)["problems"]
    assert problem["where"] == "environment: VESSELQ_MODELS__RIDGE__COLOUR"
    assert problem["text"].startswith("models.ridge.colour: ")


@pytest.mark.parametrize(("content", "said"), [("a = ?", "not valid TOML"), (None, "cannot be read")])
def test_config_check_of_no_settings_file(tmp_path: Path, content: str | None, said: str) -> None:
    """With --json a file that is missing or no TOML is one problem of that file."""
    file = tmp_path / "vesselq.toml"
    if content:
        file.write_text(content, encoding="utf-8")
    result = CliRunner().invoke(app, ["config", "check", "--config", str(file), "--json"])
    assert result.exit_code == 2
    (problem,) = json.loads(result.stdout)["problems"]
    assert problem["where"] == str(file)
    assert problem["text"].startswith(said)


def test_unreachable_database_ends_with_3(tmp_path: Path) -> None:
    """A database that cannot be opened is a service that does not answer."""
    file = tmp_path / "vesselq.toml"
    file.write_text(f'database_url = "sqlite:///{tmp_path}/nowhere/x.sqlite3"\n', encoding="utf-8")
    result = CliRunner().invoke(app, ["jobs", "--config", str(file)])
    assert result.exit_code == 3, result.output
    assert "database does not answer" in result.stderr


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("127.0.0.1:104", ("127.0.0.1", 104)),
        ("pacs.example.org:11112", ("pacs.example.org", 11112)),
        ("[::1]:1", ("::1", 1)),
    ],
)
def test_peer_address(text: str, expected: tuple[str, int]) -> None:
    """HOST:PORT is split at the last colon; IPv6 addresses stand in brackets."""
    assert options.peer_address(text) == expected


@pytest.mark.parametrize("text", ["pacs", "pacs:", ":104", "pacs:0", "pacs:65536", "pacs:dicom"])
def test_send_refuses_what_is_no_address(text: str, tmp_path: Path) -> None:
    """`send --to` without a usable port ends with 2 before any file is looked at."""
    result = CliRunner().invoke(app, ["send", str(tmp_path), "--to", text, "--called", "PACS"])
    assert result.exit_code == 2
    assert "HOST:PORT" in result.stderr


def test_send_refuses_long_ae_titles(tmp_path: Path) -> None:
    """An AE title of more than 16 characters ends with 2."""
    result = CliRunner().invoke(app, ["send", str(tmp_path), "--to", "a:1", "--called", "SEVENTEENLETTERSX"])
    assert result.exit_code == 2
    assert "AE title" in result.stderr


def test_send_without_dicom_files(tmp_path: Path) -> None:
    """`send` of a folder without DICOM files, or of nothing that exists, ends with 4."""
    (tmp_path / "note.txt").write_text("no image")
    for place in (tmp_path, tmp_path / "missing"):
        result = CliRunner().invoke(app, ["send", str(place), "--to", "127.0.0.1:1", "--called", "PACS"])
        assert result.exit_code == 4
        assert result.stderr.count("\n") == 1


def test_config_check_of_prompts_and_chains(tmp_path: Path) -> None:
    """What a segmenter cannot be asked, and what cannot refine another: each at its key of the rule."""
    file = tmp_path / "vesselq.toml"
    when = 'when = { keyword = "Modality", exists = true }'
    rules = [
        'segmenter = "ridge"\nprompt = "vessels"',
        'segmenter = "ridge"\nchain = ["vesselnet"]',
        'segmenter = "ridge"\nchain = ["magic"]',
        'segmenter = "tuned"\nprompt = { questions = [{ text = "x", segment = "artery" }] }',
    ]
    text = "\n".join(f'[[rules]]\nname = "rule{number}"\n{when}\n{rule}' for number, rule in enumerate(rules))
    file.write_text(f'{text}\n[models.tuned]\nsystem = "ridge"\nthreshold = 0.4\n[models."tuned+ridge"]\nnear = 1\n')
    result = CliRunner().invoke(app, ["config", "check", "--config", str(file), "--json"])
    told = [problem["text"] for problem in json.loads(result.stdout)["problems"]]
    expected = [
        "rules[0].prompt: The segmenter ridge cannot be asked by text: it takes no prompt",
        "rules[1].chain: The segmenter vesselnet cannot refine another: it takes no boxes",
        "rules[2].chain: There is no segmenter 'magic'; known are: ",
        "rules[3].prompt: The segmenter ridge cannot be asked by text",
    ]
    assert len(told) == len(expected)
    assert all(text.startswith(start) for text, start in zip(told, expected, strict=True))


def test_program_keeps_the_libraries_of_models_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """Every process of vesselq begins here; libraries read the variable when they are imported, so it comes first."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    seen = []
    monkeypatch.setattr(cli, "app", lambda: seen.append(os.environ["HF_HUB_OFFLINE"]))
    before = os.umask(0o022)
    try:
        cli.main()
    finally:
        os.umask(before)
    assert seen == ["1"]


def test_a_file_is_no_data_folder(tmp_path: Path) -> None:
    """`demo` says so before it starts anything; `doctor` does not praise the space on the disk of the file."""
    file = tmp_path / "notes"
    file.write_text("nothing")
    demo = CliRunner().invoke(app, ["demo", "--data-folder", str(file)])
    assert (demo.exit_code, "cannot be made" in demo.stderr) == (2, True), demo.output
    doctor = CliRunner().invoke(app, ["doctor", "--data-folder", str(file), "--json"])
    found = {one["what"]: one for one in json.loads(doctor.stdout)["findings"]}
    assert (doctor.exit_code, found["spool"]["health"]) == (3, "fails")


def test_who_may_not_read_the_data_folder_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    """It belongs to the user of the processes: who forgets to become that one gets a sentence with the name in it."""
    refused = PermissionError(13, "Permission denied", "/data/vesselq.sqlite3")

    def refuse(*_: object) -> None:
        raise refused

    monkeypatch.setattr(options, "settings_of", refuse)
    monkeypatch.setattr(options, "person", lambda: "grace")
    for command in (["studies"], ["doctor"], ["web"], ["tls", "show"], ["users", "list"]):
        result = CliRunner().invoke(app, command)
        assert result.exit_code == 2
        assert result.stderr == "vesselq: grace may not use /data/vesselq.sqlite3; run this as the user of vesselq\n"

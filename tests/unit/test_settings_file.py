"""Reading vesselq.toml, the environment and secret files; saying all that is wrong at once."""

import os
from pathlib import Path

import pytest

from dicom_core.errors import ConfigurationError
from dicom_core.settings_file import find_settings_file, load_settings

GOOD = """\
log_level = "DEBUG"

[listener]
ae_title = "FILE"
port = 1104

[[peers]]
name = "scanner"
ae_title = "SCANNER"
"""
BAD = """\
# a comment = not a key
log_level = "LOUD"
unknown_top = 1

[listener]
port = "eleven"
bla = true

[[peers]]
name = "good"
ae_title = "GOOD"

[[peers]]
name = "Not Good"
ae_title = "X"

[[destinations]]
name = "out"
kind = "folder"

[[rules]]
name = "r"
segmenter = "ridge"
[rules.when]
keyword = "Modalty"
equals = "CT"
"""


@pytest.fixture(autouse=True)
def clean_environment(monkeypatch, tmp_path):
    """No settings from outside."""
    for name in list(os.environ):
        if name.startswith("VESSELQ_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def _file(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "vesselq.toml"
    path.write_text(text, encoding="utf-8")
    return path


def _complaints(path: Path | None = None) -> list[str]:
    with pytest.raises(ConfigurationError) as caught:
        load_settings(path)
    return str(caught.value).splitlines()


def test_the_file_is_found(monkeypatch, tmp_path):
    """Asked for, else VESSELQ_CONFIG, else the working folder, else none."""
    assert find_settings_file(Path("x")) == Path("x")
    assert find_settings_file(None) in (None, Path("/etc/vesselq/vesselq.toml"))
    _file(tmp_path, GOOD)
    assert find_settings_file(None) == Path("vesselq.toml")
    monkeypatch.setenv("VESSELQ_CONFIG", "/else/where.toml")
    assert find_settings_file(None) == Path("/else/where.toml")


def test_values_of_the_file_are_read(tmp_path):
    """Tables, arrays of tables, defaults for the rest."""
    settings = load_settings(_file(tmp_path, GOOD))
    assert (settings.log_level, settings.listener.ae_title, settings.listener.port) == ("DEBUG", "FILE", 1104)
    assert settings.peers[0].name == "scanner"
    assert settings.listener.commit_batch == 64


def test_the_environment_wins_over_the_file_value_by_value(tmp_path, monkeypatch):
    """One variable replaces one value; its neighbours in the same table stay as the file says."""
    monkeypatch.setenv("VESSELQ_LISTENER__PORT", "2104")
    settings = load_settings(_file(tmp_path, GOOD), {"log_level": "ERROR"})
    assert (settings.listener.port, settings.listener.ae_title) == (2104, "FILE")
    assert settings.log_level == "ERROR"
    monkeypatch.setenv("VESSELQ_LOG_LEVEL", "WARNING")
    assert load_settings(_file(tmp_path, GOOD), {"log_level": "ERROR"}).log_level == "WARNING"


def test_secrets_come_from_files_and_win(tmp_path, monkeypatch):
    """``VESSELQ_..._FILE`` names a file; its content without the line end is the value, at every level."""
    (tmp_path / "url").write_text("postgresql://u:secret@db/vesselq\n")
    (tmp_path / "port").write_text("3104\n")
    monkeypatch.setenv("VESSELQ_DATABASE_URL", "sqlite:///other")
    monkeypatch.setenv("VESSELQ_DATABASE_URL_FILE", str(tmp_path / "url"))
    monkeypatch.setenv("VESSELQ_LISTENER__PORT_FILE", str(tmp_path / "port"))
    settings = load_settings(_file(tmp_path, GOOD))
    assert settings.database_url == "postgresql://u:secret@db/vesselq"
    assert (settings.listener.port, settings.listener.ae_title) == (3104, "FILE")


def test_all_errors_are_reported_at_once_with_their_lines(tmp_path, monkeypatch):
    """One line each: where, what, why."""
    monkeypatch.setenv("VESSELQ_NONSENSE", "1")
    path = _file(tmp_path, BAD)
    lines = _complaints(path)
    expected = {
        "environment: VESSELQ_NONSENSE is no setting": 1,
        f"{path}:2: log_level: ": 1,
        f"{path}:3: unknown_top: no such setting": 1,
        f"{path}:6: listener.port: ": 1,
        f"{path}:7: listener.bla: no such setting": 1,
        f"{path}:14: peers[1].name: ": 1,
        f"{path}:17: destinations[0].path: ": 1,
        f"{path}:25: rules[0].when.keyword: 'Modalty' is no DICOM keyword": 1,
    }
    found = {start: sum(line.startswith(start) for line in lines) for start in expected}
    assert found == expected, lines
    assert len(lines) == len(expected)


def test_no_value_is_repeated_in_a_complaint(monkeypatch):
    """A wrong secret does not land in a log."""
    monkeypatch.setenv("VESSELQ_DESTINATIONS", '[{"name": "w", "kind": "stow_rs", "url": "ftp://u:hunter2@x"}]')
    assert "hunter2" not in "\n".join(_complaints())


def test_a_file_that_is_no_toml_says_where(tmp_path):
    """Line and column come from the parser."""
    assert "line 2" in _complaints(_file(tmp_path, "a = 1\nb = ?\n"))[0]


@pytest.mark.parametrize("content", [b"\xff\xfe", b"name = '\xe9'"])
def test_a_file_that_is_no_utf8_says_so(tmp_path, content):
    """An editor's other encoding."""
    path = tmp_path / "vesselq.toml"
    path.write_bytes(content)
    assert "not UTF-8" in _complaints(path)[0]


def test_a_missing_file_says_how_to_make_one(tmp_path):
    """The command that writes an example is named."""
    assert "vesselq config init" in _complaints(tmp_path / "missing.toml")[0]


@pytest.mark.parametrize(
    ("variable", "value", "complaint"),
    [
        ("VESSELQ_REDIS_URL_FILE", "/does/not/exist", "/does/not/exist, named by"),
        ("VESSELQ_LISTENER", "no json", "written as JSON"),
        ("VESSELQ_LISTENER__NOPE", "1", "listener.nope: no such setting"),
        ("VESSELQ_WORKR__DEVICE", "cpu", "VESSELQ_WORKR__DEVICE is no setting"),
        ("VESSELQ_LISTENER__PORT", "x", "listener.port: Input should be a valid integer"),
    ],
)
def test_wrong_variables_are_named(monkeypatch, variable, value, complaint):
    """A typing error in a container's environment does not pass silently."""
    monkeypatch.setenv(variable, value)
    assert complaint in _complaints()[0]


def test_variables_that_are_no_settings_are_known(monkeypatch):
    """Where the file is, where the test data are."""
    monkeypatch.setenv("VESSELQ_SHARED", "/somewhere")
    load_settings()

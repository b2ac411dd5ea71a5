"""Reading vesselq.toml, the environment and secret files; saying all that is wrong at once."""

import os
from pathlib import Path

import pytest

from dicom_core.errors import ConfigurationError
from dicom_core.settings_file import examine_settings, find_settings_file, load_settings

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


@pytest.mark.parametrize(
    ("variable", "value", "start"),
    [
        ("VESSELQ_LISTENER__PORT", "x", "environment: VESSELQ_LISTENER__PORT: listener.port: "),
        ("VESSELQ_LISTENER", '{"port": "x"}', "environment: VESSELQ_LISTENER: listener.port: "),
        ("VESSELQ_LOG_LEVEL", "LOUD", "environment: VESSELQ_LOG_LEVEL: log_level: "),
        ("VESSELQ_PEERS", '[{"name": "A"}]', "environment: VESSELQ_PEERS: peers[0]."),
        ("VESSELQ_RULES", '[{"name": "r", "destinations": ["x"]}]', "environment: VESSELQ_RULES: rules[0]."),
    ],
)
def test_a_wrong_variable_is_blamed_and_not_the_file(tmp_path, monkeypatch, variable, value, start):
    """The file is right; the variable that overrides it is named."""
    monkeypatch.setenv(variable, value)
    assert all(line.startswith(start) for line in _complaints(_file(tmp_path, GOOD)))


def test_a_secret_file_with_a_wrong_value_is_blamed(tmp_path, monkeypatch):
    """By the variable that names it, without its content."""
    (tmp_path / "port").write_text("hunter2\n")
    monkeypatch.setenv("VESSELQ_LISTENER__PORT_FILE", str(tmp_path / "port"))
    (line,) = _complaints(_file(tmp_path, GOOD))
    assert line.startswith("environment: VESSELQ_LISTENER__PORT_FILE: listener.port: ")
    assert "hunter2" not in line


def test_the_file_is_blamed_for_what_the_variable_does_not_give(tmp_path, monkeypatch):
    """A table in a variable replaces only its own keys."""
    monkeypatch.setenv("VESSELQ_LISTENER", '{"ae_title": "X"}')
    path = _file(tmp_path, '[listener]\nport = "eleven"\n')
    assert _complaints(path)[0].startswith(f"{path}:2: listener.port: ")


def test_names_are_checked_line_by_line_though_fields_are_wrong(tmp_path):
    """Doubled names and unknown destinations each have a line of their own beside a wrong field."""
    text = BAD + 'destinations = ["x"]\n[[rules]]\nname = "r"\ndestinations = ["nowhere"]\n'
    path = _file(tmp_path, text.replace("[rules.when]", 'destinations = ["out", "lost"]\n[rules.when]'))
    lines = _complaints(path)
    assert f"{path}:24: rules[0].destinations: there is no destination lost; known are out, sender" in lines
    assert f"{path}:30: rules[1].name: the name r is used twice" in lines
    assert f"{path}:31: rules[1].destinations: there is no destination nowhere; known are out, sender" in lines
    assert any(line.startswith(f"{path}:6: listener.port: ") for line in lines)


def test_further_checks_see_wrong_settings_too(tmp_path, monkeypatch):
    """They get the values of the file, less what the environment replaces; what they say has its line."""
    seen = []

    def check(values):
        seen.append(values)
        return [(("listener", "port"), "not today")]

    path = _file(tmp_path, GOOD.replace("1104", '"x"'))
    settings, problems = examine_settings(path, further=check)
    assert settings is None
    assert [problem.where for problem in problems] == [f"{path}:5", f"{path}:5"]
    assert str(problems[-1]) == f"{path}:5: listener.port: not today"
    assert seen[0]["listener"]["port"] == "x"
    monkeypatch.setenv("VESSELQ_LISTENER__PORT", "y")
    examine_settings(path, further=check)
    assert "listener" not in seen[1]
    assert "peers" in seen[1]


def test_variables_that_are_no_settings_are_known(monkeypatch):
    """Where the file is, where the test data are."""
    monkeypatch.setenv("VESSELQ_SHARED", "/somewhere")
    load_settings()

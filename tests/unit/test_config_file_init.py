"""`vesselq config init` writes a file that explains every setting and loads as it is and uncommented."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import BaseModel
from typer.testing import CliRunner

from console.cli import app
from console.settings_example import example
from dicom_core.settings import Settings
from dicom_core.settings_file import load_settings


def uncommented(text: str) -> str:
    """The text with every setting switched on."""
    return re.sub(r"(?m)^#(?=[a-z_\[])", "", text)


def tables_of(model: BaseModel, path: str = "") -> Iterator[tuple[str, BaseModel]]:
    """Every table below, with its name in the file."""
    for name in type(model).model_fields:
        value = getattr(model, name)
        if isinstance(value, BaseModel):
            yield path + name, value
            yield from tables_of(value, f"{path}{name}.")


@pytest.fixture(autouse=True)
def _no_other_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("VESSELQ_CONFIG", raising=False)


def test_the_example_loads_and_changes_nothing(tmp_path: Path) -> None:
    """As written, the file gives the defaults."""
    assert CliRunner().invoke(app, ["config", "init"]).exit_code == 0
    assert load_settings(tmp_path / "vesselq.toml") == load_settings(Path("/dev/null"))


def test_every_setting_uncommented_loads(tmp_path: Path) -> None:
    """With every line switched on, tables and rules are the defaults, and the examples are there."""
    file = tmp_path / "full.toml"
    file.write_text(uncommented(example()), encoding="utf-8")
    settings, defaults = load_settings(file), load_settings(Path("/dev/null"))
    assert settings.rules == defaults.rules
    assert [one.kind for one in settings.destinations] == ["storage_scu", "stow_rs", "folder"]
    assert len(settings.peers) == 1
    for name, field in Settings.model_fields.items():
        if isinstance(field.default, BaseModel):
            assert getattr(settings, name) == field.default, name


def test_every_setting_is_in_the_example() -> None:
    """No setting of any table is forgotten, and each has words of explanation before it."""
    lines = example().splitlines()
    for name, table in tables_of(Settings()):
        for setting, about in type(table).model_fields.items():
            if isinstance(getattr(table, setting), BaseModel):
                assert f"#[{name}.{setting}]" in lines
                continue
            place = next(index for index, line in enumerate(lines) if line.startswith(f"#{setting} = "))
            assert lines[place - 1].startswith("# "), f"{name}.{setting}"
            assert about.description


def test_an_existing_file_is_left_alone(tmp_path: Path) -> None:
    """`config init` ends with 2 when the file is there, and `--force` replaces it."""
    file = tmp_path / "mine.toml"
    file.write_text('log_level = "DEBUG"\n')
    refused = CliRunner().invoke(app, ["config", "init", str(file)])
    assert refused.exit_code == 2
    assert "--force" in refused.stderr
    assert file.read_text() == 'log_level = "DEBUG"\n'
    assert CliRunner().invoke(app, ["config", "init", str(file), "--force"]).exit_code == 0
    assert file.read_text() == example()


def test_to_standard_output() -> None:
    """`config init -` prints the file and writes none."""
    result = CliRunner().invoke(app, ["config", "init", "-"])
    assert result.stdout == example()
    assert not Path("-").exists()


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    """A name in a missing folder ends with 2 and a sentence."""
    result = CliRunner().invoke(app, ["config", "init", str(tmp_path / "missing" / "vesselq.toml")])
    assert result.exit_code == 2
    assert "cannot be written" in result.stderr


def test_check_says_what_is_set_up(tmp_path: Path) -> None:
    """`config check` names peers and destinations, and warns when nobody may send."""
    file = tmp_path / "full.toml"
    file.write_text(uncommented(example()), encoding="utf-8")
    result = CliRunner().invoke(app, ["config", "check", "--config", str(file)])
    assert result.exit_code == 0
    assert "angio-suite" in result.stdout
    assert result.stderr == ""
    assert "accepts nobody" in CliRunner().invoke(app, ["config", "check"]).stderr

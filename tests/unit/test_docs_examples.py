"""What the documentation shows can be done: commands exist, settings load, code runs."""

import importlib.util
import itertools
import re
import shlex
import shutil
import sqlite3
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from doc_pages import DOCS, PAGES, REFERENCE, ROOT, blocks, page_name
from typer.core import TyperGroup

from console.cli import app
from dicom_core.settings_file import load_settings
from worker.image_stack import Arrangement, FrameIdentity, ImageStack, Imaging
from worker.segmenters.interface import Prompt


def _commands() -> dict[str, Any]:
    root = typer.main.get_command(app)
    found: dict[str, Any] = {}

    def visit(command: Any, context: Any) -> None:
        found[context.command_path] = command
        if isinstance(command, TyperGroup):
            for name in command.list_commands(context):
                member = command.get_command(context, name)
                visit(member, typer.Context(member, parent=context, info_name=name))

    visit(root, typer.Context(root, info_name="vesselq"))
    return found


def test_every_command_has_its_section() -> None:
    """Each command of the program, and nothing else, has a section in cli.md with all its options."""
    text = (REFERENCE / "cli.md").read_text(encoding="utf-8")
    sections = dict(re.findall(r"^## `(vesselq[^`]*)`\n(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL))
    commands = _commands()
    assert set(sections) == set(commands)
    for name, command in commands.items():
        for parameter in command.params:
            if parameter.param_type_name == "option":
                assert parameter.opts[0] in sections[name], f"{name} {parameter.opts[0]}"


def _shown_commands() -> list[tuple[str, str]]:
    """``(page, line)`` of every command of vesselq that a page shows in a block of a shell."""
    shown = []
    for page in PAGES:
        for block in blocks(page, "sh", "bash", "console"):
            for line in block.replace("\\\n", " ").splitlines():
                words = re.sub(r"^(?:\$ |[A-Z_]+=\S+ )+", "", line.strip())
                if words.startswith("vesselq "):
                    shown.append((page_name(page), words))
    return shown


@pytest.mark.parametrize(("page", "line"), _shown_commands())
def test_shown_commands_exist(page: str, line: str) -> None:
    """A command line in the documentation names a command that exists and options that it takes."""
    words = shlex.split(line, comments=True)
    commands = _commands()
    name = "vesselq"
    rest = words[1:]
    while rest and f"{name} {rest[0]}" in commands:
        name = f"{name} {rest.pop(0)}"
    command = commands[name]
    alone = name.split()[-1] in ("audit", "studies", "jobs", "peers", "rules")  # groups that are commands as well
    assert alone or not isinstance(command, TyperGroup), f"{page}: {line}: {name} needs a command"
    options = {option for parameter in command.params for option in parameter.opts}
    given = {word.partition("=")[0] for word in rest if word.startswith("--")}
    assert given <= options, f"{page}: {line}"
    if alone:
        assert all(word.startswith("--") or before.startswith("--") for before, word in itertools.pairwise(rest))
        assert not rest or rest[0].startswith("--"), f"{page}: {line}"


def test_commands_are_shown_at_all() -> None:
    """The test above has something to look at: the pages show the main commands."""
    shown = {" ".join(line.split()[:2]) for _, line in _shown_commands()}
    assert {"vesselq up", "vesselq config", "vesselq doctor", "vesselq send", "vesselq audit", "vesselq jobs"} <= shown


def _toml_blocks() -> list[tuple[str, str]]:
    return [(page_name(page), block) for page in PAGES for block in blocks(page, "toml")]


@pytest.mark.parametrize(("page", "block"), _toml_blocks())
def test_shown_settings_are_valid(page: str, block: str, tmp_path: Path) -> None:
    """A settings file in the documentation can be used as it is."""
    file = tmp_path / "vesselq.toml"
    file.write_text(block, encoding="utf-8")
    settings = load_settings(file)
    for name, value in tomllib.loads(block).items():
        if isinstance(value, list):
            assert len(getattr(settings, name)) == len(value), page


def test_the_settings_of_the_containers_are_valid() -> None:
    """`docker/vesselq.toml` can be used as it is, and accepts the PACS of the compose file."""
    settings = load_settings(ROOT / "docker" / "vesselq.toml")
    assert [(peer.ae_title, peer.host, peer.port) for peer in settings.peers] == [("ORTHANC", "orthanc", 4242)]


def _example_segmenter(folder: Path) -> Any:
    page = DOCS / "how-to" / "add-a-segmenter.md"
    (code,) = blocks(page, "python")
    file = folder / "bright_vessels.py"
    file.write_text(code, encoding="utf-8")
    specification = importlib.util.spec_from_file_location("bright_vessels", file)
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module.BrightVessels


def test_the_example_segmenter_works(tmp_path: Path) -> None:
    """The class in the guide can be copied: it makes a mask of the right shape from a CT volume."""
    segmenter = _example_segmenter(tmp_path)(device="cpu", threshold=100.0)
    pixels = np.zeros((3, 8, 9), np.float32)
    pixels[1, 2:5, 3] = 300
    stack = ImageStack(
        pixels=pixels, arrangement=Arrangement.VOLUME, imaging=Imaging.CT,
        frames=tuple(FrameIdentity(f"1.2.{number}", 1) for number in range(3)), spacing_mm=(1.0, 1.0, 1.0),
    )  # fmt: skip
    found = segmenter.segment(stack, Prompt(), lambda _: None)
    assert np.array_equal(found.mask, (pixels > 100)[None])
    assert found.parameters == {"threshold": "100"}


def test_the_example_package_is_found(tmp_path: Path) -> None:
    """The entry point in the guide names the class in the guide, and vesselq lists it beside its own."""
    (project,) = (tomllib.loads(block) for block in blocks(DOCS / "how-to" / "add-a-segmenter.md", "ini"))
    points = project["project"]["entry-points"]["vesselq.segmenters"]
    _example_segmenter(tmp_path)
    metadata = tmp_path / "vesselq_bright-1.dist-info"
    metadata.mkdir()
    (metadata / "METADATA").write_text("Metadata-Version: 2.1\nName: vesselq-bright\nVersion: 1\n")
    lines = "".join(f"{name} = {value}\n" for name, value in points.items())
    (metadata / "entry_points.txt").write_text(f"[vesselq.segmenters]\n{lines}")
    script = "from worker.segmenters import registry; print(registry.names(), registry.info('bright').summary)"
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True, cwd=ROOT,
        env={"PYTHONPATH": f"{ROOT}:{tmp_path}", "PATH": "/usr/bin:/bin"},
    )  # fmt: skip
    assert "'bright'" in done.stdout
    assert "Everything brighter than a threshold" in done.stdout
    shutil.rmtree(metadata)


def test_the_shown_backup_of_sqlite_works(tmp_path: Path) -> None:
    """The line of the guide copies a database that somebody is writing to."""
    (tmp_path / "data").mkdir()
    writer = sqlite3.connect(tmp_path / "data" / "vesselq.sqlite3")
    writer.execute("PRAGMA journal_mode=WAL")
    writer.execute("CREATE TABLE t (a)")
    writer.execute("INSERT INTO t VALUES (7)")
    writer.commit()
    page = DOCS / "how-to" / "back-up-and-restore.md"
    (line,) = (line for block in blocks(page, "sh") for line in block.splitlines() if line.startswith("python -c"))
    subprocess.run([sys.executable, *shlex.split(line)[1:]], cwd=tmp_path, check=True, timeout=60)
    copy = sqlite3.connect(tmp_path / "backup.sqlite3")
    try:
        assert copy.execute("SELECT a FROM t").fetchall() == [(7,)]
    finally:
        copy.close()
        writer.close()

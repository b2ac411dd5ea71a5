"""The rules that the code has set itself: import contracts, strict types, lint."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def _run(*arguments: str) -> None:
    program = Path(sys.executable).parent / arguments[0]
    if not program.is_file():
        pytest.skip(f"{arguments[0]} is not installed")
    done = subprocess.run([program, *arguments[1:]], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_imports_go_one_way():
    """The contracts of pyproject.toml: rooms in one direction, each library in its room."""
    _run("lint-imports", "--no-cache")


@pytest.mark.timeout(600)
def test_types_are_strict():
    """Mypy finds nothing, strictly."""
    # what it learns is worth keeping only where it is asked again
    _run("mypy", *(["--cache-dir=/dev/null"] if os.environ.get("CI") else []))


def test_lint_finds_nothing():
    """Ruff, with all the rules that pyproject.toml names."""
    _run("ruff", "check", "--no-cache", ".")


def test_code_is_formatted():
    """One style, made by the machine."""
    _run("ruff", "format", "--no-cache", "--check", ".")

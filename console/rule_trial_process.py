"""A dry run of rules that somebody sent over the web, in a process of its own: ``vesselq rules try``.

A regular expression can be written so that it looks for ever, and while it looks it lets no other thread of its process
go on. So rules that are not in the settings are only ever applied in a process that is ended after a while.
"""

import json
import subprocess
import sys
import threading
from typing import Any

from console.child_environment import environment_of
from console.rule_files import read_rules
from dicom_core.errors import ConfigurationError, ConflictError, UnavailableError
from dicom_core.settings import Settings

LONGEST_SECONDS = 60.0
_one_at_a_time = threading.Lock()


def try_in_process(settings: Settings, text: str, *, days: int, most_studies: int) -> dict[str, Any]:
    """What ``vesselq rules try --json`` says of the rules in ``text``.

    Args:
        settings: Of this site.
        text: TOML with ``[[rules]]``.
        days: How far back.
        most_studies: The newest ones, if there are more.

    Raises:
        ConfigurationError: The rules are wrong, or a pattern in them takes too long.
        ConflictError: Another one is under way.
        UnavailableError: The dry run could not be made.
    """
    read_rules(text, settings)  # what is wrong is told at once, and no rule is applied by that
    if not _one_at_a_time.acquire(blocking=False):
        raise ConflictError("another dry run is under way; try again when it is over")
    try:
        return _answer(settings, text, days, most_studies)
    finally:
        _one_at_a_time.release()


def _answer(settings: Settings, text: str, days: int, most_studies: int) -> dict[str, Any]:
    program = [sys.executable, "-m", "console.cli", "rules", "try", "-", "--json"]
    try:
        done = subprocess.run(
            [*program, "--days", str(days), "--most", str(most_studies)],
            input=text, capture_output=True, text=True, timeout=LONGEST_SECONDS, check=False,
            env=environment_of(settings),
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        raise ConfigurationError(
            f"the dry run was ended after {LONGEST_SECONDS:.0f} seconds: a pattern of the rules takes very long, or "
            "these are too many days"
        ) from None
    if done.returncode != 0:
        raise UnavailableError(f"the dry run failed: {done.stderr.strip().removeprefix('vesselq: ')[:500]}")
    answer: dict[str, Any] = json.loads(done.stdout)
    return answer

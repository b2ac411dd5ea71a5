"""What a check of ``vesselq doctor`` says."""

from dataclasses import dataclass
from enum import StrEnum


class Health(StrEnum):
    """How a check ended."""

    OK = "ok"
    WARNING = "warning"
    FAILS = "fails"


@dataclass(frozen=True, slots=True)
class Finding:
    """What one check found.

    Attributes:
        what: The thing that was looked at.
        health: FAILS only for things without which no work gets done.
        found: In words, without secrets and patient data.
        advice: What to do, "" when all is well.
    """

    what: str
    health: Health
    found: str
    advice: str = ""

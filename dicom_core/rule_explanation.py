"""Why a rule holds for a header or does not: every comparison with what was found in the header.

Values are shown to the person who gave the header, but not those of the attributes that tell whose it is: of these only
whether they are there.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dicom_core.prompt import Prompt
from dicom_core.routing import Condition, Rule, made_by_vesselq, values_of

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

LONGEST_SHOWN_VALUE = 80
_PATIENT_GROUP = 0x0010
_HARMLESS = frozenset({"PatientSex", "PatientAge", "PatientSize", "PatientWeight", "PatientSpeciesDescription"})
"""Of the Patient Module (PS3.3 section C.7.1.1 and C.7.2.2): shared by many."""
_PERSONAL = frozenset({
    "AccessionNumber", "StudyID", "ReferringPhysicianName", "PerformingPhysicianName", "OperatorsName",
    "NameOfPhysiciansReadingStudy", "PhysiciansOfRecord", "RequestingPhysician", "AdmissionID",
    "InstitutionAddress", "RequestAttributesSequence", "OtherPatientIDsSequence",
})  # fmt: skip
"""Outside of the patient's group, and still of a person."""
HIDDEN = "present, not shown"


@dataclass(frozen=True, slots=True)
class Explained:
    """One node of a condition over one header.

    Attributes:
        words: The comparison, or ``all``, ``any``, ``not``.
        holds: Whether it does.
        found: What the header has, in words; "" for a node that joins others.
        parts: Of a node that joins others.
    """

    words: str
    holds: bool
    found: str = ""
    parts: tuple["Explained", ...] = ()


@dataclass(frozen=True, slots=True)
class RuleVerdict:
    """One rule over one header.

    Attributes:
        fires: It is the first that holds.
        outcome: What it does, in words.
    """

    rule: str
    holds: bool
    fires: bool
    outcome: str
    why: Explained


@dataclass(frozen=True, slots=True)
class Explanation:
    """All rules over one header.

    Attributes:
        rule: Name of the one that decides, "" for none.
        decision: In words.
        verdicts: One a rule, in their order.
        own_result: It is a result of vesselq itself, which is left out whatever the rules say.
    """

    rule: str
    decision: str
    verdicts: tuple[RuleVerdict, ...]
    own_result: bool = False


@dataclass(frozen=True, slots=True)
class DescribedRule:
    """A rule in words.

    Attributes:
        when: Its condition.
        outcome: What is done with the series for which it holds.
        segments: Whether they are segmented.
        asked: What the segmenter is asked, "" for nothing.
        segmenter: Its name, or the reason to leave series out where they are not segmented.
        destinations: Where results go.
        priority: Of the jobs.
    """

    rule: str
    when: str
    outcome: str
    segments: bool
    asked: str
    segmenter: str
    destinations: tuple[str, ...]
    priority: int


def described(rule: Rule) -> DescribedRule:
    """A rule in words."""
    asked = "" if rule.prompt == Prompt() else rule.prompt.in_words()
    when = rule.when.in_words()
    outer = when.startswith("(") and rule.when.keyword is None
    return DescribedRule(
        rule=rule.name,
        when=when[1:-1] if outer else when,
        outcome=outcome_of(rule),
        segments=bool(rule.segmenter),
        asked=asked,
        segmenter=rule.segments_by or rule.skip,
        destinations=rule.destinations if rule.segmenter else (),
        priority=rule.priority,
    )


def outcome_of(rule: Rule) -> str:
    """What a rule does, in words."""
    if rule.skip:
        return f"left out: {rule.skip}"
    to = f"sent to {', '.join(rule.destinations)}" if rule.destinations else "kept here"
    urgent = f", priority {rule.priority}" if rule.priority else ""
    return f"segmented by {rule.segments_by}, {to}{urgent}"


def explain(rules: Sequence[Rule], header: "Dataset") -> Explanation:
    """Which rule decides about a header and why."""
    firing = next((rule for rule in rules if rule.when.holds(header)), None)
    verdicts = tuple(
        RuleVerdict(rule.name, rule.when.holds(header), rule is firing, outcome_of(rule), _explained(rule.when, header))
        for rule in rules
    )
    if made_by_vesselq(header):
        return Explanation("", "left out: it is a result of vesselq itself, whatever the rules say", verdicts, True)
    if firing is None:
        modality = next((str(value) for value in values_of(header, "Modality")), "unknown")
        return Explanation("", f"left out: no rule wants it (Modality {modality})", verdicts)
    return Explanation(firing.name, outcome_of(firing), verdicts)


def _explained(condition: Condition, header: "Dataset") -> Explained:
    for word, parts in (("all", condition.all_of), ("any", condition.any_of)):
        if parts is not None:
            return Explained(word, condition.holds(header), parts=tuple(_explained(part, header) for part in parts))
    if condition.not_ is not None:
        return Explained("not", condition.holds(header), parts=(_explained(condition.not_, header),))
    return Explained(condition.in_words(), condition.holds(header), _found(condition.keyword or "", header))


def _found(keyword: str, header: "Dataset") -> str:
    values = values_of(header, keyword)
    if not values:
        return "absent"
    if _tells_who(keyword):
        return HIDDEN
    text = " \\ ".join(str(value).strip() for value in values)
    printable = "".join(letter if letter.isprintable() else "?" for letter in text)
    return printable if len(printable) <= LONGEST_SHOWN_VALUE else f"{printable[:LONGEST_SHOWN_VALUE]}…"


def _tells_who(keyword: str) -> bool:
    from pydicom.datadict import tag_for_keyword

    tag = tag_for_keyword(keyword)
    return keyword in _PERSONAL or (tag is not None and tag >> 16 == _PATIENT_GROUP and keyword not in _HARMLESS)


def lines(explained: Explained, depth: int = 0) -> Iterator[tuple[int, Explained]]:
    """The nodes from the top down, each with its depth: what a list on a page or in a terminal shows."""
    yield depth, explained
    for part in explained.parts:
        yield from lines(part, depth + 1)

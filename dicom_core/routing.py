"""Rules: which series are segmented, by what, and where the result goes.

A condition is a small tree of comparisons over DICOM keywords. It is data, read from TOML and checked at start; nothing
in it is ever executed. First rule that matches wins; without a match the series is skipped with a reason in words.
"""

import collections.abc
import re
import struct
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from dicom_core.chain import LONGEST_WORD, SIGN, word_of
from dicom_core.errors import InvalidPromptError
from dicom_core.identifiers import MANUFACTURER
from dicom_core.job import HIGHEST_PRIORITY
from dicom_core.prompt import Prompt

if TYPE_CHECKING:
    from pydicom.dataset import Dataset

USUAL_KEYWORDS = frozenset({
    "AcquisitionContrast", "BodyPartExamined", "BurnedInAnnotation", "Columns", "ContrastBolusAgent", "ImageType",
    "InstitutionName", "KVP", "Manufacturer", "ManufacturerModelName", "Modality", "NumberOfFrames",
    "PhotometricInterpretation", "ProtocolName", "Rows", "SOPClassUID", "SamplesPerPixel", "ScanningSequence",
    "SequenceName", "SeriesDescription", "SeriesInstanceUID", "SliceThickness", "StationName", "StudyDescription",
    "StudyInstanceUID",
})  # fmt: skip
"""Keywords that need no look into the dictionary: a process that only reads the settings starts without pydicom."""
LONGEST_COMPARED_TEXT = 1024
"""Text values are cut here before a pattern looks at them, so that a hostile value cannot make it slow."""
_COMPARISONS = ("equals", "one_of", "contains", "matches", "exists", "greater_than", "at_least", "less_than", "at_most")
_WORDS = {"greater_than": ">", "at_least": "≥", "less_than": "<", "at_most": "≤"}

_UNREADABLE = (
    ValueError, TypeError, LookupError, ArithmeticError, AttributeError, NotImplementedError, EOFError, OSError,
    struct.error,
)  # fmt: skip
"""What is raised, next to an error of pydicom's own, when the bytes of a bad element are turned into a value."""

Scalar = str | int | float


class Condition(BaseModel):
    """One node of a condition: ``all``, ``any``, ``not``, or one comparison of one DICOM keyword.

    A comparison is true when any value of a multi-valued element satisfies it. Text is compared without regard to case
    and to spaces at the ends. An absent or empty element satisfies nothing but ``exists = false``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    all_of: tuple["Condition", ...] | None = Field(None, alias="all", description="Every one of these holds.")
    any_of: tuple["Condition", ...] | None = Field(None, alias="any", description="At least one of these holds.")
    not_: "Condition | None" = Field(None, alias="not", description="This does not hold.")
    keyword: str | None = Field(None, description="Keyword of PS3.6 chapter 6, for example Modality.")
    equals: Scalar | None = None
    one_of: tuple[Scalar, ...] | None = None
    contains: str | None = Field(None, description="Text that occurs in the value.")
    matches: str | None = Field(None, description="Regular expression that fits the whole value.")
    exists: bool | None = Field(None, description="Whether the element is there with a value.")
    greater_than: float | None = None
    at_least: float | None = None
    less_than: float | None = None
    at_most: float | None = None

    @field_validator("keyword")
    @classmethod
    def _known_keyword(cls, value: str | None) -> str | None:
        if value is not None and value not in USUAL_KEYWORDS and not _is_keyword(value):
            raise ValueError(f"{value!r} is no DICOM keyword; look it up in PS3.6 (for example SeriesDescription)")
        return value

    @field_validator("matches")
    @classmethod
    def _valid_pattern(cls, value: str | None) -> str | None:
        if value is not None:
            try:
                re.compile(value)
            except re.error as error:
                raise ValueError(f"{value!r} is no regular expression: {error}") from None
        return value

    @model_validator(mode="after")
    def _one_meaning(self) -> Self:
        comparisons = [name for name in _COMPARISONS if getattr(self, name) is not None]
        branches = [name for name in ("all_of", "any_of", "not_") if getattr(self, name) is not None]
        if self.keyword is not None:
            if branches or len(comparisons) != 1:
                raise ValueError(f"a condition with 'keyword' takes exactly one of {', '.join(_COMPARISONS)}")
        elif comparisons or len(branches) != 1:
            raise ValueError("a condition is either 'keyword' with a comparison, or one of all, any, not")
        return self

    def holds(self, dataset: "Dataset") -> bool:
        """Whether ``dataset`` satisfies the condition."""
        if self.all_of is not None:
            return all(part.holds(dataset) for part in self.all_of)
        if self.any_of is not None:
            return any(part.holds(dataset) for part in self.any_of)
        if self.not_ is not None:
            return not self.not_.holds(dataset)
        values = values_of(dataset, self.keyword or "")
        if self.exists is not None:
            return bool(values) is self.exists
        return any(self._compares(value) for value in values)

    def _compares(self, value: Any) -> bool:
        if self.equals is not None:
            return _same(value, self.equals)
        if self.one_of is not None:
            return any(_same(value, wanted) for wanted in self.one_of)
        text = str(value)[:LONGEST_COMPARED_TEXT].strip()
        if self.contains is not None:
            return self.contains.casefold() in text.casefold()
        if self.matches is not None:
            return re.fullmatch(self.matches, text, flags=re.IGNORECASE) is not None
        try:
            number = float(value)
        except (TypeError, ValueError):
            return False
        return (
            (self.greater_than is None or number > self.greater_than)
            and (self.at_least is None or number >= self.at_least)
            and (self.less_than is None or number < self.less_than)
            and (self.at_most is None or number <= self.at_most)
        )

    def keywords(self) -> frozenset[str]:
        """Every keyword that the condition looks at."""
        parts = (*(self.all_of or ()), *(self.any_of or ()), *([self.not_] if self.not_ else []))
        own = {self.keyword} if self.keyword else set()
        return frozenset(own.union(*(part.keywords() for part in parts)))

    def in_words(self) -> str:
        """The condition as a person would say it."""
        if self.all_of is not None:
            return "(" + " and ".join(part.in_words() for part in self.all_of) + ")"
        if self.any_of is not None:
            return "(" + " or ".join(part.in_words() for part in self.any_of) + ")"
        if self.not_ is not None:
            return f"not {self.not_.in_words()}"
        if self.exists is not None:
            return f"{self.keyword} is {'present' if self.exists else 'absent'}"
        name = next(name for name in _COMPARISONS if getattr(self, name) is not None)
        wanted = getattr(self, name)
        if name == "one_of":
            return f"{self.keyword} is one of {', '.join(str(item) for item in wanted)}"
        if name in _WORDS:
            return f"{self.keyword} {_WORDS[name]} {wanted:g}"
        return f"{self.keyword} {'is' if name == 'equals' else name} {wanted}"


RuleName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9_-]{0,62}$")]


class Rule(BaseModel):
    """One routing rule. ``when`` without a segmenter but with ``skip`` leaves series out and says why."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: RuleName = Field(description="Lower-case word that names the rule in the record.")
    when: Condition = Field(description="Which series it is for.")
    segmenter: str = Field("", description="Name of the segmenter (`vesselq models list`).")
    chain: tuple[str, ...] = Field(
        (), description="Segmenters that refine what it finds, one after the other; only what they agree on is kept."
    )
    skip: str = Field("", description="Instead of a segmenter: the reason, in words, why these series are left out.")
    prompt: Prompt = Field(
        Prompt(),
        description="For segmenters that can be asked: a text, or a table (`questions`, `boxes` and so on).",
    )
    destinations: tuple[str, ...] = Field(("sender",), description='Names of destinations; "sender" is the calling AE.')
    priority: int = Field(0, ge=0, le=HIGHEST_PRIORITY, description="Larger runs earlier: 100 for STAT, 0 for routine.")

    @field_validator("prompt", mode="before")
    @classmethod
    def _text_or_table(cls, value: Any) -> Any:
        try:
            return Prompt.of_text(value) if isinstance(value, str) else value
        except InvalidPromptError as error:
            raise ValueError(str(error)) from None

    @field_validator("prompt")
    @classmethod
    def _not_by_hand(cls, value: Prompt) -> Prompt:
        if value.by_hand:
            raise ValueError("a rule is no person: remove by_hand")
        return value

    @field_validator("segmenter", "chain")
    @classmethod
    def _single_names(cls, value: str | tuple[str, ...]) -> str | tuple[str, ...]:
        for name in (value,) if isinstance(value, str) else value:
            if SIGN in name:
                raise ValueError(f"{name!r} names several segmenters; a rule names the others in 'chain'")
        return value

    @model_validator(mode="after")
    def _segment_or_skip(self) -> Self:
        if bool(self.segmenter) == bool(self.skip):
            raise ValueError("a rule names either a segmenter or, with 'skip', the reason to leave the series out")
        if self.skip and self.chain:
            raise ValueError("a rule that leaves series out has no 'chain'")
        if len(self.segments_by) > LONGEST_WORD:
            raise ValueError(f"the names of the segmenters have more than {LONGEST_WORD} characters together")
        return self

    @property
    def segments_by(self) -> str:
        """The word for its segmenter and those of the chain (``dicom_core.chain``), "" when it skips."""
        return word_of((self.segmenter, *self.chain)) if self.segmenter else ""


def _is_keyword(word: str) -> bool:
    from pydicom.datadict import tag_for_keyword

    return tag_for_keyword(word) is not None


def made_by_vesselq(dataset: "Dataset") -> bool:
    """The loop guard: whether an object is a result of ours, which is never segmented again, whatever the rules say.

    The modality tells nothing: an overlay has that of its source.
    """
    return MANUFACTURER in [str(value).strip() for value in values_of(dataset, "Manufacturer")]


def values_of(dataset: "Dataset", keyword: str) -> list[Any]:
    """The non-empty values of one element; an unreadable element counts as absent (rules must survive bad headers)."""
    from pydicom.errors import BytesLengthException

    try:
        value = dataset.get(keyword)
    except (*_UNREADABLE, BytesLengthException):
        return []
    values = list(value) if isinstance(value, collections.abc.MutableSequence | tuple) else [value]
    return [item for item in values if item is not None and str(item).strip() != ""]


def _same(value: Any, wanted: Scalar) -> bool:
    if isinstance(wanted, str):
        return str(value).strip().casefold() == wanted.strip().casefold()
    try:
        return float(value) == float(wanted)
    except (TypeError, ValueError):
        return False


def first_match(rules: collections.abc.Sequence[Rule], dataset: "Dataset") -> Rule | None:
    """The first rule whose condition holds for the header of one instance, None when no rule wants it."""
    return next((rule for rule in rules if rule.when.holds(dataset)), None)

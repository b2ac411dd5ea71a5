"""What is asked of a segmenter besides the images: words, points, boxes, a mask, an example, or nothing."""

import json
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Self
from unicodedata import category

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from dicom_core.errors import InvalidPromptError

_LAYOUT = "\n\r\t"


def _readable(text: str) -> str:
    """Refuse characters that are none for a reader: control codes, halves of surrogate pairs, no characters at all."""
    if any(category(letter) in ("Cc", "Cs", "Cn") and letter not in _LAYOUT for letter in text):
        raise ValueError("it holds characters that cannot be printed")
    return text


Text = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=1000), AfterValidator(_readable)
]
Word = Annotated[str, StringConstraints(max_length=64), AfterValidator(_readable)]
Coordinate = Annotated[float, Field(ge=0, le=1_000_000, allow_inf_nan=False)]


class PromptKind(StrEnum):
    """The ways of asking; a segmenter says which it takes."""

    NONE = "none"
    TEXT = "text"
    POINTS = "points"
    BOXES = "boxes"
    MASK = "mask"
    EXAMPLE = "example"


class _Words(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Question(_Words):
    """One thing to look for; the answers to several become several segments."""

    text: Text = Field(description="What the model is asked, in any language that it knows.")
    segment: Word = Field("blood_vessel", description="Key of the coded type of what is found.")
    label: Word = Field("", description="SegmentLabel; empty: that of the type.")


class _OnFrame(_Words):
    """Attributes: the frame that a place lies on; of every instance and frame when empty."""

    sop_instance_uid: Word = Field("", description="Of the instance; empty: of every one.")
    frame_number: int = Field(0, ge=0, description="From 1 (PS3.3 C.7.6.6); 0: every frame.")


class Point(_OnFrame):
    """A place in a picture; pixel centres are whole numbers and the top left one is 0, 0."""

    x: Coordinate = Field(description="Column.")
    y: Coordinate = Field(description="Row.")
    inside: bool = Field(True, description="Whether it lies on what is to be found, or on what is not.")


class Box(_OnFrame):
    """A rectangle around what is to be found, in the same coordinates; its corners belong to it."""

    left: Coordinate
    top: Coordinate
    right: Coordinate
    bottom: Coordinate

    @model_validator(mode="after")
    def _in_order(self) -> Self:
        if self.right < self.left or self.bottom < self.top:
            raise ValueError("a box is left, top, right, bottom: its right must not be left of its left")
        return self


class Example(_Words):
    """Another picture in which boxes show what is meant."""

    picture: Path = Field(description="PNG or DICOM file on this machine.")
    boxes: tuple[Box, ...] = Field(min_length=1)


class Prompt(_Words):
    """Everything that is asked for one series. Empty: the segmenter does what it always does.

    Attributes:
        by_hand: A person gave it for this very series, so that its result is called semi-automatic
            (SegmentAlgorithmType, PS3.3 C.8.20.2).
    """

    questions: tuple[Question, ...] = Field((), max_length=16, description="One segment each.")
    points: tuple[Point, ...] = Field((), max_length=1000)
    boxes: tuple[Box, ...] = Field((), max_length=1000)
    mask: Path | None = Field(None, description="PNG or SEG file on this machine: where it is about, roughly.")
    example: Example | None = None
    by_hand: bool = False

    @classmethod
    def of_text(cls, text: str) -> Self:
        """One question in words, nothing when there are none.

        Raises:
            InvalidPromptError: The text is too long.
        """
        return cls._made({"questions": [{"text": text}]} if text.strip() else {})

    @classmethod
    def from_stored(cls, stored: str) -> Self:
        """What :meth:`stored` made: plain words stand for one question, as they do in a rule.

        Raises:
            InvalidPromptError: It is no prompt.
        """
        if not stored.startswith("{"):
            return cls.of_text(stored)
        try:
            values = json.loads(stored)
        except (ValueError, RecursionError):
            raise InvalidPromptError("the prompt begins with { but is no JSON") from None
        return cls._made(values)

    @classmethod
    def _made(cls, values: Any) -> Self:
        try:
            return cls.model_validate(values)
        except ValidationError as error:
            first = error.errors()[0]
            place = ".".join(str(step) for step in first["loc"])
            raise InvalidPromptError(f"the prompt is wrong at {place or 'its top'}: {first['msg']}") from None

    def stored(self) -> str:
        """The prompt as one text for the record: the words alone where it is nothing but one question."""
        if self == Prompt():
            return ""
        plain = self.questions[0].text if len(self.questions) == 1 else ""
        if plain and not plain.startswith("{") and self == Prompt(questions=(Question(text=plain),)):
            return plain
        return self.model_dump_json(exclude_defaults=True)

    @property
    def kinds(self) -> frozenset[PromptKind]:
        """The ways of asking that are used; never empty."""
        used = {
            PromptKind.TEXT: self.questions,
            PromptKind.POINTS: self.points,
            PromptKind.BOXES: self.boxes,
            PromptKind.MASK: self.mask,
            PromptKind.EXAMPLE: self.example,
        }
        return frozenset(kind for kind, value in used.items() if value) or frozenset({PromptKind.NONE})

    def in_words(self) -> str:
        """For a person: the questions, and how many places were shown."""
        parts = [question.text for question in self.questions]
        for values, one, many in ((self.points, "1 point", "points"), (self.boxes, "1 box", "boxes")):
            if values:
                parts.append(one if len(values) == 1 else f"{len(values)} {many}")
        parts += ["a mask"] if self.mask else []
        parts += ["an example"] if self.example else []
        return "; ".join(parts)

"""The one Protocol behind which every model system stands, and what goes in and comes out."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from dicom_core.errors import InvalidPromptError
from dicom_core.prompt import Box, Point, PromptKind, Question
from dicom_core.prompt import Prompt as AskedPrompt
from worker.image_stack import Arrangement, FrameIdentity, ImageStack, Imaging


class Status(StrEnum):
    """How a segmentation ended."""

    OK = "ok"
    NO_MASK = "no_mask"
    """The model looked and found nothing."""
    OUT_OF_DOMAIN = "out_of_domain"
    """The image is not of a kind that the model knows."""


@dataclass(frozen=True, slots=True)
class SegmentClass:
    """One kind of thing that a segmenter finds.

    Attributes:
        key: A key of the catalogue of coded types in ``worker.seg_writer``, for example ``"blood_vessel"``.
        label: SegmentLabel for the reader, at most 64 characters (PS3.3 C.8.20.4).
    """

    key: str
    label: str


BLOOD_VESSEL = SegmentClass("blood_vessel", "Vessel")


@dataclass(frozen=True, slots=True)
class SegmenterInfo:
    """What is known of a segmenter without loading it; reading it imports no torch.

    Attributes:
        name: The word used in rules and on the command line.
        version: Changes whenever the same input may give another mask.
        summary: One line for lists.
        imagings: The kinds of picture it is meant for.
        arrangements: The arrangements it takes.
        classes: What it finds, in the order of the first axis of its result.
        weights_sha256: Hash over the weights, "" for a method without weights.
        license: SPDX identifier of code and weights.
        prompts: The ways of asking that it takes. Without ``PromptKind.NONE`` it must be asked for something.
        needs_folder: Whether it is nothing without a folder of weights, the setting ``folder``.
    """

    name: str
    version: str
    summary: str
    imagings: frozenset[Imaging]
    arrangements: frozenset[Arrangement]
    classes: tuple[SegmentClass, ...] = (BLOOD_VESSEL,)
    weights_sha256: str = ""
    license: str = "Apache-2.0"
    prompts: frozenset[PromptKind] = frozenset({PromptKind.NONE})
    needs_folder: bool = False

    def check_prompt(self, prompt: "Prompt | AskedPrompt") -> None:
        """Refuse what the segmenter cannot be asked, here or in a rule.

        Raises:
            InvalidPromptError: A way of asking that it does not take, or nothing where it must be asked.
        """
        refused = prompt.kinds - self.prompts
        if not refused:
            return
        takes = " or ".join(sorted(self.prompts - {PromptKind.NONE}))
        if PromptKind.NONE in refused:
            raise InvalidPromptError(f"The segmenter {self.name} must be asked: give it {takes}")
        hint = f"it takes {takes}" if takes else "it takes no prompt; leave the prompt out"
        raise InvalidPromptError(f"The segmenter {self.name} cannot be asked by {', '.join(sorted(refused))}: {hint}")


@dataclass(frozen=True, slots=True)
class ExamplePicture:
    """Another picture in which boxes show what is meant.

    Attributes:
        picture: ``(rows, columns, 3)`` uint8 RGB.
        boxes: In it.
    """

    picture: NDArray[np.uint8]
    boxes: tuple[Box, ...]


@dataclass(frozen=True, slots=True)
class Prompt:
    """What is asked for besides the images. An empty prompt is the default.

    Attributes:
        questions: In words; each becomes one class of the result, in this order.
        points: Places in the pictures; ``on_frame`` chooses those of one frame.
        boxes: Around what is to be found.
        mask: ``(frames, rows, columns)`` bool: where it is about, roughly; None for none.
        example: Another picture with boxes.
    """

    questions: tuple[Question, ...] = ()
    points: tuple[Point, ...] = ()
    boxes: tuple[Box, ...] = ()
    mask: NDArray[np.bool_] | None = None
    example: ExamplePicture | None = None

    @property
    def kinds(self) -> frozenset[PromptKind]:
        """The ways of asking that are used; never empty."""
        used = {
            PromptKind.TEXT: bool(self.questions),
            PromptKind.POINTS: bool(self.points),
            PromptKind.BOXES: bool(self.boxes),
            PromptKind.MASK: self.mask is not None,
            PromptKind.EXAMPLE: self.example is not None,
        }
        return frozenset(kind for kind, there in used.items() if there) or frozenset({PromptKind.NONE})

    def on_frame(self, frame: FrameIdentity) -> tuple[tuple[Point, ...], tuple[Box, ...]]:
        """The points and boxes that lie on one frame."""

        def lies_there(place: Point | Box) -> bool:
            of_instance = place.sop_instance_uid in ("", frame.sop_instance_uid)
            return of_instance and place.frame_number in (0, frame.frame_number)

        return (
            tuple(point for point in self.points if lies_there(point)),
            tuple(box for box in self.boxes if lies_there(box)),
        )


@dataclass(frozen=True, slots=True)
class Segmentation:
    """What a segmenter found.

    Attributes:
        status: How it ended; with any status but ``OK`` the mask is empty.
        mask: ``(classes, frames, rows, columns)`` bool, the decision.
        probability: The same axes, float16 in [0, 1], what the decision was taken from.
        classes: One entry for each index of axis 0.
        scores: One number in [0, 1] a frame: how sure the model is that the frame shows something.
        parameters: Settings that decided the result (threshold, scales), for the SEG object and the audit log.
        answer: What a language model said, "" for others.
        seconds: Time spent by stage.
        warnings: For the reader, without patient data.
        extras: Arrays that an engineer may want to look at (``vesselq models predict``); they go into no object.
    """

    status: Status
    mask: NDArray[np.bool_]
    probability: NDArray[np.float16]
    classes: tuple[SegmentClass, ...]
    scores: tuple[float, ...] = ()
    parameters: Mapping[str, str] = field(default_factory=dict)
    answer: str = ""
    seconds: Mapping[str, float] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()
    extras: Mapping[str, NDArray[np.generic]] = field(default_factory=dict)


ProgressCallback = Callable[[float], None]
"""Called with the finished share, 0 to 1, as often as the segmenter likes."""


class Segmenter(Protocol):
    """A model system, loaded once in the child process and used for many series.

    The class is named by the entry point group ``vesselq.segmenters``; it is made with keyword arguments from the
    ``[models.NAME]`` table of the settings and the device (``"cpu"``, ``"cuda:0"``).

    Attributes:
        info: Of the class: what is known without loading. An object may have its own, with the name, version, hash and
            classes of the weights that it loaded.
    """

    info: SegmenterInfo

    def segment(self, stack: ImageStack, prompt: Prompt, progress: ProgressCallback) -> Segmentation:
        """Find the vessels in one series.

        Raises:
            InvalidPromptError: The prompt does not fit.
            UnsupportedSourceError: The stack is of a kind that this segmenter cannot take at all.
        """
        ...


@runtime_checkable
class WarmsUp(Protocol):
    """A segmenter whose first work is slow (kernels are chosen, graphs compiled); it is warmed before the first job."""

    def warm_up(self) -> None:
        """Work on something that is thrown away."""
        ...

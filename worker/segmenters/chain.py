"""Segmenters one after the other: the first finds, each further one looks again, and what they agree on is kept.

A refiner is asked by boxes: each component that was found on a frame gets one. It gives sharper edges, but it draws
something into every box that it is shown; so a component counts only where both saw it.
"""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from dicom_core.chain import word_of
from dicom_core.errors import ConfigurationError
from dicom_core.prompt import PromptKind
from worker.image_stack import ImageStack
from worker.segmenters.agreement import Component, components_of
from worker.segmenters.interface import (
    ProgressCallback,
    Prompt,
    Segmentation,
    Segmenter,
    SegmenterInfo,
    Status,
    WarmsUp,
)

_VERSION = "chain1"
"""Part of the version of every chain: changes when the way in which results are joined does."""


def info_of_chain(infos: Sequence[SegmenterInfo]) -> SegmenterInfo:
    """What is known of a chain, from what is known of its segmenters.

    Raises:
        ConfigurationError: One of the refiners cannot be asked by boxes.
    """
    first, *refiners = infos
    for refiner in refiners:
        if PromptKind.BOXES not in refiner.prompts:
            raise ConfigurationError(f"The segmenter {refiner.name} cannot refine another: it takes no boxes")
    hashes = [info.weights_sha256 for info in infos]
    return SegmenterInfo(
        name=word_of(info.name for info in infos),
        version="+".join((*(info.version for info in infos), _VERSION)),
        summary=f"{first.name}, its result refined by {' and '.join(refiner.name for refiner in refiners)}",
        imagings=first.imagings.intersection(*(refiner.imagings for refiner in refiners)),
        arrangements=first.arrangements.intersection(*(refiner.arrangements for refiner in refiners)),
        classes=first.classes,
        weights_sha256=hashlib.sha256("\n".join(hashes).encode()).hexdigest() if any(hashes) else "",
        license=" AND ".join(dict.fromkeys(info.license for info in infos)),
        prompts=first.prompts,
        needs_folder=any(info.needs_folder for info in infos),
    )


class ChainSegmenter:
    """Several segmenters as one.

    The settings of a chain stand in the table ``[models."FIRST+SECOND"]``.

    Args:
        segmenters: In the order in which they work, at least two.
        agreement: From 0 to 1: a component is kept when the two masks of it overlap at least this much.
        measure: How overlap is counted: ``iou`` (common pixels over those of either) or ``share`` (the share of the
            component that the refiner has as well).
        near: Pixels around a component in which the refiner's pixels count as part of it.
        margin: By what share of its size the box around a component is enlarged on each side, at least 2 pixels.
        least_pixels: Smaller components are dropped without asking.
        most_boxes: Only so many components of a frame are kept, the largest.
    """

    def __init__(
        self,
        segmenters: Sequence[Segmenter],
        /,
        *,
        agreement: float = 0.4,
        measure: str = "iou",
        near: int = 2,
        margin: float = 0.05,
        least_pixels: int = 8,
        most_boxes: int = 64,
    ) -> None:
        self.info = info_of_chain([segmenter.info for segmenter in segmenters])
        self._first, *self._refiners = segmenters
        if measure not in ("iou", "share"):
            raise ConfigurationError("The `measure` of a chain must be iou or share")
        for name, value, limits in (
            ("agreement", agreement, (0, 1)), ("near", near, (0, 64)), ("margin", margin, (0, 1)),
            ("least_pixels", least_pixels, (1, 1_000_000)), ("most_boxes", most_boxes, (1, 1000)),
        ):  # fmt: skip
            if isinstance(value, bool) or not isinstance(value, int | float) or not limits[0] <= value <= limits[1]:
                raise ConfigurationError(f"The `{name}` of a chain must be a number from {limits[0]} to {limits[1]}")
        self._agreement, self._measure, self._near = float(agreement), measure, int(near)
        self._margin, self._least_pixels, self._most_boxes = float(margin), int(least_pixels), int(most_boxes)

    def warm_up(self) -> None:
        """Warm up those that have it."""
        for segmenter in (self._first, *self._refiners):
            if isinstance(segmenter, WarmsUp):
                segmenter.warm_up()

    def segment(self, stack: ImageStack, prompt: Prompt, progress: ProgressCallback) -> Segmentation:
        """Find with the first, refine with the others.

        Args:
            stack: Of a kind that all of them take.
            prompt: For the first.
            progress: Each of them takes the same share.

        Raises:
            InvalidPromptError: The first cannot be asked that.
            UnsupportedSourceError: One of them does not take this kind of picture.
        """
        steps = 1 + len(self._refiners)
        found = self._first.segment(stack, prompt, _part_of(progress, 0, steps))
        found = _named(found, self._first.info.name)
        for step, refiner in enumerate(self._refiners, start=1):
            if found.status is not Status.OK or not found.mask.any():
                break

            found = self._refined(stack, found, refiner, _part_of(progress, step, steps))
        progress(1.0)
        return found

    def _refined(
        self, stack: ImageStack, found: Segmentation, refiner: Segmenter, progress: ProgressCallback
    ) -> Segmentation:
        """What the refiner agrees with of each class."""
        work = _Refining(found, refiner.info.name)
        for layer, mask in enumerate(found.mask):
            components, dropped = components_of(
                mask, near=self._near, least_pixels=self._least_pixels, most=self._most_boxes
            )
            work.dropped += dropped
            if components:
                frames = sorted({component.frame for component in components})
                prompt = self._prompt(stack, mask, components, refiner)
                look = refiner.segment(_only(stack, frames), prompt, _part_of(progress, layer, len(found.mask)))
                work.looks.append(look)
                for component in components:
                    index = frames.index(component.frame)
                    self._keep_agreed(work, layer, component, look.mask[:, index], look.probability[:, index])
        return work.result(
            {
                "agreement": f"{self._agreement:g}",
                "measure": self._measure,
                "near": str(self._near),
                "margin": f"{self._margin:g}",
                "least_pixels": str(self._least_pixels),
                "most_boxes": str(self._most_boxes),
            }
        )

    def _prompt(
        self, stack: ImageStack, mask: NDArray[np.bool_], components: Sequence[Component], refiner: Segmenter
    ) -> Prompt:
        """A box for each component, and the mask itself where the refiner takes one."""
        shape = (mask.shape[1], mask.shape[2])
        boxes = tuple(one.box(stack.frames[one.frame], shape, self._margin) for one in components)
        frames = sorted({component.frame for component in components})
        return Prompt(boxes=boxes, mask=mask[frames] if PromptKind.MASK in refiner.info.prompts else None)

    def _keep_agreed(
        self,
        work: "_Refining",
        layer: int,
        component: Component,
        mask: NDArray[np.bool_],
        probability: NDArray[np.float16],
    ) -> None:
        """Take over one component; the arrays are ``(classes of the refiner, rows, columns)`` of its frame."""
        work.asked += 1
        any_class: NDArray[np.bool_] = np.any(mask, axis=0, keepdims=False)
        agreed = component.agreed(any_class, self._measure, self._agreement)
        if agreed.any():
            work.kept += 1
            place = (layer, component.frame, *component.region)
            sure = np.where(component.near, probability[(slice(None), *component.region)].max(axis=0), np.float16(0))
            work.mask[place] |= agreed
            work.probability[place] = np.maximum(work.probability[place], sure)


class _Refining:
    """What one refiner has agreed with so far.

    Attributes:
        mask: As in ``Segmentation``.
        probability: As in ``Segmentation``.
        asked: Components that were shown to the refiner.
        kept: Those that it agreed with.
        dropped: Those that were too small or too many.
        looks: What the refiner answered, a class each.
    """

    def __init__(self, found: Segmentation, name: str) -> None:
        self._found, self._name = found, name
        self.mask, self.probability = np.zeros_like(found.mask), np.zeros_like(found.probability)
        self.asked = self.kept = self.dropped = 0
        self.looks: list[Segmentation] = []

    def result(self, settings: Mapping[str, str]) -> Segmentation:
        """The refined segmentation."""
        looks, name = self.looks, self._name
        strange = bool(looks) and all(look.status is Status.OUT_OF_DOMAIN for look in looks)
        nothing = Status.OUT_OF_DOMAIN if strange else Status.NO_MASK
        told = {f"chain.{key}": value for key, value in settings.items()}
        told[f"{name}.components"] = f"{self.kept} kept of {self.asked} asked"
        seconds = dict(self._found.seconds)
        for look in looks:
            told |= {f"{name}.{key}": value for key, value in look.parameters.items()}
            for stage, spent in look.seconds.items():
                seconds[f"{name} {stage}"] = seconds.get(f"{name} {stage}", 0.0) + spent
        warnings = [*self._found.warnings, *(warning for look in looks for warning in look.warnings)]
        return replace(
            self._found,
            status=Status.OK if self.mask.any() else nothing,
            mask=self.mask,
            probability=self.probability,
            parameters={**self._found.parameters, **told},
            answer="\n".join(filter(None, dict.fromkeys([self._found.answer, *(look.answer for look in looks)]))),
            seconds=seconds,
            warnings=tuple(dict.fromkeys([*warnings, *self._words()])),
            extras={},
        )

    def _words(self) -> Iterator[str]:
        if self.kept < self.asked:
            yield f"{self.asked - self.kept} of {self.asked} found pieces were left out: {self._name} did not agree"
        if self.dropped:
            yield f"{self.dropped} found pieces were too small, or too many on a picture, to show them to {self._name}"


def _part_of(progress: ProgressCallback, part: int, parts: int) -> ProgressCallback:
    return lambda share: progress((part + share) / parts)


def _only(stack: ImageStack, frames: Sequence[int]) -> ImageStack:
    """Some frames of a stack: a refiner is not shown what it is not asked about."""
    if len(frames) == len(stack.frames):
        return stack
    return replace(stack, pixels=stack.pixels[list(frames)], frames=tuple(stack.frames[index] for index in frames))


def _named(found: Segmentation, name: str) -> Segmentation:
    """The first segmentation, its parameters and times with the name of who said them."""
    return replace(
        found,
        parameters={f"{name}.{key}": value for key, value in found.parameters.items()},
        seconds={f"{name} {stage}": spent for stage, spent in found.seconds.items()},
    )

"""One stack on its way through the model: frame by frame, or as a run."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial

from dicom_core.errors import RunnerBusyError
from worker.image_stack import Arrangement, ImageStack
from worker.pictures.display import Picture, display_frame, display_limits
from worker.segmenters.device_memory import in_batches
from worker.segmenters.interface import ProgressCallback
from worker.segmenters.sa2va.conditioning import chosen_frames
from worker.segmenters.sa2va.found import DrawnMask, Found
from worker.segmenters.sa2va.model import Sa2vaModel, spoken
from worker.segmenters.sa2va.reading import Answer, AnswerMode
from worker.segmenters.sa2va.settings import Sa2vaSettings

Drawing = Callable[[Sequence[int], Sequence[Picture]], list[DrawnMask]]
"""Draws on frames, given their numbers and pictures."""


@dataclass(slots=True)
class StackWork:
    """One stack on its way through the model.

    Attributes:
        parameters: What was decided on the way.
        seconds: By stage.
        warnings: Of what could not be done as set.
    """

    model: Sa2vaModel
    settings: Sa2vaSettings
    stack: ImageStack
    questions: Sequence[str]
    found: Found
    progress: ProgressCallback
    parameters: dict[str, str] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    limits: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        self.limits = None if self.stack.is_colour else display_limits(self.stack)

    def look(self) -> None:
        """Look at each frame by itself, with fewer tiles where the device has no memory for as many as are set."""
        most = self.settings.max_tiles
        asked = tiles = self._tiles(most)
        while not self._looked(most):
            most = tiles // 2
            tiles = self._tiles(most)
        self.parameters |= {"path": "frames", "tiles": str(tiles)}
        if tiles < asked:
            self.warnings.append(f"The device has no memory for {asked} tiles of a picture; {tiles} were used")

    def follow(self) -> None:
        """Ask about some frames of the run, then follow what was meant through all."""
        frames = len(self.stack.frames)
        how = self.settings.conditioning
        if how == "auto":
            how = "contrast" if self.stack.arrangement is Arrangement.RUN else "evenly"
        conditioning = chosen_frames(how, frames, self._picture)
        shown = [self._picture(frame) for frame in conditioning]
        answers: list[Answer] = []

        def ask(_all: slice) -> None:
            answers.extend(self.model.ask_about_run(shown, self.questions, AnswerMode(self.settings.answer)))

        with self._timed("language"):
            in_batches(1, 1, ask)
        self.found.hear(spoken([[answer] for answer in answers], 0))
        numbers = " ".join(str(frame + 1) for frame in conditioning)
        self.parameters |= {"path": "run", "conditioning": how, "conditioning_frames": numbers}
        tracker = self.model.tracker(answers, conditioning, frames)
        if tracker is not None:
            self._in_batches(tracker.order, partial(self._draw, tracker.draw))

    def _looked(self, most_tiles: int) -> bool:
        """Look at all frames; whether the device had the memory, unless fewer tiles cannot be had either."""
        try:
            self._in_batches(range(len(self.stack.frames)), partial(self._look_at, most_tiles))
        except RunnerBusyError:
            if self._tiles(most_tiles) == 1:
                raise
            return False
        return True

    def _tiles(self, most: int) -> int:
        return len(self.model.tiles(self._picture(0), most))

    def _look_at(self, most_tiles: int, part: Sequence[int]) -> None:
        pictures = [self._picture(frame) for frame in part]
        with self._timed("language"):
            answers = self.model.ask_about_pictures(
                pictures, self.questions, most_tiles, AnswerMode(self.settings.answer)
            )
        with self._timed("draw"):
            self.found.see(self.model.draw_on_pictures(pictures, answers, part[0]))
        self.found.hear(spoken(answers, part[0]))

    def _draw(self, draw: Drawing, part: Sequence[int]) -> None:
        with self._timed("draw"):
            self.found.see(draw(part, [self._picture(frame) for frame in part]))

    def _in_batches(self, order: Sequence[int], work: Callable[[Sequence[int]], None]) -> None:
        portions = in_batches(len(order), self.settings.batch, lambda part: work(order[part]), self.progress)
        self.parameters["batch"] = str(portions.used)
        self.warnings += portions.warnings()

    def _picture(self, frame: int) -> Picture:
        return display_frame(self.stack, frame, self.limits)

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        began = time.perf_counter()
        yield
        self.model.wait()
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.perf_counter() - began

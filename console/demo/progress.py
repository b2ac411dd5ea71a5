"""The live table of the demonstration: one line a study, with the state that the record knows."""

from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from console.demo.studies import DemoStudy
from console.output import cell


@dataclass(frozen=True, slots=True)
class StudyProgress:
    """How far one study is.

    Attributes:
        state: ``sending``, a state of the study, or of its job.
        instances: How many the record has.
        reason: Why, in words.
        finished: Whether nothing more happens by itself.
    """

    study: DemoStudy
    state: str
    instances: int = 0
    reason: str = ""
    finished: bool = False


class LiveTable:
    """Sentences, and below them the table that changes. Nothing is shown when ``quiet``."""

    def __init__(self, *, quiet: bool) -> None:
        self._console = Console(stderr=True, quiet=quiet)
        self._live = Live(console=self._console, refresh_per_second=8, transient=True)
        self._studies: dict[str, StudyProgress] = {}

    def say(self, sentence: str) -> None:
        """Print a sentence for good."""
        self._console.print(Text(sentence))

    def show(self, progress: Sequence[StudyProgress]) -> None:
        """Replace what is known of these studies."""
        self._studies |= {one.study.study_instance_uid: one for one in progress}
        self._live.update(Group(self._table()))

    def _table(self) -> Table:
        table = Table(header_style="bold", pad_edge=False)
        for heading in ("", "study", "instances", "state", ""):
            table.add_column(heading)
        for one in self._studies.values():
            mark: RenderableType = Text("✔" if one.finished else "")
            table.add_row(
                mark if one.finished else Spinner("dots"),
                Text(one.study.source),
                Text(f"{one.instances} of {len(one.study.paths)}"),
                cell(one.state),
                Text(one.reason),
            )
        return table

    def close(self) -> None:
        """Take the table away."""
        self._live.stop()

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

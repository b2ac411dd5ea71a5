"""Where the bars, lines and words of a plot stand. Templates draw them as SVG; nothing is computed in the browser."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

WIDTH, HEIGHT = 640, 180
_LEFT, _RIGHT, _TOP, _BOTTOM = 44, 4, 10, 22
_GAP = 0.22
"""Of the room of a column that is left free beside its bar."""
_LEAST_HEIGHT = 1.5
"""Of a bar that is not nothing: it must be seen."""
_LABELS = 8
_STEPS = (2, 4, 6, 8, 10)
_PREFIXES = ((10**9, "G"), (10**6, "M"), (10**3, "k"))


@dataclass(frozen=True, slots=True)
class Column:
    """What is drawn above one time.

    Attributes:
        begin: Of the span of time.
        values: From the axis upwards, one for each tone of the plot.
    """

    begin: datetime
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Bar:
    """A rectangle.

    Attributes:
        tone: Class of the colour.
        column: Index of its column, for its tooltip.
    """

    x: float
    y: float
    width: float
    height: float
    tone: str
    column: int


@dataclass(frozen=True, slots=True)
class Mark:
    """A word at an axis, at ``x`` of the time axis or ``y`` of the other."""

    at: float
    text: str


@dataclass(frozen=True, slots=True)
class Plot:
    """A drawing of stacked bars over time.

    Attributes:
        hovers: Left edge and width of each column, for what is shown when a pointer rests there.
        base: y of the time axis.
    """

    columns: tuple[Column, ...]
    bars: tuple[Bar, ...]
    hovers: tuple[tuple[float, float], ...]
    times: tuple[Mark, ...]
    grid: tuple[Mark, ...]
    base: float
    left: float = _LEFT
    top: float = _TOP
    width: int = WIDTH
    height: int = HEIGHT

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to see."""
        return not self.bars


def stacked_bars(columns: Sequence[Column], tones: Sequence[str]) -> Plot:
    """One bar a column, its parts one above the other.

    Args:
        columns: In the order of time.
        tones: Colour of each part, from the axis upwards: ``good``, ``bad``, ``busy``, ``wait`` or ``quiet``.
    """
    top_value = nice_top(max((sum(column.values) for column in columns), default=0.0))
    base, room = float(HEIGHT - _BOTTOM), (WIDTH - _LEFT - _RIGHT) / max(1, len(columns))
    scale = (base - _TOP) / top_value
    bars = []
    for index, column in enumerate(columns):
        bottom = base
        for value, tone in zip(column.values, tones, strict=True):
            if value > 0:
                height = max(_LEAST_HEIGHT, value * scale)
                bottom -= height
                left = _LEFT + (index + _GAP / 2) * room
                bars.append(Bar(_r(left), _r(bottom), _r(room * (1 - _GAP)), _r(height), tone, index))
    return Plot(
        columns=tuple(columns),
        bars=tuple(bars),
        hovers=tuple((_r(_LEFT + index * room), _r(room)) for index in range(len(columns))),
        times=tuple(_times(columns, room)),
        grid=tuple(Mark(_r(base - share * (base - _TOP)), short_number(share * top_value)) for share in (0.5, 1.0)),
        base=base,
    )


def _times(columns: Sequence[Column], room: float) -> list[Mark]:
    """Some of the columns by their time of day, and the day where it begins."""
    every = max(1, math.ceil(len(columns) / _LABELS))
    return [
        Mark(_r(_LEFT + (index + 0.5) * room), column.begin.astimezone(UTC).strftime("%H:%M"))
        for index, column in enumerate(columns)
        if index % every == every // 2
    ]


def nice_top(most: float) -> float:
    """The end of an axis that reaches to ``most``: an even number times a power of ten, so that its half is whole."""
    if most <= _STEPS[0]:
        return float(_STEPS[0])
    power = 10.0 ** math.floor(math.log10(most))
    return next(step * power for step in _STEPS if step * power >= most)


def short_number(value: float) -> str:
    """A number that fits beside an axis: ``1.5k``."""
    for size, prefix in _PREFIXES:
        if value >= size:
            return f"{value / size:.3g}{prefix}"
    return f"{value:.3g}"


def _r(value: float) -> float:
    return round(value, 2)

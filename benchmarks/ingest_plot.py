"""The picture of a run of benchmarks/ingest.py: throughput and CPU seconds a GiB of every receiver, as SVG."""

from collections.abc import Mapping, Sequence
from html import escape

COLOURS = {"vesselq": "#0b6e99", "storescp": "#b0b7bf", "orthanc": "#d9a441"}
_WIDTH, _PANEL, _TOP, _LEFT = 760, 190, 54, 56
_BAR, _GAP = 22, 30
_HEAD = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" font-family="sans-serif" '
    'font-size="12" role="img" aria-label="Intake: throughput and CPU time by receiver">'
)

Values = Mapping[str, Mapping[str, float]]
"""Subject -> cell -> value."""


def picture(speed: Values, cpu: Values, cells: Sequence[str], note: str) -> str:
    """Two panels of bars, one above the other, each bar with its number.

    Args:
        speed: MiB a second.
        cpu: CPU seconds a GiB.
        cells: Workload and number of associations, for example ``ct512/4``.
        note: How it was measured.
    """
    height = 2 * (_PANEL + _TOP) + 46
    parts = [
        _HEAD.format(width=_WIDTH, height=height),
        f'<rect width="{_WIDTH}" height="{height}" fill="#ffffff"/>',
        *_legend(),
        *_panel("Throughput, MiB/s (more is better)", speed, cells, _TOP),
        *_panel("CPU seconds a GiB (less is better)", cpu, cells, 2 * _TOP + _PANEL),
        f'<text x="{_LEFT}" y="{height - 12}" fill="#555" font-size="11">{escape(note)}</text>',
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _legend() -> list[str]:
    parts, x = [], _LEFT
    for subject, colour in COLOURS.items():
        parts.append(f'<rect x="{x}" y="10" width="12" height="12" fill="{colour}"/>')
        parts.append(f'<text x="{x + 17}" y="20">{escape(subject)}</text>')
        x += 110
    return parts


def _panel(title: str, values: Values, cells: Sequence[str], top: int) -> list[str]:
    bottom = top + _PANEL - 24
    largest = max((value for of_subject in values.values() for value in of_subject.values()), default=1.0) or 1.0
    parts = [f'<text x="{_LEFT}" y="{top}" font-weight="bold">{escape(title)}</text>']
    parts.append(f'<line x1="{_LEFT}" y1="{bottom}" x2="{_WIDTH - 20}" y2="{bottom}" stroke="#333"/>')
    x = _LEFT + 10
    for cell in cells:
        middle = x + len(COLOURS) * _BAR / 2
        parts.append(f'<text x="{middle}" y="{bottom + 16}" text-anchor="middle">{escape(cell)}</text>')
        for subject, colour in COLOURS.items():
            value = values.get(subject, {}).get(cell, 0.0)
            size = (bottom - top - 26) * value / largest
            parts.append(
                f'<rect x="{x}" y="{bottom - size:.1f}" width="{_BAR - 3}" height="{size:.1f}" fill="{colour}"/>'
            )
            parts.append(
                f'<text x="{x + _BAR / 2 - 1.5}" y="{bottom - size - 4:.1f}" font-size="9" '
                f'text-anchor="middle">{value:.3g}</text>'
            )
            x += _BAR
        x += _GAP
    return parts

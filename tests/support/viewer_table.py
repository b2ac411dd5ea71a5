"""The rows of the table of docs/reference/viewers.md, and how what was observed becomes the page.

A row is one class of source and one kind of segmentation object; each cell is what a program made of it.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from seg_cases import CASES

from dicom_core.result import ResultKind

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "viewers.md"
COLUMNS = ("dciodvfy", "read-back", "dcmqi", "OHIF", "Orthanc")
YES = "yes"
TITLES = {
    "ct": "CT, slices",
    "ct_tilted_with_gap": "CT with gantry tilt and a missing slice",
    "ct_odd_columns": "CT of 33 x 37 pixels",
    "mr": "MR, slices",
    "enhanced_ct": "Enhanced CT",
    "enhanced_mr": "Enhanced MR",
    "opt_with_frame_of_reference": "OCT (OPT) with geometry",
    "xa_run": "XA run",
    "xa_run_odd_columns": "XA run of 33 x 37 pixels",
    "xa_run_of_several": "XA run, one of several in its series",
    "xrf_run": "RF run",
    "us_run": "US run",
    "sc_multiframe": "multi-frame SC",
    "opt_without": "OCT (OPT) without geometry",
    "xa_still": "XA, single frame",
    "op_rgb": "fundus photograph (OP), colour",
    "op_grey_8bit": "fundus photograph (OP), grey 8 bit",
    "op_grey_16bit": "fundus photograph (OP), grey 16 bit",
    "several_op": "several fundus photographs in one series",
    "opt_en_face": "OCT en face (OPTENF)",
    "sc": "SC, grey",
    "sc_colour": "SC, colour",
    "dx": "DX",
    "cr": "CR",
}
"""What a reader calls the classes of ``seg_cases``."""

UNPLACED = "no (a)"
BIT_ORDER = "nearly (b)"
NO_FRAMES = "no (c)"
BLANK = "blank page (d)"
REFUSED = "no (e)"
COLOURS = "wrong colours (f)"
UNKNOWN_IMAGE = "yes, with a complaint (g)"


@dataclass(frozen=True)
class Row:
    """One source and one kind of object.

    Attributes:
        source: A key of ``seg_cases.CASES``.
        segments: 1, or 2 that overlap in part.
        kind: Of the object.
        expected: What a column is known to show instead of ``yes``.
    """

    source: str
    segments: int = 1
    kind: ResultKind = ResultKind.SEG
    expected: Mapping[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        """The first cell."""
        extra = ", two segments that overlap" if self.segments == 2 else ""
        return f"{TITLES[self.source]}{extra}"

    @property
    def key(self) -> str:
        """Short, for file names and test names."""
        return f"{self.source}-{self.kind}" + ("-two" if self.segments == 2 else "")


_PLACED = {name for name, case in CASES.items() if case.kind in ("slices", "enhanced")}
_OHIF = {
    "xa_run_odd_columns": BIT_ORDER,
    "ct_odd_columns": NO_FRAMES,
    "opt_en_face": UNKNOWN_IMAGE,
}


def _row(source: str, segments: int = 1, kind: ResultKind = ResultKind.SEG, ohif: str = "") -> Row:
    expected = {} if source in _PLACED else {"dcmqi": UNPLACED}
    if ohif or source in _OHIF:
        expected["OHIF"] = ohif or _OHIF[source]
    return Row(source, segments, kind, expected)


ROWS = (
    *(_row(source) for source in CASES),
    _row("ct", 2),
    _row("xa_run", 2),
    _row("op_rgb", 2),
    _row("ct", kind=ResultKind.SEG_DEFLATED),
    _row("xa_run", kind=ResultKind.SEG_DEFLATED),
    _row("ct", kind=ResultKind.SEG_FRACTIONAL, ohif=REFUSED),
    _row("ct", 2, kind=ResultKind.SEG_LABELMAP, ohif=COLOURS),
    _row("op_rgb", kind=ResultKind.SEG_STRICT, ohif=BLANK),
)
"""The row with ``blank page`` stands last: the viewer would have to be opened anew after it."""


def table(cells: Mapping[str, Mapping[str, str]]) -> str:
    """The table in Markdown; ``cells`` by key of the row and column."""
    lines = ["| source | object | " + " | ".join(COLUMNS) + " |", "| --- " * (2 + len(COLUMNS)) + "|"]
    for row in ROWS:
        found = " | ".join(cells[row.key][column] for column in COLUMNS)
        lines.append(f"| {row.title} | `{row.kind}` | {found} |")
    return "\n".join(lines)


_PART = re.compile(r"(<!-- observed -->\n).*?(\n<!-- observed until here -->)", re.DOTALL)


def committed() -> str:
    """The table that stands in the page."""
    found = _PART.search(PAGE.read_text(encoding="utf-8"))
    assert found, f"{PAGE} has no part for the table"
    return found.group()[len(found[1]) : -len(found[2])].strip()


def write(text: str) -> None:
    """Put the table into the page."""
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(_PART.sub(lambda part: f"{part[1]}\n{text}\n{part[2]}", page), encoding="utf-8")

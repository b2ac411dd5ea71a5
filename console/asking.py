"""The options by which a person asks a segmenter for something: words, boxes, points, a mask."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from dicom_core.prompt import Prompt

Words = Annotated[
    list[str] | None,
    typer.Option(
        "--prompt",
        metavar="[TYPE=]TEXT",
        help="What to look for, in words; several times for several segments. TYPE is the coded type of the segment, "
        "for example artery=the coronary artery; else blood_vessel.",
    ),
]
Boxes = Annotated[
    list[str] | None,
    typer.Option(
        "--box",
        metavar="L,T,R,B[@FRAME]",
        help="Columns and rows around what is to be found, on every frame or on one of a run; several are allowed.",
    ),
]
Points = Annotated[
    list[str] | None,
    typer.Option(
        "--point",
        metavar="X,Y[,out][@FRAME]",
        help="Column and row on what is to be found, or, with out, not on it; on every frame or on one.",
    ),
]
Mask = Annotated[Path | None, typer.Option("--mask", metavar="FILE", help="PNG or SEG: where it is about, roughly.")]
_TYPED = re.compile(r"([a-z0-9_]+)=(.*)", re.DOTALL)


def asked(
    words: Sequence[str] | None, boxes: Sequence[str] | None, points: Sequence[str] | None, mask: Path | None = None
) -> "Prompt":
    """The prompt of a person, empty where nothing was asked.

    Raises:
        InvalidPromptError: Too many or too long.
        BadParameter: An option has another form than its help says.
    """
    import json

    from console.prompt_options import box_of, point_of
    from dicom_core.prompt import Prompt

    if not (words or boxes or points or mask):
        return Prompt()
    values = {
        "questions": [_question(text) for text in words or ()],
        "boxes": [box_of(text).model_dump() for text in boxes or ()],
        "points": [point_of(text).model_dump() for text in points or ()],
        "mask": str(mask.absolute()) if mask else None,
        "by_hand": True,
    }
    return Prompt.from_stored(json.dumps(values))


def _question(text: str) -> dict[str, str]:
    from dicom_core.errors import InvalidSegmentationError
    from worker.result_header.catalogue import vessel_type

    typed = _TYPED.fullmatch(text)
    if typed is None:
        return {"text": text}
    try:
        vessel_type(typed[1])
    except InvalidSegmentationError as error:
        raise typer.BadParameter(f"{typed[1]!r} is no type of segment. {error}", param_hint="--prompt") from None
    return {"segment": typed[1], "text": typed[2]}

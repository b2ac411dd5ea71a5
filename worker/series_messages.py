"""What parent and child say to each other about one series: JSON over a pipe, without patient data."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from dicom_core.result import DEFAULT_RESULTS, ResultKind, ResultObject
from worker.segmenters.interface import Status

REQUEST_FILE = "request.json"
"""Where the request lies in the output folder."""
StageCallback = Callable[[str, float], None]
"""Called with the stage's name and its finished share, 0 to 1."""


def object_file(kind: ResultKind, part: int = 1, item: int = 1) -> str:
    """Name of an object in the output folder: ``seg.dcm``, ``seg-part2.dcm``, ``overlay-2.dcm``."""
    return f"{kind.value}{f'-part{part}' if part > 1 else ''}{f'-{item}' if item > 1 else ''}.dcm"


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SeriesRequest(_Message):
    """Everything that the child needs for one series.

    Attributes:
        paths: Files of the series.
        segmenter: As a rule names it: one name, or several joined by ``+``.
        segmenter_settings: The ``[models]`` tables of all of them by name.
        prompt: As ``dicom_core.prompt.Prompt.stored`` writes it.
        uid_scope: What makes the result's UIDs ours: site key, study, series, generation, configuration.
        created_at: Written into the objects; the same for every try of a job.
        series_number: Of the SEG object of the first part; other objects get numbers after it.
        results: The kinds of object to make.
        send_empty: Make objects without vessels too.
        output_folder: Existing folder for the results.
    """

    paths: tuple[Path, ...]
    segmenter: str
    segmenter_settings: dict[str, dict[str, Any]] = Field(default_factory=dict)
    prompt: str = ""
    device: str = "auto"
    threads: int = 0
    decoded_limit_bytes: int
    uid_scope: tuple[str, ...]
    created_at: datetime
    generation: int = 1
    series_number: int
    software_version: str
    omit_empty_frames: bool = True
    viewer_hints: bool = True
    send_empty: bool = False
    results: tuple[ResultKind, ...] = DEFAULT_RESULTS
    output_folder: Path


class SeriesResult(_Message):
    """What the child reports. ``status`` is that of the segmenter.

    Attributes:
        objects: The files in the output folder; where there is none there is no preview either.
        previews: Names of the pictures in the output folder (``worker.pictures.preview_files``).
        summary: JSON-ready facts for the record: frames, voxels, model, seconds by stage, warnings.
    """

    status: Status
    objects: tuple[ResultObject, ...] = ()
    previews: tuple[str, ...] = ()
    summary: dict[str, Any]

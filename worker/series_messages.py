"""What parent and child say to each other about one series: JSON over a pipe, without patient data."""

from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from worker.segmenters.interface import Status

REQUEST_FILE = "request.json"
"""Where the request lies in the output folder."""
SEGMENTATION_FILE, PREVIEW_FILE = "segmentation.dcm", "preview.png"
"""Names of what is left in the output folder."""
StageCallback = Callable[[str, float], None]
"""Called with the stage's name and its finished share, 0 to 1."""


class _Message(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class SeriesRequest(_Message):
    """Everything that the child needs for one series.

    Attributes:
        paths: Files of the series.
        uid_scope: What makes the result's UIDs ours: site key, study, series, generation, configuration.
        created_at: Written into the object; the same for every try of a job.
        send_empty: Make an object without vessels too.
        output_folder: Existing folder for the results.
    """

    paths: tuple[Path, ...]
    segmenter: str
    segmenter_settings: dict[str, Any] = Field(default_factory=dict)
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
    output_folder: Path


class SeriesResult(_Message):
    """What the child reports. ``status`` is that of the segmenter.

    Attributes:
        sha256: Of the SEG file; "" where there is none, and then there is nothing in the output folder at all.
        summary: JSON-ready facts for the record: frames, voxels, model, seconds by stage, warnings.
    """

    status: Status
    sha256: str = ""
    sop_instance_uid: str = ""
    series_instance_uid: str = ""
    summary: dict[str, Any]

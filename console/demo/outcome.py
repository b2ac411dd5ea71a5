"""What became of one demonstration study, and the proof that its result is really there and right."""

import hashlib
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.errors import InvalidDicomError

from console.demo.result_pacs import ResultPacs
from console.demo.scoring import dice_of
from console.demo.studies import DemoStudy
from dicom_core.errors import VesselqError
from dicom_core.job import Job, JobState
from dicom_core.result import ResultObject
from worker.seg_reader.reading import read_masks
from worker.seg_writer.validation import validate_segmentation
from worker.source_images.reading import read_series
from worker.source_series import SourceSeries


@dataclass(frozen=True, slots=True)
class Outcome:
    """One line of the final table.

    Attributes:
        problems: Why this study does not count as done, in words; empty when all is well.
        state: Of its job.
        dice: Against the known tree, None without a result.
        seconds: By stage.
        sop_instance_uid: Of the result.
        where: Place of the result in the result PACS.
        preview: The picture, None without one.
    """

    study_instance_uid: str
    source: str
    modality: str
    frames: int
    state: str
    dice: float | None = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    sop_instance_uid: str = ""
    where: str = ""
    preview: Path | None = None
    problems: tuple[str, ...] = ()


def outcome_of(study: DemoStudy, job: Job | None, results_folder: Path, pacs: ResultPacs) -> Outcome:
    """Look at a study whose job has ended, or has not within the time."""
    about: dict[str, Any] = {
        "study_instance_uid": study.study_instance_uid,
        "source": study.source,
        "modality": study.modality,
        "frames": len(study.frames),
    }
    if job is None:
        return Outcome(**about, state="RECEIVING", problems=("no job was made for it",))
    about["state"] = job.state.value
    if job.state is not JobState.DONE or job.seg is None:
        return Outcome(**about, problems=(f"its job is {job.state.value}: {job.reason or 'no reason given'}",))
    kept = results_folder / job.seg.path
    preview = job.result.get("preview_path")
    try:
        where, problems = _proof(study, job.seg, kept, pacs)
        dice = dice_of(kept, study)
    except (VesselqError, OSError, InvalidDicomError) as error:
        return Outcome(**about, sop_instance_uid=job.seg.sop_instance_uid, problems=(str(error),))
    return Outcome(
        **about,
        dice=dice,
        seconds=_seconds(job),
        sop_instance_uid=job.seg.sop_instance_uid,
        where=where,
        preview=results_folder / preview if isinstance(preview, str) else None,
        problems=problems,
    )


def save_previews(outcomes: Sequence[Outcome], folder: Path) -> list[Outcome]:
    """Copy the pictures out of a data folder that will not stay; the outcomes name the copies."""
    saved = []
    for outcome in outcomes:
        if outcome.preview is not None and outcome.preview.is_file():
            folder.mkdir(mode=0o700, exist_ok=True)
            copy = shutil.copyfile(outcome.preview, folder / f"{outcome.modality}.png")
            saved.append(replace(outcome, preview=copy))
        else:
            saved.append(outcome)
    return saved


def _seconds(job: Job) -> dict[str, float]:
    found = job.result.get("seconds")
    return {str(stage): float(value) for stage, value in found.items()} if isinstance(found, Mapping) else {}


def _proof(study: DemoStudy, result: ResultObject, kept: Path, pacs: ResultPacs) -> tuple[str, tuple[str, ...]]:
    """Where the object is in the PACS, and everything that is wrong with it."""
    problems = []
    content = kept.read_bytes()
    if hashlib.sha256(content).hexdigest() != result.sha256:
        problems.append("the kept result is not what was recorded")
    fetched, where = pacs.fetch(result.sop_instance_uid)
    ours, theirs = dcmread(BytesIO(content)), dcmread(BytesIO(fetched))
    # the File Meta Information is the PACS's own (PS3.10 section 7.1); the data set must be ours to the last bit
    if theirs != ours or theirs.PixelData != ours.PixelData:
        problems.append("the object in the result PACS is not the one that was kept")
    source = read_series(study.paths)[0]
    validate_segmentation(kept, source, _mask_of(kept, source))
    return where, tuple(problems)


def _mask_of(segmentation: Path, source: SourceSeries) -> NDArray[np.bool_]:
    """The mask that a file holds: ``(segments, frames, rows, columns)`` bool, in the order of the source's frames."""
    dataset = dcmread(segmentation)
    shape = (len(dataset.SegmentSequence), len(source.frames), int(dataset.Rows), int(dataset.Columns))
    mask = np.zeros(shape, np.bool_)
    index_of = {(frame.sop_instance_uid, frame.frame_number): index for index, frame in enumerate(source.frames)}
    for (segment, sop_instance_uid, frame_number), frame in read_masks(dataset).items():
        mask[segment - 1, index_of[sop_instance_uid, frame_number]] = frame
    return mask

"""Proof, before a Segmentation object is kept, that it says what the mask says and that others can read it."""

import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.errors import InvalidDicomError

from dicom_core.errors import InvalidSegmentationError
from worker.image_stack import FrameIdentity
from worker.seg_writer.reading import SegmentedFrame, iterate_frames
from worker.seg_writer.source_header import IDENTIFYING, text_of
from worker.seg_writer.standard_tables import missing_attributes
from worker.seg_writer.writer import save_segmentation
from worker.source_series import SourceKind, SourceSeries

_DCIODVFY_SECONDS = 120
_DCIODVFY_MESSAGE = re.compile(r"(?:Error|Warning) - (?:<(?P<path>/[^>]*)> - )?(?P<reason>[^<=]*)")
_FAULTS_OF_THE_SOURCE = (*IDENTIFYING, "StudyInstanceUID", "FrameOfReferenceUID")
"""Attributes that must equal the source whatever dciodvfy thinks of them."""
_NOT_A_FAULT = ("needed to build DICOMDIR", "Referenced SOP Class that is not multi-frame")
"""DICOMDIR wants attributes that may be empty; frames that the source's class forbids still need their number."""
_POSITION_TOLERANCE_MM = 1e-3
_NAMED_PROBLEMS = 12


def validate_segmentation(
    path_or_dataset: Path | Dataset, source: SourceSeries, mask: NDArray[np.bool_], *, use_dciodvfy: bool = True
) -> None:
    """Check a Segmentation object against its source and the mask that it was made from.

    Masks must equal bit for bit by (segment, SOPInstanceUID, frame number), required attributes must stand, identity
    and references must be those of the source, and dciodvfy must have nothing to say where it is installed.

    Args:
        path_or_dataset: A file, or an object in memory.
        source: The series that the object was made from.
        mask: ``(segments, frames, rows, columns)`` bool.
        use_dciodvfy: False skips the external program.

    Raises:
        InvalidSegmentationError: Names what is wrong, without values.
    """
    dataset = _read(path_or_dataset) if isinstance(path_or_dataset, Path) else path_or_dataset
    problems = [f"{keyword} is missing or empty" for keyword in missing_attributes(dataset)]
    problems += _identity_problems(dataset, source)
    problems += _frame_problems(dataset, source, mask)
    if use_dciodvfy:
        problems += _dciodvfy_problems(path_or_dataset)
    if problems:
        more = f"; and {len(problems) - _NAMED_PROBLEMS} more" if len(problems) > _NAMED_PROBLEMS else ""
        raise InvalidSegmentationError(
            f"The segmentation object failed its validation: {'; '.join(problems[:_NAMED_PROBLEMS])}{more}."
        )


def _read(path: Path) -> Dataset:
    try:
        return dcmread(path)
    except (OSError, InvalidDicomError) as error:
        raise InvalidSegmentationError("The segmentation object cannot be read back.") from error


def _identity_problems(dataset: Dataset, source: SourceSeries) -> Iterator[str]:
    header = source.datasets[0]
    for keyword in ("StudyInstanceUID", "PatientID", "PatientName", "AccessionNumber"):
        if text_of(dataset, keyword) != text_of(header, keyword):
            yield f"{keyword} differs from the source"
    if dataset.get("FrameOfReferenceUID", "") != _expected_frame_of_reference(source):
        yield "FrameOfReferenceUID is not that of the source"
    used = {str(header.SOPInstanceUID) for header in source.datasets}
    referenced = {
        str(reference.get("ReferencedSOPInstanceUID", ""))
        for series in dataset.get("ReferencedSeriesSequence") or ()
        if series.get("SeriesInstanceUID") == header.SeriesInstanceUID
        for reference in series.get("ReferencedInstanceSequence") or ()
    }
    if referenced != used:
        yield "ReferencedSeriesSequence does not name the instances of the source"


def _expected_frame_of_reference(source: SourceSeries) -> str:
    if source.kind in (SourceKind.RUN, SourceKind.PICTURES):
        return ""
    return str(source.datasets[0].FrameOfReferenceUID)


def _frame_problems(dataset: Dataset, source: SourceSeries, mask: NDArray[np.bool_]) -> list[str]:
    numbers = [item.get("SegmentNumber") for item in dataset.get("SegmentSequence") or ()]
    if numbers != list(range(1, len(mask) + 1)):
        return ["SegmentSequence does not number the segments of the mask from 1"]
    problems: list[str] = []
    try:
        seen = np.zeros(mask.shape[:2], np.bool_)
        index_of = {identity: index for index, identity in enumerate(source.frames)}
        for frame in iterate_frames(dataset):
            problems += _compare(frame, source, mask, index_of, seen)
    except InvalidSegmentationError as error:
        return [*problems, str(error).rstrip(".")]
    if mask[~seen].any():
        problems.append("a frame with vessels is not in the object")
    return sorted(set(problems))


def _compare(
    frame: SegmentedFrame,
    source: SourceSeries,
    mask: NDArray[np.bool_],
    index_of: dict[FrameIdentity, int],
    seen: NDArray[np.bool_],
) -> Iterator[str]:
    index = index_of.get(FrameIdentity(frame.sop_instance_uid, frame.frame_number))
    segment = frame.segment_number - 1
    if not 0 <= segment < len(mask):
        yield "a frame belongs to a segment that is not described"
    elif index is None:
        if not _is_unused_source_frame(frame, source):
            yield "a frame refers to an image that is not a source"
    elif seen[segment, index]:
        yield "two frames show the same segment of the same image"
    else:
        seen[segment, index] = True
        if not np.array_equal(frame.mask, mask[segment, index]):
            yield "a stored mask differs from the segmenter's"
        if not _position_agrees(frame, source):
            yield "the position of a frame is not that of its source image"


def _is_unused_source_frame(frame: SegmentedFrame, source: SourceSeries) -> bool:
    """An empty frame of the multi-frame source that the segmenter did not get (with ``omit_empty_frames=False``)."""
    header = source.datasets[0]
    known = source.kind is SourceKind.ENHANCED and frame.sop_instance_uid == header.SOPInstanceUID
    return known and frame.frame_number <= int(header.NumberOfFrames) and not frame.mask.any()


def _position_agrees(frame: SegmentedFrame, source: SourceSeries) -> bool:
    if source.kind in (SourceKind.RUN, SourceKind.PICTURES):
        return frame.position is None
    header = next(header for header in source.datasets if header.SOPInstanceUID == frame.sop_instance_uid)
    if source.kind is SourceKind.ENHANCED:
        groups = header.PerFrameFunctionalGroupsSequence[frame.frame_number - 1]
        groups = groups if "PlanePositionSequence" in groups else header.SharedFunctionalGroupsSequence[0]
        header = groups.PlanePositionSequence[0]
    expected = [float(value) for value in header.ImagePositionPatient]
    return frame.position is not None and np.allclose(frame.position, expected, rtol=0, atol=_POSITION_TOLERANCE_MM)


# --- dciodvfy ---------------------------------------------------------------------------------------------------------


def _dciodvfy_problems(path_or_dataset: Path | Dataset) -> list[str]:
    """What David Clunie's dciodvfy has to say; nothing where it is not installed."""
    program = shutil.which("dciodvfy")
    if program is None:
        return []
    if isinstance(path_or_dataset, Path):
        return _messages(program, path_or_dataset)
    with tempfile.TemporaryDirectory(prefix="vesselq-") as folder:
        path = Path(folder) / "segmentation.dcm"
        save_segmentation(path_or_dataset, path)
        return _messages(program, path)


def _messages(program: str, path: Path) -> list[str]:
    try:
        answer = subprocess.run(
            [program, "-new", str(path.absolute())],
            check=False,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_DCIODVFY_SECONDS,
        )
    except (subprocess.TimeoutExpired, OSError):
        return ["dciodvfy gave no answer"]
    lines = (answer.stdout + "\n" + answer.stderr).splitlines()
    messages = [_without_values(line) for line in lines if line.startswith(("Error", "Warning"))]
    if answer.returncode != 0 and not messages:
        return ["dciodvfy could not read the object"]
    return sorted({message for message in messages if message})


def _without_values(line: str) -> str:
    """The message without the value it quotes; empty for what is the source's own fault or none."""
    match = _DCIODVFY_MESSAGE.match(line)
    if match is None:
        return "dciodvfy found an error"
    path = match["path"] or ""
    if any(path.startswith(f"/{keyword}(") for keyword in _FAULTS_OF_THE_SOURCE):
        return ""
    if any(words in match["reason"] for words in _NOT_A_FAULT):
        return ""
    return f"dciodvfy on {path or 'the object'}: {match['reason'].strip(' -')}"

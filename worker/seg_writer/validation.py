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
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.errors import InvalidDicomError
from pydicom.uid import DeflatedExplicitVRLittleEndian, ExplicitVRLittleEndian, RLELossless

from dicom_core.errors import InvalidSegmentationError
from dicom_core.result import ResultKind
from worker.result_header.source_header import IDENTIFYING, text_of
from worker.seg_writer.frame_validation import frame_problems
from worker.seg_writer.standard_tables import missing_attributes
from worker.seg_writer.writer import save_segmentation
from worker.source_series import SourceKind, SourceSeries

_DCIODVFY_SECONDS = 120
_DCIODVFY_MESSAGE = re.compile(r"(?:Error|Warning) - (?:<(?P<path>/[^>]*)> - )?(?P<reason>[^<=]*)")
_FAULTS_OF_THE_SOURCE = (*IDENTIFYING, "StudyInstanceUID", "FrameOfReferenceUID")
"""Attributes that must equal the source whatever dciodvfy thinks of them."""
_NOT_A_FAULT = ("needed to build DICOMDIR", "Referenced SOP Class that is not multi-frame")
"""DICOMDIR wants attributes that may be empty; frames that the source's class forbids still need their number."""
_NEWER_THAN_DCIODVFY = re.compile(r"/ContributingEquipmentSequence\(0018,a001\)\[\d+\]/DeviceUID\(0018,1002\)")
"""What a later edition of the Standard has added than the program knows (PS3.3 table C.12-1); IHE AIR asks for it."""
_SEGMENTATION, _LABEL_MAP = "1.2.840.10008.5.1.4.1.1.66.4", "1.2.840.10008.5.1.4.1.1.66.7"
_KINDS = {
    ResultKind.SEG: ("BINARY", _SEGMENTATION, ExplicitVRLittleEndian),
    ResultKind.SEG_STRICT: ("BINARY", _SEGMENTATION, ExplicitVRLittleEndian),
    ResultKind.SEG_DEFLATED: ("BINARY", _SEGMENTATION, DeflatedExplicitVRLittleEndian),
    ResultKind.SEG_FRACTIONAL: ("FRACTIONAL", _SEGMENTATION, RLELossless),
    ResultKind.SEG_LABELMAP: ("LABELMAP", _LABEL_MAP, RLELossless),
}
"""SegmentationType, SOP class and transfer syntax of each kind."""
_NAMED_PROBLEMS = 12


def validate_segmentation(
    path_or_dataset: Path | Dataset,
    source: SourceSeries,
    mask: NDArray[np.bool_],
    *,
    kind: ResultKind = ResultKind.SEG,
    probability: NDArray[np.float16] | None = None,
    use_dciodvfy: bool = True,
) -> None:
    """Check a Segmentation object against its source and the mask that it was made from.

    Masks must equal bit for bit by (segment, SOPInstanceUID, frame number), labels too, with the highest number where
    segments overlap; fractions must be the nearest step of 1/255. Required attributes must stand, identity and
    references must be those of the source, and dciodvfy must have nothing to say where it is installed.

    Args:
        path_or_dataset: A file, or an object in memory.
        source: The series that the object was made from.
        mask: ``(segments, frames, rows, columns)`` bool.
        kind: Which object it must be.
        probability: The same axes as ``mask``, in [0, 1]: what a ``SEG_FRACTIONAL`` was made from.
        use_dciodvfy: False skips the external program, which knows no label maps anyway.

    Raises:
        InvalidSegmentationError: Names what is wrong, without values.
    """
    dataset = _read(path_or_dataset) if isinstance(path_or_dataset, Path) else path_or_dataset
    problems = [f"{keyword} is missing or empty" for keyword in missing_attributes(dataset)]
    problems += _identity_problems(dataset, source)
    problems += _kind_problems(dataset, kind)
    problems += frame_problems(dataset, source, mask, probability, kind)
    if use_dciodvfy and kind is not ResultKind.SEG_LABELMAP:
        problems += _dciodvfy_problems(path_or_dataset, dataset)
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


def _kind_problems(dataset: Dataset, kind: ResultKind) -> Iterator[str]:
    """The kind that was asked for shows in type, SOP class and transfer syntax."""
    segmentation_type, sop_class, transfer_syntax = _KINDS[kind]
    meta = dataset.get("file_meta") or Dataset()
    if dataset.get("SegmentationType") != segmentation_type or dataset.get("SOPClassUID") != sop_class:
        yield f"the object is no {segmentation_type} segmentation"
    if meta.get("MediaStorageSOPClassUID") != sop_class or meta.get("TransferSyntaxUID") != transfer_syntax:
        yield "the file meta information does not fit the kind of the object"


# --- dciodvfy ---------------------------------------------------------------------------------------------------------


def _dciodvfy_problems(path_or_dataset: Path | Dataset, dataset: Dataset) -> list[str]:
    """What David Clunie's dciodvfy has to say; nothing where it is not installed."""
    program = shutil.which("dciodvfy")
    if program is None:
        return []
    is_deflated = dataset.file_meta.TransferSyntaxUID.is_deflated
    if isinstance(path_or_dataset, Path) and not is_deflated:
        return _messages(program, path_or_dataset)
    with tempfile.TemporaryDirectory(prefix="vesselq-") as folder:
        path = Path(folder) / "segmentation.dcm"
        save_segmentation(_inflated(dataset) if is_deflated else dataset, path)
        return _messages(program, path)


def _inflated(dataset: Dataset) -> Dataset:
    """The same in Explicit VR Little Endian: dciodvfy cannot read a deflated data set."""
    plain = Dataset(dataset)
    plain.preamble = b"\0" * 128
    plain.file_meta = FileMetaDataset(dataset.file_meta)
    plain.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    return plain


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
    if _NEWER_THAN_DCIODVFY.fullmatch(path) and "not present in standard DICOM IOD" in match["reason"]:
        return ""
    return f"dciodvfy on {path or 'the object'}: {match['reason'].strip(' -')}"

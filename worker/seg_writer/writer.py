"""The public face of this room: a segmentation in, a DICOM Segmentation object out, written so that it stays."""

import hashlib
from io import BytesIO
from pathlib import Path

from pydicom import config
from pydicom.dataset import Dataset
from pydicom.filewriter import dcmwrite

from dicom_core.errors import InvalidSegmentationError, SpoolError, UnsupportedSourceError
from dicom_core.result import SEGMENTATIONS, ResultKind
from dicom_core.spool import keep_file
from worker.result_header.identity import ResultIdentity
from worker.seg_writer import frame_reference, patient_geometry
from worker.seg_writer.instance_modules import add_instance_modules
from worker.seg_writer.stored_values import stored_values
from worker.segmenters.interface import Segmentation, Status
from worker.source_series import SourceKind, SourceSeries


def build_segmentation(
    source: SourceSeries,
    segmentation: Segmentation,
    identity: ResultIdentity,
    *,
    kind: ResultKind = ResultKind.SEG,
    omit_empty_frames: bool = True,
    viewer_hints: bool = True,
) -> Dataset:
    """Build one Segmentation object (PS3.3 A.51) of one source series, in memory.

    The same arguments give the same bytes. The datasets of ``source`` are not changed. Several kinds of one result need
    an identity each, which differ in SOP and series instance UID and agree in ``uid_seed``.

    A label map holds one segment a pixel: where segments overlap, the one with the highest number is stored, so that
    branches, which segmenters name after their vessel, stay visible; the description of each segment then says so.

    Args:
        source: Headers and frame order; nothing of the pixel data is read.
        segmentation: ``mask`` is ``(classes, frames, rows, columns)`` bool with one frame for each of
            ``source.frames`` and the rows and columns of the source. It may be empty where the status is ``NO_MASK``:
            the object then has all frames, to say of each that nothing was found there.
        identity: UIDs, time and model.
        kind: One of ``SEGMENTATIONS``. ``SEG_FRACTIONAL`` stores ``segmentation.probability`` in steps of 1/255.
        omit_empty_frames: Leave out frames in which a segment has no pixel; False for viewers that want all.
        viewer_hints: For sources without geometry: add the orientation and pixel measures that OHIF and dcmqi need to
            open the object. False gives the strict object; ``SEG_STRICT`` never has them.

    Raises:
        InvalidSegmentationError: The mask does not fit the source, or is empty though the status is not ``NO_MASK``;
            there are no probabilities, or a value among them is outside [0, 1]; the kind is no Segmentation.
        UnsupportedSourceError: The geometry of the source cannot be expressed.
    """
    with config.disable_value_validation():  # odd values of the source are dealt with here, not warned of and logged
        return _build(
            source,
            segmentation,
            identity,
            kind=kind,
            omit_empty_frames=omit_empty_frames,
            viewer_hints=viewer_hints and kind is not ResultKind.SEG_STRICT,
        )


def _build(
    source: SourceSeries,
    segmentation: Segmentation,
    identity: ResultIdentity,
    *,
    kind: ResultKind,
    omit_empty_frames: bool,
    viewer_hints: bool,
) -> Dataset:
    if kind not in SEGMENTATIONS:
        raise InvalidSegmentationError(f"A result of the kind {kind.value} is no Segmentation object.")
    _check(source, segmentation)
    values = stored_values(segmentation, kind)
    omit_empty_frames = omit_empty_frames and bool(values.any())
    if source.kind in (SourceKind.SLICES, SourceKind.ENHANCED):
        dataset = patient_geometry.assemble(source, values, identity, kind=kind, omit_empty_frames=omit_empty_frames)
    else:
        dataset = frame_reference.assemble(
            source, values, identity, kind=kind, omit_empty_frames=omit_empty_frames, viewer_hints=viewer_hints
        )
    add_instance_modules(dataset, source, segmentation, identity, kind)
    return dataset


def _check(source: SourceSeries, segmentation: Segmentation) -> None:
    mask = segmentation.mask
    if mask.dtype != bool or mask.ndim != 4:
        raise InvalidSegmentationError(
            "The segmenter's mask must be bool with the axes (classes, frames, rows, columns)."
        )
    if mask.shape[0] != len(segmentation.classes) or mask.shape[1] != len(source.frames):
        raise InvalidSegmentationError(
            f"The mask has {mask.shape[0]} classes and {mask.shape[1]} frames; "
            f"{len(segmentation.classes)} classes and {len(source.frames)} frames are expected."
        )
    if not mask.any() and segmentation.status is not Status.NO_MASK:
        raise InvalidSegmentationError("The mask is empty: no vessel was found, so there is no segmentation to write.")
    for header in source.datasets:
        if (header.get("Rows"), header.get("Columns")) != mask.shape[2:]:
            raise InvalidSegmentationError("Rows and columns of the mask differ from those of the source images.")
    known = {str(header.SOPInstanceUID) for header in source.datasets}
    if any(frame.sop_instance_uid not in known for frame in source.frames):
        raise UnsupportedSourceError("A frame of the series belongs to an instance whose header is missing.")


def encode_segmentation(dataset: Dataset) -> bytes:
    """The object as a file of PS3.10: zero preamble, file meta information, the transfer syntax that it names."""
    buffer = BytesIO()
    dcmwrite(buffer, dataset, enforce_file_format=True)
    return buffer.getvalue()


def save_segmentation(dataset: Dataset, path: Path) -> str:
    """Write the object so that ``path`` either holds all of it, on disk, or does not change.

    Returns:
        SHA-256 of the file, hexadecimal.

    Raises:
        SpoolError: The folder is missing, full or not writable.
    """
    content = encode_segmentation(dataset)
    temporary = path.with_name(f".{path.name}.part")
    try:
        temporary.write_bytes(content)
        keep_file(temporary, path)
    except OSError as error:
        raise SpoolError(f"The segmentation cannot be written: {error.strerror}.") from error
    finally:
        temporary.unlink(missing_ok=True)
    return hashlib.sha256(content).hexdigest()

"""What a reading aid was made from and how: references to the sources (PS3.3 C.12.4) and the caption in words."""

from collections.abc import Sequence

from pydicom.dataset import Dataset
from pydicom.sr.codedict import codes

from dicom_core.errors import InvalidSegmentationError
from worker.pictures.reading_aids import AidKind, ReadingAid
from worker.result_header.catalogue import code_item
from worker.result_header.identity import RESEARCH_USE, ResultIdentity
from worker.result_header.text_values import short_text
from worker.source_series import SourceSeries

_WORDS = {
    AidKind.OVERLAY: "Source image with the outlines of automatically segmented vessels burnt in.",
    AidKind.MONTAGE: "Slices of the source with the outlines of automatically segmented vessels burnt in.",
    AidKind.PROJECTION: "Maximum intensity projections of automatically segmented vessels, shaded by depth.",
}
_HOW = {
    AidKind.OVERLAY: (codes.DCM.SegmentationImageDerivation,),
    AidKind.MONTAGE: (codes.DCM.SegmentationImageDerivation, codes.DCM.SpatialResampling),
    AidKind.PROJECTION: (codes.DCM.SegmentationImageDerivation, codes.DCM.MaximumIntensityProjection),
}
"""Of CID 7203."""


def headers_of(source: SourceSeries, aid: ReadingAid) -> list[Dataset]:
    """Headers of the instances that the aid shows, in the order of the series.

    Raises:
        InvalidSegmentationError: The aid shows none, or one that is not in the series.
    """
    shown = {frame.sop_instance_uid for frame in aid.frames}
    headers = [header for header in source.datasets if str(header.SOPInstanceUID) in shown]
    if not shown or len(headers) != len(shown):
        raise InvalidSegmentationError("The overlay shows an image that is not in the source series.")
    return headers


def add_derivation(dataset: Dataset, aid: ReadingAid, headers: Sequence[Dataset], identity: ResultIdentity) -> None:
    """DerivationDescription and code, source images, the series that they are from, and ImageComments."""
    words = [_WORDS[aid.kind], f"Model {identity.model_name} {identity.model_version}.", RESEARCH_USE]
    dataset.DerivationDescription = short_text(" ".join([*words, *_changes(aid, headers)]))
    dataset.DerivationCodeSequence = [code_item(code) for code in _HOW[aid.kind]]
    dataset.ImageComments = short_text(" ".join(words))
    dataset.SourceImageSequence = [_source_image(aid, header) for header in headers]
    series = Dataset()
    series.SeriesInstanceUID = headers[0].SeriesInstanceUID
    series.ReferencedInstanceSequence = [_instance(header) for header in headers]
    dataset.ReferencedSeriesSequence = [series]


def _changes(aid: ReadingAid, headers: Sequence[Dataset]) -> list[str]:
    """What a reader must know who compares a run with its source."""
    if aid.kind is not AidKind.OVERLAY:
        return []
    words = []
    if aid.scale != 1:
        words.append(f"Scaled by {aid.scale:.4g}.")
    if len(aid.frames) > 1 and len(aid.frames) != int(headers[0].get("NumberOfFrames") or 1):
        first, last = aid.frames[0].frame_number, aid.frames[-1].frame_number
        every = f", every {aid.step}." if aid.step > 1 else "."
        words.append(f"Frames {first} to {last} of the source{every}")
    return words


def _source_image(aid: ReadingAid, header: Dataset) -> Dataset:
    """One item of Source Image Sequence (PS3.3 table C.12-9), with frame numbers for a multi-frame source."""
    item = _instance(header)
    if int(header.get("NumberOfFrames") or 1) > 1:
        uid = str(header.SOPInstanceUID)
        item.ReferencedFrameNumber = [frame.frame_number for frame in aid.frames if frame.sop_instance_uid == uid]
    item.PurposeOfReferenceCodeSequence = [code_item(codes.DCM.SourceImageForImageProcessingOperation)]
    item.SpatialLocationsPreserved = "YES" if aid.kind is AidKind.OVERLAY and aid.scale == 1 else "NO"
    return item


def _instance(header: Dataset) -> Dataset:
    """An SOP Instance Reference item (PS3.3 table 10-11)."""
    item = Dataset()
    item.ReferencedSOPClassUID = header.SOPClassUID
    item.ReferencedSOPInstanceUID = header.SOPInstanceUID
    return item

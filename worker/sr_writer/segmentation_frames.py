"""What a report refers to in a Segmentation object: its segments, and the frame that shows a source image."""

from collections.abc import Mapping
from dataclasses import dataclass

from pydicom.dataset import Dataset

from dicom_core.errors import InvalidSegmentationError
from worker.image_stack import FrameIdentity


@dataclass(frozen=True, slots=True)
class ReferencedSegmentation:
    """A Segmentation object as a report sees it.

    Attributes:
        sop_class_uid: SOPClassUID.
        sop_instance_uid: SOPInstanceUID.
        series_instance_uid: SeriesInstanceUID.
        segments: Items of the Segment Sequence by SegmentNumber.
        frames: 1-based frame number by segment and source frame. In a label map one frame shows all segments; their
            number is then 0.
    """

    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    segments: Mapping[int, Dataset]
    frames: Mapping[tuple[int, FrameIdentity], int]

    def frame_number(self, segment_number: int, frame: FrameIdentity) -> int:
        """The frame that shows this segment of this source frame.

        Raises:
            InvalidSegmentationError: There is none.
        """
        for number in (segment_number, 0):
            if (number, frame) in self.frames:
                return self.frames[number, frame]
        raise InvalidSegmentationError("A measured frame is not in the segmentation object that the report refers to.")


def referenced_segmentation(dataset: Dataset) -> ReferencedSegmentation:
    """Look up segments and frames of a Segmentation or Label Map Segmentation object (PS3.3 A.51).

    Raises:
        InvalidSegmentationError: An attribute is missing that every such object has.
    """
    try:
        shared = dataset.SharedFunctionalGroupsSequence[0]
        frames: dict[tuple[int, FrameIdentity], int] = {}
        for number, groups in enumerate(dataset.PerFrameFunctionalGroupsSequence, 1):
            identification = groups.get("SegmentIdentificationSequence") or shared.get("SegmentIdentificationSequence")
            segment = int(identification[0].ReferencedSegmentNumber) if identification else 0
            for derivation in groups.DerivationImageSequence:
                for image in derivation.SourceImageSequence:
                    source = FrameIdentity(str(image.ReferencedSOPInstanceUID), int(_frame_number(image)))
                    frames[segment, source] = number
        return ReferencedSegmentation(
            sop_class_uid=str(dataset.SOPClassUID),
            sop_instance_uid=str(dataset.SOPInstanceUID),
            series_instance_uid=str(dataset.SeriesInstanceUID),
            segments={int(item.SegmentNumber): item for item in dataset.SegmentSequence},
            frames=frames,
        )
    except (AttributeError, IndexError, TypeError, ValueError) as error:
        raise InvalidSegmentationError("The segmentation object that a report is about is incomplete.") from error


def _frame_number(image: Dataset) -> int:
    number = image.get("ReferencedFrameNumber")
    return 1 if number is None else int(number)

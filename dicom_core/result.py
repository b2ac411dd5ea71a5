"""What one job may make of one series: a set of objects, chosen by the destinations that want them. Frozen, no I/O."""

from dataclasses import dataclass
from enum import StrEnum


class ResultKind(StrEnum):
    """One kind of object in the result set of a job; the words are those of the settings."""

    SEG = "seg"
    """BINARY Segmentation, Explicit VR Little Endian: what every viewer opens. The default."""
    SEG_STRICT = "seg_strict"
    """The same without the viewer hints (PixelMeasures and PlaneOrientation) for sources without geometry."""
    SEG_DEFLATED = "seg_deflated"
    """The same in Deflated Explicit VR Little Endian: a fiftieth of the size."""
    SEG_FRACTIONAL = "seg_fractional"
    """FRACTIONAL Segmentation with the probabilities, RLE Lossless."""
    SEG_LABELMAP = "seg_labelmap"
    """Label Map Segmentation, RLE Lossless."""
    OVERLAY = "overlay"
    """Secondary Capture with the vessels burnt into the pictures, for readers whose viewer knows no SEG."""
    REPORT = "report"
    """Comprehensive 3D SR (TID 1500) with the vessel measurements."""


SEGMENTATIONS = frozenset(
    {
        ResultKind.SEG,
        ResultKind.SEG_STRICT,
        ResultKind.SEG_DEFLATED,
        ResultKind.SEG_FRACTIONAL,
        ResultKind.SEG_LABELMAP,
    }
)
"""The kinds that are Segmentation objects (PS3.3 A.51)."""
DEFAULT_RESULTS = (ResultKind.SEG,)
"""What a destination gets that does not say what it wants."""


@dataclass(frozen=True, slots=True)
class ResultObject:
    """One SOP instance of the result set of a job, as a file that does not change any more.

    Attributes:
        part: 1-based number of the part of the source series (a phase, an instance) that it is about.
        path: Relative to the results folder; relative to the output folder as long as the set is being made; "" after
            the file was removed by the retention policy.
        sha256: Hex digest over the file.
        size_bytes: Of the file; 0 for objects of releases that did not note it.
        item: 1-based number among the objects of this kind and part: an overlay may be a montage and a projection.
    """

    kind: ResultKind
    part: int
    path: str
    sha256: str
    sop_class_uid: str
    sop_instance_uid: str
    series_instance_uid: str
    size_bytes: int
    item: int = 1

    @property
    def order(self) -> tuple[int, int, int]:
        """Sorts a result set: what refers comes after what it refers to, so segmentations first, reports last."""
        return (_ORDER[self.kind], self.part, self.item)


_ORDER = {kind: number for number, kind in enumerate(ResultKind)}

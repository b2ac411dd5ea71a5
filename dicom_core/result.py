"""What one job may make of one series: a set of objects, chosen by the destinations that want them. Frozen, no I/O."""

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

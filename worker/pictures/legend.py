"""What the colours of one segmentation mean, in the colours that its SEG object recommends."""

from worker.image_stack import ImageStack
from worker.pictures.caption import Legend
from worker.result_header.catalogue import colour_of
from worker.segmenters.interface import Segmentation


def legend_of(stack: ImageStack, segmentation: Segmentation, model: str = "") -> Legend:
    """The legend of a picture of this series.

    Args:
        stack: Tells the kind of picture, which decides the colours.
        segmentation: Tells the segments.
        model: Name and version of the segmenter.

    Raises:
        InvalidSegmentationError: A class names a vessel type that the catalogue does not know.
    """
    segments = tuple((one.label, colour_of(one.key, stack.imaging)) for one in segmentation.classes)
    return Legend(segments, model, found=bool(segmentation.mask.any()))

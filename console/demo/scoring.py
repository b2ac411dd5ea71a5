"""How well a segmentation agrees with the known vessels of a generated study."""

from pathlib import Path

import numpy as np
import pydicom

from console.demo.studies import DemoStudy
from dicom_core.errors import InvalidSegmentationError
from worker.seg_reader.reading import read_masks


def dice_of(segmentation_path: Path, study: DemoStudy) -> float:
    """The Dice coefficient of a Segmentation file against the truth, over all frames and segments together.

    Frames that the file leaves out count as empty (it may omit empty frames, PS3.3 A.51.5); segments are united.

    Args:
        segmentation_path: A DICOM-SEG file that refers to the images of ``study``.
        study: With its truth.

    Returns:
        0 (nothing in common) to 1 (equal); 1 if both are empty.

    Raises:
        InvalidSegmentationError: The file is no binary segmentation, or of other images than those of ``study``.
    """
    masks = read_masks(pydicom.dcmread(segmentation_path))
    position = {(frame.sop_instance_uid, frame.frame_number): index for index, frame in enumerate(study.frames)}
    found = np.zeros_like(study.truth)
    for (_segment_number, sop_instance_uid, frame_number), mask in masks.items():
        index = position.get((sop_instance_uid, frame_number))
        if index is None:
            raise InvalidSegmentationError(f"The segmentation refers to {sop_instance_uid}, which is not in the study.")
        found[index] |= mask
    total = int(found.sum()) + int(study.truth.sum())
    return 2 * int((found & study.truth).sum()) / total if total else 1.0

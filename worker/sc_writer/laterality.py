"""On which side the body part lies: ImageLaterality of a picture, Laterality of the series (PS3.3 C.7.6.1, C.7.3.1)."""

from collections.abc import Sequence

from pydicom.dataset import Dataset

from worker.result_header.source_header import text_of
from worker.source_images.functional_groups import functional_group

_SIDES = frozenset({"R", "L", "B", "U"})
_PAIRED_TERMS = """
ADRENAL ANKLE ARM AXILLA BREAST BUTTOCK CALCANEUS CALF CAROTID CHEEK CLAVICLE CORNEA EAR ELBOW EXTREMITY EYE EYELID
FEMUR FINGER FOOT HAND HIP IAC ILIUM KIDNEY KNEE LEG LUNG ORBIT OVARY PAROTID PATELLA SCAPULA SCLERA SHOULDER
SUBMANDIBULAR TESTIS THIGH THUMB TMJ TOE URETER WRIST ZYGOMA HUMERUS BRONCHUS RIB
"""
_PAIRED = frozenset(_PAIRED_TERMS.split())
"""Terms of BodyPartExamined that need a side (PS3.16 annex L)."""


def add_laterality(dataset: Dataset, headers: Sequence[Dataset]) -> None:
    """Set ImageLaterality where all ``headers`` agree, else an empty Laterality where one is asked for.

    Args:
        dataset: With BodyPartExamined as far as it is known.
        headers: Of the sources that the picture shows.
    """
    sides = {_side(header) for header in headers}
    if len(sides) == 1 and sides <= _SIDES:
        dataset.ImageLaterality = sides.pop()
    elif dataset.get("BodyPartExamined", "") in {*_PAIRED, ""}:
        dataset.Laterality = ""  # type 2C: the part is paired, or nobody knows whether it is


def _side(header: Dataset) -> str:
    """``R``, ``L``, ``B``, ``U`` (not paired) or ``""``."""
    anatomy = functional_group(header, 1, "FrameAnatomySequence") or Dataset()
    values = (anatomy.get("FrameLaterality"), header.get("ImageLaterality"), text_of(header, "Laterality"))
    return next((str(value) for value in values if value in _SIDES), "")

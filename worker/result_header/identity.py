"""Who made a segmentation object, when and under which UIDs: decided once a job, so that rebuilds are identical."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from dicom_core.errors import InvalidSegmentationError
from dicom_core.identifiers import derived_uid, is_uid

RESEARCH_USE = "For research use, not reviewed by a physician."


@dataclass(frozen=True, slots=True)
class ResultIdentity:
    """Everything in a SEG object that comes neither from the source nor from the mask.

    Attributes:
        series_instance_uid: SeriesInstanceUID of the SEG.
        sop_instance_uid: SOPInstanceUID of the SEG.
        created_at: Moment written into every date and time; aware, in the time zone of the site.
        generation: 1 for the first result of a source series; the series description shows ``v2`` from 2 on.
        series_number: SeriesNumber of the SEG, at least 1.
        device_uid: DeviceUID of model and weights (IHE AIR): another model or other weights is another device.
        model_name: Name of the segmenter.
        model_version: Version of the segmenter.
        weights_sha256: Hexadecimal hash over the weights, ``""`` for a method without weights.
        parameters: Settings of the segmenter that decided the result, besides those that it reports itself.
        prompt: What was asked for, in words; ``""`` for nothing.
        software_version: Version of vesselq.
        uid_seed: What every other UID inside the object is derived from.
        semiautomatic: Whether a person asked for it for this very series, by words or by showing places
            (SegmentAlgorithmType, PS3.3 C.8.20.2.1); a prompt of a rule leaves the algorithm automatic.
    """

    series_instance_uid: str
    sop_instance_uid: str
    created_at: datetime
    generation: int
    series_number: int
    device_uid: str
    model_name: str
    model_version: str
    weights_sha256: str = ""
    parameters: Mapping[str, str] = field(default_factory=dict)
    prompt: str = ""
    software_version: str = ""
    uid_seed: str = ""
    semiautomatic: bool = False

    def __post_init__(self) -> None:
        """Refuse what cannot become a valid object.

        Raises:
            InvalidSegmentationError: A UID is no UID, ``created_at`` has no time zone or a number is below 1.
        """
        for name in ("series_instance_uid", "sop_instance_uid", "device_uid"):
            if not is_uid(getattr(self, name)):
                raise InvalidSegmentationError(f"{name} of the segmentation is not a valid UID.")
        if self.created_at.tzinfo is None:
            raise InvalidSegmentationError("created_at of the segmentation needs a time zone.")
        if self.generation < 1 or self.series_number < 1:
            raise InvalidSegmentationError("generation and series_number of the segmentation start at 1.")

    def uid(self, *purpose: str | int) -> str:
        """A UID inside the object for ``purpose``, the same in every rebuild."""
        return derived_uid(self.uid_seed or self.sop_instance_uid, *purpose)

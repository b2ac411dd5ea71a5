"""What can be set of a Sa2VA, checked before anything is loaded."""

from dataclasses import dataclass

from dicom_core.errors import ConfigurationError
from worker.segmenters.number_types import NUMBER_TYPES

ANSWERS = ("generate", "forced")
VIDEO = ("auto", "never")
CONDITIONING = ("auto", "first", "evenly", "contrast")


@dataclass(frozen=True, slots=True)
class Sa2vaSettings:
    """The settings; each means what the segmenter's docstring says.

    Raises:
        ConfigurationError: One is out of range.
    """

    answer: str = "generate"
    threshold: float = 0.5
    object_score_gate: float = 0.0
    max_tiles: int = 0
    batch: int = 4
    dtype: str = "float32"
    video: str = "auto"
    conditioning: str = "auto"

    def __post_init__(self) -> None:
        """Check the ranges."""
        for name, words in (
            ("answer", ANSWERS),
            ("dtype", NUMBER_TYPES),
            ("video", VIDEO),
            ("conditioning", CONDITIONING),
        ):
            if getattr(self, name) not in words:
                raise ConfigurationError(f"The sa2va segmenter's `{name}` must be one of {', '.join(words)}")
        for name in ("threshold", "object_score_gate"):
            value = getattr(self, name)
            if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < 1:
                raise ConfigurationError(f"The sa2va segmenter's `{name}` must be a number from 0 up to 1")
        for name, least in (("max_tiles", 0), ("batch", 1)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ConfigurationError(f"The sa2va segmenter's `{name}` must be a whole number from {least}")

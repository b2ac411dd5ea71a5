"""The kinds of ONNX model that can be run, and what their manifests must say; the key ``kind`` decides."""

from typing import Annotated, Literal

from pydantic import Field, RootModel

from dicom_core.errors import ConfigurationError
from worker.segmenters.semantic.settings import Fraction, Positive, SemanticSettings, SettingsPart


class SamSettings(SettingsPart):
    """An encoder of pictures and a decoder of prompts, as SAM, MedSAM and their relatives are exported."""

    kind: Literal["sam"]
    encoder: str = "encoder.onnx"
    decoder: str = "decoder.onnx"
    fit: Literal["longest_side", "stretch"] = Field(
        "longest_side", description="SAM keeps the form and adds a border, MedSAM stretches."
    )
    min_max: bool = Field(False, description="MedSAM: the darkest becomes 0 and the brightest 1.")
    mean: tuple[float, float, float] = Field((0.485, 0.456, 0.406), description="Of red, green, blue in 0 to 1.")
    std: tuple[Positive, Positive, Positive] = (0.229, 0.224, 0.225)
    threshold: float = Field(0.5, gt=0, lt=1)


class YoloeSettings(SettingsPart):
    """An exported YOLOE: boxes with scores and mask coefficients, and the masks that these are mixed of."""

    kind: Literal["yoloe"]
    file: str = Field("", description="Of the folder; empty: the only one.")
    names: tuple[str, ...] = Field(min_length=1, description="The words that it was exported with, in order.")
    classes: tuple[int | tuple[int, ...], ...] = Field(
        (), description="For each class of the manifest its words, counted from 0; empty: one after the other."
    )
    size: tuple[Annotated[int, Field(ge=32)], Annotated[int, Field(ge=32)]] = Field(
        (640, 640), description="Rows and columns where the file leaves them open."
    )
    confidence: Fraction = Field(0.25, description="Least score of an instance.")
    overlap: Fraction = Field(0.7, description="Of two boxes of one word with more in common the lesser is left out.")
    most: int = Field(300, ge=1, le=10_000, description="Most instances in a picture.")
    threshold: float = Field(0.5, gt=0, lt=1)

    def words_of(self, classes: int) -> tuple[tuple[int, ...], ...]:
        """The words of each class.

        Raises:
            ConfigurationError: They are not as many as the manifest's classes, or name a word that is not there.
        """
        named = self.classes or tuple(range(len(self.names)))
        found = tuple((one,) if isinstance(one, int) else one for one in named)
        if len(found) != classes or any(not 0 <= word < len(self.names) for group in found for word in group):
            raise ConfigurationError(
                f"settings.classes must name, for each of the manifest's {classes} classes, words counted from 0 to "
                f"{len(self.names) - 1}"
            )
        return found


class OnnxSettings(RootModel[Annotated[SemanticSettings | SamSettings | YoloeSettings, Field(discriminator="kind")]]):
    """The settings of a manifest, of whichever kind."""

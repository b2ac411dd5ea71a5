"""What the manifest of a YOLOE folder says."""

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from dicom_core.errors import ConfigurationError
from worker.segmenters.semantic.settings import Fraction, SettingsPart


class YoloeSettings(SettingsPart):
    """See README.md."""

    architecture: Annotated[str, StringConstraints(pattern=r"^yoloe-[a-z0-9]+-seg\.yaml$")] = Field(
        description="A network that ultralytics describes; never a file of the folder."
    )
    mode: Literal["text", "visual", "prompt_free"] = "text"
    weights: str = "model.safetensors"
    embeddings: str = "prompts.safetensors"
    names: tuple[str, ...] = Field(
        (), description="The words of the embeddings, or of a prompt-free network, in order."
    )
    classes: tuple[int | tuple[int, ...], ...] = Field(
        (), description="For each class of the manifest its words, counted from 0; empty: one after the other."
    )
    confidence: Fraction = 0.25
    overlap: Fraction = 0.7
    size: int = Field(640, ge=32, multiple_of=32)
    most: int = Field(300, ge=1, le=10_000)

    def words_of(self, classes: int) -> tuple[tuple[int, ...], ...]:
        """The words of each class.

        Raises:
            ConfigurationError: They are not as many as the manifest's classes, or name a word that is not there.
        """
        if self.mode == "visual":
            return ((0,),)
        found = tuple((one,) if isinstance(one, int) else one for one in self.classes or range(len(self.names)))
        if len(found) != classes or any(not 0 <= word < len(self.names) for group in found for word in group):
            raise ConfigurationError(
                f"settings.classes must name, for each of the manifest's {classes} classes, words counted from 0 to "
                f"{len(self.names) - 1}"
            )
        return found

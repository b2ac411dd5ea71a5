"""What must be known of a network besides its file: the ``settings`` of its manifest, checked word by word."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from dicom_core.errors import ConfigurationError
from worker.model_folder.opening import ModelFolder

Fraction = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Words = TypeVar("Words", bound=BaseModel)


class SettingsPart(BaseModel):
    """Unknown keys are errors, and nothing changes once it is read."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Size(SettingsPart):
    """How a picture or volume becomes one of a size that the network takes.

    All lengths are in the order of the network's axes: rows, columns; or those that ``axes`` names for volumes.
    """

    fit: Literal["resize", "windows", "pad"] = Field(
        "pad", description="Change its size, look through overlapping windows, or add a border."
    )
    size: tuple[Annotated[int, Field(ge=1)], ...] = Field((), description="The fixed size; empty: any `multiple_of`.")
    multiple_of: int = Field(1, ge=1, le=1024, description="Every length that the network sees is one of this.")
    shorter_side: int = Field(0, ge=0, description="With resize: the shorter side becomes this, the form stays.")
    keep_aspect: bool = Field(False, description="With resize and size: keep the form, and fill up with a border.")
    overlap: float = Field(0.25, ge=0, lt=0.9, description="Share of a window that its neighbour sees too.")
    pad_value: float = Field(0.0, description="Of the border, after normalisation.")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.fit == "windows" and not self.size:
            raise ValueError("windows need a size")
        if self.shorter_side and (self.fit != "resize" or self.size):
            raise ValueError("shorter_side belongs to resize, without a size")
        if self.keep_aspect and not (self.fit == "resize" and self.size):
            raise ValueError("keep_aspect belongs to resize with a size")
        return self


class Normalisation(SettingsPart):
    """Which numbers the network gets: first ``scale``, then less ``mean`` and through ``std``, channel by channel."""

    values: Literal["display", "modality"] = Field(
        "display", description="What a reader sees, 0 to 1; or the units of the source, as Hounsfield (colours: 0-255)."
    )
    scale: Literal["none", "window", "min_max", "percentiles", "z_score"] = "none"
    low: float | None = Field(None, description="Of window, in units; of percentiles 0 to 100 (0.5).")
    high: float | None = Field(None, description="Of window, in units; of percentiles 0 to 100 (99.5).")
    to: tuple[float, float] = Field((0.0, 1.0), description="What low and high become; beyond them is cut off.")
    per: Literal["frame", "stack"] = Field("frame", description="What is measured; a volume is always one stack.")
    mean: tuple[float, ...] = ()
    std: tuple[Positive, ...] = ()

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        low, high = self.limits
        if self.scale == "window" and (self.low is None or self.high is None):
            raise ValueError("window needs low and high")
        if self.scale in ("window", "percentiles") and not low < high:
            raise ValueError("low must be less than high")
        if self.scale == "percentiles" and not 0 <= low < high <= 100:
            raise ValueError("percentiles lie between 0 and 100")
        if len(self.mean) != len(self.std):
            raise ValueError("mean and std go together")
        return self

    @property
    def limits(self) -> tuple[float, float]:
        """Low and high, those of percentiles where the settings name none."""
        return (0.5 if self.low is None else self.low, 99.5 if self.high is None else self.high)


class Output(SettingsPart):
    """What the numbers that come out mean."""

    activation: Literal["sigmoid", "softmax", "none"] = Field(
        description="What makes logits probabilities; none: they are probabilities."
    )
    channels: tuple[int | tuple[int, ...], ...] = Field(
        (), description="For each class of the manifest its channel or channels; empty: one after the other."
    )
    background: int | None = Field(None, description="Channel of what is no class; with softmax usually 0.")

    def channels_of(self, classes: int, given: int) -> tuple[tuple[int, ...], ...]:
        """The channels of each class.

        Args:
            classes: How many the manifest names.
            given: Channels that come out of the network.

        Raises:
            ConfigurationError: They do not fit.
        """
        named = self.channels or tuple(channel for channel in range(given) if channel != self._background(given))
        found = tuple((one,) if isinstance(one, int) else one for one in named)
        if len(found) != classes:
            raise ConfigurationError(
                f"The network has channels for {len(found)} classes but the manifest names {classes}; "
                "write output.channels, one entry for each class"
            )
        if any(not group or min(group) < 0 or max(group) >= given for group in found):
            raise ConfigurationError(f"output.channels names a channel that the network does not have: it has {given}")
        return found

    def _background(self, given: int) -> int | None:
        return 0 if self.background is None and self.activation == "softmax" and given > 1 else self.background


class Mask(SettingsPart):
    """From probability to mask; as for every segmenter (``worker.postprocessing``)."""

    threshold: float = Field(0.5, gt=0, lt=1)
    seed: Fraction = Field(0.0, description="Each piece must reach it somewhere.")
    minimum_size: int = Field(1, ge=1, description="Pixels or voxels of a piece.")
    minimum_extent: float = Field(0.0, ge=0, lt=1, description="The same as a side: a share of the shorter side.")

    def least_size(self, shape: tuple[int, ...]) -> int:
        """The least pixels of a piece in pictures of a shape (rows, columns last)."""
        return max(self.minimum_size, round((self.minimum_extent * min(shape[-2:])) ** 2))


Axis = Literal["slices", "rows", "columns", "-slices", "-rows", "-columns"]


class SemanticSettings(SettingsPart):
    """A network with one number for each pixel and class."""

    kind: Literal["semantic"] = "semantic"
    file: str = Field("", description="Of the folder; empty: the only one.")
    input_name: str = Field("", description="Only ONNX; empty: the only one.")
    output_name: str = Field("", description="Only ONNX; empty: the first.")
    layout: Literal["NCHW", "NCDHW"] = Field("NCHW", description="Pictures, or volumes.")
    axes: tuple[Axis, Axis, Axis] = Field(
        ("slices", "rows", "columns"), description="What runs along the network's axes; - means the other way round."
    )
    channels: Literal[1, 3] = 1
    colour: Literal["luminance", "green", "RGB", "BGR"] = Field(
        "luminance", description="Of colour sources: what one channel is (luminance, green), or the order of three."
    )
    spacing_mm: tuple[Positive, ...] = Field((), description="Of what the network sees; empty: that of the source.")
    size: Size = Size()
    normalisation: Normalisation = Normalisation()
    output: Output
    mask: Mask = Mask()
    batch: int = Field(1, ge=1, le=1024, description="Pictures or windows that are looked at together.")

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        axes = self.spatial_axes
        for name, value in (("size.size", self.size.size), ("spacing_mm", self.spacing_mm)):
            if value and len(value) != axes:
                raise ValueError(f"{name} needs {axes} numbers for {self.layout}")
        if any(length % self.size.multiple_of for length in self.size.size):
            raise ValueError("size.size is not a multiple of size.multiple_of")
        if len(self.normalisation.mean) not in (0, self.channels):
            raise ValueError("normalisation.mean needs one number for each channel")
        if self.layout == "NCDHW" and self.channels != 1:
            raise ValueError("a network for volumes takes one channel")
        if sorted(axis.lstrip("-") for axis in self.axes) != ["columns", "rows", "slices"]:
            raise ValueError("axes names slices, rows and columns once each")
        return self

    @property
    def spatial_axes(self) -> int:
        """2 for pictures, 3 for volumes."""
        return 3 if self.layout == "NCDHW" else 2


def checked(model: type[Words], values: Mapping[str, Any], name: str) -> Words:
    """The settings of a manifest.

    Args:
        model: What they must be.
        values: As they stand there.
        name: Of the model, for the error.

    Raises:
        ConfigurationError: A key is unknown, missing, or has a wrong value.
    """
    try:
        return model.model_validate(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(step) for step in ("settings", *first["loc"]))
        raise ConfigurationError(f"The manifest of {name} is wrong at {place}: {first['msg']}") from None


def only_file(folder: ModelFolder, named: str, suffix: str) -> str:
    """The file that the settings name, or the only one of a kind.

    Raises:
        ConfigurationError: There is none, or more than one and none is named.
    """
    if named:
        return named
    names = folder.names(suffix)
    if len(names) != 1:
        raise ConfigurationError(
            f"{folder.folder} lists {len(names)} files *{suffix}; write settings.file in its manifest"
        )
    return names[0]

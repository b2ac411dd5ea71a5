"""Makes of a folder the model that its manifest describes."""

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from dicom_core.errors import ConfigurationError
from dicom_core.prompt import PromptKind
from worker.image_stack import Arrangement, ImageStack
from worker.model_folder.opening import ModelFolder
from worker.segmenters.interface import ProgressCallback, Prompt, Segmentation, SegmenterInfo
from worker.segmenters.onnx_model.kinds import OnnxSettings, SamSettings, YoloeSettings
from worker.segmenters.onnx_model.sam_pair import SamPair
from worker.segmenters.onnx_model.session import OnnxSession
from worker.segmenters.onnx_model.yoloe import ExportedYoloe
from worker.segmenters.semantic.running import SemanticRunner
from worker.segmenters.semantic.settings import SemanticSettings, checked, only_file

_UNPROMPTED = frozenset({PromptKind.NONE})


class Model(Protocol):
    """What each kind comes to.

    Attributes:
        info: With the ways of asking that this kind takes.
        warnings: For every result.
    """

    info: SegmenterInfo
    warnings: tuple[str, ...]

    def segment(self, stack: ImageStack, prompt: Prompt, progress: ProgressCallback) -> Segmentation:
        """As :class:`worker.segmenters.interface.Segmenter`."""
        ...


@dataclass(frozen=True, slots=True)
class _Place:
    """Where and how to run."""

    device: str
    threads: int

    def open(self, folder: ModelFolder, name: str) -> OnnxSession:
        return OnnxSession(folder.path(name), self.device, self.threads)


def model_of(
    folder: ModelFolder, info: SegmenterInfo, *, device: str, threads: int, threshold: float, batch: int
) -> Model:
    """Make the model of a folder.

    Args:
        folder: Open.
        info: Of the onnx segmenter with this folder.
        device: See :class:`OnnxSession`, as ``threads``.
        threads: See ``device``.
        threshold: 0 takes that of the manifest.
        batch: 0 takes that of the manifest.

    Raises:
        ConfigurationError: Manifest and files do not fit each other.
    """
    place = _Place(device, threads)
    settings = checked(OnnxSettings, {"kind": "semantic", **folder.manifest.settings}, folder.manifest.name).root
    if isinstance(settings, SemanticSettings):
        return _Semantic(place, folder, settings, info, threshold, batch)
    if not isinstance(threshold, int | float) or not 0 <= threshold < 1:
        raise ConfigurationError("`threshold` must be a number from 0 up to 1; 0 takes that of the manifest")
    if threshold:
        settings = settings.model_copy(update={"threshold": float(threshold)})
    if isinstance(settings, SamSettings):
        asked = replace(info, prompts=frozenset({PromptKind.POINTS, PromptKind.BOXES}))
        encoder, decoder = place.open(folder, settings.encoder), place.open(folder, settings.decoder)
        return SamPair(encoder, decoder, settings, asked, encoder.warnings(device))
    return _yoloe(place.open(folder, only_file(folder, settings.file, ".onnx")), settings, info, device)


def _yoloe(session: OnnxSession, settings: YoloeSettings, info: SegmenterInfo, device: str) -> Model:
    return ExportedYoloe(session, settings, replace(info, prompts=_UNPROMPTED), session.warnings(device))


class _Semantic:
    """A semantic network; see ``worker.segmenters.semantic``."""

    def __init__(
        self,
        place: _Place,
        folder: ModelFolder,
        settings: SemanticSettings,
        info: SegmenterInfo,
        threshold: float,
        batch: int,
    ) -> None:
        self._session = place.open(folder, only_file(folder, settings.file, ".onnx"))
        self._input, self._output = _names(self._session, settings)
        settings = _agreed(self._session.inputs[self._input], settings, self._session.name)
        if settings.layout == "NCDHW":
            info = replace(info, arrangements=info.arrangements & {Arrangement.VOLUME})
        self.info = replace(info, prompts=_UNPROMPTED)
        self.warnings = self._session.warnings(place.device)
        fixed = self._session.inputs[self._input][0]
        self._runner = SemanticRunner(self._look, settings, self.info, threshold=threshold, batch=fixed or batch)

    def _look(self, pictures: NDArray[np.float32]) -> NDArray[np.float32]:
        return self._session.run({self._input: pictures}, [self._output])[0]

    def segment(self, stack: ImageStack, _prompt: Prompt, progress: ProgressCallback) -> Segmentation:
        """As :class:`Model`."""
        found = self._runner.segment(stack, progress)
        return replace(found, parameters={**found.parameters, "provider": self._session.provider})


def _names(session: OnnxSession, settings: SemanticSettings) -> tuple[str, str]:
    """The input and the output to use."""
    if not settings.input_name and len(session.inputs) != 1:
        raise ConfigurationError(f"{session.name} has {len(session.inputs)} inputs, and one is expected")
    given = settings.input_name or next(iter(session.inputs))
    got = settings.output_name or session.outputs[0]
    if given not in session.inputs or got not in session.outputs:
        raise ConfigurationError(
            f"{session.name} has the inputs {', '.join(session.inputs)} and the outputs {', '.join(session.outputs)}; "
            "input_name and output_name in its manifest must be among them"
        )
    return given, got


def _agreed(shape: tuple[int, ...], settings: SemanticSettings, name: str) -> SemanticSettings:
    """The settings with the size that the file fixes.

    Raises:
        ConfigurationError: File and manifest contradict each other.
    """
    if len(shape) != 2 + settings.spatial_axes:
        raise ConfigurationError(f"{name} takes {len(shape)} axes, which does not fit the layout {settings.layout}")
    if shape[0] > 1:
        raise ConfigurationError(f"{name} takes {shape[0]} pictures at a time; export it for 1 or for any number")
    if shape[1] not in (0, settings.channels):
        raise ConfigurationError(f"{name} takes {shape[1]} channels, its manifest says {settings.channels}")
    fixed = shape[2:]
    if not all(fixed):
        return settings
    if settings.size.size not in ((), fixed) or settings.size.shorter_side:
        raise ConfigurationError(f"{name} takes pictures of {fixed} and nothing else; write that as size.size")
    return settings.model_copy(update={"size": settings.size.model_copy(update={"size": fixed})})

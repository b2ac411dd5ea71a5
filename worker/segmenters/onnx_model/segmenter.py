"""The onnx segmenter: a folder with one model in the ONNX format and a manifest that says what it takes and gives."""

from dataclasses import replace
from typing import TYPE_CHECKING, Any

from dicom_core.errors import ConfigurationError, RunnerBusyError
from dicom_core.prompt import PromptKind
from worker.image_stack import Arrangement, ImageStack, Imaging
from worker.model_folder.opening import ModelFolder, open_folder
from worker.segmenters.folder_info import info_of
from worker.segmenters.interface import ProgressCallback, Prompt, Segmentation, SegmenterInfo

if TYPE_CHECKING:
    from worker.segmenters.onnx_model.running import Model


class OnnxSegmenter:
    """Runs a model in the ONNX format; see the module.

    Args:
        folder: With a manifest whose ``settings`` say what kind of model it is.
        accept_license: The licence that is accepted, where it is not permissive.
        device: ``"cpu"``, ``"cuda:0"``.
        threshold: Least probability of a pixel in the mask; 0 takes that of the manifest.
        batch: Pictures or windows that are looked at together; 0 takes that of the manifest.
        threads: Of onnxruntime within one operator; 0 leaves it the choice.

    Raises:
        ConfigurationError: A setting is wrong, the folder is not one to be run, or onnxruntime is not installed.
    """

    info = SegmenterInfo(
        name="onnx",
        version="1",
        summary="Any network in the ONNX format by its manifest: semantic networks, pairs of SAM, exported YOLOE",
        imagings=frozenset(Imaging),
        arrangements=frozenset(Arrangement),
        prompts=frozenset({PromptKind.NONE, PromptKind.POINTS, PromptKind.BOXES}),
        needs_folder=True,
    )

    def __init__(
        self,
        *,
        folder: str | ModelFolder,
        accept_license: str = "",
        device: str = "cpu",
        threshold: float = 0.0,
        batch: int = 0,
        threads: int = 0,
    ) -> None:
        from worker.segmenters.onnx_model.running import model_of

        if not isinstance(threads, int) or threads < 0:
            raise ConfigurationError("The onnx segmenter's `threads` must be a whole number; 0 leaves the choice")
        opened = open_folder(folder, "onnx", accept_license=accept_license)
        made: dict[str, Any] = {"device": device, "threshold": threshold, "batch": batch, "threads": threads}
        self._model: Model = model_of(opened, info_of(opened, type(self).info), **made)
        self.info = self._model.info

    def segment(self, stack: ImageStack, prompt: Prompt, progress: ProgressCallback) -> Segmentation:
        """Find what the model knows in one series.

        Args:
            stack: Of a kind that ``info`` names.
            prompt: Points and boxes for a pair of SAM, nothing for others.
            progress: Called with the finished share.

        Raises:
            InvalidPromptError: The prompt does not fit.
            UnsupportedSourceError: The model does not take such a series.
            RunnerBusyError: Not even one picture fits into memory.
        """
        self.info.check_prompt(prompt)
        try:
            found = self._model.segment(stack, prompt, progress)
        except MemoryError:
            raise RunnerBusyError("The device has no memory left for one picture; free it for this model") from None
        return replace(found, warnings=(*found.warnings, *self._model.warnings))

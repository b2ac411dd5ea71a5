"""The torchscript segmenter: a network in the TorchScript format, alone or in a MONAI bundle, by its manifest."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from worker.image_stack import Arrangement, ImageStack, Imaging
from worker.model_folder.opening import ModelFolder, open_folder
from worker.segmenters.folder_info import info_of
from worker.segmenters.interface import ProgressCallback, Prompt, Segmentation, SegmenterInfo


class TorchScriptSegmenter:
    """Runs a network in the TorchScript format; see the module.

    Args:
        folder: With a manifest; that of a MONAI bundle lists ``models/model.ts`` and ``configs/metadata.json``.
        accept_license: The licence that is accepted, where it is not permissive.
        device: Where torch works: ``"cpu"``, ``"cuda:0"``.
        threshold: Least probability of a pixel in the mask; 0 takes that of the manifest.
        batch: Pictures or windows that are looked at together; 0 takes that of the manifest.

    Raises:
        ConfigurationError: A setting is wrong, or the folder is not one to be run.
    """

    info = SegmenterInfo(
        name="torchscript",
        version="1",
        summary="Any semantic network in the TorchScript format, or a MONAI bundle with one, by its manifest",
        imagings=frozenset(Imaging),
        arrangements=frozenset(Arrangement),
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
    ) -> None:
        from worker.segmenters.semantic.running import SemanticRunner
        from worker.segmenters.semantic.settings import SemanticSettings, checked
        from worker.segmenters.torchscript.network import TorchScriptNetwork

        opened = open_folder(folder, "torchscript", accept_license=accept_license)
        settings = checked(SemanticSettings, _settings(opened), opened.manifest.name)
        self.info = info_of(opened, type(self).info)
        if settings.layout == "NCDHW":
            self.info = replace(self.info, arrangements=self.info.arrangements & {Arrangement.VOLUME})
        network = TorchScriptNetwork(opened.path(_file(opened, settings.file)), device)
        self._runner = SemanticRunner(network, settings, self.info, threshold=threshold, batch=batch)

    def segment(self, stack: ImageStack, prompt: Prompt, progress: ProgressCallback) -> Segmentation:
        """Find what the network knows in one series.

        Args:
            stack: Of a kind that ``info`` names.
            prompt: Must be empty.
            progress: Called with the finished share.

        Raises:
            InvalidPromptError: The prompt asks for something.
            UnsupportedSourceError: The network does not take such a series.
        """
        self.info.check_prompt(prompt)
        return self._runner.segment(stack, progress)


def _settings(folder: ModelFolder) -> Mapping[str, Any]:
    from worker.segmenters.torchscript.bundle import METADATA_FILE, MODEL_FILE, bundle_settings

    stated = folder.manifest.settings
    if not (folder.has(METADATA_FILE) and folder.has(MODEL_FILE)):
        return stated
    return bundle_settings(folder.path(METADATA_FILE), stated, folder.manifest.name)


def _file(folder: ModelFolder, named: str) -> str:
    from worker.segmenters.semantic.settings import only_file

    if named:
        return named
    return only_file(folder, "", ".ts" if folder.names(".ts") else ".pt")

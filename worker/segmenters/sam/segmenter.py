"""The sam segmenter: SAM ViT-B, L, H and MedSAM, from folders of weights that the site brings."""

from typing import TYPE_CHECKING

from worker.image_stack import Arrangement, Imaging
from worker.model_folder.opening import ModelFolder
from worker.segmenters.interface import SegmenterInfo
from worker.segmenters.promptable.segmenter import PROMPTS, PromptableSegmenter

if TYPE_CHECKING:
    from worker.segmenters.promptable.drawing import PromptableNetwork
    from worker.segmenters.promptable.preparing import Preparation


class SamSegmenter(PromptableSegmenter):
    """SAM and MedSAM; every frame is a picture of its own."""

    info = SegmenterInfo(
        name="sam",
        version="1",
        summary="SAM and MedSAM: draws what points, boxes and masks show; a refiner behind another segmenter",
        imagings=frozenset(Imaging),
        arrangements=frozenset(Arrangement),
        prompts=PROMPTS,
        needs_folder=True,
    )

    def _open(self, model: ModelFolder, device: str) -> "tuple[PromptableNetwork, Preparation]":
        from worker.segmenters.promptable.preparing import Preparation
        from worker.segmenters.sam.network import SamNetwork, load_model

        network = SamNetwork(load_model(model), device, self._dtype)
        return network, Preparation.of_folder(model, network.size, stretch=False, pillow=True)

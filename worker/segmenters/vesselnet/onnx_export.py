"""Writes the shipped network as an ONNX file that the segmenter ``onnx`` runs, for one kind of picture.

In the file are the normalisation of contrast, the network, and what makes probabilities of its logits: grey pictures
in, probabilities out. Not in it are the search for the field of view (the whole picture counts as shown), the gate, the
second look for bright vessels in angiograms, and windows for large pictures.
"""

from collections.abc import Sequence
from pathlib import Path

import torch

from dicom_core.errors import ConfigurationError
from worker.image_stack import Arrangement, Imaging
from worker.model_folder.manifest import ManifestClass, ModelManifest
from worker.segmenters.interface import BLOOD_VESSEL
from worker.segmenters.onnx_writing import Export, ExportReport, listed, write_checked
from worker.segmenters.vesselnet.network import KINDS, VesselNetwork
from worker.segmenters.vesselnet.preparing import BRIGHT, WORKING_SIZES, channels
from worker.segmenters.vesselnet.weights import SHIPPED, KindFit, load_network, read_card

_FILE = "vesselnet.onnx"
_TRACED, _CHECKED = (96, 128), ((64, 64), (160, 96))


class _Whole(torch.nn.Module):
    """From grey pictures ``(pictures, 1, rows, columns)`` in [0, 1] to probabilities of the same shape."""

    def __init__(self, network: VesselNetwork, kind: Imaging, fit: KindFit) -> None:
        super().__init__()
        self.network, self.fit = network, fit
        self.kind, self.bright = KINDS.index(kind), kind in BRIGHT

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        seen = channels(pictures, torch.ones_like(pictures), bright=self.bright)
        kinds = torch.zeros_like(pictures[:, 0, 0, 0]).long() + self.kind
        logits, _ = self.network(seen, kinds)
        return torch.sigmoid(self.fit.slope * logits + self.fit.offset)


def export(out: Path, imaging: Imaging = Imaging.XRAY_ANGIOGRAPHY, *, weights: Path = SHIPPED) -> ExportReport:
    """Write the network for one kind of picture, and compare it with torch at three sizes.

    Args:
        out: A new folder.
        imaging: The kind: the file knows no other.
        weights: A folder made by ``training.export``, or the shipped one.

    Raises:
        ConfigurationError: The network does not know the kind, or the folder is not empty.
        SegmentationError: onnxruntime and torch differ.
    """
    card = read_card(weights)
    if imaging not in card.fits:
        raise ConfigurationError(f"vesselnet does not know {imaging}; it knows {', '.join(sorted(card.fits))}")
    fit = card.fits[imaging]
    module = _Whole(load_network(weights, "cpu"), imaging, fit).eval()
    random = torch.Generator().manual_seed(0)
    first, *others = ({"picture": torch.rand(1, 1, *shape, generator=random)} for shape in (_TRACED, *_CHECKED))
    axes = {0: "pictures", 2: "rows", 3: "columns"}
    made = Export(_FILE, module, first, ["probability"], {"picture": axes, "probability": axes}, others)

    def manifest(names: Sequence[str]) -> ModelManifest:
        return listed(
            out,
            names,
            name="vesselnet-onnx",
            version=card.version,
            summary=f"vesselnet for {imaging}, without its gate and its search for the field of view",
            license="Apache-2.0",
            imagings=(imaging,),
            arrangements=(Arrangement.FRAMES, Arrangement.RUN),
            classes=(ManifestClass(key=BLOOD_VESSEL.key, label=BLOOD_VESSEL.label),),
            parameters=sum(weight.numel() for weight in module.parameters()),
            settings=_settings(imaging, fit),
        )

    return write_checked(out, [made], manifest)


def _settings(imaging: Imaging, fit: KindFit) -> dict[str, object]:
    """What the segmenter ``onnx`` must do to a picture so that the file sees what vesselnet sees."""
    return {
        "channels": 1,
        "colour": "green" if imaging is Imaging.FUNDUS else "luminance",
        "size": {"fit": "resize", "shorter_side": round(WORKING_SIZES[imaging]), "multiple_of": 32},
        "normalisation": {"values": "modality", "scale": "percentiles", "low": 0, "high": 99.9, "per": "stack"},
        "output": {"activation": "none"},
        "mask": {"threshold": fit.threshold, "seed": fit.seed, "minimum_extent": fit.minimum_extent},
    }

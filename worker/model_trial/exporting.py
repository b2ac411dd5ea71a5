"""Writes models in the ONNX format, for machines and programs without torch."""

from pathlib import Path
from typing import TYPE_CHECKING

from dicom_core.errors import ConfigurationError
from worker.image_stack import Imaging
from worker.model_trial.choosing import Models, is_place, opened
from worker.segmenters import registry

if TYPE_CHECKING:
    from worker.segmenters.onnx_writing import ExportReport

_VESSELNET, _SAM = "vesselnet", "sam"


def export(what: str, out: Path, models: Models, imaging: Imaging, accept_license: str = "") -> "ExportReport":
    """Write a model into a new folder with a manifest for the system ``onnx``.

    Args:
        what: ``vesselnet``, a SAM of the settings, or a folder of one.
        out: A new folder.
        models: The ``[models]`` tables.
        imaging: The kind of picture that vesselnet is written for.
        accept_license: The licence of the folder, where it is not permissive.

    Raises:
        NotFoundError: There is neither such a name nor such a folder.
        ConfigurationError: The model is of a system that cannot be written, or the folder is not empty.
        SegmentationError: onnxruntime and torch differ.
    """
    if is_place(what, {*registry.names(), *models}):
        model = opened(Path(what), accept_license)
        if model.manifest.system != _SAM:
            raise _cannot(what, model.manifest.system)
        from worker.segmenters.sam.onnx_export import export as export_sam

        return export_sam(model, out)
    table = models.get(what, {})
    system = registry.system_info(str(table.get("system", what))).name
    if system not in (_VESSELNET, _SAM):
        raise _cannot(what, system)
    if system == _VESSELNET:
        from worker.segmenters.vesselnet.onnx_export import export as export_vesselnet
        from worker.segmenters.vesselnet.weights import SHIPPED

        return export_vesselnet(out, imaging, weights=Path(str(table.get("weights") or SHIPPED)))
    if not table.get("folder"):
        raise ConfigurationError(f"{what} is a system without weights; name a folder, or a model of the settings")
    from worker.segmenters.sam.onnx_export import export as export_sam

    accepted = accept_license or str(table.get("accept_license", ""))
    return export_sam(str(table["folder"]), out, accept_license=accepted)


def _cannot(what: str, system: str) -> ConfigurationError:
    return ConfigurationError(f"{what} is a model for {system}; only vesselnet and sam can be written as ONNX")

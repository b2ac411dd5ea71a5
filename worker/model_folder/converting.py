"""From what was downloaded to a folder of weights, by the way of the system that runs it."""

from pathlib import Path

from worker.model_folder.adopting import Description, adopt
from worker.model_folder.manifest import ModelManifest
from worker.model_folder.opening import BytesCallback
from worker.model_folder.recognising import RawModel


def convert(
    raw: RawModel, out: Path, said: Description, progress: BytesCallback = lambda _bytes: None
) -> ModelManifest:
    """Make a folder of weights; arguments and errors as for :func:`worker.model_folder.adopting.adopt`."""
    return adopt(raw, out, said, progress)

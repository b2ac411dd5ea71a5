"""From what was downloaded to a folder of weights, by the way of the system that runs it."""

from pathlib import Path

from dicom_core.errors import ConfigurationError
from worker.model_folder.adopting import Description, adopt
from worker.model_folder.manifest import ModelManifest
from worker.model_folder.opening import BytesCallback
from worker.model_folder.recognising import RawModel


def convert(
    raw: RawModel,
    out: Path,
    said: Description,
    progress: BytesCallback = lambda _bytes: None,
    *,
    dtype: str = "",
) -> ModelManifest:
    """Make a folder of weights; arguments and errors as for :func:`worker.model_folder.adopting.adopt`.

    Args:
        raw: What was found.
        out: The folder to make.
        said: About the model.
        progress: Called with the number of bytes copied since the last call.
        dtype: Numbers of the weights, for systems that can change them: sa2va, which becomes bfloat16 unless told
            otherwise. The weights of others stay as they are.
    """
    if raw.system == "sa2va":
        from worker.segmenters.sa2va.conversion import convert as convert_sa2va

        return convert_sa2va(raw, out, said, progress, dtype=dtype or "bfloat16")
    if dtype:
        raise ConfigurationError(f"The weights of a {raw.system} stay as they are; leave --dtype out")
    return adopt(raw, out, said, progress)

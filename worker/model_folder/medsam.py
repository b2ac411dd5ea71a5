"""Knows a folder of MedSAM by its preprocessor file, and how MedSAM was trained to see pictures."""

import json
from pathlib import Path

_PREPROCESSOR_FILE = "preprocessor_config.json"


def manifest_settings(folder: Path) -> dict[str, bool]:
    """What the manifest of a folder of SAM weights should say.

    MedSAM learnt from pictures that were stretched to the square and brought to 0..1 by their own minimum and maximum.
    Its public folders say ``do_normalize: false``, which no SAM does, and have no words for the rest.

    Args:
        folder: As Hugging Face has it.

    Returns:
        ``stretch`` and ``min_max`` for MedSAM, nothing for others.
    """
    try:
        values = json.loads((folder / _PREPROCESSOR_FILE).read_bytes())
    except (OSError, ValueError, RecursionError):
        return {}  # whoever loads the folder says what is wrong with the file
    if isinstance(values, dict) and values.get("do_normalize") is False:
        return {"stretch": True, "min_max": True}
    return {}

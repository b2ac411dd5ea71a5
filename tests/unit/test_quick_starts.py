"""Processes start without what they may never need."""

import gc
import subprocess
import sys

import pytest
from pydicom.datadict import tag_for_keyword

from dicom_core.quick_imports import hidden, quick_imports
from dicom_core.routing import USUAL_KEYWORDS

HEAVY = (
    "pydicom",
    "pynetdicom",
    "numpy",
    "scipy",
    "skimage",
    "torch",
    "highdicom",
    "requests",
    "rich",
    "celery",
)
STARTS = {
    "console.web.server": {"numpy"},
    "worker.app": {"numpy", "celery"},
    "dicom_listener.process": {"pydicom", "pynetdicom", "numpy"},
}
"""Of each, what of the above it cannot do without."""


@pytest.mark.parametrize("module", sorted(STARTS))
def test_a_process_starts_without(module: str) -> None:
    """Pages and workers load no DICOM library before somebody needs it; nobody loads what only draws or downloads."""
    script = (
        "import sys; from dicom_core.quick_imports import quick_imports\n"
        f"with quick_imports('requests'): import {module}\n"
        f"print(*(name for name in {HEAVY!r} if sys.modules.get(name)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=120)
    assert set(done.stdout.split()) <= STARTS[module]


def test_usual_keywords_are_keywords() -> None:
    """They are believed without a look into the dictionary of PS3.6, so they must stand in it."""
    assert [word for word in sorted(USUAL_KEYWORDS) if tag_for_keyword(word) is None] == []


def test_what_is_hidden_cannot_be_imported_in_the_block_alone() -> None:
    """Afterwards it can; what was loaded before stays visible all the time."""
    assert "this" not in sys.modules
    with hidden("colorsys_of_nowhere", "json"):
        import json

        with pytest.raises(ModuleNotFoundError):
            import colorsys_of_nowhere  # type: ignore[import-not-found]  # noqa: F401
    assert json.loads("1") == 1
    assert "colorsys_of_nowhere" not in sys.modules


def test_a_failure_gives_everything_back() -> None:
    """The collector runs again and hidden modules are seen again when an import fails."""
    with pytest.raises(ModuleNotFoundError, match="nowhere"), quick_imports("colorsys_of_nowhere"):
        _import_in_vain()
    assert gc.isenabled()
    assert "colorsys_of_nowhere" not in sys.modules


def _import_in_vain() -> None:
    assert not gc.isenabled()
    import colorsys_of_nowhere  # type: ignore[import-not-found]  # noqa: F401

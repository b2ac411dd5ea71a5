"""Fixtures that every test may use, and how garbage is collected while they run."""

import gc

pytest_plugins = ["certificates", "databases"]


def pytest_sessionstart() -> None:
    """Imports make hardly any garbage."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Collect from now on, without looking each time at the million objects that imports have left for good."""
    gc.freeze()
    gc.enable()

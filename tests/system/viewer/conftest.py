"""One browser for the tests of one file: two of them in one process would share an event loop."""

import os
from collections.abc import Iterator
from typing import Any

import pytest
from ohif_app import ViewerMissingError, ohif_dist
from ohif_page import browser_context


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium, or a reason why there is none; a build server that lacks it fails."""
    try:
        ohif_dist()
        # labels are read from what the viewer holds; painting in software is most of the time, and nobody looks
        with browser_context(scale=0.25) as context:
            yield context
    except ViewerMissingError as error:
        if os.environ.get("CI"):
            pytest.fail(str(error))
        pytest.skip(str(error))

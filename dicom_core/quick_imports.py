"""Ways to start sooner: leave out what libraries load in case somebody needs it, and count no garbage meanwhile."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def hidden(*modules: str) -> Iterator[None]:
    """Let libraries that are imported in the block find that these optional modules are not installed.

    What is loaded already stays visible. After the block the modules can be imported as ever.
    """
    absent = [name for name in modules if name not in sys.modules]
    # the documented way to say that a module cannot be imported (language reference, 5.3.1)
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in absent:
            if sys.modules.get(name) is None:
                sys.modules.pop(name, None)


@contextmanager
def quick_imports(*unneeded: str) -> Iterator[None]:
    """Import everything that a process needs in this block: a tenth of the time goes into garbage that is none.

    What is made in the block counts as permanent afterwards, so that later collections pass it over as well.

    Args:
        unneeded: Optional modules that no library needs to look for here; see ``hidden``.
    """
    collecting = gc.isenabled()
    gc.disable()
    try:
        with hidden(*unneeded):
            yield
    finally:
        gc.freeze()
        if collecting:
            gc.enable()

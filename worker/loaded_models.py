"""The models that the child process holds in memory: made once, warmed up, given up when others need their room."""

import gc
import json
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

import psutil

from dicom_core.chain import names_in, tables_of
from dicom_core.errors import RunnerBusyError
from dicom_core.logs import get_logger
from worker.segmenters import registry
from worker.segmenters.device_memory import is_out_of_memory
from worker.segmenters.interface import Segmenter, WarmsUp

_CPU = "cpu"
T = TypeVar("T")
log = get_logger("models")


@dataclass(slots=True)
class _Loaded:
    segmenter: Segmenter
    size_bytes: int


class LoadedModels:
    """Segmenters that are ready to work, those used last at the end.

    Args:
        budget_bytes: What they may take together. A model that is larger than that is held alone. 0: no limit but that
            of the device: a model that does not fit next to the others takes their room.
        memory_in_use: Tells the bytes that this process holds on a device; by default the allocated memory of a GPU,
            the resident memory on the CPU, where the libraries that a first model brings count with it.

    Attributes:
        given_up: How many models had to go so far.
    """

    def __init__(self, budget_bytes: int = 0, memory_in_use: Callable[[str], int] | None = None) -> None:
        self._budget = budget_bytes
        self._memory_in_use = memory_in_use or memory_in_use_on
        self._loaded: dict[str, _Loaded] = {}
        self._sizes: dict[str, int] = {}
        self._needed: frozenset[str] = frozenset()
        self.given_up = 0

    @property
    def size_bytes(self) -> int:
        """What all of them take."""
        return sum(one.size_bytes for one in self._loaded.values())

    def __len__(self) -> int:
        return len(self._loaded)

    def get(self, word: str, models: Mapping[str, Mapping[str, Any]], device: str) -> Segmenter:
        """A segmenter, or a chain of several, made now unless it is at hand.

        Args:
            word: As a rule names it.
            models: The ``[models]`` tables that it needs.
            device: ``"cpu"`` or ``"cuda:0"``.

        Raises:
            NotFoundError: No segmenter has this name.
            ConfigurationError: It cannot be made with these settings.
        """
        keys = {name: _key(name, models, device) for name in names_in(word)}
        self._needed = frozenset(keys.values())
        for name, key in keys.items():
            if key in self._loaded:
                self._loaded[key] = self._loaded.pop(key)  # the one used last
            else:
                self._make_room(self._sizes.get(key, 0))
                self._loaded[key] = self.with_room(partial(_made, name, models, device, self._memory_in_use))
                self._sizes[key] = self._loaded[key].size_bytes
        self._make_room(0)
        return registry.compose(word, [self._loaded[key].segmenter for key in keys.values()], models)

    def with_room(self, work: Callable[[], T]) -> T:
        """Do something that needs memory; where it runs out, once more without the models that are not asked for.

        Raises:
            MemoryError: There is too little even so (or the error of the device's library).
        """
        try:
            return work()
        except Exception as error:  # what libraries raise has no common base
            if not memory_ran_out(error) or not self._give_up(0):
                raise
        # outside the handler: the error held the frames in which memory was taken
        _return_memory()
        return work()

    def _make_room(self, size_bytes: int) -> None:
        """Keep within the budget, together with something of this size."""
        if self._budget:
            self._give_up(max(0, self._budget - size_bytes))

    def _give_up(self, limit_bytes: int) -> bool:
        """Let models go that are not asked for, those used longest ago first, until all take no more than the limit."""
        before = len(self._loaded)
        for key in [key for key in self._loaded if key not in self._needed]:
            if self.size_bytes <= limit_bytes:
                break
            log.info("model given up", size_bytes=self._loaded.pop(key).size_bytes)
        gone = before - len(self._loaded)
        self.given_up += gone
        if gone:
            _return_memory()
        return gone > 0


def _made(
    name: str, models: Mapping[str, Mapping[str, Any]], device: str, memory_in_use: Callable[[str], int]
) -> _Loaded:
    before = memory_in_use(device)
    segmenter = registry.load_one(name, models, device)
    if isinstance(segmenter, WarmsUp):
        segmenter.warm_up()
    size = max(0, memory_in_use(device) - before)
    log.info("model loaded", segmenter=name, device=device, size_bytes=size)
    return _Loaded(segmenter, size)


def memory_ran_out(error: Exception) -> bool:
    """Whether memory is exhausted, as a library says it or as a segmenter does that has tried everything."""
    return isinstance(error, RunnerBusyError) or is_out_of_memory(error)


def memory_in_use_on(device: str) -> int:
    """Bytes that this process holds on a device."""
    if device == _CPU:
        return int(psutil.Process().memory_info().rss)
    import torch

    return int(torch.cuda.memory_allocated(device))


def _return_memory() -> None:
    """Let go of what nobody holds any more, also towards the device."""
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()


def _key(name: str, models: Mapping[str, Mapping[str, Any]], device: str) -> str:
    return json.dumps([name, tables_of(name, models), device], sort_keys=True, default=str)

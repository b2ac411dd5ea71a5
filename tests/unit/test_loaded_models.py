"""Which models the child process holds: several side by side within a budget, the one used last the longest."""

from dataclasses import replace
from typing import Any

import pytest
from faulty_segmenter import FaultySegmenter

from dicom_core.errors import ConfigurationError, RunnerBusyError
from dicom_core.prompt import PromptKind
from worker.loaded_models import LoadedModels, memory_in_use_on, memory_ran_out
from worker.segmenters import registry
from worker.segmenters.chain import ChainSegmenter

SIZES = {"small": 10, "medium": 40, "large": 60, "huge": 500}
MODELS: dict[str, dict[str, Any]] = {name: {"system": "sized"} for name in SIZES}


class OutOfMemoryError(RuntimeError):
    """Named as that of torch."""


class Device:
    """A device with so many bytes, and segmenters of known sizes that are made on it."""

    def __init__(self, capacity: int = 1000) -> None:
        self.capacity = capacity
        self.in_use = 0
        self.made: list[str] = []
        self.warmed: list[str] = []

    def load_one(self, name: str, models: Any, device: str) -> FaultySegmenter:
        if self.in_use + SIZES[name] > self.capacity:
            raise OutOfMemoryError
        self.made.append(name)
        return Sized(name, self)


class Sized(FaultySegmenter):
    """Takes its bytes of the device until it is let go."""

    info = replace(FaultySegmenter.info, prompts=frozenset({PromptKind.NONE, PromptKind.BOXES}))

    def __init__(self, name: str, device: Device) -> None:
        super().__init__()
        self.name, self.device = name, device
        device.in_use += SIZES[name]

    def warm_up(self) -> None:
        self.device.warmed.append(self.name)

    def __del__(self) -> None:
        self.device.in_use -= SIZES[self.name]


@pytest.fixture
def device(monkeypatch: pytest.MonkeyPatch) -> Device:
    device = Device()
    monkeypatch.setattr(registry, "load_one", device.load_one)
    return device


def held(device: Device, budget: int = 0) -> LoadedModels:
    return LoadedModels(budget, memory_in_use=lambda _device: device.in_use)


def test_models_stay_side_by_side(device: Device) -> None:
    """Two studies in turn for two models: each is made and warmed up once."""
    models = held(device, 100)
    for name in ("small", "medium", "small", "medium"):
        assert models.get(name, MODELS, "cpu").name == name
    assert device.made == device.warmed == ["small", "medium"]
    assert (models.size_bytes, models.given_up) == (50, 0)


def test_the_one_used_longest_ago_gives_way(device: Device) -> None:
    """Within the budget; what was used in between stays."""
    models = held(device, 100)
    for name in ("medium", "small", "medium", "large"):
        models.get(name, MODELS, "cpu")
    assert device.in_use == models.size_bytes == 100
    assert len(models) == 2
    models.get("medium", MODELS, "cpu")
    assert device.made == ["medium", "small", "large"]


def test_a_size_that_is_known_makes_room_before(device: Device) -> None:
    """A model that was there before is not loaded next to what it will drive out."""
    models = held(device, 100)
    models.get("large", MODELS, "cpu")
    models.get("huge", MODELS, "cpu")
    assert (len(models), device.in_use) == (1, 500)
    device.capacity = 105  # no room for both, even for a moment
    models.get("large", MODELS, "cpu")
    models.get("medium", MODELS, "cpu")
    assert device.in_use == 100


def test_one_larger_than_the_budget_is_held_alone(device: Device) -> None:
    """A budget is no reason not to work."""
    models = held(device, 100)
    models.get("small", MODELS, "cpu")
    assert models.get("huge", MODELS, "cpu").name == "huge"
    assert len(models) == 1
    assert models.get("huge", MODELS, "cpu") is models.get("huge", MODELS, "cpu")
    assert device.made == ["small", "huge"]


def test_without_a_budget_the_device_decides(device: Device) -> None:
    """What does not fit next to the others takes their room; nothing goes before."""
    device.capacity = 520
    models = held(device)
    for name in ("small", "medium", "large", "huge"):
        models.get(name, MODELS, "cpu")
    assert (len(models), models.given_up) == (1, 3)
    assert device.in_use == 500


def test_one_that_fits_nowhere_is_told(device: Device) -> None:
    """The error of the device passes on, once there is nothing left to give up."""
    device.capacity = 50
    with pytest.raises(OutOfMemoryError):
        held(device).get("large", MODELS, "cpu")


def test_work_that_needs_the_room_is_done_again(device: Device) -> None:
    """Memory runs out in the middle of a job: the other models go, the one at work stays."""
    models = held(device)
    models.get("small", MODELS, "cpu")
    working = models.get("medium", MODELS, "cpu")
    tries: list[int] = []

    def work() -> str:
        tries.append(device.in_use)
        if device.in_use > 40:
            raise RunnerBusyError("no room for a single frame")
        return "done"

    assert models.with_room(work) == "done"
    assert tries == [50, 40]
    assert models.get("medium", MODELS, "cpu") is working


def test_work_that_cannot_be_helped_is_not_done_again(device: Device) -> None:
    """Nothing to give up, or another error: it is tried once."""
    models = held(device)
    models.get("small", MODELS, "cpu")
    tries: list[Exception] = []

    def fail(error: Exception) -> None:
        tries.append(error)
        raise error

    for error in (MemoryError(), ValueError()):
        with pytest.raises(type(error)):
            models.with_room(lambda error=error: fail(error))
    assert len(tries) == 2


def test_chain_shares_its_parts(device: Device) -> None:
    """A model alone and in a chain is one model, and all of a chain stay while it is asked for."""
    models = held(device, 50)
    alone = models.get("small", MODELS, "cpu")
    chain = models.get("small+large", MODELS, "cpu")
    assert isinstance(chain, ChainSegmenter)
    assert chain._first is alone
    assert device.made == ["small", "large"]
    assert device.in_use == 70
    models.get("small", MODELS, "cpu")
    del chain
    models.get("medium", MODELS, "cpu")
    assert device.made == ["small", "large", "medium"]
    assert models.size_bytes <= 50


def test_other_settings_or_device_are_another_model(device: Device) -> None:
    """The tables of other models play no part."""
    models = held(device)
    models.get("small", MODELS, "cpu")
    models.get("small", {**MODELS, "medium": {"x": 1}}, "cpu")
    assert len(models) == 1
    models.get("small", {"small": {"system": "sized", "threshold": 1}}, "cpu")
    models.get("small", MODELS, "cuda:0")
    assert len(models) == 3


def test_wrong_settings_pass_on() -> None:
    """What cannot be made is told as the registry tells it, and not held."""
    models = LoadedModels()
    with pytest.raises(ConfigurationError, match="colour"):
        models.get("ridge", {"ridge": {"colour": "red"}}, "cpu")
    assert len(models) == 0
    assert models.get("ridge", {}, "cpu").info.name == "ridge"


def test_memory_of_this_process() -> None:
    """On the CPU it is the resident memory."""
    assert memory_in_use_on("cpu") > 10 * 2**20
    assert memory_ran_out(MemoryError())
    assert memory_ran_out(OutOfMemoryError())
    assert memory_ran_out(RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"))
    assert memory_ran_out(RuntimeError("CUDA error: out of memory"))
    assert memory_ran_out(RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"))
    assert not memory_ran_out(RuntimeError("something else"))

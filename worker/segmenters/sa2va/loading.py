"""Loads published weights one tensor at a time, so that no tensor is in memory twice."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from dicom_core.errors import ConfigurationError
from worker.segmenters.sa2va.configuration import LanguageSizes, NetworkConfig, Shapes
from worker.segmenters.sa2va.network import Sa2vaNetwork, fill_computed_buffers, network_without_weights
from worker.segmenters.sa2va.tensor_names import Part, Place, places

_HEAD = "internvl.lm_head.weight"
_EMBEDDING = "internvl.model.language_model.embed_tokens.weight"


class Checkpoint:
    """The tensors of a checkpoint by name; none is read before it is asked for.

    Args:
        shapes: Of every tensor.
        read: Reads one.
    """

    def __init__(self, shapes: Shapes, read: Callable[[str], Tensor]) -> None:
        self.shapes, self.tensor = shapes, read

    def without_numbers(self) -> "Checkpoint":
        """The same names and shapes, to check them without reading or holding anything."""
        return Checkpoint(self.shapes, lambda name: torch.empty(self.shapes[name], device="meta"))


@contextmanager
def open_checkpoint(files: Iterable[Path]) -> Iterator[Checkpoint]:
    """Open safetensors files and look at their headers.

    Raises:
        ConfigurationError: There is no file, one is no safetensors file, or two hold a tensor of the same name.
    """
    by_name: dict[str, safe_open] = {}
    shapes: dict[str, tuple[int, ...]] = {}
    with ExitStack() as stack:
        for file in files:
            try:
                opened = stack.enter_context(safe_open(file, framework="pt"))
            except (SafetensorError, OSError) as error:
                raise ConfigurationError(f"{file} is no safetensors file: {error}") from None
            for name in opened.keys():  # noqa: SIM118  # it is no mapping
                if name in by_name:
                    raise ConfigurationError(f"{file} holds {name}, which another file holds already")
                by_name[name] = opened
                shapes[name] = tuple(opened.get_slice(name).get_shape())
        if not by_name:
            raise ConfigurationError("The folder lists no safetensors file with weights")

        def read(name: str) -> Tensor:
            tensor: Tensor = by_name[name].get_tensor(name)  # type: ignore[no-untyped-call]  # it has no types
            return tensor

        yield Checkpoint(shapes, read)


def load_network(
    config: NetworkConfig,
    checkpoint: Checkpoint,
    *,
    device: torch.device,
    dtype: torch.dtype,
    progress: Callable[[float], None] = lambda _share: None,
) -> Sa2vaNetwork:
    """Build the network and fill it, strictly: every tensor has a place and every place a tensor.

    Args:
        config: What to build.
        checkpoint: Weights in the published names, of any floating type.
        device: Where they go; ``meta`` checks names and shapes alone.
        dtype: What they become.
        progress: Called with the share of tensors that are in place.

    Raises:
        ConfigurationError: A tensor is missing, not known or of another shape.
    """
    network = network_without_weights(config)
    filling = _Filling(network, config.sizes.llm_config, device, dtype)
    names = list(checkpoint.shapes)
    for number, name in enumerate(names):
        filling.put(name, checkpoint.tensor(name))
        progress((number + 1) / len(names))
    filling.finish()
    if device.type != "meta":
        fill_computed_buffers(network, device)
    return network


class _Filling:
    """Puts tensors into the places of a network that has none yet."""

    def __init__(self, network: nn.Module, language: LanguageSizes, device: torch.device, dtype: torch.dtype) -> None:
        self._network, self._language = network, language
        self._device, self._dtype = device, dtype
        self._empty = dict(network.state_dict())
        self._shapes = {name: tuple(tensor.shape) for name, tensor in self._empty.items()}
        self._rows: dict[str, dict[int, Tensor]] = {}

    def put(self, original: str, tensor: Tensor) -> None:
        targets = places(original)
        if not targets:
            raise ConfigurationError(f"The weights hold {original}, which no Sa2VA has")
        for place in targets:
            self._put(original, place, take(tensor, place.part, self._language))

    def finish(self) -> None:
        if _HEAD in self._empty and _EMBEDDING not in self._empty:  # checkpoints that store tied weights once
            self._assign(_HEAD, self._network.get_parameter(_EMBEDDING))
        if self._empty:
            few = ", ".join(sorted(self._empty)[:3])
            raise ConfigurationError(f"The weights lack {len(self._empty)} tensors, among them those of {few}")

    def _put(self, original: str, place: Place, tensor: Tensor) -> None:
        if place.name not in self._empty:
            raise ConfigurationError(f"The weights hold {original}, for which this Sa2VA has no place")
        if place.row is not None:
            rows = self._rows.setdefault(place.name, {})
            rows[place.row] = tensor
            if len(rows) < self._shapes[place.name][0]:
                return
            tensor = torch.cat([rows[number] for number in sorted(rows)])
        if tuple(tensor.shape) != self._shapes[place.name]:
            raise ConfigurationError(
                f"{original} has the shape {tuple(tensor.shape)} where {self._shapes[place.name]} was expected"
            )
        # A copy even where nothing changes: what a file lends goes when it is closed.
        self._assign(place.name, tensor.to(device=self._device, dtype=self._dtype, copy=True))

    def _assign(self, name: str, tensor: Tensor) -> None:
        owner, _, last = name.rpartition(".")
        module = self._network.get_submodule(owner)
        if last in module._parameters:  # noqa: SLF001  # parameters cannot change their device otherwise
            tensor = nn.Parameter(tensor, requires_grad=False)
        setattr(module, last, tensor)
        del self._empty[name]


def take(tensor: Tensor, part: Part, language: LanguageSizes) -> Tensor:
    """Cut a part out of a tensor.

    Args:
        tensor: As stored.
        part: What is wanted of it.
        language: The sizes of the language model, by which internlm2 groups its rows.
    """
    thirds = (Part.QUERY, Part.KEY, Part.VALUE)
    if part in thirds:
        return tensor.chunk(3)[thirds.index(part)]
    grouped = (Part.GROUPED_QUERY, Part.GROUPED_KEY, Part.GROUPED_VALUE)
    if part not in grouped:
        return tensor
    heads, of_keys = language.num_attention_heads, language.num_key_value_heads
    rows = tensor.reshape(of_keys, heads // of_keys + 2, language.hidden_size // heads, *tensor.shape[1:])
    wanted = (rows[:, :-2], rows[:, -2], rows[:, -1])[grouped.index(part)]
    return wanted.reshape(-1, *tensor.shape[1:])

"""Opens an ONNX file for onnxruntime; one that would read other files or run foreign code is refused."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from dicom_core.errors import ConfigurationError, SegmentationError

_BUILT_IN = frozenset({"", "ai.onnx", "ai.onnx.ml", "com.microsoft"})
"""Domains of operators that onnxruntime brings along. Anything else would be a library of somebody's own."""
_TYPES: Mapping[str, type[np.generic]] = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
}
_FULL = ("Failed to allocate memory", "out of memory", "CUDNN_STATUS_ALLOC_FAILED", "bad allocation")
_INSTALL = "The onnx segmenter needs onnxruntime and onnx; install them with: pip install 'vesselq[onnx]'"


class OnnxSession:
    """One ONNX file, ready to run.

    Args:
        file: Its hash was checked.
        device: ``"cpu"``, ``"cuda:0"``.
        threads: For the work within one operator; 0 leaves it to onnxruntime.

    Attributes:
        inputs: Shape of each input by name; what may vary is 0.
        outputs: Names.
        provider: What it runs on: ``CPUExecutionProvider``, ``CUDAExecutionProvider``.

    Raises:
        ConfigurationError: onnxruntime is not installed, or the file is not one that is run.
    """

    def __init__(self, file: Path, device: str, threads: int = 0) -> None:
        runtime = _runtime()
        data = file.read_bytes()
        _check(data, file.name)
        options = runtime.SessionOptions()
        options.log_severity_level = 3
        options.intra_op_num_threads = threads
        options.add_session_config_entry("session.load_model_format", "ONNX")
        try:
            self._session = runtime.InferenceSession(data, options, providers=_providers(device, runtime))
        except Exception as error:  # noqa: BLE001 - onnxruntime has no class of its own for what a file may lack
            raise ConfigurationError(f"{file.name} cannot be loaded by onnxruntime: {_first_line(error)}") from None
        self.name = file.name
        self.inputs = {one.name: _lengths(one.shape) for one in self._session.get_inputs()}
        self._types = {one.name: one.type for one in self._session.get_inputs()}
        self.outputs = tuple(one.name for one in self._session.get_outputs())
        self.provider = str(self._session.get_providers()[0])

    def run(self, feeds: Mapping[str, NDArray[Any]], outputs: Iterable[str] = ()) -> list[NDArray[np.float32]]:
        """Run it once.

        Args:
            feeds: An array for each input; its type becomes that of the input.
            outputs: Which are wanted; none for all.

        Raises:
            MemoryError: The device has no memory for this much.
            SegmentationError: onnxruntime could not run it.
        """
        typed = {name: np.ascontiguousarray(value, self._type(name)) for name, value in feeds.items()}
        try:
            found = self._session.run(list(outputs) or None, typed)
        except Exception as error:  # noqa: BLE001 - as above
            if any(words in str(error) for words in _FULL):
                raise MemoryError("onnxruntime could not allocate memory") from None
            raise SegmentationError(f"{self.name} could not be run: {_first_line(error)}") from None
        return [np.asarray(one, np.float32) for one in found]

    def _type(self, name: str) -> type[np.generic]:
        if self._types[name] not in _TYPES:
            raise ConfigurationError(f"{self.name} takes {self._types[name]} as {name}, which is not supported")
        return _TYPES[self._types[name]]

    def warnings(self, device: str) -> tuple[str, ...]:
        """For the reader: whether it runs elsewhere than asked for."""
        if device.startswith("cuda") and self.provider != "CUDAExecutionProvider":
            return ("This onnxruntime has no CUDA, so the model ran on the CPU; install onnxruntime-gpu",)
        return ()


def _runtime() -> Any:
    try:
        import onnxruntime
    except ImportError:
        raise ConfigurationError(_INSTALL) from None
    return onnxruntime


def _providers(device: str, runtime: Any) -> list[Any]:
    providers: list[Any] = ["CPUExecutionProvider"]
    if device.startswith("cuda") and "CUDAExecutionProvider" in runtime.get_available_providers():
        number = int(device.partition(":")[2] or 0)
        providers.insert(0, ("CUDAExecutionProvider", {"device_id": number}))
    return providers


def _lengths(shape: Iterable[object]) -> tuple[int, ...]:
    return tuple(length if isinstance(length, int) else 0 for length in shape)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or ["?"])[0][:300]


def _check(data: bytes, name: str) -> None:
    """Refuse what reads files that the manifest does not list, and operators that somebody's library would bring.

    Raises:
        ConfigurationError: It is such a file, or no ONNX at all.
    """
    try:
        import onnx
        from google.protobuf.message import DecodeError
    except ImportError:
        raise ConfigurationError(_INSTALL) from None
    model = onnx.ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError:
        raise ConfigurationError(f"{name} is no ONNX file, or a damaged one") from None
    if not model.graph.node:
        raise ConfigurationError(f"{name} is no ONNX file: it holds no operators")
    own = {function.domain for function in model.functions}
    bodies = [model.graph, *model.functions]
    for body in bodies:
        for node in _nodes(body):
            if node.domain not in _BUILT_IN | own:
                raise ConfigurationError(
                    f"{name} needs operators of {node.domain!r}, which only a library of its own would bring; export "
                    "it with standard operators"
                )
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for body in bodies for tensor in _tensors(body)):
        raise ConfigurationError(f"{name} keeps its weights in other files; save it as one file")


def _nodes(body: Any) -> Iterator[Any]:
    """Every node of a graph or function, and of the graphs inside its nodes."""
    for node in body.node:
        yield node
        for attribute in node.attribute:
            for graph in (attribute.g, *attribute.graphs):
                yield from _nodes(graph)


def _tensors(body: Any) -> Iterator[Any]:
    """Every constant of a graph or function, wherever it stands."""
    yield from getattr(body, "initializer", ())
    yield from _sparse(getattr(body, "sparse_initializer", ()))
    for node in body.node:
        for attribute in node.attribute:
            yield from (attribute.t, *attribute.tensors)
            yield from _sparse((attribute.sparse_tensor, *attribute.sparse_tensors))
            for graph in (attribute.g, *attribute.graphs):
                yield from _tensors(graph)


def _sparse(tensors: Iterable[Any]) -> Iterator[Any]:
    for tensor in tensors:
        yield from (tensor.values, tensor.indices)

"""From a downloaded Sa2VA to a folder that a rule can use: checked, cast to half the size, with a manifest.

The tensors keep their published names, so that a folder can be compared with what was published.
"""

import hashlib
import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import BinaryIO

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from dicom_core.errors import ConfigurationError
from worker.model_folder.adopting import Description, adopt, copied
from worker.model_folder.manifest import ManifestFile, ModelManifest
from worker.model_folder.opening import BytesCallback, ModelFolder
from worker.model_folder.recognising import RawModel, looked_at
from worker.segmenters.sa2va.model import TOKENIZER_FILE, Sa2vaModel
from worker.segmenters.sa2va.words import Words

_WEIGHTS = ".safetensors"
_INDEX = "model.safetensors.index.json"
"""Names the file of each tensor and how large all are; the one is in the files themselves, the other changes."""
_TYPES = {"bfloat16": ("BF16", torch.bfloat16), "float32": ("F32", torch.float32)}


def convert(
    raw: RawModel,
    out: Path,
    said: Description,
    progress: BytesCallback = lambda _bytes: None,
    *,
    dtype: str = "bfloat16",
) -> ModelManifest:
    """Make a folder of weights, one tensor in memory at a time.

    Args:
        raw: What :func:`worker.model_folder.recognising.recognise` found.
        out: The folder to make; it appears when it is whole, or not at all.
        said: About the model.
        progress: Called with the number of bytes read since the last call.
        dtype: ``"bfloat16"``, which is what a GPU computes in, or ``"float32"``.

    Raises:
        ConfigurationError: It is no Sa2VA that can be run, or something is there already.
        SpoolError: The files cannot be read or written.
    """
    if dtype not in _TYPES:
        raise ConfigurationError(f"A Sa2VA is converted to {' or '.join(_TYPES)}, not to {dtype!r}")
    check_layout(looked_at(raw.folder))
    kept = tuple(name for name in raw.files if name != _INDEX)
    return adopt(_with_files(raw, kept), out, said, progress, partial(_copy, dtype))


def check_layout(folder: ModelFolder) -> int:
    """Check that every tensor has a place and every place a tensor, without reading any of their numbers.

    Returns:
        The number of parameters of the network.

    Raises:
        ConfigurationError: Something is missing, unknown or of another size.
    """
    return Sa2vaModel.parameters_in(folder)


def special_words(folder: ModelFolder) -> dict[str, int]:
    """The numbers of the words that everything hangs on, for a report."""
    words = Words.read(folder.path(TOKENIZER_FILE))
    return {"<IMG_CONTEXT>": words.piece, "[SEG]": words.segment, "<|im_end|>": words.stop}


def _with_files(raw: RawModel, files: tuple[str, ...]) -> RawModel:
    return RawModel(
        raw.folder, raw.system, raw.because, files, raw.left_out, raw.license, raw.license_file, raw.settings
    )


def _copy(dtype: str, source: Path, target: Path, progress: BytesCallback) -> ManifestFile:
    if not source.name.endswith(_WEIGHTS):
        return copied(source, target, progress)
    return cast_file(source, target, dtype, progress)


def cast_file(source: Path, target: Path, dtype: str, progress: BytesCallback = lambda _bytes: None) -> ManifestFile:
    """Copy a safetensors file with its numbers cast to another type, one tensor in memory at a time.

    The format: the length of the header (64 bit, little endian), the header (JSON), the numbers.

    Raises:
        ConfigurationError: The source is no safetensors file.
    """
    code, torch_dtype = _TYPES[dtype]
    try:
        with safe_open(source, framework="pt") as weights, target.open("wb") as stream:
            names = list(weights.keys())
            shapes = {name: list(weights.get_slice(name).get_shape()) for name in names}
            writer = _HashedWriter(stream)
            writer.write(_header(shapes, code, torch_dtype.itemsize))
            for name in names:
                tensor: Tensor = weights.get_tensor(name)
                writer.write(_bytes(tensor.to(torch_dtype)))
                progress(tensor.nbytes)
    except SafetensorError as error:
        raise ConfigurationError(f"{source} is no safetensors file: {error}") from None
    target.chmod(0o644)
    return ManifestFile(sha256=writer.digest.hexdigest(), size_bytes=writer.size)


class _HashedWriter:
    def __init__(self, stream: BinaryIO) -> None:
        self._stream, self.digest, self.size = stream, hashlib.sha256(), 0

    def write(self, content: bytes | memoryview) -> None:
        self._stream.write(content)
        self.digest.update(content)
        self.size += len(content)


def _header(shapes: dict[str, list[int]], code: str, item_bytes: int) -> bytes:
    entries: dict[str, object] = {"__metadata__": {"format": "pt"}}
    for name, begin, end in _offsets(shapes, item_bytes):
        entries[name] = {"dtype": code, "shape": shapes[name], "data_offsets": [begin, end]}
    text = json.dumps(entries, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)  # numbers begin at a multiple of eight
    return len(text).to_bytes(8, "little") + text


def _offsets(shapes: dict[str, list[int]], item_bytes: int) -> Iterator[tuple[str, int, int]]:
    begin = 0
    for name, shape in shapes.items():
        end = begin + torch.Size(shape).numel() * item_bytes
        yield name, begin, end
        begin = end


def _bytes(tensor: Tensor) -> memoryview:
    return tensor.contiguous().reshape(-1).view(torch.uint8).numpy().data

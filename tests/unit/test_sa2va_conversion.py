"""A download becomes a folder that a rule can use: cast, checked, with the hash of every file."""

import json
from pathlib import Path

import pytest
import sa2va_checkpoints as small
import torch
from safetensors.torch import load_file, save_file

from dicom_core.errors import ConfigurationError
from worker.model_folder.adopting import Description
from worker.model_folder.opening import hash_of, open_folder
from worker.model_folder.recognising import looked_at, recognise
from worker.segmenters.sa2va.conversion import cast_file, check_layout, convert, special_words
from worker.segmenters.sa2va.model import Sa2vaModel

SAID = Description("small", version="3", license="Apache-2.0")


@pytest.fixture(scope="module")
def download(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A download in two shards with an index, a licence, a picture and a program."""
    folder = tmp_path_factory.mktemp("sa2va") / "download"
    small.write_checkpoint(folder, shards=2)
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {"total_size": 1}}))
    (folder / "LICENSE").write_text("Do as you like.")
    (folder / "modeling_sa2va.py").write_text("raise SystemExit")
    return folder


def test_folder_is_half_the_size_and_is_opened(download: Path, tmp_path: Path) -> None:
    """Weights in bfloat16 under their published names; hashes fit; no program, no index that would be wrong."""
    read: list[int] = []
    manifest = convert(recognise(download), tmp_path / "model", SAID, read.append)
    stored = {
        name: tensor
        for file in sorted((tmp_path / "model").glob("*.safetensors"))
        for name, tensor in load_file(file).items()
    }
    original = {
        name: tensor for file in sorted(download.glob("*.safetensors")) for name, tensor in load_file(file).items()
    }
    assert stored.keys() == original.keys()
    assert all(torch.equal(stored[name], original[name].bfloat16()) for name in stored)
    assert set(manifest.files) == {
        "LICENSE", "config.json", "tokenizer.json",
        "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors",
    }  # fmt: skip
    assert (manifest.system, manifest.name, manifest.license_file) == ("sa2va", "small", "LICENSE")
    assert manifest.files == {name: hash_of(tmp_path / "model" / name) for name in manifest.files}
    assert sum(read) >= sum(tensor.nbytes for tensor in original.values())
    model = Sa2vaModel.open(open_folder(tmp_path / "model", "sa2va"), "cpu", torch.float32)
    assert model.parameters == check_layout(looked_at(download))


def test_numbers_can_be_kept_as_they_are(download: Path, tmp_path: Path) -> None:
    """In float32 nothing is rounded."""
    source, target = download / "model-00001-of-00002.safetensors", tmp_path / "weights.safetensors"
    listed = cast_file(source, target, "float32")
    assert listed == hash_of(target)
    kept, original = load_file(target), load_file(source)
    assert all(torch.equal(kept[name], original[name]) for name in original)


def test_cast_file_holds_odd_shapes(tmp_path: Path) -> None:
    """Numbers without axes, empty tensors and other types come through."""
    source, target = tmp_path / "source.safetensors", tmp_path / "target.safetensors"
    tensors = {"one": torch.tensor(1.5), "none": torch.zeros(0, 3), "half": torch.rand(3, 5).half()}
    save_file(tensors, source)
    cast_file(source, target, "bfloat16")
    read = load_file(target)
    assert {name: tensor.shape for name, tensor in read.items()} == {name: one.shape for name, one in tensors.items()}
    assert torch.equal(read["half"], tensors["half"].bfloat16())
    (tmp_path / "broken.safetensors").write_bytes(b"no header")
    with pytest.raises(ConfigurationError, match="is no safetensors file"):
        cast_file(tmp_path / "broken.safetensors", target, "float32")


def test_what_does_not_fit_is_not_converted(download: Path, tmp_path: Path) -> None:
    """A checkpoint that would not load is refused before anything is written; so is an unknown type."""
    raw = recognise(download)
    with pytest.raises(ConfigurationError, match="to bfloat16 or float32, not to 'int8'"):
        convert(raw, tmp_path / "model", SAID, dtype="int8")
    lacking = tmp_path / "lacking"
    lacking.mkdir()
    for name in ("config.json", "tokenizer.json", "model-00001-of-00002.safetensors"):
        (lacking / name).write_bytes((download / name).read_bytes())
    with pytest.raises(ConfigurationError, match="The weights"):
        convert(recognise(lacking), tmp_path / "model", SAID)
    assert not (tmp_path / "model").exists()


def test_special_words_are_told(download: Path) -> None:
    """What a person compares with the model card."""
    assert special_words(looked_at(download)) == {
        word: small.tokenizer().token_to_id(word) for word in ("<IMG_CONTEXT>", "[SEG]", "<|im_end|>")
    }

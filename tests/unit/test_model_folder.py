"""Folders of weights: recognised by their looks, adopted with hashes, and never read where they were changed."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import save_file

from dicom_core.errors import ConfigurationError, NotFoundError, SpoolError
from worker.image_stack import Imaging
from worker.model_folder.adopting import Description, adopt, new_folder
from worker.model_folder.allowed_files import content_of
from worker.model_folder.checking import Finding, Health, check_folder, total_bytes
from worker.model_folder.manifest import (
    MANIFEST_FILE,
    ManifestClass,
    ManifestFile,
    ModelManifest,
    read_manifest,
    write_manifest,
)
from worker.model_folder.opening import ModelFolder, files_of, open_folder
from worker.model_folder.recognising import UNKNOWN_LICENSE, looked_at, recognise

WEIGHTS = {"one": np.zeros((3, 4), np.float32), "two": np.ones(5, np.float32)}
PARAMETERS = 17


@pytest.fixture
def raw(tmp_path: Path) -> Path:
    """A folder as Hugging Face has it, with things in it that are not for us."""
    folder = tmp_path / "download"
    (folder / "scripts").mkdir(parents=True)
    (folder / ".git").mkdir()
    (folder / "config.json").write_text(json.dumps({"model_type": "sam"}))
    save_file(WEIGHTS, folder / "model.safetensors")
    (folder / "LICENSE").write_text("You may.")
    (folder / "README.md").write_text("---\ntags:\n- vessels\nlicense: apache-2.0\n---\n# Model\n")
    for name in ("pytorch_model.bin", "scripts/modeling.py", ".git/config", "picture.png"):
        (folder / name).write_text("anything")
    return folder


@pytest.fixture
def adopted(raw: Path, tmp_path: Path) -> Path:
    """The same, adopted."""
    adopt(recognise(raw), tmp_path / "model", Description("medsam"))
    return tmp_path / "model"


def findings(folder: Path) -> dict[str, Finding]:
    """What the check of a folder says, by what was looked at."""
    return {one.what: one for one in check_folder(folder)}


@pytest.mark.parametrize(
    ("model_type", "system"), [("sa2va_chat", "sa2va"), ("sam", "sam"), ("sam2", "sam2"), ("sam2_video", "sam2")]
)
def test_hugging_face_folders_are_known_by_their_config(raw: Path, model_type: str, system: str) -> None:
    """The model_type of config.json names the system; licence and its text are found, the rest is left out."""
    (raw / "config.json").write_text(json.dumps({"model_type": model_type, "auto_map": {"AutoModel": "m.M"}}))
    found = recognise(raw)
    assert found.system == system
    assert model_type in found.because
    assert found.files == ("LICENSE", "config.json", "model.safetensors")
    assert set(found.left_out) == {
        "pytorch_model.bin", "scripts/modeling.py", ".git/config", "picture.png", "README.md",
    }  # fmt: skip
    assert (found.license, found.license_file) == ("Apache-2.0", "LICENSE")


@pytest.mark.parametrize(("name", "system"), [("net.onnx", "onnx"), ("net.ts", "torchscript"), ("NET.ONNX", "onnx")])
def test_single_files_and_folders_of_them(tmp_path: Path, name: str, system: str) -> None:
    """One exported file is a model, alone or in a folder."""
    (tmp_path / name).write_bytes(b"weights")
    assert recognise(tmp_path / name).system == system
    assert recognise(tmp_path / name).files == (name,)
    if name.islower():
        assert recognise(tmp_path).system == system


def test_monai_bundle(tmp_path: Path) -> None:
    """configs/metadata.json beside a TorchScript file is a MONAI bundle; its pickle is left out."""
    (tmp_path / "configs").mkdir()
    (tmp_path / "models").mkdir()
    (tmp_path / "configs" / "metadata.json").write_text("{}")
    (tmp_path / "models" / "model.ts").write_bytes(b"weights")
    (tmp_path / "models" / "model.pt").write_bytes(b"weights")
    found = recognise(tmp_path)
    assert (found.system, found.files) == ("torchscript", ("configs/metadata.json", "models/model.ts"))
    assert found.left_out == ("models/model.pt",)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "medsam.pth", "last.ckpt"])
def test_pickles_are_refused_in_words(tmp_path: Path, name: str) -> None:
    """A folder whose weights are only there as pickles, and a pickle itself, are refused with the way out."""
    (tmp_path / "config.json").write_text('{"model_type": "sam"}')
    (tmp_path / name).write_bytes(b"weights")
    for place in (tmp_path, tmp_path / name):
        with pytest.raises(ConfigurationError, match=rf"{name}: such a file can run a program.*safetensors"):
            recognise(place)
    (tmp_path / "config.json").unlink()
    with pytest.raises(ConfigurationError, match="never reads one"):
        recognise(tmp_path)


def test_what_is_no_model_is_refused(tmp_path: Path) -> None:
    """Nothing there, an empty folder, an unknown type, broken JSON, JSON that is no table: each in a sentence."""
    with pytest.raises(NotFoundError, match="neither a folder nor a file"):
        recognise(tmp_path / "nothing")
    with pytest.raises(ConfigurationError, match=r"it has no config\.json"):
        recognise(tmp_path)
    (tmp_path / "words.txt").write_text("words")
    with pytest.raises(ConfigurationError, match=r"ends with \.onnx or \.ts"):
        recognise(tmp_path / "words.txt")
    config = tmp_path / "config.json"
    for text, words in (
        ('{"model_type": "llama"}', "model_type 'llama'"),
        ("{", "is no JSON"),
        ("[" * 100_000, "is no JSON"),
        ("[1]", r"it has no config\.json with a model_type"),
        ('{"model_type": 7}', "no .* with a model_type"),
    ):
        config.write_text(text)
        with pytest.raises(ConfigurationError, match=words):
            recognise(tmp_path)


@pytest.mark.parametrize(
    ("card", "license_name"),
    [
        ("---\nlicense: mit\n---\n", "MIT"),
        ("---\nlicense: 'cc-by-nc-4.0'\ntags: [a]\n---\n", "CC-BY-NC-4.0"),
        ("---\nlicense: llama3\n---\n", "LicenseRef-llama3"),
        ("---\nlicense: other\n---\n", ""),
        ("---\ntags: [a]\n---\nlicense: mit\n", ""),
        ("license: mit\n", ""),
    ],
)
def test_license_of_a_model_card(raw: Path, card: str, license_name: str) -> None:
    """The head of a model card names the licence; what stands below the head does not count."""
    (raw / "README.md").write_text(card)
    assert recognise(raw).license == license_name


def test_a_look_needs_no_manifest(raw: Path) -> None:
    """An engineer's look opens the raw folder: names as they are, no hash checked, pickles out of reach."""
    model = looked_at(raw)
    assert (model.manifest.system, model.manifest.name, model.checked) == ("sam", "download", False)
    assert model.path("model.safetensors") == raw / "model.safetensors"
    with pytest.raises(ConfigurationError, match=r"lists no file pytorch_model\.bin"):
        model.path("pytorch_model.bin")
    (raw / "README.md").unlink()
    assert looked_at(raw).manifest.license == UNKNOWN_LICENSE


def test_adopting_copies_hashes_and_describes(raw: Path, tmp_path: Path) -> None:
    """Allowed files are copied, every byte is told, the manifest bears hashes, parameters and what was said."""
    text = tmp_path / "terms.txt"
    text.write_text("Only on Sundays.")
    told: list[int] = []
    said = Description(
        "medsam", version="3", license="LicenseRef-sunday", license_file=text, source="a colleague",
        imagings=(Imaging.XRAY_ANGIOGRAPHY,), classes=(ManifestClass(key="artery", label="Artery"),),
        settings={"threshold": 0.4},
    )  # fmt: skip
    out = tmp_path / "model"
    manifest = adopt(recognise(raw), out, said, told.append)
    assert manifest == read_manifest(out)
    assert sorted(path.name for path in out.iterdir()) == ["LICENSE", "config.json", "model.safetensors", MANIFEST_FILE]
    assert (out / "LICENSE").read_text() == "Only on Sundays."
    assert manifest.files == files_of(out, manifest.files)
    assert sum(told) == total_bytes(manifest) + (raw / "LICENSE").stat().st_size
    assert (manifest.parameters, manifest.system, manifest.version) == (PARAMETERS, "sam", "3")
    assert manifest.settings == {"threshold": 0.4}
    assert sorted(tmp_path.iterdir()) == sorted([raw, out, text])
    with pytest.raises(ConfigurationError, match='accept_license = "LicenseRef-sunday"'):
        open_folder(out, "sam")
    assert open_folder(out, "sam", accept_license="LicenseRef-sunday").manifest == manifest


def test_adopting_follows_the_links_of_a_download_cache(raw: Path, tmp_path: Path) -> None:
    """Hugging Face's cache links its files to blobs elsewhere: their content is copied; linked folders are not."""
    blob = tmp_path / "blob"
    (raw / "model.safetensors").rename(blob)
    (raw / "model.safetensors").symlink_to(blob)
    (raw / "elsewhere").symlink_to(tmp_path)
    (raw / "nowhere.json").symlink_to(tmp_path / "missing")
    found = recognise(raw)
    assert {"elsewhere", "nowhere.json"} <= set(found.left_out)
    adopt(found, tmp_path / "model", Description("medsam"))
    copy = tmp_path / "model" / "model.safetensors"
    assert not copy.is_symlink()
    assert copy.read_bytes() == blob.read_bytes()


def test_adopting_is_whole_or_nothing(raw: Path, tmp_path: Path) -> None:
    """A failure in the middle, a wrong value, a folder that exists: nothing is left behind or overwritten."""
    found = recognise(raw)
    before = sorted(tmp_path.iterdir())

    def interrupted(_bytes: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        adopt(found, tmp_path / "model", Description("medsam"), interrupted)
    with pytest.raises(ConfigurationError, match="the manifest would be wrong at name"):
        adopt(found, tmp_path / "model", Description("n" * 65))
    with pytest.raises(ConfigurationError, match="exists already"):
        adopt(found, raw, Description("medsam"))
    with pytest.raises(ConfigurationError, match="make it first"):
        adopt(found, tmp_path / "no" / "model", Description("medsam"))
    with pytest.raises(NotFoundError, match="no file with the text"):
        adopt(found, tmp_path / "model", Description("medsam", license_file=tmp_path / "no"))
    (raw / "config.json").unlink()
    with pytest.raises(SpoolError, match=r"config\.json cannot be copied"):
        adopt(found, tmp_path / "model", Description("medsam"))
    (raw / "model.safetensors").write_bytes(b"\xff" * 20)
    with pytest.raises(ConfigurationError, match="no whole safetensors file"):
        adopt(found.__class__(raw, "sam", "", ("model.safetensors",), license="MIT"), tmp_path / "m", Description("m"))
    assert sorted(tmp_path.iterdir()) == before


def test_adopting_needs_a_licence(raw: Path, tmp_path: Path) -> None:
    """A model whose licence nobody names is not adopted."""
    (raw / "README.md").unlink()
    with pytest.raises(ConfigurationError, match="--license"):
        adopt(recognise(raw), tmp_path / "model", Description("medsam"))


def test_new_folder_where_nothing_can_be_written(tmp_path: Path) -> None:
    """A full or read-only disk ends in a sentence."""
    with pytest.raises(SpoolError, match="cannot be copied: No space left"), new_folder(tmp_path / "model"):
        raise OSError(28, "No space left on device")
    assert list(tmp_path.iterdir()) == []


def test_a_good_folder_has_nothing_to_complain_about(adopted: Path) -> None:
    """All hashes right, nothing else there, licence there, parameters counted; every byte was read."""
    told: list[int] = []
    found = check_folder(adopted, told.append)
    assert [one.health for one in found] == [Health.OK] * 4
    assert sum(told) == total_bytes(read_manifest(adopted))
    assert {one.what: one.detail for one in found}["parameters"] == "17"


@pytest.mark.parametrize(
    "how", ["damaged", "shorter", "missing", "linked out", "linked to itself", "a pipe", "a folder"]
)
def test_changed_files_are_found_and_never_read(adopted: Path, tmp_path: Path, how: str) -> None:
    """One changed byte, a cut file, a missing one, a link to somewhere else, no file at all: both say so at once."""
    file = adopted / "model.safetensors"
    content = file.read_bytes()
    words = "its hash or size is another"
    if how == "damaged":
        file.write_bytes(content[:-1] + b"\x01")
    elif how == "shorter":
        file.write_bytes(content[:-1])
    elif how == "missing":
        file.unlink()
        words = "No such file"
    elif how in ("linked to itself", "a pipe", "a folder"):
        file.unlink()
        {"linked to itself": lambda: file.symlink_to(file), "a pipe": lambda: os.mkfifo(file), "a folder": file.mkdir}[
            how
        ]()
        words = "no plain one"
    else:
        file.rename(tmp_path / "outside")
        file.symlink_to(tmp_path / "outside")
        words = "a link to a place outside"
    found = findings(adopted)["files"]
    assert found.health is Health.FAILS
    assert "model.safetensors" in found.detail
    assert words in found.detail
    with pytest.raises(ConfigurationError, match=words):
        open_folder(adopted, "sam").path("model.safetensors")


def test_a_folder_may_be_linked_to(adopted: Path, tmp_path: Path) -> None:
    """Only links inside matter: the folder itself may be reached by one."""
    (tmp_path / "current").symlink_to(adopted)
    assert all(one.health is Health.OK for one in check_folder(tmp_path / "current"))


@pytest.mark.parametrize("folder", [5, True, ["model"], {"path": "model"}, None, "", " "])
def test_a_setting_that_is_no_path_is_told(folder: Any) -> None:
    """Settings are read from a file: any type may stand there."""
    with pytest.raises(ConfigurationError, match="must be the path of a folder"):
        open_folder(folder, "sam")


def test_what_is_not_listed_is_named(adopted: Path) -> None:
    """More files are named, pickles as what they are, and never opened."""
    (adopted / "notes.txt").write_text("hello")
    assert findings(adopted)["other files"] == Finding(
        "other files", Health.WARNING, "not in the manifest and never read: notes.txt"
    )
    for number in range(7):
        (adopted / f"a{number}.bin").write_text("hello")
    detail = findings(adopted)["other files"].detail
    assert "a0.bin, a1.bin, a2.bin, a3.bin, a4.bin and others (of a kind that can run a program" in detail
    with pytest.raises(ConfigurationError, match=r"lists no file a0\.bin"):
        open_folder(adopted, "sam").path("a0.bin")


@pytest.mark.parametrize("name", ["../secret", "/etc/passwd", "a/../../b", ".hidden", "a\\b", "", "a\0b", "a\n"])
def test_names_never_lead_outside(adopted: Path, name: str) -> None:
    """A manifest that lists a file outside the folder is wrong as a whole."""
    values = json.loads((adopted / MANIFEST_FILE).read_text())
    values["files"][name] = values["files"]["config.json"]
    (adopted / MANIFEST_FILE).write_text(json.dumps(values))
    with pytest.raises(ConfigurationError, match="no name of a file in the folder"):
        open_folder(adopted, "sam")


def test_license_and_parameters_are_checked(adopted: Path) -> None:
    """A licence whose text is missing, one that must be accepted, and another number of parameters are told."""
    manifest = read_manifest(adopted)

    def said(**changes: object) -> dict[str, Finding]:
        write_manifest(adopted, manifest.model_copy(update=changes))
        return findings(adopted)

    assert said(license_file="TERMS")["licence"].health is Health.FAILS
    assert said(license_file="")["licence"].health is Health.OK
    assert said(license="AGPL-3.0", license_file="")["licence"].health is Health.WARNING
    assert 'accept_license = "AGPL-3.0"' in said(license="AGPL-3.0")["licence"].detail
    assert said(parameters=18)["parameters"] == Finding(
        "parameters", Health.FAILS, "17 in the files, 18 in the manifest"
    )


def test_files_without_countable_parameters(tmp_path: Path) -> None:
    """ONNX files count nothing; a listed safetensors file that is none fails, though its hash is right."""
    (tmp_path / "net.onnx").write_bytes(b"weights")
    (tmp_path / "broken.safetensors").write_bytes(b"weights")

    def manifest(name: str) -> ModelManifest:
        return ModelManifest(system="onnx", name="n", version="1", license="MIT", files=files_of(tmp_path, [name]))

    write_manifest(tmp_path, manifest("net.onnx"))
    assert findings(tmp_path)["parameters"].detail.startswith("not counted")
    write_manifest(tmp_path, manifest("broken.safetensors"))
    assert findings(tmp_path)["parameters"].health is Health.FAILS


def test_folders_that_are_none(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No folder, no manifest, far too many files: told in a sentence."""
    with pytest.raises(ConfigurationError, match="is no folder"):
        content_of(tmp_path / "nothing")
    with pytest.raises(ConfigurationError, match="vesselq models convert"):
        check_folder(tmp_path)
    monkeypatch.setattr("worker.model_folder.allowed_files._MOST_FILES", 2)
    for number in range(3):
        (tmp_path / f"{number}.json").write_text("{}")
    with pytest.raises(ConfigurationError, match="more than 2 files"):
        content_of(tmp_path)


def test_info_comes_from_the_manifest(adopted: Path) -> None:
    """A model's name, version, licence and hash stand in its info; what it does not say stays the system's."""
    from worker.segmenters import registry
    from worker.segmenters.folder_info import info_of

    manifest = read_manifest(adopted)
    info = info_of(ModelFolder(adopted, manifest), registry.info("ridge"))
    assert (info.name, info.version, info.license) == ("medsam", "1", "Apache-2.0")
    assert info.weights_sha256 == manifest.digest
    assert info.classes == registry.info("ridge").classes
    changed = manifest.model_copy(update={"files": {"a": ManifestFile(sha256="1" * 64, size_bytes=1)}})
    assert changed.digest != manifest.digest

"""The torchscript segmenter: networks in the TorchScript format, alone and in MONAI bundles."""

import json
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F  # noqa: N812 - torch's own convention
from tiny_onnx import write_listed
from torch import nn
from tube_pictures import ct_volume, dice, picture, stack_of, vessel_mask

from dicom_core.errors import ConfigurationError, InvalidPromptError, RunnerBusyError, SegmentationError
from dicom_core.prompt import Point
from worker.image_stack import Arrangement, ImageStack, Imaging
from worker.segmenters.interface import Prompt, Segmentation, Status
from worker.segmenters.torchscript.bundle import METADATA_FILE, MODEL_FILE, bundle_settings
from worker.segmenters.torchscript.segmenter import TorchScriptSegmenter

SETTINGS = {"output": {"activation": "sigmoid"}, "normalisation": {"scale": "min_max"}}
HOUNSFIELD = {"values": "modality", "scale": "window", "low": -200, "high": 600}
TRUTH = vessel_mask(128)


class Darker(nn.Module):
    """Says where a picture is darker than its surroundings."""

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        wide = F.avg_pool2d(F.pad(pictures, (7, 7, 7, 7), mode="replicate"), 15, 1)
        return (wide - pictures - 0.15) * 100


class Brighter(nn.Module):
    """Says of each voxel of a volume whether it is background or bright, as two channels."""

    def forward(self, volumes: torch.Tensor) -> torch.Tensor:
        return torch.cat([0.45 - volumes, volumes - 0.45], dim=1) * 50


def save(network: nn.Module, file: Path, example: torch.Tensor | None = None) -> Path:
    file.parent.mkdir(parents=True, exist_ok=True)
    with warnings.catch_warnings():  # torch recommends torch.export instead
        warnings.simplefilter("ignore")
        made = torch.jit.script(network) if example is None else torch.jit.trace(network, example)
        torch.jit.save(made, str(file))
    return file


def darker(folder: Path, **settings: Any) -> Path:
    save(Darker(), folder / "model.ts")
    return write_listed(folder, ["model.ts"], {**SETTINGS, **settings}, system="torchscript")


def run(folder: Path, stack: ImageStack, **settings: Any) -> Segmentation:
    return TorchScriptSegmenter(folder=str(folder), **settings).segment(stack, Prompt(), lambda _share: None)


def angiogram() -> ImageStack:
    return stack_of(picture(TRUTH, bright=False)[None], Imaging.XRAY_ANGIOGRAPHY)


def test_vessels_are_found(tmp_path: Path) -> None:
    """A scripted network with the settings of its manifest finds what it is made for, at the size of the frame."""
    found = run(darker(tmp_path), angiogram())
    assert found.status is Status.OK
    assert dice(found.mask[0, 0], TRUTH) > 0.8
    assert run(darker(tmp_path, size={"fit": "windows", "size": [64, 64]}), angiogram()).mask.any()


def test_half_precision_is_fed_with_its_own_type(tmp_path: Path) -> None:
    """A network saved in another precision gets pictures of that precision and still answers in probabilities."""
    convolution = nn.Conv2d(1, 1, 1).to(torch.bfloat16)
    save(convolution.eval(), tmp_path / "model.pt", torch.zeros(1, 1, 8, 8, dtype=torch.bfloat16))
    found = run(write_listed(tmp_path, ["model.pt"], SETTINGS, system="torchscript"), angiogram())
    assert np.isfinite(found.probability).all()


def test_a_prompt_is_refused(tmp_path: Path) -> None:
    """The network does not read."""
    segmenter = TorchScriptSegmenter(folder=str(darker(tmp_path)))
    with pytest.raises(InvalidPromptError):
        segmenter.segment(angiogram(), Prompt(points=(Point(x=1, y=1),)), lambda _share: None)


def pickled(file: Path) -> None:
    torch.save({"weight": torch.zeros(3)}, file)


def foreign(file: Path) -> None:
    file.write_bytes(b"not even an archive")


class Writes(nn.Module):
    """Would write its picture into a file."""

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        torch.save(pictures, "stolen.pt")
        return pictures


def writing(file: Path) -> None:
    save(Writes(), file)


def rewritten(file: Path, write: Callable[[zipfile.ZipFile, str, bytes], None]) -> None:
    """A file that writes, its code written in another way."""
    writing(file)
    with zipfile.ZipFile(file) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(file, "w") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile warns of names that are there twice
        for name, content in entries.items():
            if name.endswith(".py"):
                write(archive, name, content)
            else:
                archive.writestr(name, content)


def continued(file: Path) -> None:
    rewritten(file, lambda archive, name, code: archive.writestr(name, code.replace(b"save(", b"save \\\n (")))


def parenthesised(file: Path) -> None:
    rewritten(file, lambda archive, name, code: archive.writestr(name, code.replace(b"torch.save(", b"(torch.save)(")))


def twice(file: Path) -> None:
    """Python reads the second entry of a name, torch the first."""

    def both(archive: zipfile.ZipFile, name: str, code: bytes) -> None:
        archive.writestr(name, code)
        archive.writestr(name, code.replace(b'torch.save(pictures, "stolen.pt")', b"torch.relu(pictures)"))

    rewritten(file, both)


@pytest.mark.parametrize("write", [writing, continued, parenthesised, twice])
def test_code_that_touches_files_is_refused_however_it_is_written(
    tmp_path: Path, write: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of these files would leave a picture on the disk; none is loaded."""
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "model.ts")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.load(str(tmp_path / "model.ts"))(torch.zeros(1, 1, 2, 2))
    assert (tmp_path / "stolen.pt").exists()
    (tmp_path / "stolen.pt").unlink()
    with pytest.raises(ConfigurationError, match="reads or writes files"):
        run(write_listed(tmp_path, ["model.ts"], SETTINGS, system="torchscript"), angiogram())
    assert not (tmp_path / "stolen.pt").exists()


@pytest.mark.parametrize(("write", "words"), [(pickled, "holds no code"), (foreign, "holds no code")])
def test_other_files_are_refused(tmp_path: Path, write: Callable[[Path], None], words: str) -> None:
    """What would have to be unpickled, or is no archive, is not loaded."""
    write(tmp_path / "model.pt")
    with pytest.raises(ConfigurationError, match=words):
        TorchScriptSegmenter(folder=str(write_listed(tmp_path, ["model.pt"], SETTINGS, system="torchscript")))


class Flat(nn.Module):
    """Answers with one number a picture."""

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return pictures.mean(dim=(2, 3))


class Picky(nn.Module):
    """Takes three channels."""

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return torch.conv2d(pictures, torch.zeros(1, 3, 1, 1))


class Greedy(nn.Module):
    """Wants more memory than there is."""

    def forward(self, pictures: torch.Tensor) -> torch.Tensor:
        return pictures + torch.zeros(1 << 46).sum()


@pytest.mark.parametrize(
    ("network", "error", "words"),
    [
        (Flat(), SegmentationError, "one number for each pixel"),
        (Picky(), SegmentationError, "could not be run"),
        (Greedy(), RunnerBusyError, "no memory"),
    ],
)
def test_what_cannot_run_ends_in_a_sentence(
    tmp_path: Path, network: nn.Module, error: type[Exception], words: str
) -> None:
    """Errors of torch become ours, without a trace through the network's code."""
    save(network, tmp_path / "model.ts")
    folder = write_listed(tmp_path, ["model.ts"], SETTINGS, system="torchscript")
    with pytest.raises(error, match=words):
        run(folder, angiogram())


# MONAI bundles


def metadata(**image: Any) -> dict[str, Any]:
    """What a bundle says of a network for patches of CT with background and one class."""
    shape = image.get("spatial_shape", [16, 16, 8])
    described = {"type": "image", "format": "hounsfield", "num_channels": 1, "spatial_shape": shape}
    answer = {"num_channels": 2, "spatial_shape": shape, "channel_def": {"0": "background", "1": "vessel"}}
    return {
        "version": "0.1",
        "network_data_format": {
            "inputs": {"image": {**described, "is_patch_data": True, **image}},
            "outputs": {"pred": {**answer, "format": "segmentation"}},
        },
    }


def write_metadata(folder: Path, values: Any) -> Path:
    file = folder / METADATA_FILE
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(values))
    return file


def test_a_bundle_runs_by_its_metadata(tmp_path: Path) -> None:
    """Windows, softmax and turned axes come from the metadata, only the normalisation is stated; the tube is found."""
    save(Brighter(), tmp_path / MODEL_FILE)
    write_metadata(tmp_path, metadata())
    (tmp_path / "configs" / "inference.json").write_text('{"_target_": "os.system"}')
    settings = {"normalisation": HOUNSFIELD, "mask": {"minimum_size": 20}}
    write_listed(tmp_path, [MODEL_FILE, METADATA_FILE], settings, system="torchscript")
    volume, truth = ct_volume((2.0, 1.0, 1.0), 4.0, extent_mm=40.0)
    stack = stack_of(volume, Imaging.CT, Arrangement.VOLUME, (2.0, 1.0, 1.0))
    segmenter = TorchScriptSegmenter(folder=str(tmp_path))
    assert segmenter.info.arrangements == {Arrangement.VOLUME}
    found = segmenter.segment(stack, Prompt(), lambda _share: None)
    assert dice(found.mask[0], truth) > 0.98
    assert found.parameters["size"] == "16x16x8"
    assert found.parameters["activation"] == "softmax"


def derived(tmp_path: Path, stated: dict[str, Any], **image: Any) -> dict[str, Any]:
    stated = {"normalisation": HOUNSFIELD, **stated}
    return bundle_settings(write_metadata(tmp_path, metadata(**image)), stated, "tiny")


def test_settings_follow_from_metadata(tmp_path: Path) -> None:
    """Patches are windows, whole pictures are resized, free lengths are padded; what is stated stands over it."""
    assert derived(tmp_path, {})["axes"] == ("-columns", "-rows", "slices")
    assert derived(tmp_path, {}, is_patch_data=False)["size"] == {"fit": "resize", "size": (16, 16, 8)}
    free = derived(tmp_path, {}, spatial_shape=["16*n", "8*n", "*"])
    assert free["size"] == {"fit": "pad", "multiple_of": 16}
    flat = derived(tmp_path, {}, spatial_shape=[64, 64])
    assert flat["layout"] == "NCHW"
    assert "axes" not in flat
    own = derived(tmp_path, {"size": {"overlap": 0.5}, "axes": ["slices", "rows", "columns"], "batch": 4})
    assert own["size"] == {"fit": "windows", "size": (16, 16, 8), "overlap": 0.5}
    assert (own["axes"][0], own["batch"], own["output"]) == ("slices", 4, {"activation": "softmax"})


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"version": "1"}, "network_data_format"),
        ([], "no JSON object"),
        (metadata(spatial_shape=["16*n*m", 8, 8]), "name the length"),
    ],
)
def test_metadata_that_do_not_tell_are_refused(tmp_path: Path, values: Any, words: str) -> None:
    """The text says what is missing or not understood."""
    with pytest.raises(ConfigurationError, match=words):
        bundle_settings(write_metadata(tmp_path, values), {"normalisation": HOUNSFIELD}, "tiny")


def test_a_bundle_must_say_how_it_normalises(tmp_path: Path) -> None:
    """Metadata do not tell; guessing would give quiet nonsense."""
    with pytest.raises(ConfigurationError, match=r"settings\.normalisation"):
        bundle_settings(write_metadata(tmp_path, metadata()), {}, "tiny")
    file = tmp_path / METADATA_FILE
    file.write_text("{")
    with pytest.raises(ConfigurationError, match="no JSON"):
        bundle_settings(file, {"normalisation": HOUNSFIELD}, "tiny")

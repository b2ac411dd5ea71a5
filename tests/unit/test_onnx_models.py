"""The onnx segmenter: what is run and what is refused, semantic networks, pairs of SAM, exported YOLOE."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper
from tiny_onnx import VESSEL, model_of, tiny_finder, write_listed, write_model, write_tiny_onnx
from tube_pictures import ct_volume, dice, picture, stack_of, vessel_mask

from dicom_core.errors import ConfigurationError, InvalidPromptError, RunnerBusyError, UnsupportedSourceError
from dicom_core.prompt import Box, Point, PromptKind
from worker.image_stack import Arrangement, ImageStack, Imaging
from worker.model_folder.manifest import ManifestClass
from worker.segmenters.interface import Prompt, Segmentation, Status
from worker.segmenters.onnx_model.sam_pair import asked_of
from worker.segmenters.onnx_model.segmenter import OnnxSegmenter
from worker.segmenters.onnx_model.session import OnnxSession
from worker.segmenters.onnx_model.yoloe import Letterbox

SIGMOID = {"output": {"activation": "sigmoid"}}
TRUTH = vessel_mask(128)
ROOT = Path(__file__).parents[2]


def run(folder: Path, stack: ImageStack, prompt: Prompt = Prompt(), **settings: Any) -> Segmentation:  # noqa: B008
    return OnnxSegmenter(folder=str(folder), threads=1, **settings).segment(stack, prompt, lambda _share: None)


def angiogram(frames: int = 1) -> ImageStack:
    pixels = np.stack([picture(TRUTH, bright=False, seed=n) for n in range(frames)])
    return stack_of(pixels, Imaging.XRAY_ANGIOGRAPHY, Arrangement.RUN)


# What is run and what is refused


def identity(**changes: Any) -> onnx.ModelProto:
    shape = changes.pop("shape", ["n", 1, "r", "c"])
    nodes = [helper.make_node("Identity", ["image"], ["logits"])]
    return model_of(nodes, {"image": shape}, {"logits": shape}, **changes)


def external(place: str) -> onnx.ModelProto:
    """A model with a constant in another file: among its weights, in a node, or in a graph inside a node."""
    tensor = onnx.numpy_helper.from_array(np.zeros(3, np.float32), "secret")
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value="/etc/hostname")
    model = identity()
    if place == "weights":
        model.graph.initializer.append(tensor)
    else:
        node = helper.make_node("Constant", [], ["secret"], value=tensor)
        if place == "inner graph":
            node = helper.make_node("If", ["yes"], ["secret"], then_branch=helper.make_graph([node], "then", [], []))
        model.graph.node.append(node)
    return model


@pytest.mark.parametrize("place", ["weights", "node", "inner graph"])
def test_a_file_that_reads_other_files_is_refused(tmp_path: Path, place: str) -> None:
    """External data would be read from anywhere on the machine: the file is not loaded, wherever that stands."""
    write_model(tmp_path, {"model.onnx": external(place)}, SIGMOID)
    with pytest.raises(ConfigurationError, match="in other files"):
        OnnxSegmenter(folder=str(tmp_path))


def test_a_foreign_operator_is_refused(tmp_path: Path) -> None:
    """An operator of a domain that onnxruntime does not bring would need a library of its own."""
    nodes = [helper.make_node("Magic", ["image"], ["logits"], domain="com.example")]
    shape = ["n", 1, "r", "c"]
    model = model_of(nodes, {"image": shape}, {"logits": shape}, domains=["com.example"])
    write_model(tmp_path, {"model.onnx": model}, SIGMOID)
    with pytest.raises(ConfigurationError, match=r"'com\.example'"):
        OnnxSegmenter(folder=str(tmp_path))


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 not ONNX", b"\xff" * 64])
def test_what_is_no_onnx_is_refused(tmp_path: Path, content: bytes) -> None:
    """Empty and foreign files end in a sentence."""
    (tmp_path / "model.onnx").write_bytes(content)
    write_listed(tmp_path, ["model.onnx"], SIGMOID)
    with pytest.raises(ConfigurationError, match="no ONNX file"):
        OnnxSegmenter(folder=str(tmp_path))


def test_a_model_that_does_not_hang_together_is_refused(tmp_path: Path) -> None:
    """What onnxruntime cannot load is a configuration error with its first line."""
    broken = identity()
    broken.graph.node[0].input[0] = "nothing"
    write_model(tmp_path, {"model.onnx": broken}, SIGMOID)
    with pytest.raises(ConfigurationError, match="cannot be loaded by onnxruntime"):
        OnnxSegmenter(folder=str(tmp_path))


def test_changed_files_and_licences_are_not_taken(tmp_path: Path) -> None:
    """The hash is that of the manifest, and a licence that is not permissive is accepted or nothing runs."""
    folder = write_tiny_onnx(tmp_path / "a")
    (folder / "model.onnx").write_bytes(tiny_finder("bright").SerializeToString())
    with pytest.raises(ConfigurationError, match="hash"):
        OnnxSegmenter(folder=str(folder))
    folder = write_tiny_onnx(tmp_path / "b", license="CC-BY-NC-4.0")
    with pytest.raises(ConfigurationError, match="accept_license"):
        OnnxSegmenter(folder=str(folder))
    assert OnnxSegmenter(folder=str(folder), accept_license="CC-BY-NC-4.0").info.license == "CC-BY-NC-4.0"


def test_without_onnxruntime_the_text_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The segmenter is listed without the extra; making one tells of it."""
    folder = write_tiny_onnx(tmp_path)
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ConfigurationError, match=r"vesselq\[onnx\]"):
        OnnxSegmenter(folder=str(folder))


@pytest.mark.parametrize(
    ("shape", "settings", "words"),
    [
        (["n", 3, "r", "c"], {}, "3 channels"),
        (["n", 1, "d", "r", "c"], {}, "does not fit the layout"),
        ([4, 1, "r", "c"], {}, "4 pictures at a time"),
        ([1, 1, 32, 32], {"size": {"size": [64, 64]}}, "nothing else"),
        (["n", 1, "r", "c"], {"output_name": "mask"}, "the outputs logits"),
        (["n", 1, "r", "c"], {"kind": "other"}, "settings"),
        (["n", 1, "r", "c"], {"file": "other.onnx"}, "lists no file"),
    ],
)
def test_manifest_and_file_must_agree(tmp_path: Path, shape: Any, settings: dict[str, Any], words: str) -> None:
    """A contradiction is found when the model is loaded, not with the first patient."""
    write_model(tmp_path, {"model.onnx": identity(shape=shape)}, {**SIGMOID, **settings})
    with pytest.raises(ConfigurationError, match=words):
        OnnxSegmenter(folder=str(tmp_path))


@pytest.mark.parametrize("wrong", [{"threshold": 1.0}, {"batch": -1}, {"threads": -1}])
def test_wrong_arguments_are_refused(tmp_path: Path, wrong: dict[str, Any]) -> None:
    """Settings of the site are checked as well."""
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        OnnxSegmenter(folder=str(write_tiny_onnx(tmp_path)), **wrong)


def test_a_gpu_that_onnxruntime_cannot_use_is_told(tmp_path: Path) -> None:
    """A model that runs on the CPU though a GPU was asked for says so in its result."""
    found = run(write_tiny_onnx(tmp_path), angiogram(), device="cuda:0")
    if found.parameters["provider"] == "CPUExecutionProvider":
        assert "onnxruntime-gpu" in found.warnings[0]


def test_memory_that_ends_is_a_clean_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not even one picture fits: an error that a later try may not meet."""
    folder = write_tiny_onnx(tmp_path)

    def full(*_arguments: object) -> None:
        raise MemoryError

    monkeypatch.setattr(OnnxSession, "run", full)
    with pytest.raises(RunnerBusyError):
        run(folder, angiogram())


# Semantic networks


@pytest.mark.parametrize(
    "size",
    [
        {},
        {"multiple_of": 32},
        {"fit": "resize", "size": [128, 160]},
        {"fit": "windows", "size": [64, 80], "overlap": 0.3},
        {"fit": "pad", "size": [160, 160]},
    ],
)
def test_vessels_are_found_however_pictures_are_fitted(tmp_path: Path, size: dict[str, Any]) -> None:
    """The same vessels come out at the size of the frames."""
    found = run(write_tiny_onnx(tmp_path, settings={"size": size}), angiogram(2))
    assert found.status is Status.OK
    assert found.mask.shape == found.probability.shape == (1, 2, 128, 128)
    assert all(dice(frame, TRUTH) > 0.85 for frame in found.mask[0])
    assert all(0.5 < score <= 1 for score in found.scores)


def test_the_batch_changes_nothing(tmp_path: Path) -> None:
    """Frames together give what they give alone; a file for one picture is given one."""
    alone = run(write_tiny_onnx(tmp_path / "a"), angiogram(3))
    together = run(tmp_path / "a", angiogram(3), batch=3)
    assert np.array_equal(alone.probability, together.probability)
    fixed = tiny_finder()
    fixed.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 1
    write_model(tmp_path / "b", {"model.onnx": fixed}, {**SIGMOID, "normalisation": {"scale": "min_max"}})
    assert run(tmp_path / "b", angiogram(3), batch=3).mask.any()


def test_a_threshold_of_the_site_decides(tmp_path: Path) -> None:
    """It stands over that of the manifest, and both stand in the parameters."""
    folder = write_tiny_onnx(tmp_path)
    loose, strict = run(folder, angiogram()), run(folder, angiogram(), threshold=0.99)
    assert strict.mask.sum() < loose.mask.sum()
    assert (loose.parameters["threshold"], strict.parameters["threshold"]) == ("0.5", "0.99")


def test_a_tube_is_found_in_a_volume_through_windows(tmp_path: Path) -> None:
    """Resampled to one spacing, looked at in windows, turned back: the tube where it is, for any order of axes."""
    volume, truth = ct_volume((2.0, 1.0, 1.0), 4.0, extent_mm=44.0)
    stack = stack_of(volume, Imaging.CT, Arrangement.VOLUME, (2.0, 1.0, 1.0))
    folder = write_tiny_onnx(tmp_path / "a", polarity="bright", volume=True, settings={"spacing_mm": [1.5, 1, 1]})
    found = run(folder, stack, batch=4)
    assert dice(found.mask[0], truth) > 0.85
    turned = {
        "spacing_mm": [1, 1, 1.5],
        "axes": ["-columns", "-rows", "slices"],
        "size": {"fit": "windows", "size": [32, 32, 16]},
    }
    same = run(write_tiny_onnx(tmp_path / "b", polarity="bright", volume=True, settings=turned), stack, batch=4)
    assert dice(same.mask[0], found.mask[0]) > 0.97


def test_axes_are_turned_as_the_settings_say(tmp_path: Path) -> None:
    """A network that gives later places of its first axis a higher value marks the left of the picture for -columns."""
    shape = ["n", 1, 6, 4, 2]
    ramp = np.linspace(0, 1, 6, dtype=np.float32).reshape(1, 1, 6, 1, 1)
    nodes = [
        helper.make_node("Mul", ["image", "zero"], ["nothing"]),
        helper.make_node("Add", ["nothing", "ramp"], ["out"]),
    ]
    model = model_of(nodes, {"image": shape}, {"out": shape}, {"zero": np.float32(0), "ramp": ramp})
    axes = {"layout": "NCDHW", "axes": ["-columns", "rows", "slices"], "output": {"activation": "none"}}
    write_model(tmp_path, {"model.onnx": model}, axes)
    stack = stack_of(np.zeros((2, 4, 6), np.float32), Imaging.CT, Arrangement.VOLUME, (1, 1, 1))
    found = run(tmp_path, stack)
    assert found.probability[0, 1, 2] == pytest.approx(np.linspace(1, 0, 6), abs=1e-3)


def test_unknown_spacing_is_told(tmp_path: Path) -> None:
    """A network that wants a spacing looks at pictures without one as they are, and the result says so."""
    found = run(write_tiny_onnx(tmp_path, settings={"spacing_mm": [1, 1]}), angiogram())
    assert "spacing" in found.warnings[0]


def test_foreign_series_are_refused(tmp_path: Path) -> None:
    """A network for volumes takes no run; a prompt is not understood by a network that does not read."""
    folder = write_tiny_onnx(tmp_path, volume=True)
    with pytest.raises(UnsupportedSourceError):
        run(folder, angiogram())
    with pytest.raises(InvalidPromptError):
        run(folder, angiogram(), Prompt(points=(Point(x=1, y=1),)))


def test_several_classes_have_masks_of_their_own(tmp_path: Path) -> None:
    """A network that says dark and bright gives two segments."""
    dark, bright = tiny_finder("dark"), tiny_finder("bright")
    both = onnx.compose.merge_models(
        onnx.compose.add_prefix(dark, "dark_"),
        onnx.compose.add_prefix(bright, "bright_"),
        io_map=[],
    )
    both.graph.node.append(helper.make_node("Concat", ["dark_logits", "bright_logits"], ["logits"], axis=1))
    for node in both.graph.node:
        node.input[:] = ["image" if name.endswith("_image") else name for name in node.input]
    del both.graph.input[:]
    del both.graph.output[:]
    shapes = model_of([], {"image": ["n", 1, "r", "c"]}, {"logits": ["n", 2, "r", "c"]})
    both.graph.input.extend(shapes.graph.input)
    both.graph.output.extend(shapes.graph.output)
    classes = (ManifestClass(key="artery", label="Dark"), ManifestClass(key="vein", label="Bright"))
    write_model(tmp_path, {"model.onnx": both}, {**SIGMOID, "normalisation": {"scale": "min_max"}}, classes=classes)
    found = run(tmp_path, angiogram())
    assert [one.label for one in found.classes] == ["Dark", "Bright"]
    assert dice(found.mask[0, 0], TRUTH) > 0.8
    assert dice(found.mask[1, 0], TRUTH) < 0.3


# Pairs of SAM


def disc_pair(low: int = 64) -> dict[str, onnx.ModelProto]:
    """A pair with the names of SAM: the decoder marks a disc around the first point asked for, on dark ground.

    The picture's own mean is added to the logits, so that encoder and decoder are both seen to matter.
    """
    encoder = model_of(
        [helper.make_node("ReduceMean", ["pixel_values"], ["image_embeddings"], axes=[1, 2, 3], keepdims=1)],
        {"pixel_values": [1, 3, 4 * low, 4 * low]},
        {"image_embeddings": [1, 1, 1, 1]},
    )
    down, across = np.mgrid[:low, :low].astype(np.float32) * 4 + 2
    grid = np.stack([across, down])[None]
    constants = {
        "grid": grid,
        "first": np.array([0], np.int64),
        "axes": np.array([2, 3], np.int64),
        "radius": np.float32(40),
        "sure": np.array([[0.25, 0.75]], np.float32),
        "near": np.array([-1.0, 1.0], np.float32).reshape(1, 2, 1, 1),
    }
    nodes = [
        helper.make_node("Gather", ["point_coords", "first"], ["some"], axis=1),
        helper.make_node("Squeeze", ["some", "first1"], ["one"]),
        helper.make_node("Unsqueeze", ["one", "axes"], ["place"]),
        helper.make_node("Sub", ["grid", "place"], ["offset"]),
        helper.make_node("ReduceL2", ["offset"], ["distance"], axes=[1], keepdims=1),
        helper.make_node("Sub", ["radius", "distance"], ["disc"]),
        helper.make_node("Add", ["disc", "image_embeddings"], ["seen"]),
        helper.make_node("ReduceMax", ["point_labels"], ["most"], keepdims=0),
        helper.make_node("Mul", ["most", "nil"], ["nothing"]),
        helper.make_node("Add", ["seen", "nothing"], ["all"]),
        helper.make_node("Mul", ["all", "near"], ["low_res_masks"]),
        helper.make_node("Identity", ["sure"], ["iou_predictions"]),
    ]
    decoder = model_of(
        nodes,
        {"image_embeddings": [1, 1, 1, 1], "point_coords": [1, "n", 2], "point_labels": [1, "n"]},
        {"low_res_masks": [1, 2, low, low], "iou_predictions": [1, 2]},
        {**constants, "first1": np.array([1], np.int64), "nil": np.float32(0)},
    )
    return {"encoder.onnx": encoder, "decoder.onnx": decoder}


def test_a_pair_of_sam_answers_a_point_where_it_lies(tmp_path: Path) -> None:
    """The disc is around the point in the frame's own pixels, of the surer of two masks, on the asked frame only."""
    write_model(tmp_path, disc_pair(), {"kind": "sam"})
    stack = stack_of(np.zeros((2, 100, 200), np.float32), Imaging.OTHER)
    points = (Point(x=150, y=30, frame_number=2), Point(x=10, y=10, inside=False, frame_number=2))
    found = run(tmp_path, stack, Prompt(points=points))
    assert not found.mask[0, 0].any()
    rows, columns = np.nonzero(found.mask[0, 1])
    assert (columns.mean(), rows.mean()) == pytest.approx((150, 30), abs=2)
    assert np.ptp(columns) == pytest.approx(2 * 40 * 200 / 256, abs=4)  # 256 is what the encoder takes
    assert found.scores == pytest.approx((0.0, 0.75))
    assert found.parameters["frames_asked"] == "1"


def test_a_stretched_picture_is_put_back(tmp_path: Path) -> None:
    """MedSAM stretches: a disc of the network is an ellipse in a wide frame."""
    write_model(tmp_path, disc_pair(), {"kind": "sam", "fit": "stretch", "min_max": True})
    stack = stack_of(np.random.default_rng(0).random((1, 100, 200)).astype(np.float32), Imaging.OTHER)
    found = run(tmp_path, stack, Prompt(boxes=(Box(left=100, top=50, right=120, bottom=60),)))
    rows, columns = np.nonzero(found.mask[0, 0])
    assert (columns.mean(), rows.mean()) == pytest.approx((100, 50), abs=2)  # its first point is the corner
    assert np.ptp(columns) > 1.7 * np.ptp(rows)


def test_a_pair_of_sam_must_be_asked(tmp_path: Path) -> None:
    """No prompt, or only points outside of what is to be found, is an error that says so."""
    write_model(tmp_path, disc_pair(), {"kind": "sam"})
    stack = stack_of(np.zeros((1, 64, 64), np.float32), Imaging.OTHER)
    for prompt in (Prompt(), Prompt(points=(Point(x=1, y=1, inside=False),))):
        with pytest.raises(InvalidPromptError):
            run(tmp_path, stack, prompt)
    assert OnnxSegmenter(folder=str(tmp_path)).info.prompts == {PromptKind.POINTS, PromptKind.BOXES}


def test_points_belong_to_the_box_around_them() -> None:
    """Each box is one thing with the points in it; other points are one thing and get one that is none."""
    box = Box(left=0, top=0, right=10, bottom=10)
    within, beyond = Point(x=5, y=5, inside=False), Point(x=20, y=20)
    first, second = asked_of((within, beyond), (box,))
    assert first.places.tolist() == [[0, 0], [10, 10], [5, 5]]
    assert first.labels.tolist() == [2, 3, 0]
    assert second.places.tolist() == [[20, 20], [0, 0]]
    assert second.labels.tolist() == [1, -1]
    assert asked_of((), ()) == ()


def test_two_files_that_are_no_pair_are_refused(tmp_path: Path) -> None:
    """The decoder must have SAM's names."""
    write_model(tmp_path, {"encoder.onnx": identity(), "decoder.onnx": identity()}, {"kind": "sam"})
    with pytest.raises(ConfigurationError, match="no pair of SAM"):
        OnnxSegmenter(folder=str(tmp_path))


# Exported YOLOE


def yoloe(rows: np.ndarray, prototypes: np.ndarray) -> onnx.ModelProto:
    """A model that answers every picture with the same anchors ``(anchors, 4 + words + coefficients)`` and masks."""
    constants = {"answer": rows.T[None].astype(np.float32), "masks": prototypes[None].astype(np.float32)}
    nodes = [
        helper.make_node("ReduceMean", ["images"], ["mean"], keepdims=0),
        helper.make_node("Mul", ["mean", "nil"], ["nothing"]),
        helper.make_node("Add", ["answer", "nothing"], ["output0"]),
        helper.make_node("Add", ["masks", "nothing"], ["output1"]),
    ]
    outputs = {"output0": list(constants["answer"].shape), "output1": list(constants["masks"].shape)}
    return model_of(nodes, {"images": [1, 3, 64, 64]}, outputs, {**constants, "nil": np.float32(0)})


def anchors() -> np.ndarray:
    """Two words, two coefficients: a sure vessel, its double, one of the other word in its place, a doubtful one."""
    return np.array(
        [
            [20, 40, 20, 16, 0.9, 0.1, 8, 0],
            [21, 40, 20, 16, 0.8, 0.1, -8, 0],
            [20, 40, 20, 16, 0.1, 0.7, 0, 8],
            [50, 40, 10, 10, 0.2, 0.1, 8, 8],
        ]
    )


def yoloe_settings(**changes: Any) -> dict[str, Any]:
    return {"kind": "yoloe", "names": ["blood vessel", "wire"], "classes": [0], **changes}


def prototypes() -> np.ndarray:
    """The first mask is everything, the second the left half."""
    left = np.where(np.arange(16) < 5, 1.0, -1.0)[None].repeat(16, 0)
    return np.stack([np.ones((16, 16)), left])


def test_instances_become_one_mask_a_class(tmp_path: Path) -> None:
    """Mask = mixed masks inside the box in the frame's pixels; doubles and doubtful ones are left out."""
    write_model(tmp_path, {"model.onnx": yoloe(anchors(), prototypes())}, yoloe_settings())
    stack = stack_of(np.zeros((1, 32, 64, 3), np.uint8), Imaging.FUNDUS)
    found = run(tmp_path, stack)
    rows, columns = np.nonzero(found.mask[0, 0])
    # The frame has a border of 16 rows above and below in the network's 64 x 64.
    assert (columns.min(), columns.max(), rows.min(), rows.max()) == (10, 29, 16, 31)
    assert found.scores == pytest.approx((0.9,))
    assert found.parameters["instances"] == "1"
    assert found.probability.max() > 0.99


def test_words_are_joined_into_classes(tmp_path: Path) -> None:
    """Two words of one class are united; each class has its own mask."""
    model = {"model.onnx": yoloe(anchors(), prototypes())}
    write_model(tmp_path / "a", model, yoloe_settings(classes=[1]))
    stack = stack_of(np.zeros((1, 64, 64, 3), np.uint8), Imaging.FUNDUS)
    wire = run(tmp_path / "a", stack).mask[0, 0]
    assert wire[40, 12]
    assert not wire[40, 25]
    classes = (VESSEL, ManifestClass(key="blood_vessel", label="Both"))
    write_model(tmp_path / "b", model, yoloe_settings(classes=[0, [0, 1]], confidence=0.15), classes=classes)
    both = run(tmp_path / "b", stack)
    assert both.mask[1, 0, 40, 50]  # the doubtful one is good enough now
    assert both.mask.shape[0] == 2


def test_nothing_found_is_no_mask(tmp_path: Path) -> None:
    """Below the confidence the result is empty, and no error."""
    write_model(tmp_path, {"model.onnx": yoloe(anchors(), prototypes())}, yoloe_settings(confidence=0.95))
    found = run(tmp_path, stack_of(np.zeros((2, 64, 64, 3), np.uint8), Imaging.FUNDUS))
    assert found.status is Status.NO_MASK
    assert found.scores == (0.0, 0.0)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"names": []}, "names"),
        ({"names": ["vessel"], "classes": [1]}, "counted from 0"),
        ({"names": ["vessel", "wire"], "classes": []}, "counted from 0"),
    ],
)
def test_words_that_do_not_fit_are_found_at_once(tmp_path: Path, change: dict[str, Any], words: str) -> None:
    """Names, classes and the manifest's classes must be as many as each other."""
    write_model(tmp_path, {"model.onnx": yoloe(anchors(), prototypes())}, yoloe_settings(**change))
    with pytest.raises(ConfigurationError, match=words):
        OnnxSegmenter(folder=str(tmp_path))


def test_a_wrong_number_of_words_is_found_with_the_first_picture(tmp_path: Path) -> None:
    """The file does not tell how many of its numbers are words; its answer does."""
    names = ["blood vessel", "wire", "catheter"]
    write_model(tmp_path, {"model.onnx": yoloe(anchors(), prototypes())}, yoloe_settings(names=names))
    with pytest.raises(ConfigurationError, match="3 words"):
        run(tmp_path, stack_of(np.zeros((1, 64, 64, 3), np.uint8), Imaging.FUNDUS))


def test_a_letterbox_keeps_form_and_place() -> None:
    """There and back is the same picture, and the border is grey."""
    image = np.mgrid[:30, :60].sum(axis=0)[None].astype(np.float32)
    box = Letterbox.of((30, 60), (64, 64))
    assert (box.scaled, box.corner) == ((32, 64), (16, 0))
    there = box.forth(image)
    assert there[0, 0] == pytest.approx(114 / 255)
    assert box.back(there)[0, 2:-2, 2:-2] == pytest.approx(image[0, 2:-2, 2:-2], abs=1.0)
    corners = np.array([[0, 16, 64, 48]], np.float32)
    assert box.boxes_back(corners) == pytest.approx(np.array([[0, 0, 60, 30]]), abs=1e-4)


def test_info_needs_neither_onnxruntime_nor_torch() -> None:
    """What is known of the segmenter is there before anything is loaded."""
    code = (
        "import sys; "
        "from worker.segmenters.onnx_model.segmenter import OnnxSegmenter as s; assert s.info.needs_folder; "
        "from worker.segmenters.torchscript.segmenter import TorchScriptSegmenter as t; assert t.info.needs_folder; "
        "sys.exit(any(name in sys.modules for name in ('torch', 'onnxruntime', 'onnx')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=ROOT).returncode == 0

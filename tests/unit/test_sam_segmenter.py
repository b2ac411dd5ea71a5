"""The sam segmenter on tiny random weights: equal to transformers' own, and what surrounds the network."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_sam import SIDE, tiny_sam, write_tiny_sam
from transformers.models.sam.image_processing_pil_sam import SamImageProcessorPil
from transformers.models.sam.processing_sam import SamProcessor
from tube_pictures import picture, stack_of, vessel_mask

from dicom_core.errors import ConfigurationError, InvalidPromptError
from dicom_core.prompt import Box, Point, Question
from worker.image_stack import Arrangement, ImageStack, Imaging
from worker.model_folder.opening import ModelFolder, open_folder
from worker.model_folder.recognising import looked_at
from worker.pictures.display import display_frame
from worker.segmenters import registry
from worker.segmenters.interface import Prompt, Segmentation, Status
from worker.segmenters.promptable.drawing import Asked
from worker.segmenters.sam.network import SamNetwork
from worker.segmenters.sam.segmenter import SamSegmenter
from worker.segmenters.sam.timing import SIZES, benchmark

BOXES = (Box(left=8, top=5, right=50, bottom=30), Box(left=40, top=20, right=90, bottom=50))


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_sam(tmp_path_factory.mktemp("sam") / "model")


@pytest.fixture(scope="session")
def processor(folder: Path) -> Any:
    return SamProcessor(SamImageProcessorPil.from_pretrained(folder))


def angiogram(frames: int = 1, arrangement: Arrangement = Arrangement.FRAMES) -> ImageStack:
    """Wide pictures: 60 rows, 100 columns."""
    pictures = [picture(vessel_mask(100, seed=n), bright=False, seed=n)[:60] for n in range(frames)]
    return stack_of(np.stack(pictures), Imaging.XRAY_ANGIOGRAPHY, arrangement)


def segment(segmenter: SamSegmenter, stack: ImageStack, prompt: Prompt) -> Segmentation:
    return segmenter.segment(stack, prompt, lambda _share: None)


def theirs(folder: Path, processor: Any, stack: ImageStack, *, several: bool, **asked: Any) -> tuple[np.ndarray, Any]:
    """What transformers' processor and model make of the first frame: ``(targets, masks, rows, columns)`` logits."""
    from transformers import SamModel

    model = SamModel.from_pretrained(folder, local_files_only=True)
    inputs = processor(display_frame(stack, 0), return_tensors="pt", **asked)
    sizes, reshaped = inputs.pop("original_sizes"), inputs.pop("reshaped_input_sizes")
    inputs = {key: value.float() if value.dtype == torch.float64 else value for key, value in inputs.items()}
    with torch.inference_mode():
        out = model(**inputs, multimask_output=several)
    logits = processor.image_processor.post_process_masks(
        out.pred_masks, sizes.tolist(), reshaped.tolist(), binarize=False, pad_size={"height": SIDE, "width": SIDE}
    )[0]
    return torch.sigmoid(logits).numpy(), out.iou_scores[0].numpy()


def test_boxes_give_the_union_of_what_transformers_draws(folder: Path, processor: Any) -> None:
    """The same probability, to half precision, as processor, model and post-processing of transformers, joined."""
    stack = angiogram()
    found = segment(SamSegmenter(folder=str(folder)), stack, Prompt(boxes=BOXES))
    asked = [[[one.left, one.top, one.right, one.bottom] for one in BOXES]]
    expected, iou = theirs(folder, processor, stack, several=False, input_boxes=asked)
    union = expected[:, 0].max(axis=0)
    assert found.probability.shape == (1, 1, 60, 100)
    assert np.abs(found.probability[0, 0] - union).max() < 1e-3
    assert np.array_equal(found.mask, found.probability >= 0.5)
    assert 0.02 < found.mask.mean() < 0.98
    assert np.abs(expected[0, 0] - expected[1, 0]).max() > 0.05
    assert found.scores == pytest.approx([float(iou.mean())], abs=1e-5)


def test_one_point_gives_the_best_of_three(folder: Path, processor: Any) -> None:
    """A single point is ambiguous: of three masks the one with the highest predicted IoU is taken."""
    stack = angiogram()
    found = segment(SamSegmenter(folder=str(folder)), stack, Prompt(points=(Point(x=70, y=20),)))
    expected, iou = theirs(folder, processor, stack, several=True, input_points=[[[[70.0, 20.0]]]])
    best = int(iou[0].argmax())
    assert np.abs(found.probability[0, 0] - expected[0, best]).max() < 1e-3
    assert found.scores == pytest.approx([float(iou[0, best])], abs=1e-5)
    others = [np.abs(expected[0, best] - expected[0, other]).max() for other in range(3) if other != best]
    assert min(others) > 0.01


def test_points_with_labels_and_a_box_equal_transformers(folder: Path, processor: Any) -> None:
    """A box with a point on what is meant and one beside it are one target, asked as transformers asks."""
    stack = angiogram()
    points = (Point(x=20, y=10), Point(x=30, y=25, inside=False))
    found = segment(SamSegmenter(folder=str(folder)), stack, Prompt(points=points, boxes=BOXES[:1]))
    expected, _ = theirs(
        folder, processor, stack, several=False, input_points=[[[[20.0, 10.0], [30.0, 25.0]]]],
        input_labels=[[[1, 0]]], input_boxes=[[[8.0, 5.0, 50.0, 30.0]]],
    )  # fmt: skip
    assert np.abs(found.probability[0, 0] - expected[0, 0]).max() < 1e-3


def test_mask_is_shown_to_the_network_unless_told_not_to(folder: Path) -> None:
    """With a mask beside the box the result is another; with show_masks off the mask makes no difference."""
    stack = angiogram()
    mask = np.zeros((1, 60, 100), bool)
    mask[0, 10:20, 10:40] = True
    without, shown = Prompt(boxes=BOXES[:1]), Prompt(boxes=BOXES[:1], mask=mask)
    segmenter = SamSegmenter(folder=str(folder))
    plain = segment(segmenter, stack, without)
    assert np.abs(plain.probability - segment(segmenter, stack, shown).probability).max() > 0.01
    blind = SamSegmenter(folder=str(folder), show_masks=False)
    assert np.array_equal(plain.probability, segment(blind, stack, shown).probability)
    alone = segment(blind, stack, Prompt(mask=mask))
    assert alone.parameters["masks_shown"] == "yes"
    assert alone.probability.any()


def test_frames_without_a_prompt_are_empty_and_not_looked_at(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of six frames two are asked about: the encoder sees two, the others are empty, and progress ends at 1."""
    seen: list[int] = []
    encode = SamNetwork.encode
    monkeypatch.setattr(SamNetwork, "encode", lambda self, pixels: seen.append(len(pixels)) or encode(self, pixels))
    boxes = tuple(BOXES[0].model_copy(update={"frame_number": number}) for number in (2, 5))
    shares: list[float] = []
    stack = angiogram(6, Arrangement.RUN)
    found = SamSegmenter(folder=str(folder)).segment(stack, Prompt(boxes=boxes), shares.append)
    assert seen == [1, 1]
    assert np.flatnonzero(found.probability[0].any(axis=(1, 2))).tolist() == [1, 4]
    assert [score > 0 for score in found.scores] == [False, True, False, False, True, False]
    assert (shares, shares[-1]) == (sorted(shares), 1.0)
    alone = segment(SamSegmenter(folder=str(folder)), replace(stack, pixels=stack.pixels[1:2], frames=stack.frames[1:2],
                    display_range=None), Prompt(boxes=boxes[:1]))  # fmt: skip
    assert alone.status is Status.OK


def test_batches_and_repeats_give_the_same(folder: Path) -> None:
    """Four frames one by one, four at a time and once more: the same masks, probabilities to rounding."""
    stack, prompt = angiogram(4), Prompt(boxes=BOXES)
    one = SamSegmenter(folder=str(folder))
    first, again = segment(one, stack, prompt), segment(one, stack, prompt)
    assert np.array_equal(first.probability, again.probability)
    together = segment(SamSegmenter(folder=str(folder), batch=4, prompts_at_once=1), stack, prompt)
    assert np.abs(first.probability - together.probability).max() < 2e-3
    assert (first.mask != together.mask).mean() < 1e-3


def test_batch_is_halved_when_memory_runs_out(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With room for two frames a batch of four works as twos, says so, and the masks are the same."""
    encode = SamNetwork.encode

    def small(self: SamNetwork, pixels: torch.Tensor) -> Any:
        if len(pixels) > 2:
            raise torch.OutOfMemoryError
        return encode(self, pixels)

    stack, prompt = angiogram(4), Prompt(boxes=BOXES)
    expected = segment(SamSegmenter(folder=str(folder)), stack, prompt)
    monkeypatch.setattr(SamNetwork, "encode", small)
    found = segment(SamSegmenter(folder=str(folder), batch=4), stack, prompt)
    assert len(found.warnings) == 1
    assert "2 at a time" in found.warnings[0]
    assert (expected.mask != found.mask).mean() < 1e-3


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_keeps_the_masks(folder: Path, dtype: str) -> None:
    """Only the encoder computes in 16 bit: masks overlap those of float32 nearly everywhere."""
    stack, prompt = angiogram(), Prompt(boxes=BOXES)
    full = segment(SamSegmenter(folder=str(folder)), stack, prompt)
    half = segment(SamSegmenter(folder=str(folder), dtype=dtype), stack, prompt)
    assert half.parameters["dtype"] == dtype
    assert full.parameters["dtype"] == "float32"
    assert np.abs(full.probability - half.probability).max() > 0
    assert (full.mask != half.mask).mean() < 0.03


def test_without_a_prompt_only_where_automatic_is_on(folder: Path) -> None:
    """No prompt at all is refused, for it would yield a meaningless mask; with automatic the single masks are kept."""
    stack = angiogram()
    with pytest.raises(InvalidPromptError, match="give it boxes or mask or points"):
        segment(SamSegmenter(folder=str(folder)), stack, Prompt())
    table = {"points_per_side": 3, "least_iou": 0.1, "least_stability": 0.0, "largest_share": 1.0}
    found = segment(SamSegmenter(folder=str(folder), automatic=table), stack, Prompt())
    labels = found.extras["automatic_masks"]
    assert labels.shape == (1, 60, 100)
    assert labels.any()
    assert not (labels[0].astype(bool) & ~found.mask[0, 0]).any()
    assert "points_per_side 3" in found.parameters["automatic"]
    with pytest.raises(InvalidPromptError, match="text"):
        segment(SamSegmenter(folder=str(folder), automatic=True), stack, Prompt(questions=(Question(text="vessels"),)))


def test_nothing_likely_enough_is_no_mask(folder: Path) -> None:
    """With a threshold that no pixel reaches the status says so, and the scores are 0."""
    found = segment(SamSegmenter(folder=str(folder), threshold=1.0), angiogram(), Prompt(boxes=BOXES))
    assert (found.status, found.mask.any(), found.scores) == (Status.NO_MASK, False, (0.0,))


def test_colour_is_taken_and_kinds_are_not_limited(folder: Path) -> None:
    """A colour fundus picture and a volume go the same way; info names every kind and arrangement."""
    colour = np.random.default_rng(0).integers(0, 256, (1, 40, 60, 3), dtype=np.uint8)
    prompt = Prompt(points=(Point(x=5, y=6),))
    segmenter = SamSegmenter(folder=str(folder))
    assert segment(segmenter, stack_of(colour, Imaging.FUNDUS), prompt).mask.shape == (1, 1, 40, 60)
    volume = stack_of(colour[..., 0].astype(np.float32), Imaging.CT, Arrangement.VOLUME)
    assert segment(segmenter, volume, prompt).mask.shape == (1, 1, 40, 60)
    assert segmenter.info.imagings == frozenset(Imaging)
    assert segmenter.info.arrangements == frozenset(Arrangement)


def test_info_is_that_of_the_folder(folder: Path) -> None:
    """Name, version and hash are those of the weights; the class says that it needs a folder."""
    segmenter = SamSegmenter(folder=str(folder))
    assert (segmenter.info.name, len(segmenter.info.weights_sha256)) == ("tiny-sam", 64)
    assert registry.info("sam").needs_folder
    segmenter.warm_up()


def test_medsam_without_a_manifest_is_prepared_as_it_was_trained(tmp_path: Path) -> None:
    """What `vesselq models predict` and `convert` make of a downloaded MedSAM is stretched, minimum to maximum."""
    place = write_tiny_sam(tmp_path / "medsam", medsam=True)
    found = segment(SamSegmenter(folder=looked_at(place)), angiogram(), Prompt(boxes=BOXES))
    assert found.parameters["input"] == "64 x 64, stretched, min-max"
    as_listed = segment(SamSegmenter(folder=str(place)), angiogram(), Prompt(boxes=BOXES))
    assert "padded, x 0.0039" in as_listed.parameters["input"]


def test_raw_folder_is_taken_as_it_is(folder: Path) -> None:
    """A folder that is open already, as `vesselq models predict` makes one, needs no manifest on disk."""
    opened = open_folder(folder, "sam")
    raw = ModelFolder(opened.folder, opened.manifest, checked=False)
    assert segment(SamSegmenter(folder=raw), angiogram(), Prompt(boxes=BOXES)).status is Status.OK


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"dtype": "int8"}, "`dtype` must be auto, float32"),
        ({"threshold": 1.5}, "`threshold`"),
        ({"threshold": "high"}, "`threshold`"),
        ({"batch": 0}, "`batch`"),
        ({"batch": 2.5}, "`batch` must be a whole number"),
        ({"prompts_at_once": True}, "`prompts_at_once`"),
        ({"show_masks": "no"}, "`show_masks`"),
        ({"automatic": {"points_per_side": 0}}, "`automatic` is wrong at points_per_side"),
        ({"automatic": {"grid": 4}}, "`automatic` is wrong at grid.*least_stability"),
        ({"automatic": "yes"}, "`automatic` is wrong"),
    ],
)
def test_wrong_setting_is_refused(folder: Path, settings: dict[str, Any], text: str) -> None:
    """Every setting that is out of range is named, with what is allowed."""
    with pytest.raises(ConfigurationError, match=text):
        SamSegmenter(folder=str(folder), **settings)


def changed(folder: Path, tmp_path: Path, **config: object) -> ModelFolder:
    """The folder with other values in its config.json, and whatever weights are put beside it."""
    values = json.loads((folder / "config.json").read_text()) | config
    (tmp_path / "config.json").write_text(json.dumps(values))
    for name in ("model.safetensors", "preprocessor_config.json"):
        (tmp_path / name).write_bytes((folder / name).read_bytes())
    return ModelFolder(tmp_path, open_folder(folder, "sam").manifest, checked=False)


def test_folder_of_another_network_is_refused(folder: Path, tmp_path: Path) -> None:
    """Another model_type, weights that are too few, too many or of other shapes, and weights that are none."""
    from safetensors.torch import load_file, save_file

    with pytest.raises(ConfigurationError, match="kind 'bert'; it must be sam"):
        SamSegmenter(folder=changed(folder, tmp_path, model_type="bert"))
    model = changed(folder, tmp_path)
    weights = load_file(tmp_path / "model.safetensors")
    name = "mask_decoder.iou_token.weight"
    for key, value in ((name, None), ("strange", torch.ones(1)), (name, torch.ones(1, 3))):
        other = {**weights, key: value}
        save_file({k: v for k, v in other.items() if v is not None}, tmp_path / "model.safetensors")
        with pytest.raises(ConfigurationError, match=r"model\.safetensors"):
            SamSegmenter(folder=model)
    (tmp_path / "model.safetensors").write_bytes(b"no weights")
    with pytest.raises(ConfigurationError, match="cannot be loaded"):
        SamSegmenter(folder=model)
    (tmp_path / "config.json").write_text("{")
    with pytest.raises(ConfigurationError, match="no JSON"):
        SamSegmenter(folder=model)


KERNEL = "somebody/attention-kernel"


@pytest.mark.parametrize(
    "told",
    [
        {"attn_implementation": KERNEL},
        {"_attn_implementation": KERNEL, "_attn_implementation_internal": KERNEL},
        {"auto_map": {"AutoModel": "somebody/model--code.Network"}, "use_kernels": True, "self": 1, "dtype": "system"},
        {"mask_decoder_config": {"attn_implementation": KERNEL}},
    ],
)
def test_configuration_says_nothing_of_how_the_network_is_run(
    folder: Path, tmp_path: Path, told: dict[str, Any]
) -> None:
    """A kernel or code that transformers would fetch and run is left out: the masks are those of the plain folder."""
    values = json.loads((folder / "config.json").read_text())
    merged = {key: {**values[key], **value} if key.endswith("_config") else value for key, value in told.items()}
    model = changed(folder, tmp_path, **merged)
    stack, prompt = angiogram(), Prompt(boxes=BOXES[:1])
    found = segment(SamSegmenter(folder=model), stack, prompt)
    np.testing.assert_array_equal(
        found.probability, segment(SamSegmenter(folder=str(folder)), stack, prompt).probability
    )


@pytest.mark.parametrize(
    ("told", "text"),
    [
        ({"quantization_config": {"quant_method": "bitsandbytes", "load_in_8bit": True}}, "packed"),
        ({"vision_config": {"model_type": "timm_wrapper", "architecture": "resnet18"}}, "kind 'timm_wrapper'"),
        ({"vision_config": {"model_type": 7}}, "kind 7"),
        ({"vision_config": 5}, "cannot be loaded"),
        ({"mask_decoder_config": {"num_attention_heads": 0}}, "cannot be loaded"),
        ({"mask_decoder_config": {"hidden_act": "os.system"}}, "cannot be loaded"),
    ],
)
def test_configuration_that_describes_no_such_network_is_refused(
    folder: Path, tmp_path: Path, told: dict[str, Any], text: str
) -> None:
    """In a sentence, whatever transformers raises; a part of another library is not even tried."""
    with pytest.raises(ConfigurationError, match=text):
        SamSegmenter(folder=changed(folder, tmp_path, **told))


def test_no_memory_for_the_weights_is_told_as_such(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is no fault of the folder, so that the models beside it can make room."""

    def full(_path: Path) -> None:
        raise torch.OutOfMemoryError

    monkeypatch.setattr("worker.segmenters.promptable.loading.load_file", full)
    with pytest.raises(torch.OutOfMemoryError):
        SamSegmenter(folder=str(folder))


def test_place_reaches_the_network_where_the_picture_has_it() -> None:
    """The embedding of a point at a pixel of a wide picture is that of its place in the padded square."""
    model = tiny_sam()
    network = SamNetwork(model, "cpu", "float32")
    assert (network.size, network.mask_side, network.parameters) == (64, 16, sum(p.numel() for p in model.parameters()))
    features = network.encode(torch.zeros(2, 3, SIDE, SIDE))
    assert len(features) == 2
    point = torch.tensor([[[44.8, 12.8]]])  # column 70, row 20 of 60 x 100
    ours, iou = network.decode(features[0], Asked(points=point, labels=torch.ones(1, 1, dtype=torch.long)))
    with torch.inference_mode():
        out = model(pixel_values=torch.zeros(1, 3, SIDE, SIDE), input_points=point[None], multimask_output=False)
    assert torch.allclose(ours, out.pred_masks[:, 0], atol=1e-5)
    assert ours.shape == (1, 1, 16, 16)
    assert iou.shape == (1, 1)


def test_benchmark_measures_a_network_of_the_asked_shape(monkeypatch: pytest.MonkeyPatch) -> None:
    """Encoder and one box are timed; sizes that do not exist are refused."""
    monkeypatch.setattr(
        "worker.segmenters.sam.timing.random_network", lambda *_: SamNetwork(tiny_sam(), "cpu", "float32")
    )
    timing = benchmark("b", "cpu", batch=2, rounds=1)
    assert (timing.dtype, timing.batch, timing.device_gib) == ("float32", 2, 0.0)
    assert timing.frames_per_second == pytest.approx(1 / (timing.encode_seconds + timing.draw_seconds))
    monkeypatch.undo()
    with pytest.raises(ConfigurationError, match="known are b, l, h"):
        benchmark("g")


def test_sizes_have_the_published_numbers_of_parameters() -> None:
    """ViT-B, L and H on the meta device: 93.7, 312 and 641 million."""
    from transformers import SamConfig, SamModel

    counts = {}
    for size, vision in SIZES.items():
        with torch.device("meta"):
            counts[size] = sum(p.numel() for p in SamModel(SamConfig(vision_config=vision)).parameters())
    assert counts == {"b": 93_735_728, "l": 312_343_088, "h": 641_090_864}


def test_refines_another_segmenter_in_a_chain(folder: Path) -> None:
    """Behind ridge it is shown a box and the mask of each piece; what is kept lies near what ridge found."""
    models = {"ridge": {}, "sharp": {"system": "sam", "folder": str(folder)}, "ridge+sharp": {"agreement": 0.0}}
    stack = angiogram(2)
    found = registry.load("ridge+sharp", models, "cpu").segment(stack, Prompt(), lambda _share: None)
    ridge = registry.load("ridge", models, "cpu").segment(stack, Prompt(), lambda _share: None)
    assert ridge.status is Status.OK
    assert found.mask.shape == ridge.mask.shape
    assert found.parameters["tiny-sam.masks_shown"] == "yes"

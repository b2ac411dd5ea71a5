"""What surrounds the weights of the vesselnet segmenter: sizes, windows, polarity, the gate, hashes and settings."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from tube_pictures import picture, stack_of, vessel_mask
from untrained_vesselnet import untrained_network, weights_folder

from dicom_core.errors import ConfigurationError, InvalidPromptError, UnsupportedSourceError
from dicom_core.prompt import Question
from worker.image_stack import Arrangement, ImageStack, Imaging
from worker.segmenters import registry
from worker.segmenters.interface import Prompt, Segmentation, Status
from worker.segmenters.vesselnet import looking, preparing, weights
from worker.segmenters.vesselnet.gate import BLANK, is_blank, known_frames
from worker.segmenters.vesselnet.network import CHANNELS, KINDS, STRIDE, VesselNetwork
from worker.segmenters.vesselnet.segmenter import VesselnetSegmenter
from worker.segmenters.vesselnet.windows import WINDOW, look


def segment(segmenter: VesselnetSegmenter, stack: ImageStack) -> Segmentation:
    return segmenter.segment(stack, Prompt(), lambda _share: None)


def angiogram(*, frames: int = 1, arrangement: Arrangement = Arrangement.FRAMES, bright: bool = False) -> ImageStack:
    pictures = [picture(vessel_mask(96, seed=n), bright=bright, seed=n) for n in range(frames)]
    return stack_of(np.stack(pictures), Imaging.XRAY_ANGIOGRAPHY, arrangement)


# The network


def test_network_is_small_and_answers_for_each_pixel_and_place() -> None:
    """At most four million parameters; one logit a pixel and one for each square of 32 pixels."""
    network = untrained_network()
    assert sum(parameter.numel() for parameter in network.parameters()) <= 4_000_000
    logits, known = network(torch.zeros(2, CHANNELS, 64, 96), torch.tensor([0, 2]))
    assert logits.shape == (2, 1, 64, 96)
    assert known.shape == (2, 1, 64 // STRIDE, 96 // STRIDE)


def test_fused_network_says_the_same() -> None:
    """Folding the batch norms away changes logits by rounding only, and leaves no batch norm."""
    torch.manual_seed(1)
    pictures, kinds = torch.randn(3, CHANNELS, 64, 64), torch.tensor([0, 1, 2])
    network = untrained_network()
    with torch.inference_mode():
        before = network(pictures, kinds)
        after = network.fuse()(pictures, kinds)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in network.modules())
    for one, other in zip(before, after, strict=True):
        assert torch.allclose(one, other, atol=1e-4)


def test_network_is_told_the_kind_of_picture() -> None:
    """The same pixels get another answer as another kind of picture."""
    network, pictures = untrained_network(), torch.ones(3, CHANNELS, 32, 32)
    with torch.inference_mode():
        logits, _ = network(pictures, torch.tensor([0, 1, 2]))
    assert not torch.allclose(logits[0], logits[1])
    assert not torch.allclose(logits[1], logits[2])


# Windows


class EveryPixelForItself(VesselNetwork):
    """Says of each pixel its first channel, and of each place the mean of the second."""

    def forward(self, pictures: torch.Tensor, kinds: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return pictures[:, :1], torch.nn.functional.avg_pool2d(pictures[:, 1:2], STRIDE)


@pytest.mark.parametrize("shape", [(200, 130), (64, 64), (33, 300), (128, 97)])
def test_windows_cover_every_pixel_once(shape: tuple[int, int]) -> None:
    """Pieced together the answer is that of the whole picture, for sizes that no window divides."""
    torch.manual_seed(0)
    pictures = torch.cat([torch.randn(2, 2, *shape), torch.ones(2, 1, *shape)], dim=1)
    logits, known = look(EveryPixelForItself(), pictures, 0, window=64, overlap=16)
    assert torch.allclose(logits, pictures[:, :1], atol=1e-5)
    assert known.shape == (2,)


def test_gate_counts_only_the_field_of_view() -> None:
    """Places outside the field of view have next to no say in whether the picture is known."""
    pictures = torch.zeros(1, CHANNELS, 64, 128)
    pictures[:, 1, :, :64], pictures[:, 2, :, :64] = 5.0, 1.0
    pictures[:, 1, :, 64:] = -50.0
    for window in (256, 64):
        _, known = look(EveryPixelForItself(), pictures, 0, window=window, overlap=0)
        assert float(known) == pytest.approx(5.0, abs=0.1)


def test_windows_hide_their_seams() -> None:
    """With real convolutions the pieced answer is close to that of the whole picture, inside as at the seams."""
    torch.manual_seed(0)
    pictures = torch.nn.functional.interpolate(torch.randn(1, CHANNELS, 24, 40), scale_factor=16, mode="bilinear")
    network = untrained_network()
    with torch.inference_mode():
        whole, _ = look(network, pictures, 0)
        pieced, _ = look(network, pictures, 0, window=320, overlap=128)
    assert float((whole - pieced).abs().mean()) < 0.05 * float(whole.std())


# Preparing


def test_channels_do_not_depend_on_brightness_or_contrast() -> None:
    """A darker picture of half the contrast gives nearly the same input; so cameras differ less for the network."""
    grey = torch.from_numpy(picture(vessel_mask(128), bright=False).astype(np.float32) / 255)[None, None]
    shown = torch.ones_like(grey)
    usual = preparing.channels(grey, shown, bright=False)
    other = preparing.channels(0.1 + 0.5 * grey, shown, bright=False)
    assert torch.allclose(usual, other, atol=0.02)


def test_polarity_makes_vessels_bright() -> None:
    """Dark vessels of an angiogram and bright ones of an OCTA are both positive in the network's input."""
    mask = vessel_mask(128)
    for bright in (False, True):
        grey = torch.from_numpy(picture(mask, bright=bright).astype(np.float32) / 255)[None, None]
        fine = preparing.channels(grey.clamp(0, 1), torch.ones_like(grey), bright=bright)[0, 0].numpy()
        assert fine[mask].mean() > 0.5 > fine[~mask].mean()


def test_nothing_is_seen_outside_the_field_of_view() -> None:
    """Pixels outside the field are 0 in every channel, and do not change those inside."""
    torch.manual_seed(0)
    grey, shown = torch.rand(1, 1, 96, 96), torch.ones(1, 1, 96, 96)
    shown[..., 48:] = 0
    other = torch.where(shown > 0, grey, 1 - grey)
    found = preparing.channels(grey, shown, bright=True)
    assert not found[..., 48:].any()
    assert torch.equal(found, preparing.channels(other, shown, bright=True))


def test_blank_picture_is_not_blown_up() -> None:
    """Half a grey level of noise stays small instead of filling the range."""
    torch.manual_seed(0)
    grey = 0.5 + 0.001 * torch.randn(1, 1, 96, 96)
    assert float(preparing.channels(grey, torch.ones_like(grey), bright=True)[:, :2].abs().mean()) < 0.3


@pytest.mark.parametrize("imaging", KINDS)
def test_intensity_is_between_0_and_1(imaging: Imaging) -> None:
    """Any units end between 0 and 1; a constant is 0 and raises no warning."""
    generator = np.random.default_rng(0)
    found = preparing.intensity_of(generator.normal(3000, 500, (2, 40, 50)).astype(np.float32), imaging)
    assert 0 <= found.min() < 0.7 < found.max() <= 1
    assert not preparing.intensity_of(np.zeros((1, 8, 8), np.float32), imaging).any()


def test_green_stands_for_a_fundus_photograph() -> None:
    """Of a colour fundus picture only green counts; of other pictures the luminance."""
    colour = np.zeros((1, 4, 4, 3), np.uint8)
    colour[..., 0], colour[..., 1] = 255, 51
    assert preparing.intensity_of(colour, Imaging.FUNDUS) == pytest.approx(0.2)
    assert preparing.intensity_of(colour, Imaging.XRAY_ANGIOGRAPHY) == pytest.approx(0.299 + 0.2 * 0.587)


def test_working_size_follows_the_field_of_view() -> None:
    """A photograph of 3504 by 2336 pixels is looked at with its field 800 pixels wide, not at its full size."""
    shape = preparing.working_shape((2336, 3504), 3260.0, preparing.WORKING_SIZES[Imaging.FUNDUS])
    assert shape == (573, 860)


def test_a_tiny_bright_spot_is_not_blown_up() -> None:
    """A picture that is black but for a spot is looked at with its longer side at most twice 800 pixels."""
    shape = preparing.working_shape((1500, 2000), 20.0, preparing.WORKING_SIZES[Imaging.FUNDUS])
    assert shape == (1200, 1600)


# The gate


def test_blank_frames_are_told() -> None:
    """An even grey is blank even with a bright surround; a picture is not."""
    even, everywhere = np.full((50, 50), 0.4, np.float32), np.ones((50, 50), bool)
    assert is_blank(even, everywhere)
    inner = everywhere.copy()
    inner[:, :10] = False
    even[:, :10] = 1.0
    assert is_blank(even, inner)
    assert not is_blank(np.tile(np.linspace(0, 1, 50, dtype=np.float32), (50, 1)), everywhere)
    assert is_blank(even, np.zeros((50, 50), bool))


def test_single_pictures_are_judged_alone_and_runs_as_a_whole() -> None:
    """One strange picture among others is left out; a run is known by its better half, but its blank frames are not."""
    logits = np.array([3.0, -4.0, 2.0, BLANK])
    assert known_frames(logits, 0.0, Arrangement.FRAMES).tolist() == [True, False, True, False]
    assert known_frames(logits, 0.0, Arrangement.RUN).tolist() == [True, True, True, False]
    assert not known_frames(np.array([-3.0, -4.0, 1.0]), 0.0, Arrangement.RUN).any()


# The weights


def test_shipped_weights_are_small_and_those_of_the_card() -> None:
    """At most 16 MB, loadable by safetensors alone, with the hash in the card, for all three kinds of picture."""
    assert (weights.SHIPPED / weights.WEIGHTS).stat().st_size <= 16_000_000
    assert isinstance(weights.load_network(weights.SHIPPED, "cpu"), VesselNetwork)
    assert set(weights.read_card().fits) == set(KINDS)
    assert VesselnetSegmenter.info.weights_sha256 == weights.read_card().sha256


def test_changed_weights_are_refused(tmp_path: Path) -> None:
    """One other byte, and nothing is loaded."""
    folder = weights_folder(tmp_path)
    data = bytearray((folder / weights.WEIGHTS).read_bytes())
    data[-1] ^= 1
    (folder / weights.WEIGHTS).write_bytes(data)
    with pytest.raises(ConfigurationError, match="not the file that"):
        weights.load_network(folder, "cpu")


def test_missing_and_damaged_files_are_told(tmp_path: Path) -> None:
    """A folder without card, with a card of rubbish, or without weights ends with the file's name."""
    with pytest.raises(ConfigurationError, match=r"weights\.json"):
        weights.read_card(tmp_path)
    (tmp_path / weights.CARD).write_text("{}")
    with pytest.raises(ConfigurationError, match=r"weights\.json"):
        weights.read_card(tmp_path)
    folder = weights_folder(tmp_path)
    (folder / weights.WEIGHTS).unlink()
    with pytest.raises(ConfigurationError, match=r"weights\.safetensors"):
        weights.load_network(folder, "cpu")


def test_info_is_read_without_torch() -> None:
    """Listing the segmenter loads neither torch nor weights."""
    code = (
        "import sys; from worker.segmenters.registry import info; from worker.segmenters.vesselnet.segmenter import "
        "VesselnetSegmenter; assert VesselnetSegmenter.info.weights_sha256; sys.exit('torch' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_entry_point_names_it() -> None:
    """The registry knows the segmenter by its name and its settings by theirs."""
    assert registry.info("vesselnet") is VesselnetSegmenter.info
    with pytest.raises(ConfigurationError, match=r"allowed are: .*flips"):
        registry.check_settings("vesselnet", {"vesselnet": {"colour": "red"}})


# The segmenter


@pytest.mark.parametrize(
    "settings",
    [
        {"threshold": 1.0},
        {"threshold": "high"},
        {"polarity": "grey"},
        {"detail": 0.1},
        {"dtype": "int8"},
        {"memory_mib": 0},
        {"flips": 4},
        {"gate": "on"},
        {"weights": "/nowhere"},
    ],
)
def test_settings_out_of_range_are_refused(settings: dict[str, object]) -> None:
    """Each wrong setting ends with a sentence that names it."""
    with pytest.raises(ConfigurationError, match=next(iter(settings))):
        VesselnetSegmenter(**settings)


def test_prompts_and_other_pictures_are_refused(tmp_path: Path) -> None:
    """The network reads no text and knows neither CT nor volumes."""
    segmenter = VesselnetSegmenter(weights=str(weights_folder(tmp_path)))
    with pytest.raises(InvalidPromptError):
        segmenter.segment(angiogram(), Prompt(questions=(Question(text="vessels"),)), lambda _share: None)
    slices = np.zeros((3, 8, 8), np.float32)
    for stack in (stack_of(slices, Imaging.CT), stack_of(slices, Imaging.OCT_ANGIOGRAPHY, Arrangement.VOLUME)):
        with pytest.raises(UnsupportedSourceError, match="does not know this kind"):
            segment(segmenter, stack)


def test_unknown_pictures_end_out_of_domain(tmp_path: Path) -> None:
    """What the gate does not know has no mask and no probability; with the gate off it has."""
    folder = str(weights_folder(tmp_path, gate=0.0, known=-3.0, vessel=4.0))
    found = segment(VesselnetSegmenter(weights=folder), angiogram(frames=2))
    assert found.status is Status.OUT_OF_DOMAIN
    assert not found.mask.any()
    assert not found.probability.any()
    assert "2 of 2 frames" in found.warnings[0]
    open_gate = segment(VesselnetSegmenter(weights=folder, gate=False), angiogram())
    assert open_gate.status is Status.OK
    assert open_gate.parameters["gate"] == "off"


def test_blank_frame_is_left_empty_among_others(tmp_path: Path) -> None:
    """A blank picture in a series keeps no mask and is told in the warnings; the others are not touched by it."""
    folder = str(weights_folder(tmp_path, vessel=4.0))
    pixels = np.concatenate([angiogram().pixels, np.full((1, 96, 96), 77, np.float32)])
    found = segment(VesselnetSegmenter(weights=folder), stack_of(pixels, Imaging.XRAY_ANGIOGRAPHY))
    assert found.status is Status.OK
    assert found.mask[0, 0].any()
    assert not found.mask[0, 1].any()
    assert "1 of 2 frames" in found.warnings[0]


def test_calibration_and_threshold_decide_the_mask(tmp_path: Path) -> None:
    """A logit of 4 everywhere is probability 0.982: above 0.9, and below 0.99."""
    folder = str(weights_folder(tmp_path, vessel=4.0))
    found = segment(VesselnetSegmenter(weights=folder, threshold=0.9), angiogram())
    inside = found.probability[0, 0] > 0
    assert np.unique(found.probability[0, 0][inside].round(3)) == pytest.approx([0.982], abs=1e-3)
    assert np.array_equal(found.mask[0, 0], inside)
    assert found.scores[0] == pytest.approx(0.982, abs=1e-3)
    assert segment(VesselnetSegmenter(weights=folder, threshold=0.99), angiogram()).status is Status.NO_MASK


def test_bright_vessels_are_looked_for_when_dark_ones_are_not_known(tmp_path: Path) -> None:
    """With `auto` an angiogram is looked at twice at most, and the parameters say which way it was understood."""
    unknown = str(weights_folder(tmp_path / "unknown", gate=0.0, known=-1.0))
    known = str(weights_folder(tmp_path / "known", gate=0.0, known=1.0))
    assert segment(VesselnetSegmenter(weights=unknown), angiogram()).parameters["polarity"] == "none"
    assert segment(VesselnetSegmenter(weights=known), angiogram()).parameters["polarity"] == "dark"
    bright = VesselnetSegmenter(weights=known, polarity="bright")
    assert segment(bright, angiogram()).parameters["polarity"] == "bright"


def test_flips_make_the_answer_symmetric(tmp_path: Path) -> None:
    """Averaged over flips, a mirrored picture gets the mirrored probability; without them it does not."""
    folder = str(weights_folder(tmp_path))
    stack = angiogram()
    mirrored = stack_of(stack.pixels[..., ::-1].copy(), Imaging.XRAY_ANGIOGRAPHY)
    differences = []
    for flips in (True, False):
        segmenter = VesselnetSegmenter(weights=folder, flips=flips)
        one, other = (segment(segmenter, s).probability[0, 0].astype(np.float32) for s in (stack, mirrored))
        differences.append(float(np.abs(one - other[:, ::-1]).max()))
    assert differences[0] < 0.01 < differences[1]


def test_frames_of_a_run_are_looked_at_alone_but_share_a_field(tmp_path: Path) -> None:
    """Progress is told frame by frame, and the same frames in another order give the same probabilities."""
    segmenter = VesselnetSegmenter(weights=str(weights_folder(tmp_path)))
    stack = angiogram(frames=3, arrangement=Arrangement.RUN)
    shares: list[float] = []
    forward = segmenter.segment(stack, Prompt(), shares.append).probability
    backward = segment(segmenter, stack_of(stack.pixels[::-1].copy(), stack.imaging, Arrangement.RUN)).probability
    assert np.array_equal(forward[:, ::-1], backward)
    assert len(shares) >= 3
    assert shares == sorted(shares)


def test_large_photograph_in_bounded_size(tmp_path: Path) -> None:
    """A photograph of 2336 rows comes back at its own size although the network sees a smaller one."""
    generator = np.random.default_rng(0)
    small = generator.integers(30, 200, (1, 73, 110, 3), np.uint8)
    large = small.repeat(32, axis=1).repeat(32, axis=2)
    found = segment(VesselnetSegmenter(weights=str(weights_folder(tmp_path))), stack_of(large, Imaging.FUNDUS))
    assert found.probability.shape == (1, 1, 2336, 3520)


def test_small_field_of_view_is_looked_at_in_one_piece(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a picture that is mostly surround only the field of view is looked at, and found again at its place."""
    pixels = np.zeros((1, 400, 600), np.float32)
    pixels[0, 200:360, 400:560] = np.random.default_rng(0).integers(60, 200, (160, 160))
    pieces: list[tuple[int, ...]] = []

    def noted(network: VesselNetwork, pictures: torch.Tensor, kind: int) -> tuple[torch.Tensor, torch.Tensor]:
        pieces.append(tuple(pictures.shape[-2:]))
        return look(network, pictures, kind)

    monkeypatch.setattr(looking, "look", noted)
    found = segment(
        VesselnetSegmenter(weights=str(weights_folder(tmp_path)), gate=False), stack_of(pixels, Imaging.FUNDUS)
    )
    assert all(max(piece) <= WINDOW for piece in pieces)
    assert len(pieces) == 1
    rows, columns = np.nonzero(found.probability[0, 0])
    assert rows.min() >= 200
    assert columns.min() >= 400
    assert rows.max() < 360
    assert columns.max() < 560
    assert len(rows) > 20000


def test_half_precision_is_close(tmp_path: Path) -> None:
    """bf16 changes probabilities little; it is what a GPU gets by itself."""
    folder, stack = str(weights_folder(tmp_path)), angiogram()
    exact = segment(VesselnetSegmenter(weights=folder, dtype="float32"), stack).probability.astype(np.float32)
    half = segment(VesselnetSegmenter(weights=folder, dtype="bfloat16"), stack).probability.astype(np.float32)
    assert not np.array_equal(exact, half)
    assert float(np.abs(exact - half).mean()) < 0.02

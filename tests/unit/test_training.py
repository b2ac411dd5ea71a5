"""How the shipped network is trained: the pack, the crops, the losses, and a training that stops and goes on."""

import json
import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tube_pictures import picture, vessel_mask
from typer import Typer
from typer.testing import CliRunner, Result

from dicom_core.errors import ConfigurationError
from training import augment, checkpoints, crops, export, losses, pack, train
from training.checkpoints import Training
from training.pack import Entry, Example, Truth
from training.synthetic.sampling import sample, sample_negative
from worker.image_stack import Imaging
from worker.segmenters.vesselnet.network import KINDS, VesselNetwork
from worker.segmenters.vesselnet.weights import load_network, read_card

SIDE = 96
SETS = ("ARCADE", "CHASE_DB1", "ROSSA")


def example(kind: int, seed: int = 0, *, held_out: bool = False, fold: int = 0) -> Example:
    """Return a picture of two vessels of one kind."""
    mask = vessel_mask(SIDE, seed=seed)
    bright = KINDS[kind] is Imaging.OCT_ANGIOGRAPHY
    grey = np.clip(picture(mask, bright=bright, seed=seed), 0, 255).astype(np.uint8)
    entry = Entry(SETS[kind], kind, fold, held_out=held_out, diameter=float(SIDE))
    return Example(entry, grey, np.where(mask, Truth.VESSEL, Truth.BACKGROUND).astype(np.uint8))


def examples() -> list[Example]:
    """Return three pictures of each kind, one of them held out, and one that shows no vessels."""
    negative = pack.example_of_negative(sample_negative(3, 64).image)
    return [example(kind, seed, held_out=seed == 2) for kind in range(3) for seed in range(3)] + [negative]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Return a pack of those pictures."""
    pack.write_pack(tmp_path / "pack.zip", iter(examples()))
    return tmp_path / "pack.zip"


def run(command: object, *arguments: object) -> Result:
    app = Typer()
    app.command()(command)  # type: ignore[type-var]
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def train_a_little(data: Path, out: Path, steps: int, *more: object) -> Result:
    small = ("--batch", 2, "--side", 64, "--watch-every", 2, "--device", "cpu", "--seed", 7)
    return run(train.main, "--data", data, "--out", out, "--steps", steps, *small, *more)


# The pack


def test_pack_keeps_truth_exactly_and_pictures_nearly(data: Path) -> None:
    """What is read back has the same entries and truth, and intensities but for JPEG's losses."""
    for kept, given in zip(pack.read_pack(data), examples(), strict=True):
        assert kept.entry == given.entry
        assert np.array_equal(kept.truth, given.truth)
        assert np.abs(kept.intensity.astype(float) - given.intensity).mean() < 4


def test_file_that_is_no_pack_is_told(tmp_path: Path) -> None:
    """A missing file and one of another kind end in a sentence that names the file."""
    (tmp_path / "other").write_text("not a pack")
    for name in ("other", "missing"):
        with pytest.raises(ConfigurationError, match=name):
            pack.read_pack(tmp_path / name)


def test_pack_command_gathers_manifest_and_drawn_pictures(tmp_path: Path) -> None:
    """Pictures are reduced to about the working size, val is held out; drawn ones and negatives follow."""
    truth = vessel_mask(640)
    entries = []
    for split in ("train", "val"):
        Image.fromarray(np.clip(picture(truth, bright=False), 0, 255).astype(np.uint8)).save(tmp_path / f"{split}7.png")
        Image.fromarray(truth.astype(np.uint8) * 255).save(tmp_path / "mask.png")
        entries.append(
            {"dataset": "ARCADE", "modality": "XA", "image": f"{split}7.png", "mask": "mask.png", "split": split}
        )
    (tmp_path / "manifest.json").write_text(json.dumps(entries))
    out = tmp_path / "pack.zip"
    result = run(pack.main, "--manifest", tmp_path / "manifest.json", "--root", tmp_path, "--out", out, "--drawn", 1)
    assert result.exit_code == 0, result.output
    found = pack.read_pack(out)
    assert [one.entry.held_out for one in found[:2]] == [False, True]
    assert found[0].truth.shape == (403, 403)
    assert found[0].entry.fold == 2
    assert (found[0].truth == Truth.VESSEL).mean() == pytest.approx(truth.mean(), rel=0.1)
    assert [one.entry.dataset for one in found[2:]] == [
        "synthetic-xa", "synthetic-fundus", "synthetic-octa", "synthetic-oct", "negative",
    ]  # fmt: skip


def test_drawn_pictures_are_the_same_from_any_number_of_processes() -> None:
    """Two processes draw what one draws, in the same order; another first number draws others."""
    alone, together, others = (
        list(pack.examples_drawn(1, first, workers)) for first, workers in ((5, 1), (5, 2), (6, 1))
    )
    assert len(alone) == len(together) == 5
    assert all(np.array_equal(one.intensity, two.intensity) for one, two in zip(alone, together, strict=True))
    assert not np.array_equal(alone[0].intensity, others[0].intensity)


def test_drawn_angiograms_always_have_dark_vessels() -> None:
    """The network learns dark vessels; drawn subtraction pictures with bright ones are turned over."""
    turned = 0
    for seed in range(8, 14):
        drawn = sample("xa", seed, 128)
        made = pack.example_of_synthetic(drawn, Imaging.XRAY_ANGIOGRAPHY)
        turned += not np.array_equal(made.intensity, pack.example_of_negative(drawn.image).intensity)
        vessel, other = made.truth == Truth.VESSEL, made.truth == Truth.BACKGROUND
        if vessel.sum() > 50:
            near = other & np.roll(vessel, 5, axis=1)
            assert made.intensity[vessel].mean() < made.intensity[near].mean() + 4
    assert 0 < turned < 6


# The crops


def test_a_step_always_sees_the_same_crops() -> None:
    """The batch of a step follows from seed and number alone: that of another step or seed differs."""
    batches = crops.CropBatches(examples(), 4, seed=1, side=64)
    one, again, next_one = batches[5], crops.CropBatches(examples(), 4, seed=1, side=64)[5], batches[6]
    assert torch.equal(one.pictures, again.pictures)
    assert torch.equal(one.vessel, again.vessel)
    assert not torch.equal(one.pictures, next_one.pictures)
    assert not torch.equal(one.pictures, crops.CropBatches(examples(), 4, seed=2, side=64)[5].pictures)


def test_batch_holds_what_the_network_takes() -> None:
    """Shapes fit the network, truth is 0 or 1, and each batch mixes the sets by their weights."""
    kinds = []
    batches = crops.CropBatches(examples(), 8, seed=0, side=64)
    for step in range(8):
        batch = batches[step]
        assert batch.pictures.shape == (8, 3, 64, 64)
        assert torch.isfinite(batch.pictures).all()
        assert set(batch.vessel.unique().tolist()) <= {0.0, 1.0}
        assert batch.vessel.shape == batch.counted.shape == (8, 1, 64, 64)
        kinds += batch.kinds[batch.known > 0].tolist()
    shares = np.bincount(kinds, minlength=3) / len(kinds)
    assert shares[0] > shares[1]
    assert shares.min() > 0.05


def test_centre_crop_of_a_picture_at_working_size_is_the_picture() -> None:
    """Truth of an unchanged crop overlaps the picture's own, and the vessels are bright in the network's input."""
    size = 400
    mask = vessel_mask(size)
    grey = np.clip(picture(mask, bright=False), 0, 255).astype(np.uint8)
    entry = Entry("ARCADE", 0, 0, held_out=True, diameter=384.0)
    truth = np.where(mask, Truth.VESSEL, Truth.BACKGROUND).astype(np.uint8)
    batch = crops.centre_crop(Example(entry, grey, truth), side=192)
    middle = mask[104:296, 104:296]
    cropped = batch.vessel[0, 0].numpy() > 0
    assert (cropped & middle).sum() > 0.9 * middle.sum()
    fine = batch.pictures[0, 0].numpy()
    assert fine[cropped].mean() > fine[~cropped].mean() + 1


def test_crops_of_the_wrong_kind_teach_the_gate_alone() -> None:
    """A picture told to be of another kind, or one without vessels, is not known; the first is left out of the loss."""
    generator = np.random.default_rng(0)
    for _ in range(200):
        batch = crops._crop(example(1), generator, 64)
        if batch.known[0] == 0:
            assert not batch.counted.any()
            return
    pytest.fail("no crop of the wrong kind in 200")


def test_pixels_that_observers_differ_about_do_not_count() -> None:
    """Unsure vessels and what lies outside the field of view are left out of the loss."""
    given = example(2)
    truth = given.truth.copy()
    truth[:, : SIDE // 2] = Truth.UNSURE
    truth[: SIDE // 4] = Truth.OUTSIDE
    entry = Entry("ROSSA", 2, 0, held_out=True, diameter=448.0)
    batch = crops.centre_crop(Example(entry, given.intensity, truth), side=64)
    assert not batch.counted[0, 0, :, :30].any()
    assert batch.counted[0, 0, 20:, 34:].all()
    assert not batch.pictures[0, 2, :6].any()


@pytest.mark.parametrize("change", [change for _, change in augment._CHANGES], ids=lambda change: change.__name__)
def test_each_change_keeps_size_and_place(change: augment.Change) -> None:
    """A changed picture has the same shape and finite values, and is still alike: no vessel has moved."""
    mask = vessel_mask(96)
    grey = torch.from_numpy(picture(mask, bright=False).astype(np.float32) / 255)[None, None]
    for seed in range(5):
        changed = change(grey, np.random.default_rng(seed))
        assert changed.shape == grey.shape
        assert torch.isfinite(changed).all()
        fine = changed - torch.nn.functional.avg_pool2d(changed, 31, 1, 15, count_include_pad=False)
        assert float(fine[0, 0][mask].mean()) < float(fine[0, 0][~mask].mean())


def test_changed_pictures_stay_in_range_and_differ() -> None:
    """All changes together end between 0 and 1, and another draw gives another picture."""
    grey = torch.rand(1, 1, 64, 64)
    found = [augment.changed(grey, np.random.default_rng(seed)) for seed in range(6)]
    assert all(0 <= one.min() <= one.max() <= 1 for one in found)
    assert len({float(one.sum()) for one in found}) > 3


# The losses


def batch_of(vessel: torch.Tensor, *, known: float = 1.0) -> crops.Batch:
    count = len(vessel)
    shown = torch.ones_like(vessel)
    return crops.Batch(
        shown.repeat(1, 3, 1, 1), torch.zeros(count, dtype=torch.long), vessel, shown, torch.full((count,), known)
    )


def test_loss_is_small_for_the_truth_and_grows_with_mistakes() -> None:
    """The right answer costs next to nothing; half the vessels missing, all missing and all inverted cost ever more."""
    vessel = torch.from_numpy(vessel_mask(96).astype(np.float32))[None, None]
    half = vessel.clone()
    half[..., :48] = 0
    known = torch.full((1, 1, 3, 3), 8.0)
    costs = [
        float(losses.loss_of(12 * (answer * 2 - 1), known, batch_of(vessel)))
        for answer in (vessel, half, torch.zeros_like(vessel), 1 - vessel)
    ]
    assert costs[0] < 0.12
    assert costs == sorted(costs)
    assert costs[1] > 5 * costs[0]


def test_a_gap_costs_more_on_the_centre_line_than_in_area() -> None:
    """A thin vessel beside a thick one: losing the thin one costs the line loss more than the area loss."""
    thick, thin = torch.zeros(1, 1, 64, 64), torch.zeros(1, 1, 64, 64)
    thick[..., 10:22, :], thin[..., 40:43, :] = 1, 1
    both = thick + thin
    area = losses.area_loss(thick, both) - losses.area_loss(both, both)
    line = losses.centre_line_loss(thick, both) - losses.centre_line_loss(both, both)
    assert float(line) > 1.5 * float(area) > 0


def test_pixels_that_do_not_count_do_not_cost() -> None:
    """Whatever the network says where the loss does not look changes nothing."""
    vessel = torch.from_numpy(vessel_mask(64).astype(np.float32))[None, None]
    batch = batch_of(vessel)
    batch.counted[..., :32] = 0
    logits = 4 * (vessel * 2 - 1)
    other = logits.clone()
    other[..., :30] *= -1
    known = torch.zeros(1, 1, 2, 2)
    one, two = (float(losses.loss_of(x, known, batch)) for x in (logits, other))
    assert one == pytest.approx(two, abs=0.02)


def test_gate_is_told_what_is_known() -> None:
    """A known picture costs less when the gate says so, an unknown one more."""
    vessel = torch.zeros(1, 1, 64, 64)
    logits, sure = torch.full_like(vessel, -12.0), torch.full((1, 1, 2, 2), 5.0)
    right = losses.loss_of(logits, sure, batch_of(vessel, known=1.0))
    wrong = losses.loss_of(logits, sure, batch_of(vessel, known=0.0))
    assert float(wrong - right) > 0.5


# The training


def test_rate_rises_then_falls_to_nothing() -> None:
    """The rate of learning starts low, reaches its most, and ends at 0."""
    shares = [train.rate_share(step, 1000) for step in range(1001)]
    assert shares[0] < 0.02
    assert max(shares) > 0.95
    assert shares[1000] == pytest.approx(0, abs=1e-9)
    assert shares[100:] == sorted(shares[100:], reverse=True)


def test_folds_are_held_out() -> None:
    """A fold leaves with all its pictures, those marked in the pack always do, and a fold of nothing is an error."""
    given = [example(0, fold=1), example(0, fold=2), example(0, fold=2, held_out=True), example(1, fold=1)]
    learnt, held_out = train.split(given, ["ARCADE:1"])
    assert [given.index(one) for one in learnt] == [1, 3]
    assert [given.index(one) for one in held_out] == [0, 2]
    with pytest.raises(ConfigurationError, match="ARCADE:9"):
        train.split(given, ["ARCADE:9"])


def test_training_learns_stops_and_goes_on_as_if_it_had_not(data: Path, tmp_path: Path) -> None:
    """Four steps in one go, and two steps twice with a helper process, end with the same weights, bit by bit."""
    assert train_a_little(data, tmp_path / "whole", 4).exit_code == 0
    # A training that is stopped has the whole number of steps in mind; its state is what it kept last.
    stopped = train_a_little(data, tmp_path / "parts", 4, "--stop-after", 2)
    assert stopped.exit_code == 0, stopped.output
    assert len((tmp_path / "parts" / "progress.jsonl").read_text().splitlines()) == 1
    gone_on = train_a_little(data, tmp_path / "parts", 4, "--resume", "--workers", 1)
    assert gone_on.exit_code == 0, gone_on.output
    whole, parts = (checkpoints.average_of(tmp_path / name) for name in ("whole", "parts"))
    assert all(torch.equal(whole[key], parts[key]) for key in whole)
    lines = [json.loads(line) for line in (tmp_path / "parts" / "progress.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [2, 4]
    assert {"loss", *SETS} <= set(lines[0])


def test_training_is_not_overwritten_by_mistake(data: Path, tmp_path: Path) -> None:
    """A folder that holds a training needs --resume; one that holds none cannot be resumed."""
    assert train_a_little(data, tmp_path / "out", 1).exit_code == 0
    again = train_a_little(data, tmp_path / "out", 1)
    assert again.exit_code == 2
    assert "--resume" in again.stderr
    nothing = train_a_little(data, tmp_path / "other", 1, "--resume")
    assert nothing.exit_code == 2
    assert "without --resume" in nothing.stderr.replace("\n", " ")


def test_training_that_is_asked_to_stop_keeps_its_state(data: Path, tmp_path: Path) -> None:
    """SIGTERM ends the training after the step under way; what it learnt is there to go on with."""
    handler = signal.getsignal(signal.SIGTERM)

    def stop_when_it_runs() -> None:
        while not (tmp_path / "out" / "progress.jsonl").exists():
            time.sleep(0.05)
        os.kill(os.getpid(), signal.SIGTERM)

    waiting = threading.Thread(target=stop_when_it_runs, daemon=True)
    waiting.start()
    result = train_a_little(data, tmp_path / "out", 100_000)
    waiting.join()
    assert result.exit_code == 0, result.output
    training = Training.of(VesselNetwork(), 0.0)
    checkpoints.restore(training, tmp_path / "out")
    assert 0 < training.step < 100_000
    assert signal.getsignal(signal.SIGTERM) is handler


def test_half_written_state_is_passed_over(data: Path, tmp_path: Path) -> None:
    """A state of which one file is missing, since the process was killed, does not count: the one before it does."""
    assert train_a_little(data, tmp_path / "out", 4, "--stop-after", 1).exit_code == 0
    weights = next((tmp_path / "out").glob("*1.weights.safetensors"))
    weights.with_name("0000003.weights.safetensors").write_bytes(b"half")
    training = Training.of(VesselNetwork(), 0.0)
    checkpoints.restore(training, tmp_path / "out")
    assert training.step == 1


def test_average_follows_the_network() -> None:
    """After many steps without change the average is the network; at first it moves quickly."""
    training = Training.of(VesselNetwork(), 0.0)
    with torch.no_grad():
        for parameter in training.network.parameters():
            parameter.add_(1.0)
    training.step = 1
    training.follow(0.99)
    first = (next(training.average.parameters()) - next(training.network.parameters())).detach()
    assert 0 < float(first.abs().max()) < 0.25
    for training.step in range(2, 60):
        training.follow(0.99)
    assert torch.allclose(next(training.average.parameters()), next(training.network.parameters()), atol=1e-3)


def test_export_writes_weights_that_load(data: Path, tmp_path: Path) -> None:
    """Weights in half precision and a card with their hash; fits of all kinds come from the held-out pictures."""
    assert train_a_little(data, tmp_path / "state", 2).exit_code == 0
    result = run(
        export.main, "--state", tmp_path / "state", "--data", data, "--out", tmp_path / "out", "--version", "9"
    )
    assert result.exit_code == 0, result.output
    card = read_card(tmp_path / "out")
    assert card.version == "9"
    assert set(card.fits) == set(KINDS)
    network = load_network(tmp_path / "out", "cpu")
    with torch.inference_mode():
        assert torch.isfinite(network(torch.zeros(1, 3, 32, 32), torch.tensor([0]))[0]).all()


def test_calibration_recovers_what_made_the_logits() -> None:
    """Logits twice too sure and shifted are brought back: the fit finds slope 0.5 and offset -1."""
    generator = np.random.default_rng(0)
    true_logit = generator.normal(0, 2, (200, 200)).astype(np.float32)
    vessel = generator.random((200, 200)) < 1 / (1 + np.exp(-true_logit))
    truth = np.where(vessel, Truth.VESSEL, Truth.BACKGROUND).astype(np.uint8)
    answers = [export.Answer(2 * (true_logit + 1), truth, known=3.0)] * 4
    slope, offset = export._calibrated(answers)
    assert slope == pytest.approx(0.5, abs=0.03)
    assert offset == pytest.approx(-1.0, abs=0.1)
    assert export.fitted(answers, 384.0).gate == pytest.approx(-0.5)

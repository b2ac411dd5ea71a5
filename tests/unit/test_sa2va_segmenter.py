"""The sa2va segmenter on a small network whose language model gives the usual answer."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sa2va_checkpoints as small
import torch

from dicom_core.errors import ConfigurationError, InvalidPromptError, RunnerBusyError
from dicom_core.prompt import Box, Question
from worker.image_stack import Arrangement, FrameIdentity, ImageStack, Imaging
from worker.model_folder.recognising import looked_at
from worker.segmenters.interface import Prompt, Segmentation, Status
from worker.segmenters.sa2va.benchmark import time_frames
from worker.segmenters.sa2va.drawing import Drawer, Drawn, Features
from worker.segmenters.sa2va.model import Sa2vaModel
from worker.segmenters.sa2va.reading import AnswerMode
from worker.segmenters.sa2va.segmenter import Sa2vaSegmenter
from worker.segmenters.sa2va.settings import Sa2vaSettings
from worker.segmenters.sa2va.tracking import Tracker
from worker.segmenters.sa2va.words import Words

ROWS, COLUMNS = 60, 130


@pytest.fixture(scope="module")
def model() -> Sa2vaModel:
    return Sa2vaModel(small.small_network(), Words(small.tokenizer()))


@pytest.fixture
def quick(model: Sa2vaModel, monkeypatch: pytest.MonkeyPatch) -> Sa2vaModel:
    """The same with a SAM 2 that draws the vector's first number everywhere, in no time."""

    def look(_self: Drawer, pictures: torch.Tensor) -> Features:
        empty = torch.zeros(len(pictures), 1, 1, 1)
        return Features((empty, empty), empty)

    def draw(_self: Drawer, _features: Features, vectors: torch.Tensor) -> Drawn:
        logits = vectors[:, :1, None].expand(-1, 256, 256)
        scores = vectors[:, 1]
        return Drawn(logits, scores.sigmoid(), scores, vectors)

    monkeypatch.setattr(Drawer, "look", look)
    monkeypatch.setattr(Drawer, "draw", draw)
    return model


def pictures(frames: int) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (frames, ROWS, COLUMNS, 3), dtype=np.uint8)


def stack(frames: int, arrangement: Arrangement = Arrangement.FRAMES, **words: Any) -> ImageStack:
    identities = tuple(FrameIdentity("2.25.1", number) for number in range(1, frames + 1))
    imaging = words.pop("imaging", Imaging.XRAY_ANGIOGRAPHY)
    return ImageStack(words.pop("pixels", pictures(frames)), arrangement, imaging, identities)


def segment(model: Sa2vaModel, on: ImageStack, prompt: Prompt | None = None, **settings: Any) -> Segmentation:
    shares: list[float] = []
    segmenter = Sa2vaSegmenter.around(model, Sa2vaSettings(**settings))
    found = segmenter.segment(on, prompt or Prompt(), shares.append)
    assert shares[-1] == 1.0
    assert shares == sorted(shares)
    return found


def asked(*texts: str) -> Prompt:
    return Prompt(questions=tuple(Question(text=text) for text in texts))


def test_forced_equals_generated_and_a_batch_equals_singles(model: Sa2vaModel) -> None:
    """The same vectors within 1e-5, whoever speaks and however many pictures are asked about at a time."""
    of_all = list(pictures(3))
    spoken = {mode: model.ask_about_pictures(of_all, ["Vessels?"], 0, mode)[0] for mode in AnswerMode}
    alone = [model.ask_about_pictures([one], ["Vessels?"], 0, AnswerMode.GENERATE)[0][0] for one in of_all]
    assert {answer.text for answers in spoken.values() for answer in answers} == {"Sure, [SEG].<|im_end|>"}
    for generated, forced, single in zip(spoken[AnswerMode.GENERATE], spoken[AnswerMode.FORCED], alone, strict=True):
        assert torch.allclose(generated.vectors, forced.vectors, rtol=1e-5, atol=1e-5)
        assert torch.allclose(generated.vectors, single.vectors, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(alone[0].vectors, alone[1].vectors, atol=1e-3)


def test_several_questions_share_what_was_seen(model: Sa2vaModel) -> None:
    """Asked together or one by one: the same answers, in their order."""
    questions = ["Vessels?", "The artery, please.", "Disc"]
    for mode in AnswerMode:
        together = model.ask_about_pictures(list(pictures(2)), questions, 0, mode)
        for question, answers in zip(questions, together, strict=True):
            alone = model.ask_about_pictures(list(pictures(2)), [question], 0, mode)[0]
            assert all(torch.allclose(a.vectors, b.vectors, atol=1e-5) for a, b in zip(answers, alone, strict=True))
    assert not torch.allclose(together[0][0].vectors, together[1][0].vectors, atol=1e-3)


def test_masks_are_at_the_size_of_the_pictures(model: Sa2vaModel) -> None:
    """With the true SAM 2: a batch of two equals singles, another picture is another mask."""
    found = segment(model, stack(2), answer="forced")
    assert found.mask.shape == found.probability.shape == (1, 2, ROWS, COLUMNS)
    assert found.status is Status.OK
    exact = found.extras["probability"]
    assert exact.dtype == np.float32
    assert np.array_equal(found.mask, exact > 0.5)
    second = segment(model, stack(1, pixels=pictures(2)[1:]), answer="forced")
    assert np.abs(exact[:, 1] - second.extras["probability"][:, 0]).max() < 1e-5
    assert np.abs(exact[:, 0] - exact[:, 1]).max() > 1e-3
    assert found.extras["seg_vector"].shape == (2, 64)
    assert found.scores[1] == pytest.approx(float(second.extras["object_score"][0, 0]), abs=1e-5)
    assert {"language", "draw"} <= found.seconds.keys()


def test_objects_of_a_run_are_followed_each_by_itself(model: Sa2vaModel) -> None:
    """Two objects at a time are drawn as one of them alone, on the frame that was shown and on the one before."""
    generator = torch.Generator().manual_seed(5)
    vectors = torch.randn(2, 64, generator=generator)
    drawer = model._drawer
    seen = [drawer.look(torch.randn(1, 3, 1024, 1024, generator=generator)) for _ in range(2)]
    together, alone = (Tracker(drawer, some, [1], 2) for some in (vectors, vectors[1:]))
    assert together.order == (1, 0)
    for frame in together.order:
        both, one = together.draw(frame, seen[frame]), alone.draw(frame, seen[frame])
        assert torch.allclose(both.logits[1], one.logits[0], rtol=1e-3, atol=1e-3)
    unaware = drawer.draw(seen[0], vectors[1:])
    assert (unaware.logits - one.logits).abs().max() > 1e-2


def test_memory_of_a_run_is_bounded() -> None:
    """Of a run of any length no more frames are remembered than can still be asked for."""
    tracker = Tracker.__new__(Tracker)
    tracker._conditioning, tracker._followed = (10,), {}
    most = 0
    for frame in (*range(11, 400), *range(9, -1, -1)):
        tracker._followed[frame] = None
        tracker._forget(frame)
        most = max(most, len(tracker._followed))
    assert most <= 34
    assert set(tracker._followed) >= {1, 2, 3, 4, 5, 6, 11, 16}


def test_run_goes_through_conditioning_frames(quick: Sa2vaModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a run the language model sees five frames; all get a mask; the result says which were shown."""
    drawn: list[int] = []

    def draw(self: Tracker, frame: int, features: Features) -> Drawn:
        drawn.append(frame)
        return Drawer.draw(self._drawer, features, self._vectors)

    monkeypatch.setattr(Tracker, "draw", draw)
    found = segment(quick, stack(9, Arrangement.RUN), conditioning="evenly", batch=2)
    assert drawn == [0, 2, 4, 6, 8, 1, 3, 5, 7]
    assert found.parameters["conditioning_frames"] == "1 3 5 7 9"
    assert found.parameters["path"] == "run"
    assert (found.extras["predicted_iou"] > 0).all()
    assert found.extras["seg_vector"].shape == (1, 64)
    volume = segment(quick, stack(6, Arrangement.VOLUME))
    assert volume.parameters["conditioning"] == "evenly"
    assert segment(quick, stack(6, Arrangement.RUN)).parameters["conditioning"] == "contrast"
    each = segment(quick, stack(2, Arrangement.RUN), video="never")
    assert (each.parameters["path"], len(each.extras["seg_vector"])) == ("frames", 2)
    assert segment(quick, stack(1, Arrangement.RUN)).parameters["path"] == "frames"


def test_each_question_is_a_class(quick: Sa2vaModel) -> None:
    """With the coded type and label of the question; without a question, the vessels."""
    prompt = Prompt(
        questions=(
            Question(text="Where are vessels?"),
            Question(text="Find the artery", segment="coronary_artery"),
            Question(text="The vein", segment="vein", label="V1"),
        )
    )
    found = segment(quick, stack(2), prompt)
    assert [(one.key, one.label) for one in found.classes] == [
        ("blood_vessel", "Vessel"),
        ("coronary_artery", "Coronary artery"),
        ("vein", "V1"),
    ]
    assert found.mask.shape[:2] == (3, 2)
    assert found.extras["seg_vector"].shape == (6, 64)
    default = segment(quick, stack(2))
    assert [one.label for one in default.classes] == ["Vessel"]
    same = segment(quick, stack(2), asked("<image>Please segment the blood vessel."))
    assert np.array_equal(default.extras["seg_vector"], same.extras["seg_vector"])
    assert default.answer == "Sure, [SEG].<|im_end|>"


def test_questions_of_one_type_are_told_apart(quick: Sa2vaModel) -> None:
    """Two segments of the same name would tell a reader nothing: they bear what was asked; others keep their names."""
    prompt = Prompt(
        questions=(
            Question(text="The left one " + "x" * 90, segment="artery"),
            Question(text="\u53f3", segment="artery"),
            Question(text="The vein", segment="vein"),
        )
    )
    found = segment(quick, stack(1), prompt)
    assert [one.label for one in found.classes] == [("The left one " + "x" * 90)[:64], "\u53f3", "Vein"]


def test_an_answer_without_seg_is_no_mask(quick: Sa2vaModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model may say that there is nothing: an empty result, not an error; forced, it cannot."""
    true_head, words = quick._reader._head, quick.words

    def silent(last: torch.Tensor) -> torch.Tensor:
        likely = true_head(last)
        likely[:, words.stop] += 2 * likely[:, words.segment].clamp(min=0)
        likely[:, words.segment] = -torch.inf
        return likely

    monkeypatch.setattr(quick._reader, "_head", silent)
    for arrangement in (Arrangement.FRAMES, Arrangement.RUN):
        found = segment(quick, stack(2, arrangement))
        assert found.status is Status.NO_MASK
        assert found.answer == "Sure, <|im_end|>"
        assert not found.mask.any()
        assert found.scores == (0.0, 0.0)
        assert found.extras["seg_vector"].shape == (0, 64)
        assert any("nothing to draw in" in warning for warning in found.warnings)
    assert (segment(quick, stack(1), answer="forced").extras["seg_vector"]).shape == (1, 64)


def test_endless_answer_is_cut_off(quick: Sa2vaModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that never stops is stopped after 64 words."""
    size = quick.network.config.internvl.text_config.vocab_size
    monkeypatch.setattr(quick._reader, "_head", lambda last: torch.zeros(len(last), size))
    answer = quick.ask_about_pictures(list(pictures(1)), ["?"], 0, AnswerMode.GENERATE)[0][0]
    assert len(small.tokenizer().encode(answer.text).ids) == 64


def test_threshold_and_gate_decide(quick: Sa2vaModel) -> None:
    """A pixel belongs above the threshold; a mask below the gate's object score is left empty, and that is said."""
    plain = segment(quick, stack(1))
    probability = float(plain.extras["probability"][0, 0, 0, 0])
    score = float(plain.extras["object_score"][0, 0])
    assert segment(quick, stack(1), threshold=probability * 0.99).mask.all()
    assert not segment(quick, stack(1), threshold=math.nextafter(probability, 1)).mask.any()
    low = min(probability * 0.9, 0.9)
    assert segment(quick, stack(1), threshold=low, object_score_gate=score * 0.9).status is Status.OK
    gated = segment(quick, stack(1), threshold=low, object_score_gate=min(0.999, score * 1.01))
    assert gated.status is Status.NO_MASK
    assert "1 masks were left empty" in gated.warnings[-1]
    assert gated.parameters["threshold"] == f"{low:g}"


def test_a_full_device_gets_less_at_a_time(quick: Sa2vaModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """First fewer frames, then fewer tiles, and the result says so; when one tile does not fit, the device is busy."""
    fits = {"tiles": 8}
    true_ask = Sa2vaModel.ask_about_pictures

    def ask(self: Sa2vaModel, shown: Any, questions: Any, most: int, mode: Any) -> Any:
        if sum(len(self.tiles(one, most)) for one in shown) > fits["tiles"]:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return true_ask(self, shown, questions, most, mode)

    monkeypatch.setattr(Sa2vaModel, "ask_about_pictures", ask)
    assert len(quick.tiles(pictures(1)[0], 0)) == 3
    halved = segment(quick, stack(4), batch=4)
    assert (halved.parameters["batch"], halved.parameters["tiles"]) == ("2", "3")
    assert "2 at a time were used" in halved.warnings[0]
    fits["tiles"] = 2
    fewer = segment(quick, stack(4), batch=4)
    assert (fewer.parameters["batch"], fewer.parameters["tiles"]) == ("2", "1")
    assert any("no memory for 3 tiles" in warning for warning in fewer.warnings)
    fits["tiles"] = 0
    with pytest.raises(RunnerBusyError):
        segment(quick, stack(4), batch=4)


def test_other_pictures_get_a_warning(quick: Sa2vaModel) -> None:
    """Made for X-ray angiograms; a fundus photograph is segmented, with a warning. Grey values are windowed first."""
    assert segment(quick, stack(1)).warnings == ()
    found = segment(quick, stack(1, imaging=Imaging.FUNDUS))
    assert "was not made for this kind of picture (fundus)" in found.warnings[0]
    grey = pictures(1)[..., 0].astype(np.float32) * 4 - 1000
    assert segment(quick, stack(1, pixels=grey)).extras["seg_vector"].shape == (1, 64)


def test_only_words_can_be_asked(quick: Sa2vaModel) -> None:
    """Boxes are refused, and words of the program."""
    with pytest.raises(InvalidPromptError, match="cannot be asked by boxes"):
        segment(quick, stack(1), Prompt(boxes=(Box(left=0, top=0, right=4, bottom=4),)))
    with pytest.raises(InvalidPromptError, match="means something else"):
        segment(quick, stack(1), asked("Find <IMG_CONTEXT>"))


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("answer", "guess"), ("dtype", "int8"), ("video", "always"), ("conditioning", "last"), ("threshold", 1.0),
        ("threshold", "high"), ("object_score_gate", -0.1), ("max_tiles", -1), ("batch", 0), ("batch", True),
    ],
)  # fmt: skip
def test_settings_are_checked_before_anything_is_loaded(setting: str, value: Any) -> None:
    """A wrong value names its setting; the folder need not even exist."""
    with pytest.raises(ConfigurationError, match=f"`{setting}`"):
        Sa2vaSegmenter(folder="/nowhere", **{setting: value})


def test_segmenter_is_made_from_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder as it was downloaded, opened for a look: its name and type are used; warming up looks at a picture."""
    small.write_checkpoint(tmp_path / "download")
    segmenter = Sa2vaSegmenter(folder=looked_at(tmp_path / "download"), answer="forced", dtype="bfloat16")
    assert segmenter.info.name == "download"
    assert segmenter.info.imagings == frozenset({Imaging.XRAY_ANGIOGRAPHY})
    seen: list[Segmentation] = []
    true_segment = Sa2vaSegmenter.segment

    def segment_and_keep(self: Sa2vaSegmenter, *words: Any) -> Segmentation:
        seen.append(true_segment(self, *words))
        return seen[-1]

    monkeypatch.setattr(Sa2vaSegmenter, "segment", segment_and_keep)
    segmenter.warm_up()
    assert seen[0].parameters["dtype"] == "bfloat16"
    assert np.isfinite(seen[0].extras["probability"]).all()
    assert seen[0].extras["predicted_iou"].max() > 0


@pytest.mark.usefixtures("quick")
def test_speed_is_measured_without_weights() -> None:
    """Random weights of a true shape give the usual answer, so that both ways of answering are timed."""
    timings = list(time_frames("tiny", device="cpu", dtype="float32", batches=[1], rows=64, columns=64, rounds=1))
    assert [(one.answer, one.batch, one.tiles) for one in timings] == [("generate", 1, 1), ("forced", 1, 1)]
    assert all(0 < one.language_seconds + one.draw_seconds <= one.seconds_a_frame for one in timings)

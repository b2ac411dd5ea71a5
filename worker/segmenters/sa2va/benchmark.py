"""How fast a Sa2VA of true shape is on a device, with random weights: none has to be at hand."""

import statistics
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from worker.image_stack import Arrangement, FrameIdentity, ImageStack, Imaging
from worker.segmenters.interface import Prompt, Segmentation
from worker.segmenters.sa2va.model import Sa2vaModel
from worker.segmenters.sa2va.network import Sa2vaNetwork, fill_computed_buffers, network_without_weights
from worker.segmenters.sa2va.published import published_config
from worker.segmenters.sa2va.segmenter import Sa2vaSegmenter
from worker.segmenters.sa2va.settings import ANSWERS, Sa2vaSettings
from worker.segmenters.sa2va.words import Words

BATCHES = (1, 2, 4, 8, 16)
_SPECIAL = ("<|im_end|>", "<|im_start|>", "<img>", "</img>", "<IMG_CONTEXT>", "[SEG]")
_PHRASES = ("user", "assistant", "Please", " segment", " the", " blood", " vessel")
"""Words that a trained vocabulary has, so that a prompt is as long as with one."""
_SPOKEN = ("\n", "Sure", ",", " ", "[SEG]", ".", "<|im_end|>")
_QUIET = 1e-3
"""So little that what is spoken depends on the last word alone."""


@dataclass(frozen=True, slots=True)
class Sa2vaTiming:
    """One measurement; times are medians over the rounds.

    Attributes:
        parameters: Numbers in the weights.
        answer: ``"generate"`` or ``"forced"``.
        batch: Frames that were looked at together.
        tiles: That each was cut into.
        seconds_a_frame: From picture to mask.
        language_seconds: Of it, for the language model, a frame.
        draw_seconds: Of it, for SAM 2, a frame.
        device_gib: Most memory of the device that was in use, 0 on a CPU.
    """

    size: str
    device: str
    dtype: str
    parameters: int
    answer: str
    batch: int
    tiles: int
    seconds_a_frame: float
    language_seconds: float
    draw_seconds: float
    device_gib: float


def random_segmenter(size: str, *, device: str, settings: Sa2vaSettings) -> Sa2vaSegmenter:
    """Make a segmenter of true shape with random weights, that gives the usual answer all the same.

    Args:
        size: One of :func:`worker.segmenters.sa2va.published.sizes`; 8b is that of Sa2VA-vessel.
        device: Where it works.
        settings: As for one with weights; their ``dtype`` must not be auto.

    Raises:
        ConfigurationError: There is no such size.
    """
    network = network_without_weights(published_config(size)).to(getattr(torch, settings.dtype))
    network.to_empty(device=device)
    _fill(network, torch.device(device))
    tokenizer = _tokenizer()
    _teach(network, [tokenizer.encode(word).ids[0] for word in _SPOKEN])
    return Sa2vaSegmenter.around(Sa2vaModel(network, Words(tokenizer)), settings)


def time_frames(
    size: str,
    *,
    device: str,
    dtype: str,
    batches: Sequence[int] = BATCHES,
    answers: Sequence[str] = ANSWERS,
    rows: int = 512,
    columns: int = 512,
    rounds: int = 3,
) -> Iterator[Sa2vaTiming]:
    """Measure single frames with each way of answering, each after one round that is thrown away.

    Args:
        size: As for :func:`random_segmenter`.
        device: Where it works.
        dtype: ``"float32"``, ``"bfloat16"`` or ``"float16"``.
        batches: Frames at a time; of those that do not fit the device, what fitted is what is told.
        answers: Ways of answering.
        rows: Of each frame; with the columns they decide the number of tiles.
        columns: Of each frame.
        rounds: At least 1.

    Raises:
        ConfigurationError: There is no such size or way.
        RunnerBusyError: The device has no memory for a single frame.
    """
    first = random_segmenter(size, device=device, settings=Sa2vaSettings(dtype=dtype))
    for answer in answers:
        for batch in batches:
            settings = Sa2vaSettings(answer=answer, batch=batch, dtype=dtype)
            segmenter = Sa2vaSegmenter.around(first.model, settings)
            _forget_peak()
            seconds, found = _rounds(segmenter, _stack(batch, rows, columns), rounds)
            yield Sa2vaTiming(
                size=size,
                device=device,
                dtype=dtype,
                parameters=first.model.parameters,
                answer=answer,
                batch=int(found[0].parameters["batch"]),
                tiles=int(found[0].parameters["tiles"]),
                seconds_a_frame=statistics.median(seconds) / batch,
                language_seconds=statistics.median(one.seconds["language"] for one in found) / batch,
                draw_seconds=statistics.median(one.seconds["draw"] for one in found) / batch,
                device_gib=_peak_gib(),
            )


def _rounds(segmenter: Sa2vaSegmenter, stack: ImageStack, rounds: int) -> tuple[list[float], list[Segmentation]]:
    seconds, found = [], []
    for _ in range(rounds + 1):
        began = time.perf_counter()
        found.append(segmenter.segment(stack, Prompt(), lambda _share: None))
        seconds.append(time.perf_counter() - began)
    return seconds[1:], found[1:]


def _stack(frames: int, rows: int, columns: int) -> ImageStack:
    pixels = np.random.default_rng(0).integers(0, 256, (frames, rows, columns, 3), dtype=np.uint8)
    identities = tuple(FrameIdentity("2.25.1", number) for number in range(1, frames + 1))
    return ImageStack(pixels, Arrangement.FRAMES, Imaging.XRAY_ANGIOGRAPHY, identities)


def _fill(network: Sa2vaNetwork, device: torch.device) -> None:
    torch.manual_seed(0)
    for name, tensor in network.state_dict().items():
        if tensor.ndim == 1 and name.endswith("weight"):
            tensor.fill_(1.0)
        else:
            tensor.normal_(std=0.02)
    for module in network.modules():
        for name in module._non_persistent_buffers_set:  # noqa: SLF001  # those that the state leaves out
            module.register_buffer(name, module.get_buffer(name).to("meta"), persistent=False)
    fill_computed_buffers(network, device)


def _teach(network: Sa2vaNetwork, words: Sequence[int]) -> None:
    """Make the next word of the usual answer the likeliest, so that a generated one is as long as a real one."""
    language = network.internvl.model.language_model
    for layer in language.layers:
        layer.self_attn.o_proj.weight.mul_(_QUIET)
        layer.mlp.down_proj.weight.mul_(_QUIET)
    network.internvl.lm_head.weight.zero_()
    for word, following in pairwise(words):
        network.internvl.lm_head.weight[following] = language.embed_tokens.weight[word]


def _tokenizer() -> Tokenizer:
    letters = {letter: number for number, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    made = Tokenizer(models.BPE(vocab=letters, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens([*_SPECIAL, *_PHRASES, "Sure"])
    return made


def _forget_peak() -> None:
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()


def _peak_gib() -> float:
    return torch.cuda.max_memory_allocated() / 2**30 if torch.cuda.is_available() else 0.0

"""The shapes of the published sizes, without their weights: for speed and memory on a device at hand."""

from dataclasses import dataclass

from dicom_core.errors import ConfigurationError
from worker.segmenters.sa2va.configuration import NetworkConfig, Sa2vaSizes, Shapes, network_config

_SAM2 = "grounding_encoder.sam2_model."
_VOCABULARY, _IMAGE_TOKEN = 151_679, 151_667


@dataclass(frozen=True, slots=True)
class _Language:
    hidden: int
    intermediate: int
    layers: int
    heads: int
    key_heads: int


@dataclass(frozen=True, slots=True)
class _Sam2:
    """Widths and blocks of the stages, and how wide and deep what follows is."""

    widths: tuple[int, ...]
    blocks: tuple[int, ...]
    drawn: int
    feed_forward: int
    layers: int
    fuser: int
    iou_head: int


_LANGUAGES = {
    "1b": _Language(896, 4864, 24, 14, 2),
    "2b": _Language(1536, 8960, 28, 12, 2),
    "4b": _Language(2048, 11008, 36, 16, 2),
    "8b": _Language(3584, 18944, 28, 28, 4),
    "14b": _Language(5120, 13824, 48, 40, 8),
    "tiny": _Language(64, 128, 2, 4, 2),
}
"""The Qwen2.5 of each size."""
_VISION = {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24, "num_attention_heads": 16}
_TINY_VISION = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 2}
_HIERA_LARGE = _Sam2((144, 288, 576, 1152), (2, 6, 36, 4), 256, 2048, 4, 1024, 256)
_TINY_SAM2 = _Sam2((8, 16, 32, 64), (1, 2, 3, 1), 128, 128, 2, 512, 64)


def sizes() -> tuple[str, ...]:
    """The names of the sizes, from the smallest."""
    return ("tiny", "1b", "2b", "4b", "8b", "14b")


def published_config(size: str) -> NetworkConfig:
    """What a network of a published size is built from; 8b is that of Sa2VA-vessel.

    Raises:
        ConfigurationError: There is no such size.
    """
    language = _LANGUAGES.get(size)
    if language is None:
        raise ConfigurationError(f"There is no size {size!r} of Sa2VA; there are {', '.join(sizes())}")
    tiny = size == "tiny"
    told = {
        "vision_config": _TINY_VISION if tiny else _VISION,
        "llm_config": {
            "model_type": "qwen2",
            "hidden_size": language.hidden,
            "intermediate_size": language.intermediate,
            "num_hidden_layers": language.layers,
            "num_attention_heads": language.heads,
            "num_key_value_heads": language.key_heads,
            "rope_theta": 1e6,
        },
    }
    shapes = _shapes(language, _TINY_SAM2 if tiny else _HIERA_LARGE)
    return network_config(Sa2vaSizes.model_validate(told), shapes, _IMAGE_TOKEN)


def _shapes(language: _Language, sam2: _Sam2) -> Shapes:
    """Of those tensors that tell the sizes which config.json is silent about."""
    trunk, decoder = f"{_SAM2}image_encoder.trunk.", f"{_SAM2}sam_mask_decoder."
    memory, attention = f"{_SAM2}memory_encoder.", f"{_SAM2}memory_attention."
    of_blocks = [width for width, count in zip(sam2.widths, sam2.blocks, strict=True) for _ in range(count)]
    drawn = sam2.drawn
    return {
        **{f"{trunk}blocks.{number}.attn.proj.weight": (width, width) for number, width in enumerate(of_blocks)},
        f"{trunk}pos_embed": (1, sam2.widths[0], 7, 7),
        f"{_SAM2}image_encoder.neck.convs.0.conv.weight": (drawn, sam2.widths[-1], 1, 1),
        f"{decoder}transformer.layers.0.mlp.layers.0.weight": (sam2.feed_forward, drawn),
        f"{decoder}iou_prediction_head.layers.0.weight": (sam2.iou_head, drawn),
        f"{attention}norm.weight": (drawn,),
        **{f"{attention}layers.{number}.linear1.weight": (sam2.feed_forward, drawn) for number in range(sam2.layers)},
        f"{memory}pix_feat_proj.weight": (drawn, drawn, 1, 1),
        f"{memory}out_proj.weight": (64, drawn, 1, 1),
        f"{memory}mask_downsampler.encoder.12.weight": (drawn, 256, 1, 1),
        **{f"{memory}fuser.layers.{number}.dwconv.weight": (drawn, 1, 7, 7) for number in range(2)},
        f"{memory}fuser.layers.0.pwconv1.weight": (sam2.fuser, drawn),
        f"{_SAM2}maskmem_tpos_enc": (7, 1, 1, 64),
        "language_model.model.embed_tokens.weight": (_VOCABULARY, language.hidden),
        "text_hidden_fcs.2.weight": (drawn, language.hidden),
    }

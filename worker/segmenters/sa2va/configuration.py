"""The sizes of a Sa2VA checkpoint: from its config.json and, as that is silent about SAM 2, from its tensors."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from transformers import InternVLConfig, LlamaConfig, PreTrainedConfig, Qwen2Config, Sam2VideoConfig

from dicom_core.errors import ConfigurationError

Shapes = Mapping[str, tuple[int, ...]]
"""The shape of every tensor by its name in the checkpoint."""

_SAM2 = "grounding_encoder.sam2_model."
_TRUNK = _SAM2 + "image_encoder.trunk."
_DECODER = _SAM2 + "sam_mask_decoder."
_MEMORY = _SAM2 + "memory_encoder."
_ATTENTION = _SAM2 + "memory_attention."
Count = Annotated[int, Field(ge=1, le=1_000_000)]
Activation = Literal["gelu", "gelu_new", "gelu_pytorch_tanh", "quick_gelu", "relu", "silu"]
Layers = Annotated[int, Field(ge=1, le=1000)]
"""Made one by one before a weight is looked at: a wrong number must not take the memory of the machine."""


class _Read(BaseModel):
    model_config = ConfigDict(extra="ignore", frozen=True)


class VisionSizes(_Read):
    """``vision_config`` of config.json: the InternViT."""

    hidden_size: Count
    intermediate_size: Count
    num_hidden_layers: Layers
    num_attention_heads: Count
    patch_size: Count = 14
    layer_norm_eps: float = 1e-6
    hidden_act: Activation = "gelu"
    norm_type: Literal["layer_norm", "rms_norm"] = "layer_norm"
    qkv_bias: bool = True
    qk_normalization: bool = False


class LanguageSizes(_Read):
    """``llm_config`` of config.json: the language model."""

    model_type: Literal["qwen2", "internlm2"]
    hidden_size: Count
    intermediate_size: Count
    num_hidden_layers: Layers
    num_attention_heads: Count
    num_key_value_heads: Count
    max_position_embeddings: Count = 32768
    rms_norm_eps: float = 1e-6
    rope_theta: float = 10_000.0
    bias: bool = False
    hidden_act: Activation = "silu"


class Sa2vaSizes(_Read):
    """What is read of config.json.

    Attributes:
        tile: Rows and columns of a tile that the vision tower looks at.
        max_tiles: Tiles that one picture is cut into at most, without its thumbnail.
    """

    vision_config: VisionSizes
    llm_config: LanguageSizes
    tile: Count = Field(448, alias="force_image_size")
    downsample_ratio: float = Field(0.5, gt=0, le=1)
    ps_version: Literal["v2"] = "v2"
    select_layer: Literal[-1] = -1
    template: Literal["internlm2_chat", "qwen_chat", "phi3_chat"] = "internlm2_chat"
    max_tiles: Count = Field(12, alias="max_dynamic_patch")
    use_thumbnail: bool = True

    @property
    def tokens_per_tile(self) -> int:
        """Words of the prompt that stand for one tile."""
        return int((self.tile // self.vision_config.patch_size) ** 2 * self.downsample_ratio**2)


class Sam2Facts(_Read):
    """What cannot be seen from the tensors of a SAM 2.

    Attributes:
        heads: Attention heads of the first stage; they double with each.
        windows: Rows and columns of the attention windows of each stage.
        global_attention: Numbers of the blocks without windows.
    """

    heads: Count
    windows: tuple[Count, Count, Count, Count]
    global_attention: tuple[int, ...]


_KNOWN_SAM2: dict[tuple[int, tuple[int, ...]], Sam2Facts] = {
    (144, (2, 6, 36, 4)): Sam2Facts(heads=2, windows=(8, 4, 16, 8), global_attention=(23, 33, 43)),
    (112, (2, 3, 16, 3)): Sam2Facts(heads=2, windows=(8, 4, 14, 7), global_attention=(12, 16, 20)),
    (96, (1, 2, 11, 2)): Sam2Facts(heads=1, windows=(8, 4, 14, 7), global_attention=(7, 10, 13)),
    (96, (1, 2, 7, 2)): Sam2Facts(heads=1, windows=(8, 4, 14, 7), global_attention=(5, 7, 9)),
    (8, (1, 2, 3, 1)): Sam2Facts(heads=1, windows=(8, 4, 16, 8), global_attention=(4,)),
}
"""By width and blocks of each stage: Hiera-L, B+, S and T, and a small one for trials."""


@dataclass(frozen=True, slots=True)
class NetworkConfig:
    """What the parts of the network are built from.

    Attributes:
        vector_width: Length of the vector that tells SAM 2 what to draw.
    """

    sizes: Sa2vaSizes
    internvl: InternVLConfig
    sam2: Sam2VideoConfig
    vector_width: int = field(default=256)


def read_sizes(text: str | bytes, where: str) -> Sa2vaSizes:
    """Read config.json.

    Args:
        text: Its content.
        where: What it is called in errors.

    Raises:
        ConfigurationError: It is not the config.json of a Sa2VA that can be run here.
    """
    try:
        return Sa2vaSizes.model_validate_json(text)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(step) for step in first["loc"])
        raise ConfigurationError(
            f"{where} is not that of a Sa2VA that can be run: {place or 'its top'}: {first['msg']}"
        ) from None


def network_config(
    sizes: Sa2vaSizes, shapes: Shapes, image_token: int, sam2_facts: Mapping[str, Any] | None = None
) -> NetworkConfig:
    """Say how to build the network.

    Args:
        sizes: Of config.json.
        shapes: Of the tensors, in the published names.
        image_token: Number of the word that stands for a piece of a picture.
        sam2_facts: The values of :class:`Sam2Facts` for a SAM 2 that is none of the published ones.

    Raises:
        ConfigurationError: A tensor that tells a size is missing, or the SAM 2 is of an unknown kind.
    """
    try:
        vocabulary = _vocabulary(shapes)
        width = shapes["text_hidden_fcs.2.weight"][0]
        sam2 = _sam2(shapes, sam2_facts)
    except KeyError as error:
        raise ConfigurationError(f"The weights have no tensor {error.args[0]}; they are not those of a Sa2VA") from None
    return NetworkConfig(sizes, _internvl(sizes, vocabulary, image_token), sam2, width)


def _vocabulary(shapes: Shapes) -> int:
    names = ("language_model.model.embed_tokens.weight", "language_model.model.tok_embeddings.weight")
    return next((shapes[name][0] for name in names if name in shapes), 0) or shapes[names[0]][0]


def _internvl(sizes: Sa2vaSizes, vocabulary: int, image_token: int) -> InternVLConfig:
    vision = sizes.vision_config
    return InternVLConfig(
        vision_config={
            "model_type": "internvl_vision",
            "hidden_size": vision.hidden_size,
            "intermediate_size": vision.intermediate_size,
            "num_hidden_layers": vision.num_hidden_layers,
            "num_attention_heads": vision.num_attention_heads,
            "image_size": (sizes.tile, sizes.tile),
            "patch_size": (vision.patch_size, vision.patch_size),
            "layer_norm_eps": vision.layer_norm_eps,
            "hidden_act": vision.hidden_act,
            "norm_type": vision.norm_type,
            "attention_bias": vision.qkv_bias,
            "use_qk_norm": vision.qk_normalization,
        },
        text_config=_language(sizes.llm_config, vocabulary).to_dict(),
        image_token_id=image_token,
        image_seq_length=sizes.tokens_per_tile,
        downsample_ratio=sizes.downsample_ratio,
        tie_word_embeddings=False,
    )


def _language(sizes: LanguageSizes, vocabulary: int) -> PreTrainedConfig:
    """internlm2 is a Llama whose queries, keys and values are stored together.

    Its dynamic scaling of positions begins beyond ``max_position_embeddings``, where no prompt of ours gets.
    """
    common: dict[str, Any] = {
        "vocab_size": vocabulary,
        "hidden_size": sizes.hidden_size,
        "intermediate_size": sizes.intermediate_size,
        "num_hidden_layers": sizes.num_hidden_layers,
        "num_attention_heads": sizes.num_attention_heads,
        "num_key_value_heads": sizes.num_key_value_heads,
        "max_position_embeddings": sizes.max_position_embeddings,
        "rms_norm_eps": sizes.rms_norm_eps,
        "hidden_act": sizes.hidden_act,
        "rope_parameters": {"rope_type": "default", "rope_theta": sizes.rope_theta},
        "tie_word_embeddings": False,
    }
    if sizes.model_type == "qwen2":
        return Qwen2Config(**common)
    return LlamaConfig(**common, attention_bias=sizes.bias)


def _sam2(shapes: Shapes, given: Mapping[str, Any] | None) -> Sam2VideoConfig:
    widths, blocks = _stages(shapes)
    facts = _facts(widths[0], blocks, given)
    width = shapes[_SAM2 + "image_encoder.neck.convs.0.conv.weight"][0]
    return Sam2VideoConfig(
        vision_config={
            "model_type": "sam2_vision_model",
            "backbone_config": {
                "model_type": "sam2_hiera_det_model",
                "hidden_size": widths[0],
                "num_attention_heads": facts.heads,
                "embed_dim_per_stage": list(widths),
                "blocks_per_stage": list(blocks),
                "num_attention_heads_per_stage": [facts.heads * 2**stage for stage in range(len(widths))],
                "window_size_per_stage": list(facts.windows),
                "global_attention_blocks": list(facts.global_attention),
                "window_positional_embedding_background_size": list(shapes[_TRUNK + "pos_embed"][2:]),
            },
            "backbone_channel_list": list(widths[::-1]),
            "fpn_hidden_size": width,
        },
        prompt_encoder_config={"hidden_size": width},
        mask_decoder_config={
            "hidden_size": width,
            "mlp_dim": shapes[_DECODER + "transformer.layers.0.mlp.layers.0.weight"][0],
            "iou_head_hidden_dim": shapes[_DECODER + "iou_prediction_head.layers.0.weight"][0],
        },
        **_memory_sizes(shapes),
        # What tells SAM 2.0 from 2.1:
        enable_temporal_pos_encoding_for_object_pointers=False,
        enable_occlusion_spatial_embedding=False,
    )


def _memory_sizes(shapes: Shapes) -> dict[str, int]:
    return {
        "memory_attention_hidden_size": shapes[_ATTENTION + "norm.weight"][0],
        "memory_attention_num_layers": _count(shapes, _ATTENTION + "layers."),
        "memory_attention_feed_forward_hidden_size": shapes[_ATTENTION + "layers.0.linear1.weight"][0],
        "memory_encoder_hidden_size": shapes[_MEMORY + "pix_feat_proj.weight"][0],
        "memory_encoder_output_channels": shapes[_MEMORY + "out_proj.weight"][0],
        "mask_downsampler_embed_dim": shapes[_MEMORY + "mask_downsampler.encoder.12.weight"][0],
        "memory_fuser_num_layers": _count(shapes, _MEMORY + "fuser.layers."),
        "memory_fuser_embed_dim": shapes[_MEMORY + "fuser.layers.0.dwconv.weight"][0],
        "memory_fuser_intermediate_dim": shapes[_MEMORY + "fuser.layers.0.pwconv1.weight"][0],
        "num_maskmem": shapes[_SAM2 + "maskmem_tpos_enc"][0],
    }


def _stages(shapes: Shapes) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Width and number of blocks of each stage; a stage is as wide throughout, and the next one is wider."""
    count = _count(shapes, _TRUNK + "blocks.")
    of_blocks = [shapes[f"{_TRUNK}blocks.{number}.attn.proj.weight"][0] for number in range(max(count, 1))]
    widths = tuple(dict.fromkeys(of_blocks))
    return widths, tuple(of_blocks.count(width) for width in widths)


def _facts(width: int, blocks: tuple[int, ...], given: Mapping[str, Any] | None) -> Sam2Facts:
    if given:
        try:
            return Sam2Facts.model_validate(given)
        except ValidationError as error:
            raise ConfigurationError(f"The settings of the SAM 2 are wrong: {error.errors()[0]['msg']}") from None
    known = _KNOWN_SAM2.get((width, blocks))
    if known is None:
        raise ConfigurationError(
            f"The SAM 2 in these weights (width {width}, blocks {blocks}) is none of the published ones; give heads, "
            "windows and global_attention as settings.sam2 in the manifest"
        )
    return known


def _count(shapes: Shapes, prefix: str) -> int:
    """How many numbered parts begin with these words."""
    return len({name[len(prefix) :].partition(".")[0] for name in shapes if name.startswith(prefix)})

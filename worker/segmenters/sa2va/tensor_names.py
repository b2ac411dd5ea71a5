"""Where each tensor of a published Sa2VA checkpoint belongs among the classes that transformers has for its parts."""

import re
from dataclasses import dataclass
from enum import StrEnum

_SAM2 = "grounding_encoder.sam2_model."
_MLP_OF_TWO = r"(trunk\.blocks\.\d+|transformer\.layers\.\d+)\.mlp\.layers\."
_MLP_OF_THREE = r"(iou_prediction_head|output_hypernetworks_mlps\.\d+|pred_obj_score_head|obj_ptr_proj)\.layers\."

_VISION = (
    (r"^vision_model\.", "internvl.model.vision_tower."),
    (r"embeddings\.class_embedding$", "embeddings.cls_token"),
    (r"embeddings\.patch_embedding\.", "embeddings.patch_embeddings.projection."),
    (r"embeddings\.position_embedding$", "embeddings.position_embeddings"),
    (r"encoder\.layers\.", "encoder.layer."),
    (r"\.attn\.proj\.", ".attention.projection_layer."),
    (r"\.attn\.", ".attention."),
    (r"\.ls([12])$", r".lambda_\1"),
    (r"\.norm1\.", ".layernorm_before."),
    (r"\.norm2\.", ".layernorm_after."),
)
_PROJECTOR = (
    (r"^mlp1\.0\.", "internvl.model.multi_modal_projector.layer_norm."),
    (r"^mlp1\.1\.", "internvl.model.multi_modal_projector.linear_1."),
    (r"^mlp1\.3\.", "internvl.model.multi_modal_projector.linear_2."),
)
_LANGUAGE = (
    (r"^language_model\.(lm_head|output)\.", "internvl.lm_head."),
    (r"^language_model\.model\.", "internvl.model.language_model."),
    (r"\.tok_embeddings\.", ".embed_tokens."),
    (r"\.attention\.wqkv\.", ".self_attn.wqkv."),
    (r"\.attention\.wo\.", ".self_attn.o_proj."),
    (r"\.feed_forward\.w1\.", ".mlp.gate_proj."),
    (r"\.feed_forward\.w2\.", ".mlp.down_proj."),
    (r"\.feed_forward\.w3\.", ".mlp.up_proj."),
    (r"\.attention_norm\.", ".input_layernorm."),
    (r"\.ffn_norm\.", ".post_attention_layernorm."),
)
_SAM2_RULES = (
    (re.escape(_SAM2), "sam2."),
    (r"image_encoder\.neck\.convs\.(\d+)\.conv\.", r"vision_encoder.neck.convs.\1."),
    (_MLP_OF_TWO + r"0\.", r"\1.mlp.proj_in."),
    (_MLP_OF_TWO + r"1\.", r"\1.mlp.proj_out."),
    (_MLP_OF_THREE + r"0\.", r"\1.proj_in."),
    (_MLP_OF_THREE + r"2\.", r"\1.proj_out."),
    (_MLP_OF_THREE + r"1\.", r"\1.layers.0."),
    (r"image_encoder\.trunk\.", "vision_encoder.backbone."),
    (r"patch_embed\.proj\.", "patch_embed.projection."),
    (r"sam_(prompt_encoder|mask_decoder)\.", r"\1."),
    (r"output_upscaling\.0\.", "upscale_conv1."),
    (r"output_upscaling\.1\.", "upscale_layer_norm."),
    (r"output_upscaling\.3\.", "upscale_conv2."),
    (r"mask_downscaling\.0\.", "mask_embed.conv1."),
    (r"mask_downscaling\.1\.", "mask_embed.layer_norm1."),
    (r"mask_downscaling\.3\.", "mask_embed.conv2."),
    (r"mask_downscaling\.4\.", "mask_embed.layer_norm2."),
    (r"mask_downscaling\.6\.", "mask_embed.conv3."),
    (r"memory_encoder\.fuser\.", "memory_encoder.memory_fuser."),
    (r"\.dwconv\.", ".depthwise_conv."),
    (r"\.pwconv([12])\.", r".pointwise_conv\1."),
    (r"\.g_weight$", ".scale"),
    (r"memory_encoder\.out_proj\.", "memory_encoder.projection."),
    (r"memory_encoder\.pix_feat_proj\.", "memory_encoder.feature_projection."),
    (r"\.out_proj\.", ".o_proj."),
    (r"\.norm(\d?|_final_attn)\.", r".layer_norm\1."),
    (r"\.maskmem_tpos_enc$", ".memory_temporal_positional_encoding"),
    (r"\.no_mem_embed$", ".no_memory_embedding"),
    (r"\.no_mem_pos_enc$", ".no_memory_positional_encoding"),
    (r"\.no_obj_ptr$", ".no_object_pointer"),
    (r"\.obj_ptr_proj\.", ".object_pointer_proj."),
)
_PROJECTION = ((r"^text_hidden_fcs\.", "projection."),)
_RULES = {
    "vision_model": _VISION,
    "mlp1": _PROJECTOR,
    "language_model": _LANGUAGE,
    "grounding_encoder": _SAM2_RULES,
    "text_hidden_fcs": _PROJECTION,
}
_DOWNSAMPLER = re.compile(r"(.*\.mask_downsampler)\.encoder\.(\d+)\.(weight|bias)$")
_DOWNSAMPLER_LAYERS = 4
_POINT = re.compile(r"(.*\.prompt_encoder)\.point_embeddings\.(\d)\.weight$")
_POSITIONS = "sam2.prompt_encoder.pe_layer.positional_encoding_gaussian_matrix"


class Part(StrEnum):
    """How much of a tensor goes to one place."""

    WHOLE = "whole"
    QUERY = "query"
    KEY = "key"
    VALUE = "value"
    """The last three of a tensor that holds the weights of queries, keys and values one after the other."""
    GROUPED_QUERY = "grouped query"
    GROUPED_KEY = "grouped key"
    GROUPED_VALUE = "grouped value"
    """The same of internlm2: for each head of keys its queries, then its key, then its value."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a tensor, or a part of it, belongs.

    Attributes:
        name: In :class:`worker.segmenters.sa2va.network.Sa2vaNetwork`.
        part: What of the tensor goes there.
        row: The row of the place that it fills, None where it fills it as a whole.
    """

    name: str
    part: Part = Part.WHOLE
    row: int | None = None


def places(original: str) -> tuple[Place, ...]:
    """All places that a tensor of the published layout fills; none for a name that the layout does not know.

    Args:
        original: For example ``language_model.model.layers.0.self_attn.q_proj.weight``.
    """
    rules = _RULES.get(original.partition(".")[0])
    if rules is None:
        return ()
    name = original
    for pattern, replacement in rules:
        name = re.sub(pattern, replacement, name)
    return _special(name) or (Place(name),)


def _special(name: str) -> tuple[Place, ...]:
    """The tensors that are cut, joined, or needed twice."""
    if name == _POSITIONS:
        return (
            Place("sam2.prompt_encoder.shared_embedding.positional_embedding"),
            Place("sam2.shared_image_embedding.positional_embedding"),
        )
    if found := _POINT.match(name):
        return (Place(f"{found[1]}.point_embed.weight", row=int(found[2])),)
    if found := _DOWNSAMPLER.match(name):
        layer, kind = divmod(int(found[2]), 3)
        step = "final_conv" if layer == _DOWNSAMPLER_LAYERS else f"layers.{layer}.{('conv', 'layer_norm')[kind]}"
        return (Place(f"{found[1]}.{step}.{found[3]}"),)
    if ".vision_tower." in name and ".qkv." in name:
        return _cut(name, "qkv", (Part.QUERY, Part.KEY, Part.VALUE))
    if ".wqkv." in name:
        return _cut(name, "wqkv", (Part.GROUPED_QUERY, Part.GROUPED_KEY, Part.GROUPED_VALUE))
    return ()


def _cut(name: str, joined: str, parts: tuple[Part, Part, Part]) -> tuple[Place, ...]:
    letters = zip("qkv", parts, strict=True)
    return tuple(Place(name.replace(f".{joined}.", f".{letter}_proj."), part) for letter, part in letters)

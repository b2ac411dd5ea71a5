"""Small Sa2VA checkpoints in the published layout: random weights, but a language model that gives the usual answer."""

import itertools
import json
import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from torch import Tensor

from worker.segmenters.sa2va.configuration import NetworkConfig, Sa2vaSizes, network_config
from worker.segmenters.sa2va.network import Sa2vaNetwork

SPECIAL = ("<|im_end|>", "<|im_start|>", "<img>", "</img>", "<IMG_CONTEXT>", "[SEG]")
SPOKEN = ("\n", "S", "u", "r", "e", ",", " ", "[SEG]", ".", "<|im_end|>")
"""What the language model says after a line end, word by word; each of its words is one letter."""
HEADS, KEY_HEADS, WIDTH = 4, 2, 64
TILE = 56
"""Small tiles: 16 patches, of which 4 words are made."""
_SAM2 = "grounding_encoder.sam2_model."
_DRAWN = 64
"""Width of SAM 2; transformers has it fixed for what a memory holds."""


def config_json(language: str = "qwen2") -> dict[str, Any]:
    """The config.json of a small checkpoint; ``language`` is ``qwen2`` or ``internlm2``."""
    return {
        "architectures": ["Sa2VAChatModel"],
        "model_type": "sa2va_chat",
        "downsample_ratio": 0.5,
        "force_image_size": TILE,
        "max_dynamic_patch": 12,
        "ps_version": "v2",
        "template": "internlm2_chat",
        "use_thumbnail": True,
        "vision_config": {
            "hidden_size": 16,
            "intermediate_size": 32,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "patch_size": 14,
            "qkv_bias": True,
        },
        "llm_config": {
            "model_type": language,
            "hidden_size": WIDTH,
            "intermediate_size": 96,
            "num_hidden_layers": 2,
            "num_attention_heads": HEADS,
            "num_key_value_heads": KEY_HEADS,
            "rope_theta": 1e6,
            "bias": False,
        },
    }


def tokenizer() -> Tokenizer:
    """Every byte is a word, and there are the special ones."""
    letters = {letter: number for number, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    made = Tokenizer(models.BPE(vocab=letters, merges=[]))
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    made.add_special_tokens(list(SPECIAL))
    return made


def small_config(language: str = "qwen2") -> NetworkConfig:
    """What a small network is built from; its SAM 2 is as wide as that of the larger trial checkpoints is deep."""
    sizes = Sa2vaSizes.model_validate(config_json(language))
    return network_config(sizes, _shapes(), image_token=tokenizer().token_to_id("<IMG_CONTEXT>"))


def small_network(language: str = "qwen2", seed: int = 5) -> Sa2vaNetwork:
    """A network with random weights that answers ``Sure, [SEG].``, and draws something that depends on the picture."""
    torch.manual_seed(seed)
    network = Sa2vaNetwork(small_config(language)).eval().requires_grad_(requires_grad=False)
    for name, tensor in network.state_dict().items():
        if tensor.ndim > 1 or "embed" in name:
            torch.nn.init.normal_(tensor, std=0.3 if "embed" in name else 1.5 / tensor[0].numel() ** 0.5)
        elif name.endswith("bias"):
            torch.nn.init.normal_(tensor, std=0.1)
        else:
            torch.nn.init.uniform_(tensor, 0.5, 1.5)
    # Both places of SAM 2 hold the same positions.
    positions = network.sam2.shared_image_embedding.positional_embedding
    network.sam2.prompt_encoder.shared_embedding.positional_embedding.copy_(positions)
    _teach_answer(network)
    return network


def _teach_answer(network: Sa2vaNetwork) -> None:
    """Let the word that follows in the usual answer be the likeliest; pictures only move the state a little."""
    language = network.internvl.model.language_model
    for layer in language.layers:
        layer.self_attn.o_proj.weight.mul_(0.05)
        layer.mlp.down_proj.weight.mul_(0.05)
    language.norm.weight.fill_(1.0)
    words = [tokenizer().encode(word).ids[0] for word in SPOKEN]
    network.internvl.lm_head.weight.zero_()
    for word, following in itertools.pairwise(words):
        network.internvl.lm_head.weight[following] = language.embed_tokens.weight[word]


def write_checkpoint(folder: Path, language: str = "qwen2", *, shards: int = 1, seed: int = 5) -> Sa2vaNetwork:
    """Write a folder as it would be downloaded.

    Args:
        folder: To make.
        language: ``qwen2`` or ``internlm2``.
        shards: Files that the weights are spread over.
        seed: Of the random weights.

    Returns:
        The network that was written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    network = small_network(language, seed)
    tensors = original_tensors(network)
    (folder / "config.json").write_text(json.dumps(config_json(language)))
    tokenizer().save(str(folder / "tokenizer.json"))
    names = sorted(tensors)
    for shard in range(shards):
        file = f"model-{shard + 1:05d}-of-{shards:05d}.safetensors" if shards > 1 else "model.safetensors"
        save_file({name: tensors[name] for name in names[shard::shards]}, folder / file, {"format": "pt"})
    return network


def original_tensors(network: Sa2vaNetwork) -> dict[str, Tensor]:
    """The weights of a network in the names of the published layout."""
    state = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    del state["sam2.shared_image_embedding.positional_embedding"]
    points = state.pop("sam2.prompt_encoder.point_embed.weight")
    named = {
        f"{_SAM2}sam_prompt_encoder.point_embeddings.{row}.weight": points[row : row + 1].clone() for row in range(4)
    }
    internlm2 = network.config.sizes.llm_config.model_type == "internlm2"
    for name, tensor in state.items():
        if internlm2 and (found := re.match(r"(.*)\.self_attn\.q_proj\.weight$", name)) and "language_model" in name:
            named[_internlm2_name(f"{found[1]}.attention.wqkv.weight")] = _grouped(state, found[1])
        elif ".vision_tower." in name and (found := re.match(r"(.*)\.attention\.q_proj\.(weight|bias)$", name)):
            parts = [state[f"{found[1]}.attention.{letter}_proj.{found[2]}"] for letter in "qkv"]
            named[_vision_name(f"{found[1]}.attention.qkv.{found[2]}")] = torch.cat(parts)
        elif not re.search(
            r"(vision_tower.*|language_model.*)\.[kv]_proj\." if internlm2 else r"vision_tower.*\.[qkv]_proj\.", name
        ):
            named[_original(name, internlm2=internlm2)] = tensor
    return named


def _grouped(state: dict[str, Tensor], layer: str) -> Tensor:
    """Queries, keys and values of internlm2: one group for each head of keys."""
    size = WIDTH // HEADS
    query = state[f"{layer}.self_attn.q_proj.weight"].view(KEY_HEADS, HEADS // KEY_HEADS, size, WIDTH)
    key = state[f"{layer}.self_attn.k_proj.weight"].view(KEY_HEADS, 1, size, WIDTH)
    value = state[f"{layer}.self_attn.v_proj.weight"].view(KEY_HEADS, 1, size, WIDTH)
    return torch.cat([query, key, value], dim=1).reshape(-1, WIDTH)


def _original(name: str, *, internlm2: bool) -> str:
    if name.startswith("internvl.model.vision_tower."):
        return _vision_name(name)
    if name.startswith("internvl.model.multi_modal_projector."):
        step = {"layer_norm": "0", "linear_1": "1", "linear_2": "3"}[name.split(".")[3]]
        return f"mlp1.{step}.{name.split('.')[4]}"
    if name.startswith("projection."):
        return name.replace("projection.", "text_hidden_fcs.")
    if name.startswith("sam2."):
        return _sam2_name(name)
    named = name.replace("internvl.model.language_model.", "language_model.model.")
    named = named.replace("internvl.lm_head.", "language_model.lm_head.")
    return _internlm2_name(named) if internlm2 else named


def _replaced(name: str, pairs: tuple[tuple[str, str], ...]) -> str:
    for new, old in pairs:
        name = re.sub(new, old, name)
    return name


def _internlm2_name(name: str) -> str:
    return _replaced(
        name,
        (
            (r"^internvl\.model\.language_model\.", "language_model.model."),
            (r"^language_model\.lm_head\.", "language_model.output."),
            (r"\.embed_tokens\.", ".tok_embeddings."),
            (r"\.self_attn\.o_proj\.", ".attention.wo."),
            (r"\.mlp\.gate_proj\.", ".feed_forward.w1."),
            (r"\.mlp\.down_proj\.", ".feed_forward.w2."),
            (r"\.mlp\.up_proj\.", ".feed_forward.w3."),
            (r"\.input_layernorm\.", ".attention_norm."),
            (r"\.post_attention_layernorm\.", ".ffn_norm."),
        ),
    )


def _vision_name(name: str) -> str:
    return _replaced(
        name,
        (
            (r"^internvl\.model\.vision_tower\.", "vision_model."),
            (r"cls_token$", "class_embedding"),
            (r"patch_embeddings\.projection\.", "patch_embedding."),
            (r"position_embeddings$", "position_embedding"),
            (r"encoder\.layer\.", "encoder.layers."),
            (r"\.attention\.projection_layer\.", ".attn.proj."),
            (r"\.attention\.", ".attn."),
            (r"\.lambda_", ".ls"),
            (r"\.layernorm_before\.", ".norm1."),
            (r"\.layernorm_after\.", ".norm2."),
        ),
    )


def _sam2_name(name: str) -> str:
    of_two, of_three = (
        r"(blocks\.\d+|transformer\.layers\.\d+)\.mlp\.",
        r"(iou_prediction_head|mlps\.\d+|score_head|pointer_proj)\.",
    )
    return _replaced(
        name,
        (
            (of_two + r"proj_in\.", r"\1.mlp.layers.0."),
            (of_two + r"proj_out\.", r"\1.mlp.layers.1."),
            (of_three + r"layers\.0\.", r"\1.layers.1."),
            (of_three + r"proj_in\.", r"\1.layers.0."),
            (of_three + r"proj_out\.", r"\1.layers.2."),
            (r"mask_downsampler\.layers\.(\d)\.conv\.", lambda found: f"mask_downsampler.encoder.{3 * int(found[1])}."),
            (
                r"mask_downsampler\.layers\.(\d)\.layer_norm\.",
                lambda found: f"mask_downsampler.encoder.{3 * int(found[1]) + 1}.",
            ),
            (r"mask_downsampler\.final_conv\.", "mask_downsampler.encoder.12."),
            (r"shared_embedding\.positional_embedding", "pe_layer.positional_encoding_gaussian_matrix"),
            (r"neck\.convs\.(\d)\.", r"neck.convs.\1.conv."),
            (r"upscale_conv1\.", "output_upscaling.0."),
            (r"upscale_layer_norm\.", "output_upscaling.1."),
            (r"upscale_conv2\.", "output_upscaling.3."),
            (r"mask_embed\.conv1\.", "mask_downscaling.0."),
            (r"mask_embed\.layer_norm1\.", "mask_downscaling.1."),
            (r"mask_embed\.conv2\.", "mask_downscaling.3."),
            (r"mask_embed\.layer_norm2\.", "mask_downscaling.4."),
            (r"mask_embed\.conv3\.", "mask_downscaling.6."),
            (r"\.layer_norm(\d?|_final_attn)\.", r".norm\1."),
            (r"\.o_proj\.", ".out_proj."),
            (r"^sam2\.(prompt_encoder|mask_decoder)\.", r"sam2.sam_\1."),
            (r"vision_encoder\.backbone\.", "image_encoder.trunk."),
            (r"vision_encoder\.", "image_encoder."),
            (r"patch_embed\.projection\.", "patch_embed.proj."),
            (r"memory_fuser\.", "fuser."),
            (r"depthwise_conv\.", "dwconv."),
            (r"pointwise_conv", "pwconv"),
            (r"\.scale$", ".g_weight"),
            (r"memory_encoder\.projection\.", "memory_encoder.out_proj."),
            (r"feature_projection\.", "pix_feat_proj."),
            (r"memory_temporal_positional_encoding$", "maskmem_tpos_enc"),
            (r"no_memory_embedding$", "no_mem_embed"),
            (r"no_memory_positional_encoding$", "no_mem_pos_enc"),
            (r"no_object_pointer$", "no_obj_ptr"),
            (r"object_pointer_proj\.", "obj_ptr_proj."),
            (r"^sam2\.", _SAM2),
        ),
    )


def _shapes() -> dict[str, tuple[int, ...]]:
    """Of those tensors that tell the sizes which config.json is silent about."""
    trunk, decoder = f"{_SAM2}image_encoder.trunk.", f"{_SAM2}sam_mask_decoder."
    memory, attention = f"{_SAM2}memory_encoder.", f"{_SAM2}memory_attention."
    widths = (8, 16, 16, 32, 32, 32, 64)
    return {
        **{f"{trunk}blocks.{number}.attn.proj.weight": (width, width) for number, width in enumerate(widths)},
        f"{trunk}pos_embed": (1, 8, 7, 7),
        f"{_SAM2}image_encoder.neck.convs.0.conv.weight": (_DRAWN, 64, 1, 1),
        f"{decoder}transformer.layers.0.mlp.layers.0.weight": (48, _DRAWN),
        f"{decoder}iou_prediction_head.layers.0.weight": (32, _DRAWN),
        f"{attention}norm.weight": (_DRAWN,),
        f"{attention}layers.0.linear1.weight": (48, _DRAWN),
        f"{memory}pix_feat_proj.weight": (_DRAWN, _DRAWN, 1, 1),
        f"{memory}out_proj.weight": (64, _DRAWN, 1, 1),
        f"{memory}mask_downsampler.encoder.12.weight": (_DRAWN, 256, 1, 1),
        f"{memory}fuser.layers.0.dwconv.weight": (_DRAWN, 1, 7, 7),
        f"{memory}fuser.layers.0.pwconv1.weight": (96, _DRAWN),
        f"{_SAM2}maskmem_tpos_enc": (7, 1, 1, 64),
        "language_model.model.embed_tokens.weight": (256 + len(SPECIAL), WIDTH),
        "text_hidden_fcs.2.weight": (_DRAWN, WIDTH),
    }

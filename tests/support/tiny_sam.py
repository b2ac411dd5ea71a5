"""Tiny SAM, MedSAM and SAM 2 with random weights, in folders as Hugging Face and vesselq have them."""

import json
from pathlib import Path
from typing import Any

import torch

from worker.model_folder.manifest import ModelManifest, write_manifest
from worker.model_folder.opening import files_of

SIDE = 64
"""Pixels of the square that the tiny networks look at; their masks are a quarter of it."""
_NORMAL = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
_PICTURES = {"do_rescale": True, "rescale_factor": 1 / 255, "do_resize": True, "resample": 2}
SAM_PREPROCESSOR = {
    "image_processor_type": "SamImageProcessor", "do_normalize": True, "do_pad": True, "size": {"longest_edge": SIDE},
    "pad_size": {"height": SIDE, "width": SIDE}, **_NORMAL, **_PICTURES,
}  # fmt: skip
MEDSAM_PREPROCESSOR = {**SAM_PREPROCESSOR, "do_normalize": False}
SAM2_PREPROCESSOR = {
    "image_processor_type": "Sam2ImageProcessorFast", "do_normalize": True,
    "size": {"height": SIDE, "width": SIDE}, **_NORMAL, **_PICTURES,
}  # fmt: skip


def tiny_sam(seed: int = 0) -> Any:
    """Return a SamModel of 84 000 random parameters whose masks depend on picture and prompt."""
    from transformers import SamConfig, SamModel

    vision = {
        "hidden_size": 32, "output_channels": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "image_size": SIDE,
        "window_size": 2, "global_attn_indexes": [1], "num_pos_feats": 16, "mlp_dim": 32,
    }  # fmt: skip
    config = SamConfig(vision_config=vision, **_heads())
    torch.manual_seed(seed)
    return _enlivened(SamModel(config))


def tiny_sam2(seed: int = 0, *, video: bool = True) -> Any:
    """Return a Sam2VideoModel, or the Sam2Model for pictures, with random weights."""
    from transformers import Sam2Config, Sam2Model, Sam2VideoConfig, Sam2VideoModel

    # 128 channels, because the model cuts pointers into memories of 64, a number that stands in its code.
    vision = {
        "backbone_config": {
            "model_type": "sam2_hiera_det_model", "hidden_size": 8, "image_size": [SIDE, SIDE],
            "blocks_per_stage": [1, 1, 2, 1], "embed_dim_per_stage": [8, 16, 32, 64],
            "num_attention_heads_per_stage": [1, 1, 2, 2], "window_size_per_stage": [4, 4, 2, 2],
            "global_attention_blocks": [3], "window_positional_embedding_background_size": [4, 4],
        },
        "backbone_channel_list": [64, 32, 16, 8], "fpn_hidden_size": 128,
        "backbone_feature_sizes": [[SIDE // 4] * 2, [SIDE // 8] * 2, [SIDE // 16] * 2],
    }  # fmt: skip
    torch.manual_seed(seed)
    if not video:
        return _enlivened(Sam2Model(Sam2Config(vision_config=vision, **_heads(128))))
    config = Sam2VideoConfig(
        vision_config=vision, **_heads(128), image_size=SIDE, memory_attention_hidden_size=128,
        memory_attention_num_layers=1, memory_attention_feed_forward_hidden_size=64,
        memory_attention_rope_feat_sizes=[SIDE // 16] * 2, memory_encoder_hidden_size=128,
        memory_encoder_output_channels=64, mask_downsampler_embed_dim=128, memory_fuser_embed_dim=128,
        memory_fuser_intermediate_dim=64, memory_fuser_num_layers=1, memory_fuser_kernel_size=3, memory_fuser_padding=1,
    )  # fmt: skip
    model = _enlivened(Sam2VideoModel(config))
    torch.nn.init.constant_(model.mask_decoder.pred_obj_score_head.proj_out.bias, 5.0)  # the thing is always there
    return model


def write_tiny_sam(
    folder: Path, *, seed: int = 0, medsam: bool = False, settings: dict[str, Any] | None = None
) -> Path:
    """Write a tiny SAM with its manifest; a MedSAM says ``do_normalize: false``."""
    return _write(folder, "sam", tiny_sam(seed), MEDSAM_PREPROCESSOR if medsam else SAM_PREPROCESSOR, settings)


def write_tiny_sam2(folder: Path, *, seed: int = 0, video: bool = True) -> Path:
    """Write a tiny SAM 2 with its manifest."""
    return _write(folder, "sam2", tiny_sam2(seed, video=video), SAM2_PREPROCESSOR, None)


def _heads(hidden: int = 32) -> dict[str, dict[str, Any]]:
    decoder = {"mlp_dim": 32, "num_attention_heads": 2, "iou_head_hidden_dim": 16}
    return {
        "prompt_encoder_config": {"hidden_size": hidden, "image_size": SIDE, "mask_input_channels": 8},
        "mask_decoder_config": {"hidden_size": hidden, **decoder},
    }


def _enlivened(model: Any) -> Any:
    """Make everything matter: transformers begins with weights that leave much at zero, and draws with no contrast."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "layer_norm" in name or "positional_embedding" in name or "shared" in name:
                continue
            spread = 0.5 if parameter.ndim < 2 or "embed" in name else 1.5 * parameter[0].numel() ** -0.5
            parameter.normal_(0.0, spread)
        bias = model.mask_decoder.iou_prediction_head.proj_out.bias
        bias.copy_(torch.linspace(0.5, 0.7, len(bias)))
        model.mask_decoder.iou_prediction_head.proj_out.weight.mul_(0.05)
    return model.eval()


def _write(
    folder: Path, system: str, model: Any, preprocessor: dict[str, Any], settings: dict[str, Any] | None
) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder, safe_serialization=True)
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor), encoding="utf-8")
    names = ("config.json", "model.safetensors", "preprocessor_config.json")
    manifest = ModelManifest(
        system=system,
        name=f"tiny-{system}",
        version="1",
        license="Apache-2.0",
        files=files_of(folder, names),
        settings=settings or {},
    )
    write_manifest(folder, manifest)
    return folder

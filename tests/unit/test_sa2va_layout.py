"""Published tensors find their places: by name, strictly, for both kinds of language model."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import sa2va_checkpoints as small
import torch
from safetensors.torch import load_file, save_file

from dicom_core.errors import ConfigurationError
from worker.model_folder.opening import ModelFolder
from worker.model_folder.recognising import looked_at
from worker.segmenters.sa2va.configuration import network_config, read_sizes
from worker.segmenters.sa2va.loading import open_checkpoint
from worker.segmenters.sa2va.model import Sa2vaModel
from worker.segmenters.sa2va.network import network_without_weights
from worker.segmenters.sa2va.published import published_config, sizes
from worker.segmenters.sa2va.tensor_names import Part, Place, places

HIERA = {"widths": (144, 288, 576, 1152), "blocks": (2, 6, 36, 4)}


def opened(folder: Path) -> Sa2vaModel:
    return Sa2vaModel.open(looked_at(folder), "cpu", torch.float32)


@pytest.mark.parametrize(("language", "shards"), [("qwen2", 3), ("internlm2", 1)])
def test_what_was_written_in_published_names_is_read(tmp_path: Path, language: str, shards: int) -> None:
    """Every weight comes back bit for bit, from one file or several, also where internlm2 joins its rows."""
    written = small.write_checkpoint(tmp_path / "model", language, shards=shards).state_dict()
    read = opened(tmp_path / "model").network.state_dict()
    assert written.keys() == read.keys()
    assert [name for name in written if not torch.equal(written[name], read[name])] == []


def test_internlm2_rows_are_cut_by_heads() -> None:
    """Of four heads in two groups: two queries, a key, a value, then the same again."""
    network = small.small_network("internlm2")
    joined = small.original_tensors(network)["language_model.model.layers.0.attention.wqkv.weight"]
    attention = network.internvl.model.language_model.layers[0].self_attn
    size = small.WIDTH // small.HEADS
    assert torch.equal(joined[2 * size : 3 * size], attention.k_proj.weight[:size])
    assert torch.equal(joined[7 * size :], attention.v_proj.weight[size:])
    assert torch.equal(joined[4 * size : 6 * size], attention.q_proj.weight[2 * size :])


def test_computed_buffers_are_there_after_loading(checkpoint: Path) -> None:
    """Frequencies and positions, which no checkpoint holds, are those of a network that was built with memory."""
    read = dict(opened(checkpoint).network.named_buffers())
    built = dict(small.small_network().named_buffers())
    assert read.keys() == built.keys()
    assert all(torch.equal(read[name], built[name]) for name in built)


def test_weights_become_the_type_that_is_asked_for(checkpoint: Path) -> None:
    """Whatever type they are stored in."""
    model = Sa2vaModel.open(looked_at(checkpoint), "cpu", torch.bfloat16)
    assert {parameter.dtype for parameter in model.network.parameters()} == {torch.bfloat16}
    assert model.parameters == Sa2vaModel.parameters_in(looked_at(checkpoint))


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint that nobody changes."""
    folder = tmp_path_factory.mktemp("sa2va") / "model"
    small.write_checkpoint(folder)
    return folder


def damaged(checkpoint: Path, folder: Path, change: Any) -> ModelFolder:
    """A copy of a checkpoint one of whose tensors was changed."""
    shutil.copytree(checkpoint, folder)
    tensors = load_file(folder / "model.safetensors")
    change(tensors)
    save_file(tensors, folder / "model.safetensors")
    return looked_at(folder)


def drop(tensors: dict[str, torch.Tensor]) -> None:
    del tensors["mlp1.1.bias"]


def add(tensors: dict[str, torch.Tensor]) -> None:
    tensors["language_model.model.layers.9.mlp.up_proj.weight"] = torch.zeros(3)


def add_stranger(tensors: dict[str, torch.Tensor]) -> None:
    tensors["backbone.conv.weight"] = torch.zeros(3)


def reshape(tensors: dict[str, torch.Tensor]) -> None:
    tensors["vision_model.encoder.layers.0.ls1"] = torch.zeros(5)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (drop, "lack 1 tensors, among them those of internvl.model.multi_modal_projector.linear_1.bias"),
        (add, r"language_model.model.layers.9.mlp.up_proj.weight, for which this Sa2VA has no place"),
        (add_stranger, "backbone.conv.weight, which no Sa2VA has"),
        (reshape, r"ls1 has the shape \(5,\) where \(16,\) was expected"),
    ],
)
def test_loading_is_strict(checkpoint: Path, tmp_path: Path, change: Any, words: str) -> None:
    """A tensor too few, too many, unknown or of another shape is named, also by the check that reads no numbers."""
    folder = damaged(checkpoint, tmp_path / "model", change)
    with pytest.raises(ConfigurationError, match=words):
        Sa2vaModel.parameters_in(folder)


def test_tied_word_embeddings_are_stored_once(checkpoint: Path, tmp_path: Path) -> None:
    """A checkpoint without an output matrix speaks with its input matrix."""

    def tie(tensors: dict[str, torch.Tensor]) -> None:
        del tensors["language_model.lm_head.weight"]

    model = Sa2vaModel.open(damaged(checkpoint, tmp_path / "model", tie), "cpu", torch.float32)
    spoken, heard = (
        model.network.internvl.lm_head.weight,
        model.network.internvl.model.language_model.embed_tokens.weight,
    )
    assert spoken.data_ptr() == heard.data_ptr()


def test_files_that_are_no_checkpoint_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    """No weights, two files with the same tensors, a broken file, no vocabulary."""
    folder = tmp_path / "model"
    shutil.copytree(checkpoint, folder)
    weights = (folder / "model.safetensors").read_bytes()
    (folder / "again.safetensors").write_bytes(weights)
    with pytest.raises(ConfigurationError, match="which another file holds already"):
        opened(folder)
    (folder / "again.safetensors").write_bytes(b"x" * 100)
    with pytest.raises(ConfigurationError, match="is no safetensors file"):
        opened(folder)
    (folder / "again.safetensors").unlink()
    with pytest.raises(ConfigurationError, match="no safetensors file with weights"), open_checkpoint([]):
        pass
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ConfigurationError, match=r"lists no tokenizer\.json"):
        opened(folder)


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        (("ps_version",), "v1", "ps_version"),
        (("llm_config", "model_type"), "phi3", "llm_config.model_type"),
        (("vision_config", "hidden_size"), None, "vision_config.hidden_size"),
        (("select_layer",), -2, "select_layer"),
        (("llm_config", "num_hidden_layers"), 10**9, "less than or equal to 1000"),
        (("vision_config", "hidden_act"), "os.system", "hidden_act"),
    ],
)
def test_config_of_another_kind_is_refused(place: tuple[str, ...], value: Any, words: str) -> None:
    """What would silently give other answers (pixel shuffle v1, another layer) is named in the error."""
    told = small.config_json()
    inner = told
    for step in place[:-1]:
        inner = inner[step]
    inner[place[-1]] = value
    with pytest.raises(ConfigurationError, match=words):
        read_sizes(json.dumps(told), "config.json")


def test_unknown_sam2_needs_words() -> None:
    """A SAM 2 that is none of the published ones is run when the manifest says what its tensors cannot."""
    sizes_read = read_sizes(json.dumps(small.config_json()), "config.json")
    shapes = {name: shape for name, shape in small._shapes().items() if "blocks.6." not in name}
    with pytest.raises(ConfigurationError, match=r"width 8, blocks \(1, 2, 3\).*settings.sam2"):
        network_config(sizes_read, shapes, 5)
    facts = {"heads": 2, "windows": [8, 4, 16, 8], "global_attention": [2]}
    config = network_config(sizes_read, small._shapes(), 5, facts).sam2.vision_config.backbone_config
    assert config.num_attention_heads_per_stage == [2, 4, 8, 16]
    with pytest.raises(ConfigurationError, match="settings of the SAM 2 are wrong"):
        network_config(sizes_read, shapes, 5, {"heads": 0})


def test_shape_of_the_vessel_checkpoint() -> None:
    """The published size 8b has exactly the parameters that the index of Sa2VA-vessel counts; none is in memory."""
    network = network_without_weights(published_config("8b"))
    assert sum(parameter.numel() for parameter in network.parameters()) == 8_182_606_130
    assert all(parameter.is_meta for parameter in network.parameters())
    backbone = network.sam2.config.vision_config.backbone_config
    assert tuple(backbone.embed_dim_per_stage) == HIERA["widths"]
    assert tuple(backbone.blocks_per_stage) == HIERA["blocks"]
    assert backbone.global_attention_blocks == [23, 33, 43]
    text = network.internvl.config.text_config
    assert (text.tie_word_embeddings, text.rope_parameters["rope_theta"]) == (False, 1e6)


def test_sizes_are_known_by_name() -> None:
    """Every size can be built; another one is refused with their names."""
    built = {size: published_config(size).sizes.llm_config.hidden_size for size in sizes()}
    assert built == {"tiny": 64, "1b": 896, "2b": 1536, "4b": 2048, "8b": 3584, "14b": 5120}
    with pytest.raises(ConfigurationError, match="tiny, 1b, 2b, 4b, 8b, 14b"):
        published_config("7b")


@pytest.mark.parametrize(
    ("original", "expected"),
    [
        (
            "vision_model.encoder.layers.3.attn.qkv.bias",
            tuple(
                Place(f"internvl.model.vision_tower.encoder.layer.3.attention.{letter}_proj.bias", part)
                for letter, part in zip("qkv", (Part.QUERY, Part.KEY, Part.VALUE), strict=True)
            ),
        ),
        (
            "grounding_encoder.sam2_model.sam_prompt_encoder.point_embeddings.2.weight",
            (Place("sam2.prompt_encoder.point_embed.weight", row=2),),
        ),
        (
            "grounding_encoder.sam2_model.memory_encoder.mask_downsampler.encoder.10.bias",
            (Place("sam2.memory_encoder.mask_downsampler.layers.3.layer_norm.bias"),),
        ),
        (
            "grounding_encoder.sam2_model.memory_encoder.fuser.layers.1.g_weight",
            (Place("sam2.memory_encoder.memory_fuser.layers.1.scale"),),
        ),
        (
            "grounding_encoder.sam2_model.sam_mask_decoder.transformer.layers.0.cross_attn_image_to_token.out_proj.bias",
            (Place("sam2.mask_decoder.transformer.layers.0.cross_attn_image_to_token.o_proj.bias"),),
        ),
        ("text_hidden_fcs.2.weight", (Place("projection.2.weight"),)),
        ("classifier.weight", ()),
    ],
)
def test_places(original: str, expected: tuple[Place, ...]) -> None:
    """Some of each kind: cut, joined, renamed, unknown."""
    assert places(original) == expected

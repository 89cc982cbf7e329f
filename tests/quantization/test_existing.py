"""Checkpoints that others' tools made become the dense weights that these tools read in them."""

import hashlib
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from stratalaw.evaluation.answers import load_dense
from stratalaw.models.folder import AUDIT, ModelError, copy_model, read_config
from stratalaw.models.packed import packing_of
from stratalaw.quantization.existing import convert
from stratalaw.quantization.gguf import KINDS, in_order_of_model

CHECKPOINTS = Path(__file__).with_name("checkpoints")
# Bits, group size and effective bits of each, as its tool was told (see checkpoints/make.py).
MADE = {
    "gptq": ("GPTQ", 4, 32, 4 + 20 / 32),
    "gptq-v2": ("GPTQ", 3, 32, 3 + 19 / 32),
    "awq": ("AWQ", 4, 32, 4 + 20 / 32),
    "compressed-tensors": ("compressed-tensors", 4, 32, 4 + 16 / 32),
    "compressed-tensors-asym": ("compressed-tensors", 4, 32, 4 + 20 / 32),
    "compressed-tensors-w8": ("compressed-tensors", 8, 32, 8 + 16 / 32),
    "auto-round": ("AutoRound", 4, 32, 4 + 20 / 32),
    "auto-round-gptq": ("AutoRound", 4, 32, 4 + 20 / 32),
    "gguf-q4_0": ("GGUF", 4, 32, 4 + 16 / 32),
    "gguf-q8_0": ("GGUF", 8, 32, 8 + 16 / 32),
}


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("original") / "tiny"
    copy_model(CHECKPOINTS / "model", folder)
    return folder


def source_of(name: str) -> Path:
    folder = CHECKPOINTS / name
    return folder / "model.gguf" if (folder / "model.gguf").exists() else folder


def digest(weight: torch.Tensor) -> str:
    return hashlib.sha256(weight.contiguous().view(torch.uint8).numpy().tobytes()).hexdigest()


@pytest.mark.parametrize("name", MADE)
def test_the_weights_are_those_that_the_tool_itself_reads(original, tmp_path, name):
    convert(source_of(name), original, tmp_path / name, {"model": "0"})
    dense = load_file(tmp_path / name / "model.safetensors")
    expected = json.loads((CHECKPOINTS / name / "expected.json").read_text())
    assert len(expected) == 7
    assert {key: digest(dense[key]) for key in expected} == expected
    kept = load_file(CHECKPOINTS / "model" / "model.safetensors")
    assert dense.keys() == kept.keys()
    for key in kept.keys() - expected.keys():
        torch.testing.assert_close(dense[key], kept[key])
    audit = json.loads((tmp_path / name / AUDIT).read_text())
    method, bits, group_size, effective = MADE[name]
    assert (audit["method"], audit["bits"], audit["group_size"]) == (f"{method}, existing", bits, group_size)
    assert audit["effective_bits"] == pytest.approx(effective)
    assert audit["unquantized"] == [] and audit["also_quantized"] == []


def test_a_converted_checkpoint_is_an_ordinary_dense_model(original, tmp_path):
    convert(source_of("gptq"), original, tmp_path / "mine", {"model": "0"})
    assert "quantization_config" not in read_config(tmp_path / "mine")
    model = load_dense(tmp_path / "mine", "cpu")
    stored = load_file(tmp_path / "mine" / "model.safetensors")
    assert all(
        torch.equal(weight.bfloat16(), stored[name]) for name, weight in model.state_dict().items() if name in stored
    )


def test_large_checkpoints_lie_in_several_files(original, tmp_path, monkeypatch):
    convert(source_of("gptq"), original, tmp_path / "whole", {"model": "0"})
    monkeypatch.setattr("stratalaw.quantization.existing.SHARD_BYTES", 20_000)
    convert(source_of("gptq"), original, tmp_path / "parts", {"model": "0"})
    files = sorted((tmp_path / "parts").glob("*.safetensors"))
    parts = {name: weight for path in files for name, weight in load_file(path).items()}
    whole = load_file(tmp_path / "whole" / "model.safetensors")
    assert len(files) > 1 and parts.keys() == whole.keys()
    assert all(torch.equal(parts[name], weight) for name, weight in whole.items())
    load_dense(tmp_path / "parts", "cpu")


def test_what_is_not_quantized_is_listed_and_counts_16_bits(original, tmp_path):
    shutil.copytree(CHECKPOINTS / "gptq", tmp_path / "some")
    tensors, module = load_file(tmp_path / "some" / "model.safetensors"), "model.layers.0.mlp.up_proj"
    kept = {name: tensor for name, tensor in tensors.items() if not name.startswith(module)}
    save_file(kept | {f"{module}.weight": torch.zeros(64, 64).bfloat16()}, tmp_path / "some" / "model.safetensors")
    convert(tmp_path / "some", original, tmp_path / "mine", {"model": "0"})
    audit = json.loads((tmp_path / "mine" / AUDIT).read_text())
    assert audit["unquantized"] == [module]
    assert audit["effective_bits"] == pytest.approx((6 * (4 + 20 / 32) + 16) / 7)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model.norm.weight": None}, r"no tensor for model.norm.weight of tiny \(1 missing\)"),
        ({"model.norm.weight": torch.ones(8)}, r"model.norm.weight has the shape \(8,\); in tiny it has \(64,\)"),
        ({"model.other": torch.ones(8)}, "model.other is no tensor of tiny"),
        ({"model.layers.0.mlp.up_proj.qzeros": None}, "model.layers.0.mlp.up_proj.weight: its parts do not fit"),
        ({"model.norm.weight": torch.ones(64, dtype=torch.int8)}, "model.norm.weight is packed in a way that is not"),
    ],
)
def test_what_is_no_checkpoint_of_the_model_is_refused(original, tmp_path, change, message):
    shutil.copytree(CHECKPOINTS / "gptq", tmp_path / "some")
    tensors = load_file(tmp_path / "some" / "model.safetensors") | change
    kept = {name: tensor for name, tensor in tensors.items() if tensor is not None}
    save_file(kept, tmp_path / "some" / "model.safetensors")
    with pytest.raises(ModelError, match=message):
        convert(tmp_path / "some", original, tmp_path / "mine", {"model": "0"})
    assert not (tmp_path / "mine").exists()


@pytest.mark.parametrize("kind", [kind for kind in KINDS.values() if kind.bits < 16], ids=lambda kind: kind.name)
def test_blocks_of_gguf_mean_what_the_gguf_package_says(kind):
    blocks = np.load(CHECKPOINTS / "gguf-blocks.npz")
    np.testing.assert_allclose(kind.decode(blocks[kind.name]), blocks[f"{kind.name} expected"], rtol=1e-6, atol=1e-7)


def test_rows_that_llama_cpp_pairs_are_put_back():
    heads, rows = 2, np.arange(2 * 8, dtype=np.float32)[:, None]
    # As convert_hf_to_gguf.py does: the two halves of a head are interleaved.
    paired = rows.reshape(heads, 2, -1, 1).swapaxes(1, 2).reshape(rows.shape)
    name = "model.layers.0.self_attn.q_proj.weight"
    assert (in_order_of_model(paired, name, "llama", {"q_proj": heads}) == rows).all()
    assert (in_order_of_model(paired, name, "qwen3", {"q_proj": heads}) == paired).all()


@pytest.mark.parametrize("cut", [10, 100, 2000, -10])
def test_a_gguf_file_that_is_cut_off_is_refused(original, tmp_path, cut):
    path = tmp_path / "cut.gguf"
    path.write_bytes(source_of("gguf-q4_0").read_bytes()[:cut])
    with pytest.raises(ModelError, match=r"cut.gguf: (damaged or truncated|truncated)"):
        convert(path, original, tmp_path / "mine", {"model": "0"})


def test_a_gguf_file_of_another_architecture_is_refused(original, tmp_path):
    path = tmp_path / "other.gguf"
    path.write_bytes(source_of("gguf-q4_0").read_bytes().replace(b"qwen3", b"mamba"))
    with pytest.raises(ModelError, match="of the architecture mamba, for a model of the type qwen3"):
        convert(path, original, tmp_path / "mine", {"model": "0"})


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (None, "it is not quantized"),
        ({"quant_method": "bitsandbytes"}, "quantized with bitsandbytes, which is not read; read are GPTQ, AWQ"),
        ({"quant_method": "gptq", "bits": 4, "checkpoint_format": "marlin"}, "GPTQ packed as marlin"),
        ({"quant_method": "gptq", "bits": 5, "group_size": 32}, "5 bits; read are 2, 3, 4, 8"),
        ({"quant_method": "awq", "bits": 4, "version": "gemv"}, "AWQ of 4 bits packed as gemv; read is gemm of 4 bits"),
        ({"quant_method": "auto-round", "packing_format": "auto_round:fp8"}, "AutoRound packed as auto_round:fp8"),
        ({"quant_method": "compressed-tensors", "format": "float-quantized"}, "in the format float-quantized"),
        (
            {
                "quant_method": "compressed-tensors",
                "format": "pack-quantized",
                "config_groups": {
                    "a": {"weights": {"type": "int", "num_bits": 8}, "input_activations": {"num_bits": 8}}
                },
            },
            "with quantized activations",
        ),
    ],
)
def test_formats_that_are_not_read_are_refused_by_name(tmp_path, settings, message):
    (tmp_path / "config.json").write_text(json.dumps({} if settings is None else {"quantization_config": settings}))
    with pytest.raises(ModelError, match=message):
        packing_of(tmp_path)

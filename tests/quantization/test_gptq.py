"""GPTQ by gptqmodel on a trained model of the ladder."""

import errno
import json
import os
from collections import Counter
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, set_seed

from stratalaw.evaluation.answers import load_dense
from stratalaw.files import sha256
from stratalaw.models import arithmetic
from stratalaw.models.allocation import read_quantization
from stratalaw.models.shapes import shapes_of_weights
from stratalaw.quantization.gptq import AUDIT, quantize
from stratalaw.quantization.gptqmodel_patches import (
    faster_on_gpus,
    flushed_when_written,
    passes_from_kept_activations,
)
from stratalaw.quantization.unpacking import dense_weights
from stratalaw.study import Gptq
from stratalaw.study.variants import Precision, Quantization

VARIANT = Quantization(bits=3, group_size=64, calibration_size=8, calibration_seed=0)
OPTIONS = Gptq(batch_size=3)
PLENTY = 2**40  # bytes


@pytest.fixture(scope="module")
def checkpoint(small_model_folder, calibration, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("quantized") / VARIANT.name
    quantize(small_model_folder, folder, VARIANT, calibration, OPTIONS)
    return folder


def test_the_audit_says_how_the_checkpoint_came_about(checkpoint):
    audit = json.loads((checkpoint / AUDIT).read_text())
    assert audit["variant"] == VARIANT.name
    assert audit["calibration_tokens"] == 8 * 256
    # 3 bits, and for each group of 64 weights a scale of 16 bits and a zero point of 3.
    assert audit["effective_bits"] == pytest.approx(3 + (16 + 3) / 64)
    assert audit["ragged_groups"] == []
    assert audit["sha256"] == {path.name: sha256(path) for path in checkpoint.iterdir() if path.name != AUDIT}
    names = [module["name"] for module in audit["modules"]]
    assert len(names) == 2 * 7 and names == sorted(names)
    for module in audit["modules"]:
        assert module["loss"] > 0 and module["tokens"] == 8 * 256
        assert module["damping"] == 0.01 and module["raised"] == 0 and module["dead_columns"] == 0
    assert audit["unquantized"] == []


def test_the_same_study_gives_the_same_weights_also_with_activations_kept(
    small_model_folder, calibration, checkpoint, tmp_path, monkeypatch
):
    products = Counter()
    multiply = torch.nn.Linear.forward

    def counted(matrix, inputs):
        products[type(matrix).__name__] += 1
        return multiply(matrix, inputs)

    monkeypatch.setattr(torch.nn.Linear, "forward", counted)
    with passes_from_kept_activations(lambda device: PLENTY):
        quantize(small_model_folder, tmp_path / "again", VARIANT, calibration, OPTIONS)
    assert sha256(tmp_path / "again" / "model.safetensors") == sha256(checkpoint / "model.safetensors")
    assert losses(tmp_path / "again") == losses(checkpoint)
    assert products["HookedLinear"] < 100  # 141 where all is computed anew


def losses(folder: Path) -> dict[str, float]:
    return {module["name"]: module["loss"] for module in json.loads((folder / AUDIT).read_text())["modules"]}


def test_shares_of_the_samples_on_several_devices_give_the_same(
    small_model_folder, calibration, checkpoint, tmp_path, monkeypatch
):
    from gptqmodel.looper.forward_executor import ForwardExecutor

    by_gptqmodel, pass_share, shares = ForwardExecutor.run, ForwardExecutor.run_single, []
    devices = [torch.device("cpu"), torch.device("cpu", 1), torch.device("cpu", 2)]  # one memory, three copies

    def run(*arguments, select_forward_devices_fn, **options):
        return by_gptqmodel(*arguments, select_forward_devices_fn=lambda base: devices, **options)

    def run_single(*arguments, **options):
        shares.append((options["cur_layer_device"], len(options["layer_inputs"])))
        return pass_share(*arguments, **options)

    monkeypatch.setattr(ForwardExecutor, "run", run)
    monkeypatch.setattr(ForwardExecutor, "run_single", run_single)
    with passes_from_kept_activations(lambda device: PLENTY):
        quantize(small_model_folder, tmp_path / "shared", VARIANT, calibration, Gptq(batch_size=2))
    assert set(shares) == {(devices[0], 2), (devices[1], 1), (devices[2], 1)}
    shared, alone = losses(tmp_path / "shared"), losses(checkpoint)
    # The order of summation is another. Where it moves one weight to the next level, later matrices see other inputs.
    assert shared == pytest.approx(alone, rel=0.25)
    first = [f"0.self_attn.{name}_proj" for name in "qkv"]
    assert [shared[name] for name in first] == pytest.approx([alone[name] for name in first], rel=0.01)
    modules = json.loads((tmp_path / "shared" / AUDIT).read_text())["modules"]
    assert {module["tokens"] for module in modules} == {8 * 256}


def test_several_gpus_go_on_while_a_layer_is_packed():
    from gptqmodel import QuantizeConfig
    from gptqmodel.looper import stage_layer

    def waits(**options) -> bool:
        config = QuantizeConfig(bits=4, group_size=128, **options)
        gpus = [torch.device("cuda", 0), torch.device("cuda", 1)]
        looper = SimpleNamespace(gptq_model=SimpleNamespace(quantize_config=config), _quant_devices=gpus)
        return stage_layer._should_drain_finalize_futures_synchronously(looper, finalize_tasks=[])

    assert waits()
    with faster_on_gpus():
        assert not waits()
        assert waits(wait_for_submodule_finalizers=True)


def test_more_gpus_than_there_are_are_refused(small_model_folder, calibration, tmp_path):
    with pytest.raises(ValueError, match=f"99 GPUs are to quantize {VARIANT.name}"):
        quantize(small_model_folder, tmp_path / "out", VARIANT, calibration, Gptq(), "cuda", gpus=99)


def test_fewer_bits_hurt_more(small_model_folder, calibration, checkpoint, tmp_path):
    quantize(small_model_folder, tmp_path / "two", Quantization(2, 64, 8, 0), calibration, Gptq())
    three, two = losses(checkpoint), losses(tmp_path / "two")
    assert all(two[name] > three[name] for name in three)


def test_a_cpu_without_bf16_computes_in_float32_and_stores_the_same_kinds(
    small_model_folder, calibration, checkpoint, tmp_path, monkeypatch
):
    emulates = arithmetic.only_emulates_bf16("cpu")
    monkeypatch.setattr(arithmetic, "only_emulates_bf16", lambda device: not emulates)
    quantize(small_model_folder, tmp_path / "other", VARIANT, calibration, OPTIONS)
    assert losses(tmp_path / "other") == pytest.approx(losses(checkpoint), rel=0.1)
    other, stored = (load_file(folder / "model.safetensors") for folder in (tmp_path / "other", checkpoint))
    assert {name: tensor.dtype for name, tensor in other.items()} == {name: t.dtype for name, t in stored.items()}
    kept = [name for name, tensor in stored.items() if tensor.dtype == torch.bfloat16]
    assert len(kept) == 10 and all(torch.equal(other[name], stored[name]) for name in kept)


def test_damping_that_gptqmodel_adds_by_itself_is_recorded(small_model_folder, calibration, tmp_path, caplog):
    # 16 tokens leave a Hessian of 128 x 128 without rank, and this damping is below the precision of float32.
    few = [tokens[:16] for tokens in calibration[:1]]
    with caplog.at_level("WARNING", "stratalaw"):
        quantize(small_model_folder, tmp_path / "few", Quantization(3, 64, 1, 0), few, Gptq(damping=1e-9))
    assert "14 Hessians had no Cholesky factor" in caplog.text
    raised = {m["name"]: m["raised"] for m in json.loads((tmp_path / "few" / AUDIT).read_text())["modules"]}
    assert all(1e-7 < share < 1 for share in raised.values()), raised
    # These share their inputs, and so their Hessian.
    assert raised["0.self_attn.q_proj"] == raised["0.self_attn.k_proj"] == raised["0.self_attn.v_proj"]


def test_an_error_of_the_disk_that_is_said_once_is_not_lost(tmp_path, monkeypatch):
    from gptqmodel.utils import model as writer

    errors = [OSError(errno.EIO, "Input/output error")]

    def fsync(descriptor: int) -> None:
        if errors:
            raise errors.pop()

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(OSError, match="Input/output error"), flushed_when_written():
        for name in ("first", "second"):
            writer._write_shard_file(str(tmp_path / name), [], {})
    assert (tmp_path / "second").exists()


def test_a_large_checkpoint_lies_in_several_files(small_model_folder, calibration, checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr("stratalaw.quantization.gptq.SHARD_SIZE", "100KB")
    quantize(small_model_folder, tmp_path / "sharded", VARIANT, calibration, Gptq())
    files = sorted((tmp_path / "sharded").glob("*.safetensors"))
    audit = json.loads((tmp_path / "sharded" / AUDIT).read_text())
    assert len(files) > 1 and {path.name: sha256(path) for path in files}.items() <= audit["sha256"].items()
    whole, sharded = load_dense(checkpoint, "cpu").state_dict(), load_dense(tmp_path / "sharded", "cpu").state_dict()
    assert whole.keys() == sharded.keys()
    assert all(torch.equal(weight, sharded[name]) for name, weight in whole.items())


def test_a_group_that_does_not_divide_a_matrix_is_recorded(small_model_folder, calibration, tmp_path):
    model = AutoModelForCausalLM.from_pretrained(small_model_folder)
    assert model.config.hidden_size == 128
    quantize(small_model_folder, tmp_path / "wide", Quantization(4, 256, 8, 0), calibration, Gptq())
    audit = json.loads((tmp_path / "wide" / AUDIT).read_text())
    assert "model.layers.0.self_attn.q_proj" in audit["ragged_groups"]


def test_what_calibration_does_not_reach_is_recorded_and_counts_16_bits(small_model_folder, tmp_path):
    config = AutoConfig.for_model(
        "qwen3_moe", vocab_size=1282, hidden_size=64, num_hidden_layers=1, num_attention_heads=4, head_dim=16,
        num_key_value_heads=2, num_experts=32, num_experts_per_tok=1, moe_intermediate_size=32,
    )  # fmt: skip
    set_seed(0)
    model = AutoModelForCausalLM.from_config(config, dtype=torch.bfloat16)
    model.model.embed_tokens.weight.data[:, :3] = 0
    model.save_pretrained(tmp_path / "model")
    AutoTokenizer.from_pretrained(small_model_folder).save_pretrained(tmp_path / "model")
    few = Quantization(4, 32, 1, 0)
    quantize(tmp_path / "model", tmp_path / few.name, few, [list(range(16))], Gptq())
    audit = json.loads((tmp_path / few.name / AUDIT).read_text())
    reached = {module["name"] for module in audit["modules"]}
    assert len(reached) + len(audit["unquantized"]) == 4 + 32 * 3
    assert "model.layers.0.mlp.experts" in audit["unquantized"][0] and len(audit["unquantized"]) >= 3 * (32 - 16)
    left = len(audit["unquantized"]) * 64 * 32
    packed = 4 + (16 + 4) / 32
    assert audit["effective_bits"] == pytest.approx(
        (packed * audit["quantized_weights"] + 16 * left) / (audit["quantized_weights"] + left)
    )
    dead = {module["name"]: module["dead_columns"] for module in audit["modules"]}
    assert dead["0.self_attn.q_proj"] == 3 and dead["0.self_attn.o_proj"] == 0
    load_dense(tmp_path / few.name, "cpu")


def test_matrices_have_the_bits_that_a_mixed_variant_gives_them(small_model_folder, calibration, checkpoint, tmp_path):
    layers = [f"model.layers.{number}." for number in (0, 1)]
    attention = [f"{layers[1]}self_attn.{letter}_proj" for letter in "kqv"]
    exceptions = ((f"{layers[0]}mlp.down_proj", Precision(8, 32)), *((name, Precision(4, 64)) for name in attention))
    mixed = replace(VARIANT, exceptions=exceptions)
    folder = tmp_path / mixed.name
    quantize(small_model_folder, folder, mixed, calibration, OPTIONS)
    audit = json.loads((folder / AUDIT).read_text())
    assert (audit["method"], audit["bits"], audit["group_size"]) == ("GPTQ, mixed", 3, 64)
    assert audit["sha256"]["allocation.json"] == sha256(folder / "allocation.json")
    assert read_quantization(folder) == mixed
    shapes = shapes_of_weights(small_model_folder)
    stored = 0.0
    for matrix in shapes.matrices:
        precision = mixed.of(matrix.name)
        of_scales = (16 + precision.bits) / precision.group_size
        stored += matrix.in_features * matrix.out_features * (precision.bits + of_scales)
    assert audit["effective_bits"] == pytest.approx(stored / shapes.n_quantized)
    ours, alike = dense_weights(folder, "cpu"), dense_weights(checkpoint, "cpu")
    original = dense_weights(small_model_folder, "cpu")
    for matrix in shapes.matrices:
        name = f"{matrix.name}.weight"
        precision = mixed.of(matrix.name)
        levels = max(len(row.unique()) for row in ours[name][:, : precision.group_size])
        assert min(2 ** (precision.bits - 1), precision.group_size // 2) < levels <= 2**precision.bits, name
        # What comes before the first exception does not know of it.
        if matrix.name.startswith(layers[0]) and matrix.name != f"{layers[0]}mlp.down_proj":
            assert torch.equal(ours[name], alike[name]), name
    for name, _ in exceptions:
        errors = [(weights[f"{name}.weight"].float() - original[f"{name}.weight"]).norm() for weights in (ours, alike)]
        assert errors[0] < 0.7 * errors[1], name


def test_a_calibration_set_of_another_size_is_refused(small_model_folder, calibration, tmp_path):
    with pytest.raises(ValueError, match="7 calibration samples for w3-g64-c8-s0"):
        quantize(small_model_folder, tmp_path / "out", VARIANT, calibration[:7], Gptq())
    assert not (tmp_path / "out").exists()


def test_a_hessian_that_is_no_number_leaves_no_checkpoint(small_model_folder, calibration, tmp_path):
    broken = tmp_path / "broken"
    model = AutoModelForCausalLM.from_pretrained(small_model_folder)
    model.model.layers[0].input_layernorm.weight.data.fill_(float("nan"))
    model.save_pretrained(broken)
    AutoTokenizer.from_pretrained(small_model_folder).save_pretrained(broken)
    with pytest.raises((RuntimeError, ValueError)):
        quantize(broken, tmp_path / "out", VARIANT, calibration, Gptq())
    assert not (tmp_path / "out").exists()

import shutil
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from ladder.rungs import RUNGS
from stratalaw.evaluation.answers import load_dense
from stratalaw.models.folder import (
    ModelError,
    check_model,
    copy_model,
    count_parameters,
    manifest_seal,
    model_size,
    verify_beside_weights,
    verify_model,
)
from stratalaw.seals import SealError


@pytest.fixture
def model(small_model_folder, tmp_path) -> Path:
    return Path(shutil.copytree(small_model_folder, tmp_path / "model"))


def test_a_copy_holds_what_is_needed_and_verifies(model, tmp_path):
    (model / "pytorch_model.bin").write_bytes(b"pickle")
    copy_model(model, tmp_path / "copy")
    check_model(tmp_path / "copy")
    verify_model(tmp_path / "copy")
    assert (tmp_path / "copy" / "model.safetensors").read_bytes() == (model / "model.safetensors").read_bytes()
    assert not (tmp_path / "copy" / "pytorch_model.bin").exists()


def test_a_copy_of_a_copy_has_the_same_manifest(model, tmp_path):
    copy_model(model, tmp_path / "first" / "m")
    copy_model(tmp_path / "first" / "m", tmp_path / "second" / "m")
    first, second = (tmp_path / name / "m" / "manifest.json" for name in ("first", "second"))
    assert first.read_text() == second.read_text()


def test_a_folder_in_the_place_of_another_model_is_refused(model, tmp_path):
    copy_model(model, tmp_path / "small")
    shutil.copytree(tmp_path / "small", tmp_path / "large")
    expected = rf"large/manifest.json: holds model model small, not model model large; delete {tmp_path / 'large'} and"
    with pytest.raises(SealError, match=expected):
        manifest_seal(tmp_path / "large")


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


def with_index(model: Path, content: str) -> None:
    (model / "model.safetensors").unlink()
    (model / "model.safetensors.index.json").write_text(content)


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda m: shutil.rmtree(m), "model: there is no such folder"),
        (lambda m: (m / "config.json").unlink(), "model: no config.json"),
        (lambda m: (m / "tokenizer.json").unlink(), r"model: no tokenizer \(tokenizer.json or tokenizer.model\)"),
        (lambda m: (m / "model.safetensors").unlink(), r"model: no weights \(model.safetensors, or"),
        (lambda m: with_index(m, "{}"), "model.safetensors.index.json: not the index of a model's weights"),
        (
            lambda m: with_index(m, '{"weight_map": {"a": "../other.safetensors"}}'),
            "it names ../other.safetensors, which",
        ),
        (
            lambda m: with_index(m, '{"weight_map": {"a": "part.safetensors"}}'),
            "it names part.safetensors, which is not",
        ),
        (lambda m: truncate(m / "model.safetensors"), "model.safetensors: truncated or altered: [0-9]+ bytes"),
        (lambda m: (m / "model.safetensors").write_bytes(b"abc"), "model.safetensors: not a safetensors file"),
        (lambda m: (m / "model.safetensors").write_bytes(b"\x03" + b"\0" * 7 + b"abc"), "is not a JSON object"),
    ],
)
def test_a_damaged_model_is_refused_and_nothing_is_copied(model, tmp_path, damage, message):
    damage(model)
    with pytest.raises(ModelError, match=message):
        copy_model(model, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


@pytest.mark.parametrize("shard_size", ["50GB", "100KB"], ids=["one file", "several files"])
def test_weights_that_lie_beside_the_models_own_are_none_of_it(small_model_folder, tmp_path, shard_size):
    model = tmp_path / "model"
    shutil.copytree(small_model_folder, model, ignore=shutil.ignore_patterns("*.safetensors"))
    original = AutoModelForCausalLM.from_pretrained(small_model_folder)
    original.save_pretrained(model, max_shard_size=shard_size)
    shutil.copy(small_model_folder / "model.safetensors", model / "consolidated.safetensors")
    copy_model(model, tmp_path / "copy")
    assert not (tmp_path / "copy" / "consolidated.safetensors").exists()
    assert model_size(tmp_path / "copy") == count_parameters(model) == count_parameters(small_model_folder)
    loaded = load_dense(tmp_path / "copy", "cpu").state_dict()
    assert all(torch.equal(weight, loaded[name]) for name, weight in original.state_dict().items())


def test_an_altered_copy_is_noticed(model, tmp_path):
    copy_model(model, tmp_path / "copy")
    weights = tmp_path / "copy" / "model.safetensors"
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    with pytest.raises(ModelError, match=r"model.safetensors: changed since it was copied; delete .* and run again"):
        verify_model(tmp_path / "copy")
    weights.unlink()
    with pytest.raises(ModelError, match=r"model.safetensors: missing"):
        verify_model(tmp_path / "copy")


@pytest.mark.parametrize(
    ("file", "place"),
    [("config.json", 100), ("tokenizer.json", -100), ("model.safetensors", 100), ("model.safetensors", 0)],
)
def test_who_reads_no_weights_notices_all_else(model, tmp_path, file, place):
    copy_model(model, tmp_path / "copy")
    verify_beside_weights(tmp_path / "copy")
    content = bytearray((tmp_path / "copy" / file).read_bytes())
    content[place] ^= 1
    (tmp_path / "copy" / file).write_bytes(content)
    with pytest.raises(ModelError, match=rf"{file}: (changed since it was copied; delete .* and run again|truncated)"):
        verify_beside_weights(tmp_path / "copy")


def test_parameters_are_counted(small_model_folder):
    size = count_parameters(small_model_folder)
    assert size.n_params_nonembedding == RUNGS[small_model_folder.name].non_embedding_parameters
    assert size.n_params == size.n_params_nonembedding + 1608 * 128


@pytest.mark.parametrize("tied", [True, False])
def test_embeddings_are_told_apart_tied_or_not(tmp_path, tied):
    config = LlamaConfig(vocab_size=50, hidden_size=32, intermediate_size=64, num_hidden_layers=1,
                         num_attention_heads=2, tie_word_embeddings=tied)  # fmt: skip
    model = LlamaForCausalLM(config)
    model.save_pretrained(tmp_path)
    assert count_parameters(tmp_path).n_params == model.num_parameters()
    assert count_parameters(tmp_path).n_params_nonembedding == model.num_parameters() - 50 * 32 * (1 if tied else 2)

import shutil
from pathlib import Path

import pytest
from transformers import LlamaConfig, LlamaForCausalLM

from ladder.rungs import RUNGS
from stratalaw.models import ModelError, check_model, copy_model, model_size, verify_model


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
    copy_model(model, tmp_path / "first")
    copy_model(tmp_path / "first", tmp_path / "second")
    first, second = (tmp_path / name / "manifest.json" for name in ("first", "second"))
    assert first.read_text() == second.read_text()


def truncate(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1000])


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda m: shutil.rmtree(m), "model: there is no such folder"),
        (lambda m: (m / "config.json").unlink(), "model: no config.json"),
        (lambda m: (m / "tokenizer.json").unlink(), r"model: no tokenizer \(tokenizer.json or tokenizer.model\)"),
        (lambda m: (m / "model.safetensors").unlink(), r"model: no weights \(\*.safetensors\)"),
        (lambda m: truncate(m / "model.safetensors"), "model.safetensors: truncated or altered: [0-9]+ bytes"),
        (lambda m: (m / "model.safetensors").write_bytes(b"abc"), "model.safetensors: not a safetensors file"),
        (lambda m: (m / "model.safetensors").write_bytes(b"\x03" + b"\0" * 7 + b"abc"), "its header is not JSON"),
    ],
)
def test_a_damaged_model_is_refused_and_nothing_is_copied(model, tmp_path, damage, message):
    damage(model)
    with pytest.raises(ModelError, match=message):
        copy_model(model, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


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


def test_parameters_are_counted(small_model_folder):
    size = model_size(small_model_folder)
    assert size.n_params_nonembedding == RUNGS[small_model_folder.name].non_embedding_parameters
    assert size.n_params == size.n_params_nonembedding + 1282 * 128


@pytest.mark.parametrize("tied", [True, False])
def test_embeddings_are_told_apart_tied_or_not(tmp_path, tied):
    config = LlamaConfig(vocab_size=50, hidden_size=32, intermediate_size=64, num_hidden_layers=1,
                         num_attention_heads=2, tie_word_embeddings=tied)  # fmt: skip
    model = LlamaForCausalLM(config)
    model.save_pretrained(tmp_path)
    assert model_size(tmp_path).n_params == model.num_parameters()
    assert model_size(tmp_path).n_params_nonembedding == model.num_parameters() - 50 * 32 * (1 if tied else 2)

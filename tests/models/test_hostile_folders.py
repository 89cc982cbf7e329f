"""Folders of models that cannot be right: one line, in bounded time and memory, from every command that looks."""

import json
import os
import resource
import struct
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from stratalaw.layout import Results
from stratalaw.models.folder import ModelError, check_model, copy_model
from stratalaw.models.known_shapes import shapes_of_study
from stratalaw.models.shapes import shapes_of_weights
from stratalaw.preparation.checks import check_inputs
from stratalaw.study import StudyError, read_study

MATRIX = "model.layers.0.mlp.up_proj.weight"
CONFIG = {
    "model_type": "qwen3", "num_hidden_layers": 1, "hidden_size": 4, "num_attention_heads": 2,
    "max_position_embeddings": 64, "vocab_size": 8, "intermediate_size": 4,
}  # fmt: skip


def write_weights(path: Path, header: object = None, data: bytes = b"\0" * 32) -> None:
    header = {MATRIX: {"dtype": "BF16", "shape": [4, 4], "data_offsets": [0, 32]}} if header is None else header
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + data)


def write_config(folder: Path, **changed: object) -> None:
    (folder / "config.json").write_text(json.dumps(CONFIG | changed))


def with_tensor(**changed: object) -> Callable[[Path], None]:
    tensor = {"dtype": "BF16", "shape": [4, 4], "data_offsets": [0, 32]} | changed
    return lambda folder: write_weights(folder / "model.safetensors", {MATRIX: tensor})


def with_index(content: str) -> Callable[[Path], None]:
    def write(folder: Path) -> None:
        (folder / "model.safetensors").rename(folder / "part.safetensors")
        (folder / "model.safetensors.index.json").write_text(content)

    return write


def with_a_long_header(folder: Path) -> None:
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", 2 * 10**9))
        file.truncate(2 * 10**9 + 100)  # holes: no bytes on the disk


def with_a_pipe(folder: Path) -> None:
    os.mkfifo(folder / "merges.txt")


def replaced(name: str, make: Callable[[Path], object]) -> Callable[[Path], None]:
    def replace(folder: Path) -> None:
        (folder / name).unlink()
        make(folder / name)

    return replace


@pytest.fixture
def model(tmp_path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    write_config(folder)
    (folder / "tokenizer.json").write_text("{}")
    write_weights(folder / "model.safetensors")
    (tmp_path / "secret").write_text('{"token": "hf_secret"}')
    return folder


def study_of(model: Path):
    study = read_study(Path("config/demo.yaml"))
    return study.model_copy(
        update={"models": [study.models[0].model_copy(update={"name": "absent", "source": str(model)})]}
    )


def test_the_folder_is_right_before_it_is_damaged(model, tmp_path):
    assert shapes_of_weights(model).n_quantized == 16
    copy_model(model, tmp_path / "copy")


DAMAGE = {
    "config is text": (lambda m: (m / "config.json").write_text("no json"), "config.json: not a JSON object"),
    "config is a list": (lambda m: (m / "config.json").write_text("[]"), "config.json: not a JSON object"),
    "config is latin-1": (lambda m: (m / "config.json").write_bytes(b'{"a": "\xfc"}'),
                          "config.json: not a JSON object"),
    "config is nested": (lambda m: (m / "config.json").write_text("[" * 10**6), "config.json: not a JSON object"),
    "config is long": (lambda m: os.truncate(m / "config.json", 3 * 10**9), "config.json: larger than 32 MiB"),
    "config is a folder": (replaced("config.json", Path.mkdir), "config.json: Is a directory"),
    "10^7 layers": (lambda m: write_config(m, num_hidden_layers=10**7),
                    "config.json: num_hidden_layers: 1e+07 is more than any model has (at most 1,000)"),
    "10^7 layers within": (lambda m: write_config(m, text_config={"n_layer": 10**7}),
                           "config.json: n_layer: 1e+07 is more than any model has (at most 1,000)"),
    "10^7 experts": (lambda m: write_config(m, num_local_experts=10**7), "num_local_experts: 1e+07 is more than any"),
    "width of 10^30": (lambda m: write_config(m, hidden_size=10**30), "hidden_size: 1e+30 is more than any model has"),
    "layers are text": (lambda m: write_config(m, num_hidden_layers="many"),
                        "config.json: num_hidden_layers must be a number of 1 or more, not many"),
    "no heads": (lambda m: write_config(m, num_attention_heads=0),
                 "config.json: num_attention_heads must be a number of 1 or more, not 0"),
    "type is a list": (lambda m: write_config(m, model_type=["qwen3"]),
                       "config.json: gptqmodel cannot quantize models of the type ['qwen3']"),
    "header is a list": (lambda m: write_weights(m / "model.safetensors", []),
                         "not a safetensors file (its header is not a JSON object)"),
    "header is nested": (lambda m: write_weights(m / "model.safetensors", b"[" * 10**6),
                         "not a safetensors file (its header is not a JSON object)"),
    "header of 2 GB": (with_a_long_header, "not a safetensors file of a model (a header of 2.0 GB)"),
    "tensor is a number": (lambda m: write_weights(m / "model.safetensors", {"a": 1}),
                           "damaged: its header does not describe the tensor a"),
    "shape is text": (with_tensor(shape="4x4"), f"damaged: its header does not describe the tensor {MATRIX}"),
    "shape of another size": (with_tensor(shape=[4, 8]), f"damaged: its header does not describe the tensor {MATRIX}"),
    "shape of 10^30": (with_tensor(shape=[10**30, 4]), f"damaged: its header does not describe the tensor {MATRIX}"),
    "many dimensions": (with_tensor(shape=[1] * 10**5 + [16]), "damaged: its header does not describe the tensor"),
    "a gap before": (with_tensor(data_offsets=[2, 34]), f"damaged: its header puts the tensor {MATRIX} over another"),
    "kind that nobody knows": (with_tensor(dtype="BF61"), f"damaged: its header does not describe the tensor {MATRIX}"),
    "offsets turned": (with_tensor(data_offsets=[32, 0]), f"damaged: its header does not describe the tensor {MATRIX}"),
    "index of numbers": (with_index('{"weight_map": {"a": 1, "b": 2}}'),
                         "index.json: not the index of a model's weights"),
    "index of numbers and text": (with_index('{"weight_map": {"a": 1, "b": "part.safetensors"}}'),
                                  "index.json: not the index of a model's weights"),
    "index of nothing": (with_index('{"weight_map": {}}'), "index.json: not the index of a model's weights"),
    "index is nested": (with_index("[" * 10**6), "index.json: not a JSON object"),
    "index of pickles": (with_index('{"weight_map": {"a": "config.json"}}'),
                         "names config.json, which is not safetensors"),
    "tokenizer is a link": (replaced("tokenizer.json", lambda p: p.symlink_to("../secret")),
                            "tokenizer.json: a link to "),
    "weights are a link": (replaced("model.safetensors", lambda p: p.symlink_to("../secret")),
                           "model.safetensors: a link to "),
    "link to nothing": (lambda m: (m / "vocab.txt").symlink_to("absent"), "vocab.txt: not a file"),
    "link to itself": (lambda m: (m / "vocab.txt").symlink_to("vocab.txt"), "vocab.txt: not a file"),
    "a pipe": (with_a_pipe, "merges.txt: not a file"),
}  # fmt: skip


@pytest.mark.parametrize(("damage", "message"), DAMAGE.values(), ids=DAMAGE.keys())
def test_a_folder_that_cannot_be_right_is_refused_in_the_same_line_by_all_commands(model, tmp_path, damage, message):
    damage(model)
    study, started, memory = study_of(model), time.process_time(), peak_bytes()
    with pytest.raises(StudyError) as of_preflight:
        shapes_of_study(study, "s.yaml", Results(tmp_path))
    with pytest.raises(StudyError) as of_workflow:
        check_inputs(study, "s.yaml")
    assert str(of_preflight.value) == str(of_workflow.value)
    assert str(of_workflow.value).startswith(f"s.yaml: {model}")
    assert message in str(of_workflow.value)
    assert "\n" not in str(of_workflow.value) and len(str(of_workflow.value)) < 600
    assert time.process_time() - started < 10 and peak_bytes() - memory < 3e8


def peak_bytes() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024


def test_a_file_outside_of_the_folder_is_not_copied(model, tmp_path):
    (model / "generation_config.json").symlink_to(tmp_path / "secret")
    with pytest.raises(ModelError, match=r"generation_config\.json: a link to .*secret, outside of the model's folder"):
        copy_model(model, tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


def test_links_within_the_folder_and_into_the_hubs_cache_are_followed(model, tmp_path):
    (model / "vocab.txt").symlink_to("tokenizer.json")
    copy_model(model, tmp_path / "copy")
    assert (tmp_path / "copy" / "vocab.txt").is_file() and not (tmp_path / "copy" / "vocab.txt").is_symlink()

    cache = tmp_path / "models--a--b"
    (cache / "blobs").mkdir(parents=True)
    snapshot = cache / "snapshots" / "commit"
    snapshot.mkdir(parents=True)
    for path in model.iterdir():
        (cache / "blobs" / path.name).write_bytes(path.read_bytes())
        (snapshot / path.name).symlink_to(f"../../blobs/{path.name}")
    check_model(snapshot)
    (snapshot / "merges.txt").symlink_to(tmp_path / "secret")
    with pytest.raises(ModelError, match=r"merges\.txt: a link to "):
        check_model(snapshot)

"""What a study needs is known from the models' configurations alone."""

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import LlamaConfig, Qwen3Config
from typer.testing import CliRunner

from stratalaw.cli import app
from stratalaw.cost.resources import resources_of_answers, resources_of_checkpoint
from stratalaw.layout import Results
from stratalaw.models.known_shapes import shapes_of_model
from stratalaw.models.shapes import Matrix
from stratalaw.models.sources import known_architectures
from stratalaw.preparation.checks import check_inputs
from stratalaw.preparation.inference_kernels import INFERENCE_KERNELS, inference_kernel_of
from stratalaw.preparation.preflight import GB, grouped, preflight, refuse_what_cannot_run, smallest_gpu_bytes
from stratalaw.study import Study, StudyError, read_study
from stratalaw.study.variants import Quantization
from stratalaw.terminal.preparation import table_of_checkpoints
from tests.hub_server import HubRepository

# Hidden size, intermediate size, layers, query heads, key-value heads, tied embeddings; parameters in billions.
QWEN3 = {
    "qwen3-0.6b": (1024, 3072, 28, 16, 8, True, 0.6),
    "qwen3-1.7b": (2048, 6144, 28, 16, 8, True, 1.7),
    "qwen3-4b": (2560, 9728, 36, 32, 8, True, 4.0),
    "qwen3-8b": (4096, 12288, 36, 32, 8, False, 8.2),
    "qwen3-14b": (5120, 17408, 40, 40, 8, False, 14.8),
    "qwen3-32b": (5120, 25600, 64, 64, 8, False, 32.8),
}
COMMIT = "a" * 40
LADDER = Path("ladder").resolve()
H100 = 80 * GB


def config_of(name: str) -> dict:
    hidden, intermediate, layers, heads, key_value_heads, tied, _ = QWEN3[name]
    return Qwen3Config(
        vocab_size=151_936, hidden_size=hidden, intermediate_size=intermediate, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=key_value_heads, head_dim=128, tie_word_embeddings=tied,
    ).to_dict()  # fmt: skip


def plenty_of_disk(monkeypatch) -> None:
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 10**13}))


@pytest.fixture(scope="module")
def paper(tmp_path_factory):
    """The paper's study with folders that hold nothing but configurations, and its preflight on GPUs of 80 GB."""
    folder = tmp_path_factory.mktemp("configurations")
    study = read_study(Path("config/config.yaml"))
    models = []
    for model in study.models:
        (folder / model.name).mkdir()
        (folder / model.name / "config.json").write_text(json.dumps(config_of(model.name)))
        models.append(model.model_copy(update={"source": str(folder / model.name)}))
    pinned = {
        stratum: [benchmark.model_copy(update={"revision": COMMIT}) for benchmark in benchmarks]
        for stratum, benchmarks in study.evaluation.strata.items()
    }
    study = study.model_copy(
        update={
            "models": models,
            "calibration": study.calibration.model_copy(update={"revision": COMMIT}),
            "evaluation": study.evaluation.model_copy(update={"strata": pinned}),
        }
    )
    with pytest.MonkeyPatch.context() as patch:
        plenty_of_disk(patch)
        return study, preflight(study, "config.yaml", H100)


def test_the_papers_study_passes_with_its_293_variants(paper):
    _, found = paper
    assert len(found.checkpoints) == 293
    assert found.problems == []


def test_ragged_groups_are_those_of_4b_at_1024(paper):
    _, found = paper
    ragged = {(c.model, c.quantization.group_size): c.ragged for c in found.checkpoints if c.ragged}
    attention, mlp = ["q_proj", "k_proj", "v_proj"], ["gate_proj", "up_proj"]
    assert ragged == {("qwen3-4b", 1024): {2560: attention + mlp, 9728: ["down_proj"]}}


def test_sizes_are_those_of_the_models(paper):
    study, found = paper
    sizes = {c.model: c.weight_bytes / 1e9 for c in found.checkpoints if c.quantization.name == "w4-g128-c128-s0"}
    # Published checkpoints of GPTQ in 4 bits and groups of 128: 8B 6.1, 14B 10.0, 32B 19.4 GB.
    assert sizes["qwen3-8b"] == pytest.approx(6.1, abs=0.15)
    assert sizes["qwen3-14b"] == pytest.approx(10.0, abs=0.2)
    assert sizes["qwen3-32b"] == pytest.approx(19.4, abs=0.4)
    dense = sum(2 * QWEN3[model.name][-1] for model in study.models)
    packed = sum(c.weight_bytes for c in found.checkpoints) / 1e9
    assert found.disk_bytes / 1e9 == pytest.approx(dense + packed, rel=0.01)


def test_kernels_are_those_of_the_bits_and_group_sizes(paper):
    _, found = paper
    kernels = {(c.quantization.bits, c.quantization.group_size): c.kernel for c in found.checkpoints}
    assert kernels[4, 128] == kernels[8, 128] == "Marlin"
    assert kernels[2, 128] == kernels[4, 1024] == "Triton"
    assert {kernels[3, group_size] for group_size in (32, 64, 128, 1024)} == {"Torch"}


def test_what_a_gpu_or_the_disk_cannot_hold_is_named(paper, monkeypatch):
    study, _ = paper
    monkeypatch.setattr("shutil.disk_usage", lambda _: type("Usage", (), {"free": 10**11}))
    problems = preflight(study, "config.yaml", 48 * GB).problems
    named = [problem.partition(":")[0] for problem in problems[:-1]]
    assert named == ["qwen3-14b", "qwen3-32b"]
    assert "and a GPU has 48 GB" in problems[0]
    assert problems[-1].endswith("models and checkpoints need 1.77 TB, and 100 GB are free")


def test_what_is_shown_is_what_jobs_ask_for(paper):
    study, checked = paper
    for checkpoint in checked.checkpoints[::25]:
        shapes = shapes_of_model(next(m for m in study.models if m.name == checkpoint.model), Results())
        asked = (
            resources_of_checkpoint(shapes, checkpoint.quantization, study.calibration.tokens, study.gptq.batch_size),
            resources_of_answers(shapes, study.evaluation),
        )
        assert checkpoint.gpu_bytes == max(resources.gpu_mem_mb for resources in asked) * 10**6


def test_checkpoints_that_are_there_need_no_disk(paper, tmp_path, monkeypatch):
    study, found = paper
    monkeypatch.chdir(tmp_path)
    plenty_of_disk(monkeypatch)
    first = found.checkpoints[0]
    (tmp_path / "results" / "checkpoints" / first.model / first.quantization.name).mkdir(parents=True)
    assert found.disk_bytes - preflight(study, "config.yaml", H100).disk_bytes == first.weight_bytes


def test_without_a_network_and_a_pin_the_papers_study_has_the_same_variants(paper, hub, monkeypatch):
    plenty_of_disk(monkeypatch)
    found = preflight(read_study(Path("config/config.yaml")), "config.yaml", H100)
    assert found.checkpoints == paper[1].checkpoints and found.disk_bytes == paper[1].disk_bytes
    assert found.shipped == list(QWEN3) and paper[1].shipped == []
    assert hub.requests == []
    assert all(problem.endswith("run: stratalaw pin config.yaml") for problem in found.problems)
    assert [problem.partition(":")[0] for problem in found.problems] == [
        "models.0", "calibration", "evaluation.strata.memorization",
    ]  # fmt: skip


def test_shapes_that_are_shipped_are_named(hub, study_file, monkeypatch):
    plenty_of_disk(monkeypatch)
    study_file.write_text(study_file.read_text().replace("source: someone/4b", "source: Qwen/Qwen3-4B-Base"))
    result = run(study_file)
    assert result.exit_code == 0, result.output
    assert "the shapes of 4b are shipped with stratalaw, not read from the Hub; in a run, the conf" in result.output
    assert hub.fetched() == {}


@pytest.fixture
def study_file(tmp_path, hub) -> Path:
    """A study of one model on the Hub, of which nothing but the configuration is there."""
    configuration = json.dumps(config_of("qwen3-4b")).encode()
    hub.repositories["models/someone/4b"] = HubRepository(COMMIT, {"config.json": configuration})
    path = tmp_path / "study.yaml"
    path.write_text(f"""\
name: example
models:
  - {{name: 4b, source: someone/4b, revision: {COMMIT}, family: f}}
grids:
  - {{bits: [4], group_size: [128, 1024], calibration_size: [8, 32]}}
calibration: {{corpus: {LADDER}/calibration.jsonl, tokens: 2048}}
evaluation: {{tasks_folder: {LADDER}/benchmarks, strata: {{reasoning: [{{task: ladder_paths, chance: 0.2}}]}}}}
""")
    return path


def run(path: Path, *options: str):
    return CliRunner().invoke(app, ["preflight", str(path), *options], env={"COLUMNS": "160"})


def test_of_a_model_on_the_hub_only_the_configuration_is_fetched(hub, study_file, monkeypatch):
    plenty_of_disk(monkeypatch)
    result = run(study_file)
    assert result.exit_code == 0, result.output
    assert dict(hub.fetched()) == {"config.json": 1}
    for shown in (
        "4 quantized variants of 1 model.",
        "Marlin",
        "Triton",
        "Ragged groups: 4b, group size 1024",
        "9728 (down_proj)",
    ):
        assert shown in result.output


def test_a_study_that_cannot_run_ends_with_status_1(hub, study_file, monkeypatch):
    plenty_of_disk(monkeypatch)
    result = run(study_file, "--gpu-memory", "6")
    assert result.exit_code == 1
    assert "Problem: 4b: its jobs ask for" in result.output


def test_a_study_that_is_not_pinned_is_one_line(study_file):
    study_file.write_text(study_file.read_text().replace(f" revision: {COMMIT},", ""))
    result = run(study_file)
    assert result.exit_code == 1
    assert result.stderr.splitlines()[-1].endswith(f"the revision is missing; run: stratalaw pin {study_file}")


@pytest.mark.parametrize("command", ["preflight", "cost"])
def test_a_folder_that_is_not_there_is_called_as_in_a_run(study_file, command):
    text = study_file.read_text().replace(f" revision: {COMMIT},", "")
    for source in ("absent", "not/a/name"):
        study_file.write_text(text.replace("someone/4b", source))
        result = CliRunner().invoke(app, [command, str(study_file)])
        (line,) = result.stderr.splitlines()
        assert result.exit_code == 1 and line == f"{study_file}: models.0.source: there is no folder {source}"
        with pytest.raises(StudyError, match=f"^{line}$"):
            check_inputs(read_study(study_file), str(study_file))


def test_a_folder_has_no_revision(study_file):
    study_file.write_text(study_file.read_text().replace("someone/4b", "not/a/name"))
    (line,) = run(study_file).stderr.splitlines()
    assert "models.0.source: not/a/name is not the name of a repository of the Hub (owner/name)" in line


def test_an_unknown_model_without_a_network_is_one_line(study_file, monkeypatch, waits):
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    result = run(study_file)
    (line,) = result.stderr.splitlines()
    assert result.exit_code == 1 and "Traceback" not in result.output
    assert line.startswith("http://127.0.0.1:9 cannot be reached") and "; run again with a network" in line
    assert line.endswith("(the shapes of someone/4b are not shipped)")


def test_an_architecture_that_gptqmodel_does_not_know_is_one_line(hub, study_file):
    hub.repositories["models/someone/4b"].files["config.json"] = b'{"model_type": "never-heard-of"}'
    with pytest.raises(StudyError, match=r"config.json: gptqmodel cannot quantize models of the type never-heard-of$"):
        preflight(read_study(study_file), "s.yaml", H100)


def test_kernels_and_architectures_are_those_of_the_installed_gptqmodel():
    names = ("marlin.MarlinLinear", "exllamav2.ExllamaV2Linear", "tritonv2.TritonV2Linear", "torch.TorchLinear")
    code = f"""
import gc, importlib, json
gc.disable()  # which takes a fifth of importing gptqmodel
from gptqmodel.models.auto import MODEL_MAP
found = []
for name in {names}:
    module, _, kernel = name.partition(".")
    kernel = getattr(importlib.import_module("gptqmodel.nn_modules.qlinear." + module), kernel)
    found.append([kernel.SUPPORTS_BITS, kernel.SUPPORTS_GROUP_SIZE, kernel.SUPPORTS_IN_FEATURES_DIVISIBLE_BY,
                  kernel.SUPPORTS_OUT_FEATURES_DIVISIBLE_BY, kernel.SUPPORTS_AUTO_PADDING, kernel.SUPPORTS_SYM])
print(json.dumps([found, sorted(MODEL_MAP)]))
"""
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    kernels, architectures = json.loads(printed.splitlines()[-1])
    assert set(architectures) == known_architectures()
    for ours, (bits, group_sizes, rows, columns, pads, symmetric) in zip(INFERENCE_KERNELS, kernels, strict=True):
        assert ours.bits == set(bits) & {2, 3, 4, 8}
        assert ours.group_sizes == set(group_sizes)
        assert [ours.divides] == rows == columns
        assert ours.takes_ragged_groups == pads
        assert ours.takes_asymmetric == (False in symmetric)


def test_the_slowest_matrix_decides_the_kernel():
    quantization = Quantization(4, 128, 8, 0)
    whole, ragged = Matrix("up", 256, 256), Matrix("down", 192, 256)
    assert inference_kernel_of(quantization, True, [whole]) == "Marlin"
    assert inference_kernel_of(quantization, False, [whole]) == "ExLlamaV2"
    assert inference_kernel_of(quantization, True, [whole, ragged]) == "Triton"
    assert inference_kernel_of(quantization, True, [whole, Matrix("odd", 256, 250)]) == "Marlin"
    assert inference_kernel_of(quantization, True, [ragged, Matrix("odd", 256, 250)]) == "Torch"


def test_a_run_is_refused_for_what_the_wanted_models_cannot_have(paper, monkeypatch):
    study, _ = paper
    monkeypatch.setattr("stratalaw.preparation.preflight.smallest_gpu_bytes", lambda: 48 * GB)
    plenty_of_disk(monkeypatch)
    refuse_what_cannot_run(study, "s.yaml", {"qwen3-0.6b", "qwen3-8b"}, jobs_run_here=True)
    with pytest.raises(StudyError, match=r"^s.yaml: qwen3-14b: its jobs ask for .* and a GPU has 48 GB$"):
        refuse_what_cannot_run(study, "s.yaml", {"qwen3-8b", "qwen3-14b"}, jobs_run_here=True)
    refuse_what_cannot_run(study, "s.yaml", {"qwen3-8b", "qwen3-14b"}, jobs_run_here=False)


def test_matrices_that_cannot_be_packed_are_named(paper, monkeypatch, tmp_path):
    study, _ = paper
    LlamaConfig(hidden_size=64, intermediate_size=88, num_hidden_layers=1, num_attention_heads=4).save_pretrained(
        tmp_path
    )
    odd = study.models[0].model_copy(update={"name": "odd", "source": str(tmp_path)})
    plenty_of_disk(monkeypatch)
    with pytest.raises(
        StudyError,
        match=r"^s.yaml: odd: with 3 bits gptqmodel packs only .* multiples of 32, and .*gate_proj has 88 x 64$",
    ):
        refuse_what_cannot_run(study.model_copy(update={"models": [odd]}), "s.yaml", {"odd"}, jobs_run_here=False)


def test_mixed_variants_are_planned_and_refused_as_engines_would(monkeypatch):
    """Query, key and value of a layer are one matrix of an engine."""
    plenty_of_disk(monkeypatch)
    study = read_study(Path("config/demo.yaml"))
    names = [f"model.layers.0.self_attn.{letter}_proj" for letter in "kqv"]

    def checked(names):
        allocation = {"bits": 3, "group_size": 64, "matrices": {name: {"bits": 4} for name in names}}
        mixed = [{"allocation": allocation, "calibration_size": [8, 16]}]
        plain = study.as_plain()
        plain["models"] = [plain["models"][0] | {"mixed": mixed}]
        return preflight(Study(**plain | {"grids": []}), "study.yaml", H100)

    whole = checked(names)
    assert whole.problems == [] and len(whole.checkpoints) == 2
    assert {checkpoint.kernel for checkpoint in whole.checkpoints} == {"Torch"}  # of 3 bits
    assert len(grouped(whole.checkpoints)) == 1
    assert table_of_checkpoints(whole.checkpoints).row_count == 1
    [problem] = checked(names[:1]).problems
    assert f"engines load {' and '.join(names)} as one matrix" in problem
    [problem] = checked(["model.layers.99.mlp.up_proj"]).problems
    assert "the model has no matrix model.layers.99.mlp.up_proj" in problem


@pytest.mark.parametrize(
    ("listed", "smallest"),
    [
        ("81559\n81559\n", 81_559 * 2**20),
        ("81559\n24564\n", 24_564 * 2**20),
        ("", math.inf),
        ("[N/A]\n", math.inf),
        ("[N/A]\n81559\n[Insufficient Permissions]\n", 81_559 * 2**20),
    ],
)
def test_the_smallest_gpu_of_the_machine_counts(monkeypatch, tmp_path, listed, smallest):
    command = tmp_path / "nvidia-smi"
    command.write_text(f"#!/bin/sh\nprintf '{listed}'\n")
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert smallest_gpu_bytes() == smallest


def test_without_a_gpu_there_is_no_limit(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert smallest_gpu_bytes() == math.inf

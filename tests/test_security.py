"""Nothing that a study names or fetches runs as code, leaves the results folder, or shows a secret."""

import json
import pickle
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml

from stratalaw.evaluation.answers import load_dense, load_tokenizer
from stratalaw.jobs.stages import answer_requests
from stratalaw.layout import Results
from stratalaw.models.folder import ModelError, copy_model, goes_with_weights
from stratalaw.models.known_shapes import shapes_of
from stratalaw.models.sources import known_architectures, own_architectures_of_transformers
from stratalaw.preparation.checks import check_source
from stratalaw.quantization.unquantizable import why_unquantizable
from stratalaw.study import Calibration, Model, StudyError, read_study
from tests.hub_server import HubRepository
from tests.workflow.conftest import ROOT, snakemake, write_study

COMMIT = "c0ffee" + "0" * 34
TOKEN = "hf_thisMustNeverBeSeenAnywhere"
STUDY = yaml.safe_load((ROOT / "config" / "demo.yaml").read_text())

# All stages in a process that notes every class which an unpickler looks up, and every file of pickles that is opened.
STAGES = """
import sys
found = []
def note(event, arguments):
    if event == "pickle.find_class":
        found.append(f"unpickled {arguments[0]}.{arguments[1]}")
    elif event == "open" and str(arguments[0]).endswith((".bin", ".pt", ".pth", ".pkl", ".pickle")):
        found.append(f"opened {arguments[0]}")

import gc
gc.disable()  # which takes a fifth of importing gptqmodel
import gptqmodel, lm_eval.evaluator, torch, transformers  # what libraries do to themselves is no matter of data
gc.enable()
from stratalaw.jobs import stages
from stratalaw.study import read_study
from pathlib import Path

evaluation = read_study(Path("study.yaml")).evaluation
sys.addaudithook(note)
stages.provide_model("source", None, "downloads", "model")
stages.draw_calibration("model", {"corpus": sys.argv[1]}, [], 4, 64, None, "s0.parquet")
stages.quantize_model("model", "s0.parquet", {"threads": 1}, "w4-g128-c4-s0")
stages.record_requests(
    "model", evaluation.for_requests(), evaluation.scored_by(), ["reasoning.parquet"],
    ["reasoning.batches.safetensors"], ["documents/reasoning.parquet"]
)
answers, scores = ([f"{kind}/model/w4-g128-c4-s0/reasoning.parquet"] for kind in ("answers", "scores"))
stages.answer_requests(
    "model", "w4-g128-c4-s0", ["reasoning.parquet"], ["reasoning.batches.safetensors"], 1024, 1, answers
)
stages.score_items(
    evaluation.for_scores(), ["reasoning.parquet"], ["documents/reasoning.parquet"], answers, scores,
    ["reasoning.json"], tasks=""
)
print("found:", *found, sep="\\n")
"""


class WritesMarker:
    """Writes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return Path.touch, (self.marker,)


@pytest.fixture
def marker(tmp_path) -> Path:
    return tmp_path / "marker"


@pytest.fixture
def source(small_model_folder, tmp_path, marker) -> Path:
    """A sound model with pickled weights and code beside it, either of which writes the marker when it runs."""
    source = tmp_path / "source"
    shutil.copytree(small_model_folder, source)
    (source / "pytorch_model.bin").write_bytes(pickle.dumps(WritesMarker(marker)))
    (source / "modeling_own.py").write_text(f"open({str(marker)!r}, 'w')\nclass Own: pass\n")
    config = json.loads((source / "config.json").read_text())
    own = {name: "modeling_own.Own" for name in ("AutoConfig", "AutoModelForCausalLM", "AutoTokenizer")}
    (source / "config.json").write_text(json.dumps(config | {"auto_map": own}))
    return source


def test_the_fixture_would_run_code(source, marker):
    pickle.loads((source / "pytorch_model.bin").read_bytes())
    assert marker.exists()


def test_no_stage_reads_a_pickle_or_runs_code_of_a_model(source, marker, tmp_path):
    write_study(tmp_path)
    command = [sys.executable, "-c", STAGES, str(ROOT / "ladder" / "calibration.jsonl")]
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.rpartition("found:")[2].split() == []
    assert not marker.exists()
    assert {path.suffix for path in (tmp_path / "model").iterdir()} <= {".json", ".safetensors", ".txt", ".model"}
    assert len(pd.read_parquet(tmp_path / "scores" / "model" / "w4-g128-c4-s0" / "reasoning.parquet")) > 0


def test_code_that_was_put_beside_a_copied_model_does_not_run(source, marker, tmp_path):
    copy_model(source, tmp_path / "model")
    shutil.copy(source / "modeling_own.py", tmp_path / "model")
    shutil.copy(source / "pytorch_model.bin", tmp_path / "model")
    with pytest.raises(ModelError, match=r"modeling_own.py: not in manifest.json: nobody knows what it is"):
        answer_requests(str(tmp_path / "model"), str(tmp_path / "model"), [], [], 1024, 1, [])
    assert not marker.exists()


def test_weights_that_are_only_a_pickle_are_refused(source, marker, tmp_path):
    (source / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"no weights \(model\.safetensors, or .*index\.json"):
        copy_model(source, tmp_path / "model")
    assert not marker.exists()


@pytest.mark.parametrize("model_type", ["minicpm", "llada2_moe"])
def test_an_architecture_that_gptqmodel_knows_and_transformers_does_not_is_refused(source, marker, model_type):
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps(config | {"model_type": model_type}))
    with pytest.raises(ModelError, match=rf"transformers has no models of the type {model_type}; code .* is not run$"):
        check_source(Model(name="own", source=str(source), family="own"), "models.0", "study.yaml")
    assert not marker.exists()


def test_the_architectures_of_transformers_are_those_that_it_loads():
    from transformers import CONFIG_MAPPING

    assert own_architectures_of_transformers() & known_architectures() == set(CONFIG_MAPPING) & known_architectures()


@pytest.mark.parametrize(
    "load", [shapes_of, load_tokenizer, lambda folder: load_dense(folder, "cpu")], ids=["shapes", "tokenizer", "model"]
)
def test_nobody_is_asked_whether_code_may_run(source, marker, tmp_path, monkeypatch, load):
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps(config | {"model_type": "own"}))
    auto_map = {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": ["modeling_own.Own", None]}}
    (source / "tokenizer_config.json").write_text(json.dumps(auto_map))
    copy_model(source, tmp_path / "model")
    shutil.copy(source / "modeling_own.py", tmp_path / "model")
    questions = []
    monkeypatch.setattr("builtins.input", lambda question="": questions.append(question) or "y")
    with pytest.raises(ValueError, match=r"custom code|not in manifest\.json"):
        load(tmp_path / "model")
    assert questions == []
    assert not marker.exists()


OBEYED = ("audit.json", "manifest.json", "unquantizable.json", "quantize_config.json", "quant_config.json")


def test_what_only_the_workflow_may_say_of_a_model_is_not_taken_from_its_source(source, tmp_path):
    for name in OBEYED:
        (source / name).write_text(json.dumps({"sha256": {}, "reason": "none", "checkpoint_format": "gptq", "bits": 4}))
    copy_model(source, tmp_path / "model")
    assert {path.name for path in (tmp_path / "model").iterdir()} & set(OBEYED) == {"manifest.json"}
    assert why_unquantizable(tmp_path / "model") is None
    assert load_dense(tmp_path / "model", "cpu").num_parameters() > 0
    with (tmp_path / "model" / "config.json").open("a") as config:
        config.write("\n")
    with pytest.raises(ModelError, match=r"config.json: changed since it was copied"):
        load_dense(tmp_path / "model", "cpu")


@pytest.mark.parametrize("name", OBEYED)
def test_what_only_the_workflow_may_say_of_a_model_is_not_fetched(name):
    assert goes_with_weights("config.json") and not goes_with_weights(name)


def test_a_model_that_is_quantized_already_is_refused(source):
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(
        json.dumps(config | {"quantization_config": {"quant_method": "awq", "bits": 4}})
    )
    with pytest.raises(ModelError, match=r"config.json: its weights are quantized already"):
        check_source(Model(name="packed", source=str(source), family="own"), "models.0", "study.yaml")


def test_an_architecture_that_only_its_own_code_knows_is_refused(source, marker):
    config = json.loads((source / "config.json").read_text())
    (source / "config.json").write_text(json.dumps(config | {"model_type": "own"}))
    with pytest.raises(ModelError, match="gptqmodel cannot quantize models of the type own"):
        check_source(Model(name="own", source=str(source), family="own"), "models.0", "study.yaml")
    assert not marker.exists()


@pytest.mark.parametrize("name", ["../up", "a/b", "..", "/etc", "a;b", "$(b)", "`b`", "a b", "-rf", "a\nb", "a'b", ""])
@pytest.mark.parametrize(
    "change",
    [
        lambda study, name: study.update(name=name),
        lambda study, name: study["models"][0].update(name=name),
        lambda study, name: study["models"][0].update(family=name),
        lambda study, name: study["evaluation"]["strata"].update({name: [{"task": "a", "chance": 0}]}),
        lambda study, name: study["evaluation"]["strata"].update(more=[{"task": name, "chance": 0}]),
    ],
    ids=["study", "model", "family", "stratum", "task"],
)
def test_a_name_is_no_path_and_nothing_to_a_shell(tmp_path, change, name):
    study = yaml.safe_load(yaml.safe_dump(STUDY))
    change(study, name)
    assert_refused(study, tmp_path)


@pytest.mark.parametrize("path", ["$(touch x)", "a`b`", 'a"b', "a'b", "a;b", "a|b", "a\\b", "a\nb", "a&b", "a>b"])
@pytest.mark.parametrize("key", ["source", "corpus", "tasks_folder"])
def test_a_path_is_nothing_to_a_shell(tmp_path, key, path):
    study = yaml.safe_load(yaml.safe_dump(STUDY))
    section = {"source": study["models"][0], "corpus": study["calibration"], "tasks_folder": study["evaluation"]}
    section[key][key] = path
    assert_refused(study, tmp_path)


@pytest.mark.parametrize("corpus", ["../../outside.jsonl", "a/../../../outside.jsonl", "/outside.jsonl"])
def test_a_file_of_a_data_set_stays_in_the_results(tmp_path, corpus):
    of_data_set = {"dataset": "someone/texts", "revision": COMMIT, "corpus": corpus}
    assert_refused(STUDY | {"calibration": STUDY["calibration"] | of_data_set}, tmp_path)
    within = Calibration(**of_data_set | {"corpus": "part/one.jsonl.gz", "tokens": 64})
    assert str(Results().corpus(within)) == f"results/corpus/someone--texts@{COMMIT}/part/one.jsonl.gz"


def assert_refused(study: dict, folder: Path) -> None:
    (folder / "study.yaml").write_text(yaml.safe_dump(study))
    with pytest.raises(StudyError) as refused:
        read_study(folder / "study.yaml")
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["../config.json", "/etc/config.json", "onnx/config.json"])
def test_a_file_that_a_repository_lists_outside_its_top_is_not_fetched(name):
    assert goes_with_weights("config.json") and not goes_with_weights(name)


def test_a_token_is_in_no_log_of_a_download_that_failed(hub, source, tmp_path):
    files = {path.name: path.read_bytes() for path in source.iterdir() if path.is_file()}
    hub.repositories["models/someone/small"] = HubRepository(COMMIT, files, gated=True)
    write_study(tmp_path)
    study = yaml.safe_load((tmp_path / "study.yaml").read_text())
    study["models"][0] |= {"source": "someone/small", "revision": COMMIT}
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
    failed = snakemake(tmp_path, "results/models/q1", "--verbose", HF_TOKEN=TOKEN, HF_ENDPOINT=hub.endpoint)
    assert failed.returncode == 1
    assert f"{hub.endpoint}/someone/small: the Hub does not know the token" in failed.stderr
    assert any(token for *_, token in hub.requests), "the token was sent"
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert [path for path in written if path.suffix == ".log"], "snakemake's own log"
    assert [path for path in written if TOKEN.encode() in path.read_bytes()] == []
    assert TOKEN not in failed.stdout + failed.stderr

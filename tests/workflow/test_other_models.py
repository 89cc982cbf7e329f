"""The workflow runs models that are not the ladder's: other architectures, and models and text from the Hub."""

import gzip
import json
import os
from pathlib import Path

import pandas as pd
import pytest
import yaml
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    LlamaConfig,
    LlamaForCausalLM,
    PretrainedConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
    set_seed,
)

from stratalaw.calibration.samples import read_corpus
from stratalaw.jobs.verification import verify_study
from stratalaw.layout import Results
from stratalaw.models.folder import verify_model
from stratalaw.study import read_study
from tests.hub_server import GOOD_TOKEN, HubRepository
from tests.workflow.conftest import OBSERVATIONS, ROOT, snakemake, snakemake_started_anew, write_study

COMMIT = "c0ffee" + "0" * 34
LAWS = OBSERVATIONS.with_name("laws.json")


def byte_pair_tokenizer() -> PreTrainedTokenizerFast:
    """A tokenizer of the kind that Llama and Qwen have; transformers reads no other kind beside a Qwen2 model."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=1000, special_tokens=["<|endoftext|>"], initial_alphabet=alphabet)
    tokenizer.train_from_iterator(read_corpus(ROOT / "ladder" / "calibration.jsonl")[:200], trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<|endoftext|>", pad_token="<|endoftext|>")


def make_model(folder: Path, config_class: type[PretrainedConfig], model_class, layers: int) -> None:
    """A model with random weights."""
    tokenizer = byte_pair_tokenizer()
    config = config_class(
        vocab_size=len(tokenizer), hidden_size=64, intermediate_size=192, num_hidden_layers=layers,
        num_attention_heads=4, num_key_value_heads=2, max_position_embeddings=1024, tie_word_embeddings=False,
        bos_token_id=0, eos_token_id=0, pad_token_id=0,
    )  # fmt: skip
    set_seed(layers)
    model_class(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def change_study(folder: Path, **changes) -> None:
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump(yaml.safe_load(path.read_text()) | changes, sort_keys=False))


def evaluation_without_chance(folder: Path) -> dict:
    """The study's evaluation, with no accuracy at or below chance: laws are not fitted to those."""
    evaluation = yaml.safe_load((folder / "study.yaml").read_text())["evaluation"]
    for benchmarks in evaluation["strata"].values():
        for benchmark in benchmarks:
            benchmark["chance"] = 0
    return evaluation


def benchmarks_answered_by_writing(folder: Path) -> list[str]:
    strata = read_study(folder / "study.yaml").evaluation.strata
    return [one.task for benchmarks in strata.values() for one in benchmarks if one.metric == "exact_match"]


def test_a_llama_and_a_qwen2_run_from_their_folders_to_the_laws(tmp_path):
    make_model(tmp_path / "models" / "llama", LlamaConfig, LlamaForCausalLM, 2)
    make_model(tmp_path / "models" / "qwen2", Qwen2Config, Qwen2ForCausalLM, 3)
    write_study(tmp_path)
    # Rows have 64 and 192 weights: groups of 128 divide neither.
    grids = [{"bits": [4, 8], "group_size": [128], "calibration_size": [4]}]
    sources = [{"name": name, "source": f"models/{name}", "family": "random"} for name in ("llama", "qwen2")]
    change_study(tmp_path, models=sources, grids=grids, evaluation=evaluation_without_chance(tmp_path))
    made = snakemake(tmp_path, str(LAWS))
    assert made.returncode == 0, made.stderr
    table = pd.read_csv(tmp_path / OBSERVATIONS)
    assert table.groupby("model").variant.nunique().to_dict() == {"llama": 3, "qwen2": 3}
    written = table.benchmark.isin(benchmarks_answered_by_writing(tmp_path))
    assert (table.accuracy[~written] - 0.2).abs().mean() < 0.1  # random weights guess among five
    assert (table.accuracy[written] == 0).all()
    parameters = table.groupby("model").n_params.first()
    assert parameters.qwen2 > parameters.llama
    for name in ("llama", "qwen2"):
        audit = json.loads((tmp_path / f"results/checkpoints/{name}/w4-g128-c4-s0/audit.json").read_text())
        assert len(audit["modules"]) == {"llama": 14, "qwen2": 21}[name]
        assert len(audit["ragged_groups"]) == len(audit["modules"])
    laws = json.loads((tmp_path / LAWS).read_text())["laws"]
    assert [law["n_rows"] for law in laws] == [4, 4, 4, 4]


@pytest.fixture
def hub_study(hub, tmp_path) -> Path:
    """A working directory with a study whose models and text are on the Hub, not pinned."""
    for name in ("q1", "q3"):
        files = {path.name: path.read_bytes() for path in (ROOT / "ladder" / "models" / name).iterdir()}
        hub.repositories[f"models/someone/{name}"] = HubRepository(COMMIT, files, gated=name == "q1")
    text = gzip.compress((ROOT / "ladder" / "calibration.jsonl").read_bytes())
    hub.repositories["datasets/someone/text"] = HubRepository(COMMIT, {"en/text.json.gz": text})
    folder = tmp_path / "run"
    folder.mkdir()
    write_study(folder)
    sources = [{"name": name, "source": f"someone/{name}", "family": "ladder"} for name in ("q1", "q3")]
    calibration = {"dataset": "someone/text", "corpus": "en/text.json.gz", "tokens": 256}
    change_study(folder, models=sources, calibration=calibration)
    return folder


TARGETS = [f"results/calibration/{name}/s0.parquet" for name in ("q1", "q3")]


def test_models_and_text_come_from_the_hub_once_they_are_pinned(hub, hub_study):
    from stratalaw.preparation.pin import pin

    refused = snakemake(hub_study, *TARGETS)  # what asks the Hub must be started anew
    assert refused.returncode == 1
    assert refused.stderr.splitlines()[-1].endswith("the revision is missing; run: stratalaw pin study.yaml")
    assert [one.key for one in pin(hub_study / "study.yaml")] == [
        *("models.0.source", "models.1.source", "calibration.dataset")
    ]
    gated = snakemake_started_anew(hub_study, *TARGETS)
    assert gated.returncode == 1
    assert f"{hub.endpoint}/someone/q1 is gated: accept its terms on that page, then set HF_TOKEN" in gated.stderr
    assert not hub.fetched()["model.safetensors"], "refused before the first job"
    made = snakemake_started_anew(hub_study, *TARGETS, HF_TOKEN=GOOD_TOKEN)
    assert made.returncode == 0, made.stderr
    for name in ("q1", "q3"):
        verify_model(hub_study / "results" / "models" / name)
        samples = pd.read_parquet(hub_study / "results" / "calibration" / name / "s0.parquet").tokens
        assert set(map(len, samples)) == {256}
    # However many jobs and runs needed them.
    assert hub.fetched()["text.json.gz"] == 1
    assert {hub.fetched()[name] for name in ("model.safetensors", "tokenizer.json")} == {2}
    logs = "".join(path.read_text() for path in (hub_study / "results" / "logs").rglob("*.log"))
    assert COMMIT in logs and GOOD_TOKEN not in logs + made.stdout + made.stderr
    assert list((hub_study / "results" / "downloads").iterdir()) == []
    again = snakemake(hub_study, *TARGETS)
    assert "Nothing to be done" in again.stdout + again.stderr
    corpus = next(hub_study.glob("results/corpus/*/en/text.json.gz"))
    before, content = corpus.stat(), corpus.read_bytes()
    corpus.write_bytes(content[:4] + b"\1" + content[5:])  # gzip's own time, which gunzip does not look at
    os.utime(corpus, ns=(before.st_atime_ns, before.st_mtime_ns))
    (hub_study / TARGETS[0]).unlink()
    line = f"{corpus.relative_to(hub_study)}: changed since it was fetched; delete it and run again"
    refused = snakemake(hub_study, TARGETS[0])
    assert refused.returncode == 1 and line in refused.stderr
    found = verify_study(read_study(hub_study / "study.yaml"), Results(hub_study / "results"))
    assert any("changed since it was fetched" in line for stage in found for line in stage.problems)

"""Whatever goes wrong, nothing half-made stays, one line says why, and the next run goes on."""

import json
import os
import shutil
import signal
import subprocess
import time

import pytest

from stratalaw.jobs.call import Call, perform
from stratalaw.models.folder import copy_model
from tests.workflow.conftest import OBSERVATIONS, ROOT, command, snakemake, write_study


def kill_when(folder, appeared) -> None:
    """Run the workflow and kill all of its processes, as a power cut would, once something has appeared."""
    process = subprocess.Popen(
        command(folder, str(OBSERVATIONS)),
        cwd=folder,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    while not appeared() and process.poll() is None:
        time.sleep(0.01)
    assert process.poll() is None, "the run ended before it could be killed"
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def test_killed_and_started_again_it_gives_the_same_observations(folder, whole, tmp_path):
    write_study(tmp_path)
    results = tmp_path / "results"
    kill_when(tmp_path, lambda: any(results.glob("checkpoints/*/*")))  # the first checkpoint is being written
    assert snakemake(tmp_path, "--unlock").returncode == 0
    kill_when(tmp_path, lambda: any(results.glob("answers/*/*/*.parquet")))  # a variant is being answered
    assert snakemake(tmp_path, "--unlock").returncode == 0
    resumed = snakemake(tmp_path, str(OBSERVATIONS))
    assert resumed.returncode == 0, resumed.stderr
    assert (tmp_path / OBSERVATIONS).read_bytes() == (folder / OBSERVATIONS).read_bytes()
    half_written = [path for path in results.rglob(".*") if path.name != ".snakemake_timestamp"]
    assert half_written == []


def test_a_damaged_model_is_named_and_once_mended_the_run_goes_on(tmp_path):
    write_study(tmp_path)
    source = tmp_path / "q1"
    shutil.copytree(ROOT / "ladder" / "models" / "q1", source)
    study = tmp_path / "study.yaml"
    study.write_text(study.read_text().replace(str(ROOT / "ladder" / "models" / "q1"), str(source)))
    weights = source / "model.safetensors"
    whole = weights.read_bytes()
    weights.write_bytes(whole[:-100])
    refused = snakemake(tmp_path)
    assert refused.returncode == 1
    assert f"study.yaml: {weights}: truncated or altered" in refused.stderr.splitlines()[-1]
    assert not (tmp_path / "results" / "models").exists()
    weights.write_bytes(whole)
    assert snakemake(tmp_path, "results/models/q1").returncode == 0


def test_a_model_altered_after_it_was_copied_is_not_quantized(folder, whole, tmp_path):
    model = tmp_path / "q1"
    shutil.copytree(folder / "results" / "models" / "q1", model)
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"\x01")
    call = {
        "model": str(model),
        "calibration": str(folder / "results" / "calibration" / "q1" / "s0.parquet"),
        "options": {},
        "checkpoint": str(tmp_path / "checkpoints" / "w4-g128-c4-s0"),
    }
    message = perform(Call("stratalaw.jobs.stages:quantize_model", str(tmp_path / "log"), call))
    assert message == (
        f"{weights}: changed since it was copied; delete {model} and run again (details: {tmp_path}/log)"
    )
    assert list((tmp_path / "checkpoints").iterdir()) == []


@pytest.mark.parametrize("damage", [lambda content: content[:-100], lambda content: content[:-1] + b"\x01"])
def test_a_damaged_checkpoint_is_not_evaluated(folder, whole, tmp_path, damage):
    checkpoint = tmp_path / "w4-g128-c4-s0"
    shutil.copytree(folder / "results" / "checkpoints" / "q1" / checkpoint.name, checkpoint)
    weights = checkpoint / "model.safetensors"
    weights.write_bytes(damage(weights.read_bytes()))
    call = {
        "model": str(folder / "results" / "models" / "q1"),
        "weights": str(checkpoint),
        "requests": [str(folder / "results" / "requests" / "q1" / "reasoning.parquet")],
        "batchings": [str(folder / "results" / "requests" / "q1" / "reasoning.batches.safetensors")],
        "tokens_per_batch": 1024,
        "threads": 1,
        "answers": [str(tmp_path / "answers" / "q1" / checkpoint.name / "reasoning.parquet")],
    }
    message = perform(Call("stratalaw.jobs.stages:answer_requests", str(tmp_path / "log"), call))
    assert message.startswith(f"{weights}: changed since it was quantized; delete {checkpoint} and run again")
    assert not (tmp_path / "answers").exists()


def test_calibration_text_that_is_too_short_is_named(tmp_path):
    copy_model(ROOT / "ladder" / "models" / "q1", tmp_path / "q1")
    corpus = tmp_path / "short.jsonl"
    corpus.write_text(json.dumps({"text": "3 + 4 = 7"}) + "\n")
    call = {
        "model": str(tmp_path / "q1"),
        "corpora": {"corpus": str(corpus)},
        "requests": [],
        "samples": 8,
        "tokens": 256,
        "overlap_words": None,
        "drawn": str(tmp_path / "calibration" / "s0.parquet"),
    }
    message = perform(Call("stratalaw.jobs.stages:draw_calibration", str(tmp_path / "log"), call))
    assert message.startswith(f"{corpus}: only 0 of 1 texts have 256 tokens and may be used; 8 samples are needed")
    assert not (tmp_path / "calibration").exists()


@pytest.fixture
def small_disk(tmp_path):
    """A disk of 512 KiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=512k", "tmpfs", place], check=False)
    if mounted.returncode:
        pytest.skip("mounting a small disk needs root")
    yield place
    subprocess.run(["umount", place], check=True)


@pytest.mark.parametrize("stage", ["provide_model", "quantize_model"])
def test_a_full_disk_is_named_and_with_more_room_the_stage_succeeds(folder, whole, tmp_path, small_disk, stage):
    model = folder / "results" / "models" / "q4"
    calls = {
        "provide_model": {
            "source": str(model),
            "revision": None,
            "downloads": str(tmp_path / "downloads"),
            "model": str(small_disk / "q4"),
        },
        "quantize_model": {
            "model": str(model),
            "calibration": str(folder / "results" / "calibration" / "q4" / "s0.parquet"),
            "options": {"threads": 1},
            "checkpoint": str(small_disk / "w8-g128-c4-s0"),
        },
    }
    call = Call(f"stratalaw.jobs.stages:{stage}", str(tmp_path / "log"), calls[stage])
    message = perform(call)
    assert message is not None and "no space left" in message.lower() and str(small_disk) in message, message
    assert list(small_disk.iterdir()) == []
    subprocess.run(["mount", "-o", "remount,size=64m", small_disk], check=True)
    assert perform(call) is None

"""With --cache and SNAKEMAKE_OUTPUT_CACHE a second working directory makes nothing twice."""

import json

from tests.workflow.conftest import snakemake, write_study

CHECKPOINT = "results/checkpoints/r1/w4-g128-c4-s0"

TIMESTAMP = ".snakemake_timestamp"


def test_a_second_directory_takes_what_the_first_made(tmp_path):
    cache = tmp_path / "cache"
    cache.mkdir()
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        folder.mkdir()
        write_study(folder)
        target = "results/scores/r1/w4-g128-c4-s0/memorization.json"
        made = snakemake(folder, target, "--cache", SNAKEMAKE_OUTPUT_CACHE=str(cache))
        assert made.returncode == 0, made.stderr
    # Two quantizations never take the same time to the millisecond: the second folder has the first one's.
    seconds = [json.loads((folder / CHECKPOINT / "audit.json").read_text())["seconds"] for folder in folders]
    assert seconds[0] == seconds[1]
    for stage in ("models", "calibration", "requests", "checkpoints"):
        files = [path for path in (folders[1] / "results" / stage).rglob("*.*") if path.name != TIMESTAMP]
        assert files
        for path in files:
            assert path.resolve().is_relative_to(cache), f"{path} was made twice"

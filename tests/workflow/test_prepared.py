"""What needs a network is made first, on its own, as docs/how-to/cluster.md says; the rest needs nothing of it."""

import re

import yaml

from tests.workflow.conftest import snakemake, write_study


def test_what_needs_a_network_is_made_first_also_where_calibration_waits_for_requests(tmp_path):
    write_study(tmp_path)
    study = yaml.safe_load((tmp_path / "study.yaml").read_text())
    study["models"], study["evaluation"]["items"] = study["models"][:1], 2
    study["calibration"]["overlap_words"] = 8
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
    made = snakemake(tmp_path, "prepared")
    assert made.returncode == 0, made.stderr
    results = tmp_path / "results"
    made_before = {path.name for path in results.iterdir()} - {"logs", "timings", "hashes.json"}
    assert made_before == {"models", "requests", "calibration", "studies"}  # of the study, what it rests on
    kept = {path.stem for path in (results / "requests" / "q1" / "documents").iterdir()}
    assert kept == {*study["evaluation"]["strata"]}
    planned = snakemake(tmp_path, "-n")
    assert planned.returncode == 0, planned.stderr
    rules = set(re.findall(r"^(?:local)?rule (\w+):$", planned.stdout + planned.stderr, re.MULTILINE))
    assert {"checkpoints", "answers", "scores"} <= rules and not {"models", "requests", "calibration"} & rules

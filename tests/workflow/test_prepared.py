"""What needs a network is made first, on its own, as docs/how-to/cluster.md says; the rest needs nothing of it."""

from pathlib import Path

import pytest
import yaml

from tests.workflow.conftest import snakemake, write_study


@pytest.mark.parametrize("overlap_words", [None, 8], ids=["requests are apart", "calibration needs requests"])
def test_what_needs_a_network_is_made_first(tmp_path, overlap_words):
    write_study(tmp_path)
    study = yaml.safe_load((tmp_path / "study.yaml").read_text())
    study["models"], study["evaluation"]["items"] = study["models"][:1], 2
    study["calibration"]["overlap_words"] = overlap_words
    (tmp_path / "study.yaml").write_text(yaml.safe_dump(study))
    made = snakemake(tmp_path, "prepared")
    assert made.returncode == 0, made.stderr
    results = tmp_path / "results"
    folders = {path.name for path in results.iterdir() if path.is_dir()} - {"logs", "timings"}
    assert folders == {"models", "requests", "calibration"}
    assert {path.stem for path in Path(results / "requests" / "r1" / "documents").iterdir()} == {
        *study["evaluation"]["strata"]
    }
    planned = snakemake(tmp_path, "-n", "--quiet", "host")
    assert "rule requests" not in planned.stdout + planned.stderr and planned.returncode == 0

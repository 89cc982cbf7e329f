"""Publishing; that of a whole study is tested where one is run, in ``workflow/test_pipeline.py``."""

from pathlib import Path

import pytest

from stratalaw.layout import Results
from stratalaw.report.publication import TABLES, PublicationError, publish
from stratalaw.study import read_study


def test_a_study_that_was_not_run_is_refused(tmp_path):
    study = read_study(Path("config/demo.yaml"))
    with pytest.raises(PublicationError, match="no observations; run the study first"):
        publish(study, Results(tmp_path), tmp_path / "published")
    assert not (tmp_path / "published").exists()


@pytest.fixture
def unfinished(tmp_path) -> Results:
    """Results of a study that has observations, but no laws yet."""
    results = Results(tmp_path / "results")
    for name in ("observations.parquet", "damage.csv"):
        results.of_study("demo", name).parent.mkdir(parents=True, exist_ok=True)
        results.of_study("demo", name).touch()
    return results


def test_a_study_without_laws_is_refused(unfinished, tmp_path):
    study = read_study(Path("config/demo.yaml"))
    with pytest.raises(PublicationError, match=r"demo: no variants.csv; run the study to its end"):
        publish(study, unfinished, tmp_path / "published")
    assert not (tmp_path / "published").exists()


def test_a_folder_with_files_of_others_is_not_replaced(unfinished, tmp_path):
    for name in TABLES:
        unfinished.of_study("demo", name).touch()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.tex").touch()
    with pytest.raises(PublicationError, match=r"mine: thesis.tex in it would be removed"):
        publish(read_study(Path("config/demo.yaml")), unfinished, tmp_path / "mine")
    assert (tmp_path / "mine" / "thesis.tex").exists()

"""Publishing; that of a whole study is tested where one is run, in ``workflow/test_pipeline.py``."""

from pathlib import Path

import pytest

from stratalaw.layout import Results
from stratalaw.report.publication import PublicationError, publish
from stratalaw.study import read_study


def test_a_study_that_was_not_run_is_refused(tmp_path):
    study = read_study(Path("config/demo.yaml"))
    with pytest.raises(PublicationError, match="no observations; run the study first"):
        publish(study, Results(tmp_path), tmp_path / "published")
    assert not (tmp_path / "published").exists()

from pathlib import Path

import pytest

from stratalaw.jobs.forecast import forecast_items
from stratalaw.layout import Results
from stratalaw.planning.forecasts import ForecastError
from stratalaw.study import read_study


def test_a_mixture_of_corpora_is_not_forecast_as_if_it_were_the_corpus(tmp_path):
    study = read_study(Path("config/demo.yaml"))
    with pytest.raises(ForecastError, match=r"^q3/w4-g128-c8-s0-even: what is calibrated on a mixture "):
        forecast_items(study, "q3/w4-g128-c8-s0-even", Results(tmp_path))

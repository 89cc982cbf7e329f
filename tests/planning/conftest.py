"""Laws of a study that follows the paper's law, with known exponents."""

from pathlib import Path

import pandas as pd
import pytest

from stratalaw.laws.analysis import Analysis, analyse
from stratalaw.laws.forms import PAPER_LAW, form_named
from stratalaw.laws.published import EXPONENTS
from stratalaw.laws.simulation import paper_grid, simulate

STRATA = ("memorization", "application", "reasoning")
SCALE = 0.5


@pytest.fixture(scope="session")
def observations() -> pd.DataFrame:
    tables = [
        simulate(PAPER_LAW, {"A": SCALE, **EXPONENTS[name]}, paper_grid(), i, n_items=5000, stratum=name)
        for i, name in enumerate(STRATA)
    ]
    return pd.concat(tables, ignore_index=True)


@pytest.fixture(scope="session")
def analysis(observations) -> Analysis:
    return analyse(observations, [PAPER_LAW, form_named("size-bits")], resamples=100)


@pytest.fixture(scope="session")
def laws_file(analysis, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("laws") / "laws.json"
    analysis.write(path)
    return path

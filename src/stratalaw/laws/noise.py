"""Accuracies as other items, and parameters as other models, could have given them."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stratalaw.laws.claims import APPLICATION, REASONING
from stratalaw.laws.exponents import Panel
from stratalaw.laws.resampling import binomial_draws, item_draws, model_weights
from stratalaw.laws.rows import rows_of
from stratalaw.laws.table import GENERAL, UTILIZATION

PANEL_DRAWS = 100  # a standard error from so many is known to 7 %


@dataclass
class NoiseDraws:
    """Models and items resampled: adjusted accuracies, shape (resamples, rows), for every row of every stratum.

    ``chance``: of each benchmark; ``items``: scores of items, or None: then the error of each row is binomial.
    """

    accuracies: pd.DataFrame
    chance: dict[str, float]
    items: pd.DataFrame | None
    resamples: int
    seed: int
    _of_stratum: dict[str, NDArray[np.float64]] = field(default_factory=dict)

    def weights(self, table: pd.DataFrame) -> NDArray[np.float64]:
        """How often each row of a table is drawn, by its model, shape (resamples, rows)."""
        models = self.accuracies[~self.accuracies.held_out.astype(bool)].model.unique()
        return model_weights(table, list(models), self.resamples, self.seed)

    def of(self, stratum: str) -> NDArray[np.float64]:
        if stratum not in self._of_stratum:
            rows = rows_of(self.accuracies[self.accuracies.stratum == stratum])
            if self.items is None:
                # Another seed for each stratum: their items are not the same.
                found = binomial_draws(rows, self.resamples, [self.seed, *stratum.encode()])
            else:
                members = {GENERAL: None, UTILIZATION: [APPLICATION, REASONING]}.get(stratum, [stratum])
                chosen = self.items if members is None else self.items[self.items.stratum.isin(members)]
                found = item_draws(rows, chosen, self.chance, self.resamples, self.seed)
            self._of_stratum[stratum] = found
        return self._of_stratum[stratum]

    def panel(self) -> Panel:
        """The fitted models with resampled items."""
        observed = Panel.observed(self.accuracies)
        fitted = ~self.accuracies.held_out.astype(bool)
        drawn = {
            name: self.of(name)[:PANEL_DRAWS, fitted[self.accuracies.stratum == name].to_numpy()]
            for name in observed.tables
        }
        return Panel(observed.tables, drawn)

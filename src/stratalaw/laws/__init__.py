"""Scaling laws: forms, fits, how sure they are, and what they say of what they have not seen.

>>> from stratalaw.laws import fit_law, read_observations, stratum_accuracies
>>> accuracies = stratum_accuracies(read_observations(Path("observations.csv")))
>>> fit = fit_law(accuracies, stratum="reasoning")
>>> fit.params, fit.conf_int(), fit.predict(accuracies), print(fit.summary())
"""

from stratalaw.laws.fit import FitError, LawFit, fit_law
from stratalaw.laws.forms import FORMS, PAPER_LAW, Form, form_named
from stratalaw.laws.rows import stratum_accuracies
from stratalaw.laws.table import TableError, read_observations

__all__ = [
    "FORMS",
    "PAPER_LAW",
    "FitError",
    "Form",
    "LawFit",
    "TableError",
    "fit_law",
    "form_named",
    "read_observations",
    "stratum_accuracies",
]

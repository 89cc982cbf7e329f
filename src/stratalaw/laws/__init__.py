"""Scaling laws: forms, fits and what they say."""

from stratalaw.laws.log_regression import LogRegression, fit_log_regression

__all__ = ["LogRegression", "fit_log_regression"]

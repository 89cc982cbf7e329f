"""``stratalaw forecast``: the items of a variant that was not run, from what was measured of its study."""

from __future__ import annotations

import json
from contextlib import redirect_stderr
from dataclasses import dataclass
from io import StringIO
from typing import Any

import pandas as pd

from stratalaw.jobs.so_far import SoFar, read_so_far
from stratalaw.jobs.stages import use_no_network
from stratalaw.laws.surface import Surface, surface_rows, with_originals
from stratalaw.layout import Results
from stratalaw.planning.forecasts import Forecaster, ForecastError, gaps
from stratalaw.seals import read_table
from stratalaw.study import Study
from stratalaw.study.variants import BASELINE_NAME, Quantization, is_mixed

SHOWN_OF_A_REQUEST = 200  # characters


@dataclass(frozen=True)
class ItemForecast:
    """``items``: stratum, task, document, original (its score), probability (of a right answer) and asked (the text),
    the likeliest losses first; ``strata``: what is expected of each, accuracy, low and high."""

    items: pd.DataFrame
    strata: pd.DataFrame


def forecast_items(study: Study, name: str, results: Results) -> ItemForecast:
    """What a variant would answer.

    Args:
        study: whose models it is of; the variant may be any.
        name: ``MODEL/VARIANT``.
        results: where the study was measured.

    Raises:
        ForecastError: the name is none, the variant was measured, or too little was measured.
        SealError: a file is damaged.
    """
    model, _, variant = name.partition("/")
    if is_mixed(variant):
        raise ForecastError(f"{name}: what items say of mixed bits cannot be told from uniform variants")
    try:
        quantization = Quantization.from_name(variant)
    except ValueError as error:
        raise ForecastError(f"{name}: {error}; write MODEL/VARIANT") from None
    if quantization.mixture:
        raise ForecastError(f"{name}: what is calibrated on a mixture of corpora cannot be told from what is not")
    models = {entry.name: entry for entry in study.models}
    if model not in models:
        raise ForecastError(f"{name}: {model} is not one of the study's models ({', '.join(models)})")
    so_far = read_so_far(study, results)
    if (model, variant) in so_far.tried:
        raise ForecastError(f"{name} was measured: its items are in {results.scores(model, variant, 'STRATUM')}")
    if so_far.observations is None or (model, BASELINE_NAME) not in so_far.tried:
        raise ForecastError(f"{name}: measure the original first ({results.scores(model, BASELINE_NAME, 'STRATUM')})")
    rows = surface_rows(so_far.observations)
    own = rows[(rows.model == model) & (rows.variant == BASELINE_NAME)]
    cells = with_originals(
        own.assign(
            variant=variant,
            bits=float(quantization.bits),
            group_size=float(quantization.group_size),
            calibration_size=float(quantization.calibration_size),
        ),
        rows,
    )
    predicted = Surface.fit(rows).predict(cells)
    natural = {
        name: (cells.chance + (1 - cells.chance) * predicted[column]).clip(0, 1)
        for name, column in (("accuracy", "mean"), ("low", "low"), ("high", "high"))
    }
    strata = cells[["stratum", "chance"]].assign(**natural).reset_index(drop=True)
    # Benchmarks of a stratum count alike in its accuracy, and items alike in a forecast.
    items = with_gaps(so_far, study, results)
    expected: dict[Any, float] = items.groupby(["model", "variant", "stratum"]).score.mean().to_dict()
    before = {stratum: expected[model, BASELINE_NAME, stratum] for stratum in strata.stratum}
    of_original: dict[Any, float] = dict(
        zip(own.stratum, own.chance + (1 - own.chance) * own.accuracy_adjusted, strict=True)
    )
    for stratum, accuracy in zip(strata.stratum, strata.accuracy.to_numpy(float), strict=True):
        expected[model, variant, stratum] = accuracy + before[stratum] - of_original[stratum]
    forecaster = Forecaster.fit(items, expected, dict(zip(strata.stratum, strata.chance, strict=True)))
    found = forecaster.forecast(model, variant)
    found = found.merge(asked_texts(study, model, results), on=["stratum", "task", "document"], how="left")
    found = found.sort_values(["original", "probability"], ascending=[False, True], kind="stable", ignore_index=True)
    return ItemForecast(found, strata)


def with_gaps(so_far: SoFar, study: Study, results: Results) -> pd.DataFrame:
    """The items of what was measured, with the gaps of their answers (see ``forecasts.gaps``)."""
    tables = []
    requests = {}
    for names, rows in so_far.items.groupby(["model", "variant", "stratum"], sort=False):
        model, variant, stratum = map(str, names)
        if (model, stratum) not in requests:
            requests[model, stratum] = requests_of_benchmarks(study, model, stratum, results)
        answers = read_table(results.answers(model, variant, stratum), "answers", {"variant": variant})[0]
        of_items = gaps(requests[model, stratum], answers)
        tables.append(rows.drop(columns="gap", errors="ignore").merge(of_items, on=["task", "document"], how="left"))
    return pd.concat(tables, ignore_index=True)


def requests_of_benchmarks(study: Study, model: str, stratum: str, results: Results) -> pd.DataFrame:
    """The requests of a stratum, their items named as in scores: those of a group of tasks by the group."""
    requests, _ = read_table(results.requests(model, stratum), "requests", {"stratum": stratum})
    if set(requests.task) <= {benchmark.task for benchmark in study.evaluation.strata[stratum]}:
        return requests
    # Which tasks a group has only lm-eval knows.
    from stratalaw.evaluation.documents import replayed_documents
    from stratalaw.evaluation.scoring import Scorer

    use_no_network()
    documents, _ = read_table(results.documents(model, stratum), "documents", {"stratum": stratum})
    with replayed_documents(documents), redirect_stderr(StringIO()):  # progress bars of lm-eval
        return Scorer(requests, study.evaluation, stratum).named_requests()


def asked_texts(study: Study, model: str, results: Results) -> pd.DataFrame:
    """The end of what each item asks: stratum, task, document, asked."""
    tables = []
    for stratum in study.evaluation.strata:
        requests = requests_of_benchmarks(study, model, stratum, results)
        first = requests.drop_duplicates(["task", "document"])
        texts = [" ".join(str(json.loads(text)[0]).split())[-SHOWN_OF_A_REQUEST:] for text in first.arguments]
        tables.append(first[["task", "document"]].assign(stratum=stratum, asked=texts))
    return pd.concat(tables, ignore_index=True)

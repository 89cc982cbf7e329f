"""Which items a variant that was not run would answer right: a probability for each item.

A logistic regression, learned from the variants that were measured: on the margin by which the original answers an item
(see ``gaps``; against it where the answer is wrong), on how that margin moved in the measured variants of the same
model that lost about as much, and on what the variant is expected to lose, by which all of it is weighed. The
probabilities of a stratum add up to the accuracy that the surface expects.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit, logit

from stratalaw.errors import StratalawError
from stratalaw.study.variants import BASELINE_NAME

Array = NDArray[np.float64]
NEAR = 0.7  # distance of ln D at which what a measured variant says counts by 1/e
RIDGE = 1.0
CERTAIN = 1e-4  # accuracies are taken to be no nearer to 0 and 1
KEPT = (0.02, 0.995)  # bounds of the share kept, of which ln D is taken
LEAST_DOUBT = 1e-6  # nats by which a token is less than certain
LEAST_GAP, TINY = 1e-9, 1e-300
ITEMS = ["task", "document"]


class ForecastError(StratalawError):
    """There is nothing to forecast items from; the message is one line that says what is missing."""


@dataclass(frozen=True)
class Answered:
    """What the variants of one model answered in one stratum.

    ``items``: task and document of each; ``right``: 0 to 1 by variant, shape (items, variants); ``margin``: the same
    shape, positive where the answer is right, in units of the original's median in the task, missing where there is no
    gap; ``written``: 1 for items that are answered by writing, shape (items,); ``variants``: their names.
    """

    items: pd.DataFrame
    right: Array
    margin: Array
    written: Array
    variants: list[str]

    @classmethod
    def of(cls, table: pd.DataFrame) -> Answered:
        """From rows with variant, task, document, score, gap (see ``gaps``), and tokens where some are written."""
        right = table.pivot(index=ITEMS, columns="variant", values="score")
        gap = table.pivot(index=ITEMS, columns="variant", values="gap").reindex(right.index)
        right = right[right[BASELINE_NAME].notna()]
        gap = gap.loc[right.index]
        scale = gap[BASELINE_NAME].groupby("task").transform("median").clip(lower=LEAST_GAP).fillna(1.0)
        size = np.log1p(gap.div(scale, axis=0).to_numpy(float))
        answered = right.to_numpy(float)
        margin = size * (2 * answered - 1)
        is_written = table.set_index(ITEMS).tokens.notna() if "tokens" in table else pd.Series(False, right.index)
        written = np.asarray(is_written.groupby(level=ITEMS).any().reindex(right.index), dtype=np.float64)
        return cls(right.index.to_frame(index=False), answered, margin, written, list(right.columns))

    def of_original(self) -> tuple[Array, Array]:
        """What it answers, and by what margin; 0 where that is not known."""
        place = self.variants.index(BASELINE_NAME)
        return self.right[:, place], np.nan_to_num(self.margin[:, place])


@dataclass(frozen=True)
class Forecaster:
    """``answered``: by model and stratum; ``expected``: accuracies by (model, variant, stratum), measured or predicted;
    ``chance`` and ``weights`` (with the regressors' means and scales) by stratum."""

    answered: Mapping[tuple[str, str], Answered]
    expected: Mapping[tuple[str, str, str], float]
    chance: Mapping[str, float]
    weights: Mapping[str, tuple[Array, Array, Array]]

    @classmethod
    def fit(
        cls,
        items: pd.DataFrame,
        expected: Mapping[tuple[str, str, str], float],
        chance: Mapping[str, float],
    ) -> Forecaster:
        """Learn from the items of measured variants.

        Args:
            items: model, variant, stratum, task, document, score, tokens (missing for what is chosen) and gap (see
                ``gaps``), of originals too.
            expected: accuracies of all variants, those to be forecast among them, by (model, variant, stratum).
            chance: by stratum.

        Raises:
            ForecastError: no variant was measured beside its original.
        """
        answered = {
            (str(model), str(stratum)): Answered.of(rows)
            for (model, stratum), rows in items.groupby(["model", "stratum"], observed=True)
            if (rows.variant == BASELINE_NAME).any()
        }
        weights = {}
        unlearned = cls(answered, expected, chance, {})
        for stratum in chance:
            parts = [
                (unlearned._regressors(model, stratum, variant, without), own.right[:, place])
                for (model, of), own in answered.items()
                if of == stratum
                for place, variant in enumerate(own.variants)
                if variant != BASELINE_NAME
                for without in (False, True)  # a variant alone must be forecast from its original
            ]
            if not parts:
                raise ForecastError(f"{stratum}: no quantized variant was measured beside its original")
            weights[stratum] = _logistic(*(np.concatenate(part) for part in zip(*parts, strict=True)))
        return cls(answered, expected, chance, weights)

    def forecast(self, model: str, variant: str) -> pd.DataFrame:
        """The items of a variant: stratum, task, document, original (its score) and probability (of a right answer).

        Raises:
            ForecastError: the model's original was not measured.
        """
        tables = []
        for (of_model, stratum), own in self.answered.items():
            if of_model != model:
                continue
            weights, centre, scale = self.weights[stratum]
            score = ((self._regressors(model, stratum, variant) - centre) / scale) @ weights
            level = _level(score, self.expected[model, variant, stratum])
            tables.append(
                own.items.assign(stratum=stratum, original=own.of_original()[0], probability=expit(score + level))
            )
        if not tables:
            raise ForecastError(f"{model}: its original was not measured yet")
        columns = ["stratum", *ITEMS, "original", "probability"]
        return pd.concat(tables, ignore_index=True)[columns]

    def _log_damage(self, model: str, variant: str, stratum: str) -> float:
        chance = self.chance[stratum]
        before = max(float(self.answered[model, stratum].of_original()[0].mean()) - chance, 0.01)
        share = np.clip((self.expected[model, variant, stratum] - chance) / before, *KEPT)
        return float(np.log(-np.log(share)))

    def _regressors(self, model: str, stratum: str, variant: str, without: bool = False) -> Array:
        """Shape (items, 19); ``without``: as if no other variant of the model had been measured."""
        own = self.answered[model, stratum]
        right, margin = own.of_original()
        damage = self._log_damage(model, variant, stratum)
        moved, flipped, near = np.zeros(len(right)), np.zeros(len(right)), 0.0
        others = [] if without else [name for name in own.variants if name not in (BASELINE_NAME, variant)]
        if others:
            places = [own.variants.index(name) for name in others]
            distance = np.array([abs(self._log_damage(model, name, stratum) - damage) for name in others])
            weight = np.exp(-distance / NEAR)
            near = float(weight.max())
            flipped = np.nan_to_num(own.right[:, places] - right[:, None]) @ weight / weight.sum()
            of_margin = own.margin[:, places] - own.margin[:, [own.variants.index(BASELINE_NAME)]]
            known = np.isfinite(of_margin) * weight
            moved = known.max(1) * (np.nan_to_num(of_margin) @ weight) / np.maximum(known.sum(1), TINY)
        level = logit(np.clip(self.expected[model, variant, stratum], CERTAIN, 1 - CERTAIN))
        columns = [
            *(np.ones(len(right)), right, np.full(len(right), level), level * right, damage * right),
            *(margin, damage * margin, margin * right, damage * margin * right),
            *(near * flipped, near * flipped * right, moved, damage * moved),
        ]
        # What is written goes in another way than what is chosen: the level, what was right, damage and margin.
        columns += [own.written * columns[place] for place in (0, 1, 4, 5, 6, 7)]
        return np.column_stack(columns)


def gaps(requests: pd.DataFrame, answers: pd.DataFrame) -> pd.DataFrame:
    """By how much the answer to each item is likelier than another (nats): task, document, gap.

    Of choices that is the difference of the two best; of what is written, minus the logarithm of the probability that a
    token is another one, by the mean log-likelihood of its tokens. Items with a single request for a log-likelihood
    have none.

    Args:
        requests: task, document and choice, as they were recorded.
        answers: to those that were asked, by their index: log_likelihood, and tokens where some are written.
    """
    table = requests[ITEMS].join(answers[["log_likelihood"]].astype(float), how="inner").dropna()
    tokens = answers.tokens.loc[table.index] if "tokens" in answers else pd.Series(0, table.index)
    choices = table[tokens == 0].sort_values("log_likelihood", ascending=False, kind="stable")
    place = choices.groupby(ITEMS, sort=False).cumcount()
    first, second = (choices[place == number].set_index(ITEMS).log_likelihood for number in (0, 1))
    written = table[tokens > 0]
    of_token = (written.log_likelihood / tokens[tokens > 0]).clip(upper=-LEAST_DOUBT)
    of_written = written.assign(gap=-np.log(-np.expm1(of_token))).groupby(ITEMS, sort=False).gap.mean()
    found: pd.Series = pd.concat([(first - second).dropna(), of_written])
    return found.rename("gap").reset_index()


def _logistic(regressors: Array, right: Array) -> tuple[Array, Array, Array]:
    """Weights of a ridge logistic regression, with the means and scales that its regressors have."""
    told = np.isfinite(right)
    centre, scale = regressors[told].mean(0), regressors[told].std(0)
    centre[0], scale[scale == 0] = 0.0, 1.0
    x, y = (regressors[told] - centre) / scale, right[told]
    weights = np.zeros(x.shape[1])
    for _ in range(30):
        expected = expit(x @ weights)
        curvature = (x * (expected * (1 - expected))[:, None]).T @ x + RIDGE * np.eye(len(weights))
        step = np.linalg.solve(curvature, x.T @ (y - expected) - RIDGE * weights)
        weights = weights + step
        if np.abs(step).max() < 1e-6:
            break
    return weights, centre, scale


def _level(score: Array, mean: float) -> float:
    """What to add to scores for their probabilities to have a mean."""
    low, high = -30.0, 30.0
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if expit(score + middle).mean() < mean else (low, middle)
    return (low + high) / 2

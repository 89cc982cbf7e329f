"""Does calibrating on facts keep facts? What each mixture of corpora keeps more than an even one, from observations.

    python benchmarks/calibration_mixtures.py OBSERVATIONS.csv [--against even] [--out TABLE.csv]

Variants are paired that differ in the mixture alone: of one model, bits, group size, number of samples and draw. Points
of accuracy (mean over the benchmarks of a stratum) are averaged over group sizes and numbers of samples; what is left
is one number for each model and draw, which are two crossed samples: a draw has the same texts for all models. The
standard error of their mean holds for other models and other draws (two-way random effects), with t by Satterthwaite's
degrees of freedom; p-values are adjusted by Holm, over the rows of mixtures named as their stratum, which answer the
question, and apart from these over all others.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats

from stratalaw.multiple_tests import holm

PAIR = ["model", "bits", "group_size", "calibration_size", "calibration_seed"]


def mean_and_error(cells: pd.DataFrame) -> tuple[float, float, float]:
    """The mean of models (rows) by draws (columns), its standard error over both, and the degrees of freedom."""
    values = cells.to_numpy(float)
    models, draws = values.shape
    mean = values.mean()
    by_model, by_draw = values.mean(1) - mean, values.mean(0) - mean
    rest = values - mean - by_model[:, None] - by_draw
    freedom = np.array([models - 1, draws - 1, (models - 1) * (draws - 1)])
    squares = np.array([draws * (by_model**2).sum(), models * (by_draw**2).sum(), (rest**2).sum()]) / freedom
    # The variance of the mean, but never less than models or draws alone tell.
    parts = np.array([1, 1, -1]) * squares
    if parts.sum() < squares[:2].max():
        parts = np.where(squares == squares[:2].max(), squares, 0.0)
    total = parts.sum()
    by_satterthwaite = total**2 / (parts**2 / freedom).sum() if total > 0 else freedom[0]
    return float(mean), float(np.sqrt(total / values.size)), float(by_satterthwaite)


def compare(observations: pd.DataFrame, against: str) -> pd.DataFrame:
    """One row for each mixture, stratum and number of bits: what it has more than the mixture to compare with.

    Columns: bits, mixture, stratum, ``points`` with ``stderr``, ``low`` and ``high`` (95 %), ``p`` and ``p_holm``, and
    how many ``pairs`` of variants there are.
    """
    table = observations[observations.calibration_mixture.notna()]
    means = table.groupby([*PAIR, "calibration_mixture", "stratum"]).accuracy.mean().unstack("calibration_mixture")
    if against not in means:
        raise SystemExit(f"no variant is calibrated on the mixture {against}; there are {', '.join(means)}")
    rows = []
    for mixture in means.columns.drop(against):
        pairs = (100 * (means[mixture] - means[against])).dropna()
        for (bits, stratum), own in pairs.groupby(["bits", "stratum"]):
            cells = own.groupby(["model", "calibration_seed"]).mean().unstack()
            whole = cells.dropna()
            if min(whole.shape) < 2:
                raise SystemExit(f"{mixture}, {bits} bits: at least two models with two draws are needed")
            mean, error, freedom = mean_and_error(whole)
            half = stats.t.ppf(0.975, freedom) * error
            p = 2 * stats.t.sf(abs(mean) / error, freedom) if error > 0 else 1.0
            about = {"bits": bits, "mixture": mixture, "stratum": stratum, "points": mean, "stderr": error}
            rows.append(about | {"low": mean - half, "high": mean + half, "p": p, "pairs": len(own)})
    found = pd.DataFrame(rows)
    families = found.groupby(found.mixture == found.stratum).p
    return found.assign(p_holm=families.transform(lambda p: holm(p.tolist())))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("observations", type=Path)
    parser.add_argument("--against", default="even")
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    observations = pd.read_csv(arguments.observations)
    found = compare(observations, arguments.against)
    print(found.round(3).to_string(index=False))
    own = found[found.mixture == found.stratum]
    for row in own.itertuples():
        told = f"keeps {'more' if row.points > 0 else 'less'} of it" if row.p_holm < 0.05 else "may keep no more of it"
        print(
            f"{row.bits} bits: calibrating on {row.stratum} {told} than on {arguments.against}: {row.points:+.1f} "
            f"points ({row.low:+.1f} to {row.high:+.1f}, p = {row.p_holm:.2g} by Holm)"
        )
    table = observations[observations.calibration_mixture.notna()]
    by_size = table.groupby(["bits", "calibration_size", "stratum", "calibration_mixture"]).paired_difference.mean()
    print("\nPoints against the original:")
    print((100 * by_size.unstack()).round(1).to_string())
    if arguments.out is not None:
        found.to_csv(arguments.out, index=False, float_format="%.4g")


if __name__ == "__main__":
    main()

"""How near the damages of uniform variants, added up by shares of weights, come to variants of mixed bits.

    OBSERVATIONS=results/studies/mixed-expected/observations.csv
    python benchmarks/mixed_expected.py write FOLDER MODEL_FOLDER...
    snakemake --profile profiles/workstation --configfile FOLDER/study.yaml -- $OBSERVATIONS
    python benchmarks/mixed_expected.py judge FOLDER/study.yaml $OBSERVATIONS

The first command writes a study of models of the ladder: uniform variants of 2, 3 and 4 bits, and for each pair of
these allocations that give the larger bits to groups of matrices drawn at random. The last one compares what was
measured with what ``stratalaw plan`` expects where the uniform variants were measured, in points of accuracy.
"""

from __future__ import annotations

import sys
from itertools import combinations
from pathlib import Path

import numpy as np
import pandas as pd
import yaml
from scipy import stats

from stratalaw.layout import Results
from stratalaw.models.allocation import loaded_as
from stratalaw.models.shapes import Shapes, shapes_of_weights
from stratalaw.planning.mixed_bits import expected_of_mixed, uniform_parts
from stratalaw.study import Study, read_study
from stratalaw.study.variants import BASELINE_NAME, is_mixed

BITS, GROUP_SIZE, SAMPLES = (2, 3, 4), 128, 32
SHARES = (0.25, 0.5, 0.75)  # of the groups
ITEMS = 300
LEVEL = 0.95
LADDER_STUDY = Path(__file__).parents[1] / "config" / "ladder.yaml"
QUANTILE = float(stats.norm.ppf((1 + LEVEL) / 2))


def allocation(shapes: Shapes, low: int, high: int, share: float, generator: np.random.Generator) -> dict[str, object]:
    """Bits that some groups have, drawn at random; engines load the matrices of a group as one."""
    groups = pd.Series({matrix.name: loaded_as(matrix.name) for matrix in shapes.matrices})
    names = groups.unique()
    chosen = generator.choice(names, max(1, round(share * len(names))), replace=False)
    matrices = {str(name): {"bits": high} for name in groups.index[groups.isin(chosen)]}
    return {"bits": low, "group_size": GROUP_SIZE, "matrices": matrices}


def write(folder: Path, models: list[Path]) -> None:
    """The study, with its allocations beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    study = yaml.safe_load(LADDER_STUDY.read_text())
    by_name = {model["name"]: model for model in study["models"]}
    study["name"], study["models"] = "mixed-expected", []
    study["grids"] = [{"bits": list(BITS), "group_size": [GROUP_SIZE], "calibration_size": [SAMPLES]}]
    study["evaluation"]["items"] = ITEMS
    for place, path in enumerate(models):
        generator, shapes, mixed = np.random.default_rng(place), shapes_of_weights(path), []
        for low, high in combinations(BITS, 2):
            for share in SHARES:
                file = folder / f"{path.name}-{low}-{high}-{round(100 * share)}.yaml"
                file.write_text(yaml.safe_dump(allocation(shapes, low, high, share, generator)))
                mixed.append({"allocation": file.name, "calibration_size": [SAMPLES]})
        study["models"].append(by_name[path.name] | {"mixed": mixed})
    (folder / "study.yaml").write_text(yaml.safe_dump(study, sort_keys=False))


def compared(study: Study, observations: pd.DataFrame) -> pd.DataFrame:
    """One row for each mixed variant and stratum: the bits that it mixes, its accuracy, and what was expected."""
    means = observations.groupby(["model", "variant", "stratum"], sort=False)[["accuracy", "chance"]].mean()
    # Of each of several benchmarks by itself; the mean's is smaller by their number.
    errors = observations.assign(v=observations.paired_stderr**2).groupby(["model", "variant", "stratum"]).v
    means["error"] = np.sqrt(errors.sum()) / errors.size()
    found = []
    for (model, variant), measured in means.groupby(["model", "variant"], sort=False):
        if not is_mixed(variant):
            continue
        quantization = study.quantization_of(model, variant)
        assert quantization is not None  # of the study that was run
        parts = uniform_parts(quantization, shapes_of_weights(Results().model(model)))
        names = {part.name: share for part, share in parts.items()}
        uniform = means.loc[model].loc[[BASELINE_NAME, *names]].reset_index()
        uniform = uniform.assign(low=uniform.accuracy, high=uniform.accuracy, outside="")
        chances = measured.chance.droplevel([0, 1]).to_dict()
        expected = expected_of_mixed(uniform, names, chances, LEVEL).set_index("stratum")
        rows = measured.droplevel([0, 1])[["accuracy", "error"]].join(expected, rsuffix="_expected")
        bits = sorted(part.bits for part in parts)
        found.append(rows.reset_index().assign(pair=f"{bits[0]} and {bits[-1]}"))
    return pd.concat(found, ignore_index=True)


def summarize(table: pd.DataFrame) -> None:
    """Errors, by the bits that are mixed and stratum."""
    table = table.assign(
        error_of_expected=100 * (table.accuracy - table.accuracy_expected),
        held=(table.accuracy >= table.low - QUANTILE * table.error)
        & (table.accuracy <= table.high + QUANTILE * table.error),
    )
    print("| bits | stratum | variants | mean | standard deviation | intervals that hold |")
    print("|---|---|---|---|---|---|")
    everything = "all of them"
    parts = [table.assign(stratum=everything), table.assign(pair=everything, stratum=everything)]
    for (pair, stratum), rows in pd.concat([table, *parts]).groupby(["pair", "stratum"], sort=False):
        error = rows.error_of_expected
        print(
            f"| {pair} | {stratum} | {len(rows)} | {error.mean():+.1f} | {error.std():.1f} | {rows.held.mean():.0%} |"
        )


def main() -> None:
    command, first, *rest = sys.argv[1:]
    if command == "write":
        write(Path(first), [Path(name) for name in rest])
    else:
        summarize(compared(read_study(Path(first)), pd.read_csv(rest[0])))


if __name__ == "__main__":
    main()

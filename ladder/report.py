"""Model cards and figures of the rungs, from the published study; ``python -m ladder.report`` prints their tables."""

from __future__ import annotations

import json
from itertools import pairwise
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import pandas as pd
from scipy.stats import t as student_t

from ladder.items import CHOICES
from ladder.release import MODELS, TABLES
from ladder.rungs import HEAD_WIDTH, LEARNING_RATE, RUNGS
from ladder.world import STRATA

OBSERVATIONS = TABLES.parent / "studies" / "ladder" / "observations.csv"
# Of the benchmarks with choices; what is written cannot be guessed.
CHANCE = 1 / CHOICES
COLOURS = {"memorization": "#0072B2", "application": "#E69F00", "reasoning": "#009E73"}
# Bits and group sizes, by damage; 8 bits are measured of the fitted models alone.
DAMAGE = ((8, 128), (4, 16), (4, 128), (3, 16), (3, 128), (2, 16), (2, 128))
FAMILIES = {"qwen3": ("Qwen3", "-"), "llama": ("Llama", "--")}

CARD = """\
---
license: mit
library_name: transformers
tags: [{family}, synthetic, scaling-laws, quantization]
---
# stratalaw ladder, rung {rung}

A {family_name} model with {parameters:,} non-embedding parameters ({layers} layer(s) of width {width}, intermediate
size {intermediate_size}, heads of {head_width}, tied embeddings, {vocabulary} words), trained on a synthetic world in
which memorization, application and reasoning can be told apart exactly. It serves to measure what quantization does to
each; it is of no other use. The world, the training and the benchmarks are described in the repository of stratalaw, on
the page `docs/explanation/ladder.md`.

- **Data**: the synthetic world of `ladder/world.py`, world seed 0; no other text.
- **Training**: {tokens:,} tokens with padding in {steps:,} steps; AdamW, peak learning rate {learning_rate:g}; bf16
  autocast with float32 master weights; seed {seed}; loss curve in `loss.csv`.
- **Time**: {seconds:,} s on {processor}, which other rungs shared.
- **Weights**: bf16 safetensors; SHA-256 in `../SHA256SUMS`.

Accuracy in bf16 (1,000 items per benchmark, standard error in brackets; chance is 20 % where there are choices, and 0
in {written}, which are answered by writing):

{table}
"""
WRITTEN = ("statements", "conversion", "chains", "sorting")


def percent(accuracy: float, stderr: float) -> str:
    return f"{100 * accuracy:.1f} ({100 * stderr:.1f})"


def write_cards(accuracy: pd.DataFrame, models: Path) -> None:
    """One README.md beside the weights of each rung."""
    for rung, shape in RUNGS.items():
        record = json.loads((models / rung / "training.json").read_text())
        config = json.loads((models / rung / "config.json").read_text())
        rows = accuracy[accuracy.rung == rung]
        table = "| stratum | benchmark | accuracy, % |\n|---|---|---|\n" + "\n".join(
            f"| {row.stratum} | {row.benchmark} | {percent(row.accuracy, row.stderr)} |" for row in rows.itertuples()
        )
        recipe = record["recipe"]
        card = CARD.format(
            rung=rung,
            family=shape.family,
            family_name=FAMILIES[shape.family][0],
            parameters=shape.non_embedding_parameters,
            layers=shape.layers,
            width=shape.width,
            intermediate_size=shape.intermediate_size,
            head_width=HEAD_WIDTH,
            vocabulary=config["vocab_size"],
            tokens=recipe["tokens"],
            steps=recipe["tokens"] // (recipe["rows_per_step"] * config["max_position_embeddings"]),
            learning_rate=LEARNING_RATE,
            seed=record["seed"],
            seconds=record["seconds"],
            processor=record["processor"],
            written=" and ".join((", ".join(WRITTEN[:-1]), WRITTEN[-1])),
            table=table,
        )
        (models / rung / "README.md").write_text(card)


def stratum_means(table: pd.DataFrame) -> pd.DataFrame:
    """Mean accuracy over the benchmarks of a stratum, and its standard error, by rung and stratum."""
    grouped = table.groupby(["rung", "stratum"], sort=False)
    return pd.DataFrame(
        {
            "accuracy": grouped.accuracy.mean(),
            "stderr": grouped.stderr.agg(lambda errors: (errors**2).sum() ** 0.5 / len(errors)),
        }
    ).reset_index()


def steps_between_neighbours(means: pd.DataFrame) -> pd.DataFrame:
    """By family and stratum: each rung less the one below, in points, with standard errors of the difference."""
    rows = []
    for family in FAMILIES:
        rungs = [name for name, shape in RUNGS.items() if shape.family == family]
        for stratum in STRATA:
            own = means[means.stratum == stratum].set_index("rung").loc[rungs]
            change = own.accuracy.diff()
            error = (own.stderr**2 + own.stderr.shift() ** 2) ** 0.5
            cells = {
                f"{below[1:]} to {rung[1:]}": f"{100 * change[rung]:+.1f} ({100 * error[rung]:.1f})"
                for below, rung in pairwise(rungs)
            }
            rows.append({"family": FAMILIES[family][0], "stratum": stratum, **cells})
    return pd.DataFrame(rows)


def plot_accuracy(accuracy: pd.DataFrame, path: Path) -> None:
    """Accuracy in bf16 against size: each benchmark thin, the mean of its stratum thick, with standard errors."""
    figure, panels = plt.subplots(1, 3, figsize=(9.4, 4.4), sharey=True, constrained_layout=True)
    sizes = {rung: shape.non_embedding_parameters for rung, shape in RUNGS.items()}
    means = stratum_means(accuracy)
    for panel, stratum in zip(panels, STRATA, strict=True):
        colour = COLOURS[stratum]
        for family, (name, line) in FAMILIES.items():
            rungs = [rung for rung, shape in RUNGS.items() if shape.family == family]
            for marker, (benchmark, curve) in zip(
                "os^v", accuracy[accuracy.stratum == stratum].groupby("benchmark", sort=False), strict=False
            ):
                curve = curve[curve.rung.isin(rungs)]
                label = benchmark if family == "qwen3" else None
                x = curve.rung.map(sizes)
                panel.plot(
                    x, 100 * curve.accuracy, line, marker=marker, ms=3.5, lw=0.8, color=colour, alpha=0.5, label=label
                )
            mean = means[(means.stratum == stratum) & means.rung.isin(rungs)]
            x = mean.rung.map(sizes)
            panel.errorbar(
                x,
                100 * mean.accuracy,
                100 * mean.stderr,
                ls=line,
                color=colour,
                lw=2.4,
                capsize=2,
                label=f"mean, {name}",
            )
        panel.axhline(100 * CHANCE, color="grey", ls=":", lw=1)
        panel.set(xscale="log", title=stratum, xlabel="non-embedding parameters", ylim=(-3, 103))
        panel.legend(fontsize=9, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=2)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("accuracy in bf16, %")
    panels[0].annotate(
        "chance where there are choices",
        (max(sizes.values()), 100 * CHANCE),
        xytext=(0, -10),
        textcoords="offset points",
        ha="right",
        fontsize=9,
        color="grey",
    )
    save(figure, path)


def quantized(observations: pd.DataFrame) -> pd.DataFrame:
    """Mean accuracy of a stratum by bits and group size in points less the originals', with 95 % intervals over models.

    Rows with all calibration samples, of models that have every such variant.
    """
    means = observations.groupby(["model", "variant", "stratum"], sort=False).accuracy.mean().unstack("variant")
    rows = []
    for bits, group_size in DAMAGE:
        change = 100 * means[f"w{bits}-g{group_size}-c128-s0"].sub(means["bf16"]).dropna()
        for stratum, of in change.groupby("stratum", sort=False):
            half = student_t.ppf(0.975, len(of) - 1) * of.std() / len(of) ** 0.5
            row = {"bits": bits, "group_size": group_size, "stratum": stratum, "change": of.mean(), "half_width": half}
            rows.append(row)
    return pd.DataFrame(rows)


def plot_damage(damage: pd.DataFrame, path: Path) -> None:
    """Changes against bf16 by bits, group size and stratum, with 95 % intervals over models."""
    figure, axes = plt.subplots(figsize=(8, 4.2), constrained_layout=True)
    for offset, (stratum, of) in enumerate(damage.groupby("stratum", sort=False)):
        x = [place + 0.25 * (offset - 1) for place in range(len(DAMAGE))]
        axes.bar(x, of.change, 0.23, yerr=of.half_width, color=COLOURS[stratum], label=stratum, capsize=2)
    axes.axhline(0, color="black", lw=0.8)
    axes.set_xticks(range(len(DAMAGE)), [f"{bits} bits\ngroups of {group_size}" for bits, group_size in DAMAGE])
    axes.set_ylabel("change of accuracy against bf16, points")
    axes.legend(frameon=False, loc="lower left")
    axes.spines[["top", "right"]].set_visible(False)
    save(figure, path)


def save(figure, path: Path) -> None:
    figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})
    figure.savefig(path.with_suffix(".png"), dpi=150)
    plt.close(figure)


def main() -> None:
    observations = pd.read_csv(OBSERVATIONS)
    accuracy = observations[observations.variant == "bf16"].rename(columns={"model": "rung"})
    accuracy = accuracy.assign(benchmark=accuracy.benchmark.str.removeprefix("ladder_"))
    write_cards(accuracy, MODELS)
    plot_accuracy(accuracy, TABLES / "accuracy")
    means = stratum_means(accuracy)
    cells = accuracy.assign(cell=[percent(row.accuracy, row.stderr) for row in accuracy.itertuples()])
    for family in FAMILIES:
        rungs = [rung for rung, shape in RUNGS.items() if shape.family == family]
        own = cells[cells.rung.isin(rungs)]
        table = own.pivot_table(
            index=["stratum", "benchmark"], columns="rung", values="cell", aggfunc="first", sort=False
        )
        print(table.reset_index().to_markdown(index=False) + "\n")
        table = means[means.rung.isin(rungs)].pivot_table(
            index="rung", columns="stratum", values="accuracy", sort=False
        )
        print((100 * table).round(1).to_markdown() + "\n")
    print(steps_between_neighbours(means).to_markdown(index=False) + "\n")
    damage = quantized(observations)
    plot_damage(damage, TABLES / "damage")
    damage["cell"] = [f"{row.change:+.1f} ± {row.half_width:.1f}" for row in damage.itertuples()]
    table = damage.pivot_table(
        index=["bits", "group_size"], columns="stratum", values="cell", aggfunc="first", sort=False
    )
    print(table.loc[list(DAMAGE), list(STRATA)].reset_index().to_markdown(index=False))


if __name__ == "__main__":
    main()

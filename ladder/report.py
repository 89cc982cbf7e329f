"""Model cards and figures from the measured tables: ``python -m ladder.report``. Prints the tables as Markdown."""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import pandas as pd
from scipy import stats

from ladder.release import MODELS, TABLES
from ladder.rungs import RUNGS
from ladder.world import STRATA

CHANCE = 0.25
ORIGINAL = "bf16"
COLOURS = {"memorization": "#0072B2", "application": "#E69F00", "reasoning": "#009E73"}

CARD = """\
---
license: mit
library_name: transformers
tags: [qwen3, synthetic, scaling-laws, quantization]
---
# stratalaw ladder, rung {rung}

A Qwen3 model with {parameters:,} non-embedding parameters ({layers} layer(s) of width {width}, intermediate size
{intermediate_size}, 4 heads, tied embeddings, {vocabulary} words), trained on a synthetic world in which memorization,
application and reasoning can be told apart exactly. It serves to measure what quantization does to each; it is of no
other use. The world, the training and the benchmarks are described in the repository of stratalaw, on the page
`docs/explanation/ladder.md`.

- **Data**: the synthetic world of `ladder/world.py`, world seed 0; no other text.
- **Training**: {tokens:,} tokens with padding in {steps:,} steps of {tokens_per_step:,}; AdamW, peak learning rate
  {learning_rate:g}; bf16 autocast with float32 master weights; seed {seed}; loss curve in `loss.csv`.
- **Time**: {seconds:,} s on {processor}.
- **Weights**: bf16 safetensors; SHA-256 in `../SHA256SUMS`.

Accuracy in bf16 (lm-eval, four choices, chance 25 %, 1,000 items a benchmark, standard error in brackets):

{table}
"""


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
            parameters=shape.non_embedding_parameters,
            layers=shape.layers,
            width=shape.width,
            intermediate_size=shape.intermediate_size,
            vocabulary=config["vocab_size"],
            tokens=recipe["tokens"],
            steps=recipe["tokens"] // recipe["tokens_per_step"],
            tokens_per_step=recipe["tokens_per_step"],
            learning_rate=record["rung"]["learning_rate"],
            seed=record["seed"],
            seconds=record["seconds"],
            processor=record["processor"],
            table=table,
        )
        (models / rung / "README.md").write_text(card)


def stratum_means(table: pd.DataFrame, by: list[str]) -> pd.DataFrame:
    """Mean accuracy over the benchmarks of a stratum, and its standard error, by the columns ``by`` and stratum."""
    grouped = table.groupby([*by, "stratum"], sort=False)
    return pd.DataFrame(
        {
            "accuracy": grouped.accuracy.mean(),
            "stderr": grouped.stderr.agg(lambda errors: (errors**2).sum() ** 0.5 / len(errors)),
        }
    ).reset_index()


def plot_accuracy(accuracy: pd.DataFrame, path: Path) -> None:
    """Accuracy in bf16 against size: each benchmark thin, the mean of its stratum thick, with standard errors."""
    figure, panels = plt.subplots(1, 3, figsize=(9.4, 4.2), sharey=True, constrained_layout=True)
    size = {rung: shape.non_embedding_parameters for rung, shape in RUNGS.items()}
    means = stratum_means(accuracy, ["rung"])
    for panel, stratum in zip(panels, STRATA, strict=True):
        rows = accuracy[accuracy.stratum == stratum]
        for marker, (name, curve) in zip("os^v", rows.groupby("benchmark", sort=False), strict=False):
            x = curve.rung.map(size)
            panel.plot(
                x, 100 * curve.accuracy, marker=marker, ms=4, lw=0.9, color=COLOURS[stratum], alpha=0.55, label=name
            )
        mean = means[means.stratum == stratum]
        x = mean.rung.map(size)
        panel.errorbar(
            x, 100 * mean.accuracy, 100 * mean.stderr, color=COLOURS[stratum], lw=2.4, capsize=2, label="mean"
        )
        panel.axhline(100 * CHANCE, color="grey", ls=":", lw=1)
        panel.set(xscale="log", title=stratum, xlabel="non-embedding parameters", ylim=(18, 102))
        panel.legend(fontsize=9, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.18), ncols=2)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("accuracy in bf16, %")
    panels[0].annotate(
        "chance",
        (min(size.values()), 100 * CHANCE),
        xytext=(0, -9),
        textcoords="offset points",
        fontsize=9,
        color="grey",
    )
    save(figure, path)


def changes(means: pd.DataFrame) -> pd.DataFrame:
    """By variant and stratum: the mean change against bf16 over the rungs, half of its 95 % interval (Student's t over
    the rungs), and where guessing would be (all shares)."""
    table = means.pivot_table(index=["variant", "stratum"], columns="rung", values="accuracy", sort=False)
    original = table.loc[ORIGINAL]
    own = table.drop(index=ORIGINAL, level="variant")
    change = own - original.reindex(own.index.get_level_values("stratum")).to_numpy()
    rungs = change.notna().sum(axis=1)
    half = stats.t.ppf(0.975, rungs - 1) * change.std(axis=1, ddof=1) / rungs**0.5
    guessing = CHANCE - original.mean(axis=1).reindex(own.index.get_level_values("stratum")).to_numpy()
    return pd.DataFrame({"change": change.mean(axis=1), "half": half, "guessing": guessing})


def plot_damage(means: pd.DataFrame, path: Path) -> None:
    """What GPTQ takes from the models, by variant and stratum: a dot plot of ``changes``."""
    table = changes(means)
    variants = list(dict.fromkeys(table.index.get_level_values("variant")))
    figure, axes = plt.subplots(figsize=(7.5, 0.9 + 0.62 * len(variants)), constrained_layout=True)
    for offset, stratum in enumerate(STRATA):
        rows = table.xs(stratum, level="stratum")
        y = [-variants.index(name) - 0.22 * (offset - 1) for name in rows.index]
        axes.errorbar(100 * rows.change, y, xerr=100 * rows.half, fmt="o", ms=5, color=COLOURS[stratum], label=stratum)
        axes.plot(100 * rows.guessing, y, "|", color=COLOURS[stratum], ms=9)
    for place in range(1, len(variants)):
        axes.axhline(0.5 - place, color="lightgrey", lw=0.6)
    axes.plot([], [], "|", color="grey", ms=9, label="guessing")
    axes.axvline(0, color="grey", ls="--", lw=1)
    axes.set_yticks([-place for place in range(len(variants))], variants)
    rungs = means.rung.nunique()
    axes.set_xlabel(
        "change of accuracy against bf16, points\n"
        f"mean and 95 % interval over the {rungs} models of the ladder (its rungs)"
    )
    axes.legend(frameon=False, ncols=4, loc="lower center", bbox_to_anchor=(0.5, 1.0))
    axes.spines[["top", "right"]].set_visible(False)
    save(figure, path)


def save(figure: plt.Figure, path: Path) -> None:
    figure.savefig(path.with_suffix(".svg"), metadata={"Date": None})
    figure.savefig(path.with_suffix(".png"), dpi=150)
    plt.close(figure)


def main() -> None:
    accuracy = pd.read_csv(TABLES / "accuracy.csv")
    write_cards(accuracy, MODELS)
    plot_accuracy(accuracy, TABLES / "accuracy")
    print(
        accuracy.assign(cell=accuracy.apply(lambda row: percent(row.accuracy, row.stderr), axis=1))
        .pivot_table(index=["stratum", "benchmark"], columns="rung", values="cell", aggfunc="first", sort=False)
        .reset_index()
        .to_markdown(index=False)
    )
    damage = pd.concat([accuracy, pd.read_csv(TABLES / "damage.csv")])
    names = damage.bits.astype(str) + " bits"
    damage["variant"] = names.where(damage.bits == 16, names + ", groups of " + damage.group_size.astype(str)).replace(
        "16 bits", ORIGINAL
    )
    means = stratum_means(damage, ["variant", "rung"])
    plot_damage(means, TABLES / "damage")
    by_rung = means.pivot_table(index=["variant", "rung"], columns="stratum", values="accuracy", sort=False)
    for table in (by_rung.groupby("variant", sort=False).mean(), by_rung.loc[ORIGINAL]):
        print("\n" + (100 * table).round(1).to_markdown())


if __name__ == "__main__":
    main()

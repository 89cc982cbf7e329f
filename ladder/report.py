"""Model cards and figures from the measured tables: ``python -m ladder.report``. Prints the tables as Markdown."""

from __future__ import annotations

import json
from pathlib import Path

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import pandas as pd

from ladder.release import MODELS, TABLES
from ladder.rungs import RUNGS
from ladder.world import STRATA

CHANCE = 0.25
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
    figure, panels = plt.subplots(1, 3, figsize=(10, 3.9), sharey=True, constrained_layout=True)
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
        panel.legend(fontsize=7.5, frameon=False, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=3)
        panel.spines[["top", "right"]].set_visible(False)
    panels[0].set_ylabel("accuracy in bf16, %")
    panels[0].annotate(
        "chance",
        (min(size.values()), 100 * CHANCE),
        xytext=(0, -9),
        textcoords="offset points",
        fontsize=7.5,
        color="grey",
    )
    save(figure, path)


def plot_damage(means: pd.DataFrame, path: Path) -> None:
    """What GPTQ leaves, averaged over the rungs, by stratum and variant."""
    figure, axes = plt.subplots(figsize=(7, 3.4), constrained_layout=True)
    averages = means.groupby(["variant", "stratum"], sort=False).accuracy.mean().unstack()[list(STRATA)]
    for offset, stratum in enumerate(STRATA):
        x = [place + 0.26 * (offset - 1) for place in range(len(averages))]
        axes.bar(x, 100 * averages[stratum], width=0.24, color=COLOURS[stratum], label=stratum)
    axes.axhline(100 * CHANCE, color="grey", ls=":", lw=1)
    axes.set_xticks(range(len(averages)), averages.index.str.replace(", ", "\n"))
    axes.set(ylabel="accuracy, %, mean of the rungs", ylim=(0, 100))
    axes.legend(frameon=False, ncols=3, loc="upper right")
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
    damage["variant"] = names.where(damage.bits == 16, names + ", G=" + damage.group_size.astype(str)).replace(
        "16 bits", "bf16"
    )
    means = stratum_means(damage, ["variant", "rung"])
    plot_damage(means, TABLES / "damage")
    by_rung = means.pivot_table(index=["variant", "rung"], columns="stratum", values="accuracy", sort=False)
    for table in (by_rung.groupby("variant", sort=False).mean(), by_rung.loc["bf16"]):
        print("\n" + (100 * table).round(1).to_markdown())


if __name__ == "__main__":
    main()

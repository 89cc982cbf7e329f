"""The model card of a variant: front matter as the Hub reads it, and what was measured of the variant in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from stratalaw.damage.table import ALL, GENERAL
from stratalaw.export.engines import ENGINES, why_not
from stratalaw.models.allocation import ALLOCATION
from stratalaw.models.shapes import Shapes
from stratalaw.study import Benchmark, Calibration, Gptq
from stratalaw.study.variants import Quantization

NOT_KNOWN = "not known; see the base model"


@dataclass(frozen=True)
class Exported:
    """What a card is about.

    Attributes:
        name: of the variant, ``MODEL/VARIANT``.
        base: repository of the original on the Hub, or the folder's name of a local one.
        base_commit: commit of the repository; empty for a local folder.
        licence: of the base model, as the Hub names it; empty where it is not known.
        quantization: what was made.
        options, calibration: how.
        shapes: of the original.
        audit: of the checkpoint.
        damage: the variant's rows of the damage table.
        benchmarks: those of the study, by stratum.
        data_sets: of each task, its data set on the Hub, or the task's own name.
    """

    name: str
    base: str
    base_commit: str
    licence: str
    quantization: Quantization
    options: Gptq
    calibration: Calibration
    shapes: Shapes
    audit: Mapping[str, Any]
    damage: pd.DataFrame
    benchmarks: Mapping[str, Sequence[Benchmark]]
    data_sets: Mapping[str, str]


def card_of(exported: Exported) -> str:
    """The card as Markdown with YAML front matter."""
    parts = [f"---\n{front_matter(exported)}\n---\n", *_how_it_was_made(exported), *_what_it_lost(exported)]
    return "\n".join([*parts, *_what_runs_it(exported)]) + "\n"


def front_matter(exported: Exported) -> str:
    """What the Hub reads: base model, relation, licence, and results as a ``model-index``."""
    from huggingface_hub import ModelCardData

    about: dict[str, Any] = {}
    if exported.base_commit:
        about = {"base_model": exported.base, "base_model_relation": "quantized"}
    if exported.licence:
        about["license"] = exported.licence
    text: str = ModelCardData(
        **about,
        library_name="transformers",
        pipeline_tag="text-generation",
        tags=["gptq", "gptqmodel", f"{exported.audit.get('bits', exported.quantization.bits)}-bit", "stratalaw"],
        model_name=exported.name.replace("/", "-"),
        eval_results=_results(exported),
    ).to_yaml()
    return text


def _results(exported: Exported) -> list[Any]:
    """The accuracy of the variant on each benchmark, as the Hub's results."""
    from huggingface_hub import EvalResult

    rows = exported.damage.set_index("benchmark")
    return [
        EvalResult(
            task_type="text-generation",
            dataset_type=exported.data_sets[benchmark.task],
            dataset_name=f"{benchmark.task} ({stratum})",
            dataset_revision=benchmark.revision,
            dataset_args=None if benchmark.shots is None else {"num_few_shot": benchmark.shots},
            metric_type=benchmark.metric,
            metric_name=benchmark.metric,
            metric_value=round(float(rows.accuracy[benchmark.task]), 4),
        )
        for stratum, benchmarks in exported.benchmarks.items()
        for benchmark in benchmarks
    ]


def _how_it_was_made(exported: Exported) -> list[str]:
    quantization, options, audit = exported.quantization, exported.options, exported.audit
    base = f"{exported.base} at `{exported.base_commit}`" if exported.base_commit else f"`{exported.base}`"
    group = f"groups of {quantization.group_size}" if quantization.group_size > 0 else "whole rows"
    precision = f"{quantization.bits} bits in {group}"
    if quantization.exceptions:
        precision = f"the bits that `{ALLOCATION}` has for each matrix"
    kept = audit["unquantized"]
    return [
        f"# {exported.name}\n",
        f"{base}, quantized with GPTQ to {precision}: "
        f"{audit['effective_bits']:.3f} bits per quantized weight, scales and zero points included.\n",
        "| | |",
        "|---|---|",
        f"| licence of the base model | {exported.licence or NOT_KNOWN} |",
        f"| calibration text | {calibration_text(exported.calibration, quantization.mixture)} |",
        f"| calibration set | {quantization.calibration_size} samples of {exported.calibration.tokens} tokens, "
        f"{audit['calibration_tokens']:,} tokens in all, draw {quantization.calibration_seed} |",
        f"| GPTQ | {'symmetric' if options.symmetric else 'asymmetric'}, desc_act "
        f"{str(options.activation_order).lower()}, damping {options.damping:g} |",
        f"| software | {', '.join(f'{name} {number}' for name, number in audit['versions'].items())} |",
        f"| left in 16 bits | embeddings and norms{f', {len(kept)} matrices: {kept[0]} …' if kept else ''} |",
        f"| weights | {exported.shapes.weight_bytes(quantization):,} bytes; "
        f"{exported.shapes.weight_bytes(None):,} in bf16 |\n",
    ]


def calibration_text(calibration: Calibration, mixture: str) -> str:
    """Where calibration samples are from, in words; ``mixture``: empty where that is the study's corpus."""
    if mixture:
        parts = calibration.mixtures[mixture]
        shares = {name: part / sum(parts.values()) for name, part in parts.items()}
        return ", ".join(f"{share:.0%} {calibration.corpora[name]}" for name, share in shares.items())
    if calibration.dataset is not None:
        return f"{calibration.corpus} of {calibration.dataset} at `{calibration.revision}`"
    return str(calibration.corpus)


def _what_it_lost(exported: Exported) -> list[str]:
    rows = exported.damage[exported.damage.benchmark == ALL]
    in_order = rows.sort_values("stratum", key=lambda names: names != GENERAL, kind="stable")
    lines = [
        f"| {row['stratum']} | {row['accuracy_original']:.3f} | {row['accuracy']:.3f} | {100 * row['difference']:+.1f} "
        f"({100 * row['low']:+.1f} to {100 * row['high']:+.1f}) | {row['lost']} | {row['gained']} |"
        for row in in_order.to_dict("records")
    ]
    return [
        "## What quantization took\n",
        "Accuracy beside the original on the same items, on dense bf16 weights of the same values; the difference in "
        "points with its 95 % interval, paired by item; items lost (right, then wrong) and gained.\n",
        "| stratum | original | this model | difference | lost | gained |",
        "|---|---|---|---|---|---|",
        *lines,
        "",
    ]


def _what_runs_it(exported: Exported) -> list[str]:
    lines = []
    for engine in ENGINES:
        reason = why_not(engine, exported.quantization, exported.options, exported.shapes.matrices)
        verdict = f"no: it {reason}" if reason else f"yes{f'; needs {engine.needs}' if engine.needs else ''}"
        lines.append(f"| {engine.name} | {verdict} | {engine.source} |")
    return [
        "## What runs it\n",
        "By the rules in the sources of the engines; on one GPU, without tensor parallelism.\n",
        "| engine and kernel | runs it | rules |",
        "|---|---|---|",
        *lines,
        "",
        "transformers loads it with gptqmodel and optimum installed: "
        '`AutoModelForCausalLM.from_pretrained(FOLDER, device_map="auto")`; vLLM: `vllm serve FOLDER`, '
        "with what the table says that it needs.",
    ]

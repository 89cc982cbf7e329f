"""The command ``stratalaw``.

Each command imports what it needs: `--help` is instant, and fitting and planning work without the pipeline's packages.
"""

from __future__ import annotations

import json
import logging
import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import requires
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from stratalaw.errors import StratalawError

if TYPE_CHECKING:  # statsmodels takes seconds to load
    from stratalaw.laws.analysis import Analysis

app = typer.Typer(no_args_is_help=True, add_completion=False)

LawsFile = Annotated[Path, typer.Option(help="The laws.json of a study.", exists=True, dir_okay=False)]
StudyFile = Annotated[Path, typer.Argument(help="The study, as YAML.", metavar="STUDY.yaml")]


@app.callback()
def stratalaw() -> None:
    """Task-stratified scaling laws of post-training quantization."""
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")  # no line per retry: a final failure is one line


@app.command()
def schema() -> None:
    """Print the JSON schema of a study, which editors use to complete and check the files in config/."""
    from stratalaw.study import Study

    print(json.dumps(Study.model_json_schema(), indent=2))


@app.command()
def new(
    study: Annotated[Path, typer.Argument(help="The file to write.", metavar="STUDY.yaml", dir_okay=False)],
    model: Annotated[
        list[str], typer.Option(help="Folder of a model, or its name on the Hub, e.g. Qwen/Qwen3-0.6B (repeatable).")
    ],
    benchmark: Annotated[
        list[str],
        typer.Option(
            help="Stratum, task of lm-eval and chance, e.g. reasoning=arc_easy:0.25, and a metric if it is not acc, "
            "e.g. recall=triviaqa:0:exact_match (repeatable)."
        ),
    ],
    variant: Annotated[
        list[str] | None,
        typer.Option(
            help="Bits, group size and calibration samples, e.g. w4-g128-c128 (repeatable; default: 3 and 4 bits, "
            "groups of 32 and 128, 128 samples)."
        ),
    ] = None,
    corpus: Annotated[
        str, typer.Option(help="Calibration text: JSON Lines with a text in each, or OWNER/NAME:FILE on the Hub.")
    ] = "allenai/c4:en/c4-train.00000-of-01024.json.gz",
    tokens: Annotated[int, typer.Option(help="Tokens of a calibration sample.")] = 2048,
    family: Annotated[
        str | None, typer.Option(help="Family of all models, which differ in size only (default: the study's name).")
    ] = None,
    tasks: Annotated[Path | None, typer.Option(help="Folder of lm-eval tasks, in place of lm-eval's own.")] = None,
    items: Annotated[int | None, typer.Option(help="Only the first items of each benchmark (default: all).")] = None,
    gpu_memory: Annotated[float, typer.Option(help="Memory of one GPU in GB.")] = 80,
) -> None:
    """Write a study of your own models, variants and benchmarks, and check it as preflight does."""
    with _one_line_errors():
        from stratalaw.preparation.new_study import DEFAULT_VARIANTS, study_of, write_study
        from stratalaw.preparation.preflight import GB, preflight
        from stratalaw.study import read_study
        from stratalaw.terminal.preparation import show_preflight

        folder = None if tasks is None else str(tasks)
        name, variants = study.stem, variant or DEFAULT_VARIANTS
        content = study_of(name, model, variants, benchmark, corpus, tokens, family, folder, items)
        to_pin = write_study(study, content)
        typer.echo(f"{study} is written.")
        if to_pin:
            typer.echo(f"To be pinned, since it is on the Hub: {', '.join(to_pin)}.")
            typer.echo(f"Next: stratalaw pin {study}; stratalaw preflight {study}")
            return
        checked = preflight(read_study(study), str(study), gpu_memory * GB)
    show_preflight(checked)
    if checked.problems:
        raise typer.Exit(1)
    typer.echo(f"Next: snakemake --cores 2 --configfile {study}")


@app.command()
def pin(study: StudyFile) -> None:
    """Write the commits of a study's models and data sets on the Hub into its file, and show them."""
    with _one_line_errors():
        from stratalaw.preparation.pin import pin
        from stratalaw.terminal.preparation import show_pinned

        pinned = pin(study)
    show_pinned(study, pinned)


@app.command()
def preflight(
    study: StudyFile = Path("config/config.yaml"),
    gpu_memory: Annotated[float, typer.Option(help="Memory of one GPU in GB.")] = 80,
) -> None:
    """Check before a study starts that it can run: group sizes, memory, disk, kernels. Exit status 1 if it cannot."""
    with _one_line_errors():
        from stratalaw.preparation.preflight import GB, preflight
        from stratalaw.study import read_study
        from stratalaw.terminal.preparation import show_preflight

        checked = preflight(read_study(study), str(study), gpu_memory * GB)
    show_preflight(checked)
    if checked.problems:
        raise typer.Exit(1)


@app.command()
def cost(
    study: StudyFile = Path("config/config.yaml"),
    gpus: Annotated[int | None, typer.Option(min=1, help="Number of GPUs to simulate besides 1, 2, 4, … 64.")] = None,
    device: Annotated[
        str | None,
        typer.Option(
            help="Device whose measured rates to use, e.g. H100 or cpu (default: the one jobs here ran on, else H100)."
        ),
    ] = None,
    download_rate: Annotated[float, typer.Option(min=0.001, help="Download speed in MB/s.")] = 100,
) -> None:
    """Estimate what a study takes before it runs: GPU-hours, disk, and wall time on 1 to 64 GPUs."""
    from stratalaw.cost.estimate import WORKERS, cost_of
    from stratalaw.study import read_study
    from stratalaw.terminal.cost import show_cost

    with _one_line_errors():
        wanted = read_study(study)
        workers = sorted({*WORKERS, gpus or WORKERS[0]})
        estimate = cost_of(wanted, str(study), download_rate * 1e6, device, workers=workers)
    show_cost(wanted.name, estimate, gpus)


@app.command()
def status(study: StudyFile) -> None:
    """Show how far a study is in this folder: done, running, failed and why, remaining, and the time left."""
    from stratalaw.jobs.outdated import outdated_jobs, outdated_note
    from stratalaw.jobs.status import status_of, time_left
    from stratalaw.layout import Results
    from stratalaw.study import read_study
    from stratalaw.terminal.status import show_status

    with _one_line_errors():
        wanted = read_study(study)
        statuses = status_of(wanted)
        show_status(statuses, time_left(wanted, str(study), statuses))
        if outdated := outdated_jobs(wanted, Results()):
            print(outdated_note(outdated, str(study)))


@app.command()
def verify(study: StudyFile) -> None:
    """Check that everything a study made in this folder is whole, and made from what is there now."""
    from stratalaw.jobs.verification import verify_study
    from stratalaw.layout import Results
    from stratalaw.study import read_study
    from stratalaw.terminal.status import show_verified

    with _one_line_errors():
        verified = verify_study(read_study(study), Results())
    show_verified(verified, str(study))
    if any(stage.problems for stage in verified):
        raise typer.Exit(1)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def adopt(context: typer.Context, study: StudyFile) -> None:
    """Let results that were copied or moved count as up to date, once all of them were found whole and unchanged.

    Give the arguments that snakemake was given, e.g. --profile profiles/demo; with -n no time stamp changes. A setting
    that has changed still makes anew what depends on it.
    """
    from stratalaw.jobs.adoption import adopt, show_what_is_left
    from stratalaw.terminal.status import show_adoption

    with _one_line_errors():
        adoption = adopt(study, context.args)
    show_adoption(adoption, study)
    if not adoption.adopted:
        raise typer.Exit(1)
    if not adoption.only_shown:
        raise typer.Exit(show_what_is_left(study, context.args))


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def resume(context: typer.Context) -> None:
    """Resume a run on Slurm whose snakemake died: cancel its jobs, unlock the folder, and run snakemake again.

    Give the arguments that snakemake was given, e.g. --profile profiles/slurm.
    """
    from stratalaw.jobs.resume import resume

    with _one_line_errors():
        status = resume(context.args)
    raise typer.Exit(status)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def redo(
    context: typer.Context,
    study: StudyFile,
    name: Annotated[
        str,
        typer.Argument(
            help="What to make again: MODEL/VARIANT, or another job as `stratalaw status` names it.",
            metavar="MODEL/VARIANT",
        ),
    ],
    first: Annotated[
        str | None,
        typer.Option("--from", help="Stage from which on to make it again, e.g. answers (default: its first one)."),
    ] = None,
) -> None:
    """Make a variant of a finished study again, from a stage on, with all that depends on it; nothing is deleted.

    Give the arguments that snakemake was given, e.g. --profile profiles/demo; with -n it only shows what would be made.
    """
    from stratalaw.jobs.redo import redo

    with _one_line_errors():
        status = redo(study, name, first, context.args)
    raise typer.Exit(status)


@app.command()
def fit(
    table: Annotated[Path, typer.Argument(help="Observations, as CSV or parquet.", exists=True, dir_okay=False)],
    out: Annotated[
        Path | None, typer.Option(help="Folder for laws.json, tables, figures and a checklist.", file_okay=False)
    ] = None,
    form: Annotated[list[str] | None, typer.Option(help="Form to compare (repeatable; default: all).")] = None,
    holdout: Annotated[list[str] | None, typer.Option(help="Model to leave out of the fit (repeatable).")] = None,
    items: Annotated[
        Path | None,
        typer.Option(help="Scores of items (parquet), to resample them jointly.", exists=True, dir_okay=False),
    ] = None,
    resamples: Annotated[int, typer.Option(min=100, help="Number of bootstrap resamples.")] = 1000,
    library: Annotated[
        bool,
        typer.Option("--library", help="The table is of measurements to add to the published ones; fit what they say."),
    ] = False,
) -> None:
    """Fit the laws to a table of observations: exponents with uncertainty, competing forms, verdicts."""
    if library:
        with _one_line_errors():
            _fit_library(table, out)
        return
    from stratalaw.laws.analysis import fit_table
    from stratalaw.terminal.analysis import show_analysis

    with _one_line_errors():
        observations, analysis = fit_table(table, form or [], holdout or [], items, resamples)
    show_analysis(analysis)
    if out is not None:
        from stratalaw.report.folder import write_report

        write_report(observations, analysis, out)
        typer.echo(f"Tables, figures and the checklist are in {out}")


def _fit_library(table: Path, out: Path | None) -> None:
    from stratalaw.published.law import FILE, fit_law, law_rows, shipped_law
    from stratalaw.published.library import OWN_MEASUREMENTS, read_library
    from stratalaw.terminal.published import show_library_law

    measurements, published = read_library(table), len(read_library())
    rows = law_rows(measurements)
    if not (used := int((rows.row > published).sum())):
        raise StratalawError(
            f"{table}: none of its measurements says anything to the law, which needs quantized ones of 3 to 8 bits on "
            "a benchmark that stands for a stratum, of originals above chance"
        )
    law = fit_law(rows, shipped_law())
    show_library_law(law, used)
    if out is not None:
        law.write(out / FILE)
        measurements.to_csv(out / OWN_MEASUREMENTS, index=False)
        typer.echo(f"The law is in {out / FILE}: stratalaw plan MODEL --laws {out / FILE}")


@app.command()
def power(
    table: Annotated[Path, typer.Argument(help="Observations, as CSV or parquet.", exists=True, dir_okay=False)],
    holdout: Annotated[list[str] | None, typer.Option(help="Model to leave out (repeatable).")] = None,
) -> None:
    """Show what would decide the paper's claims that a table leaves open: more models, items, or calibration draws."""
    from stratalaw.laws.analysis import judge_table
    from stratalaw.terminal.analysis import show_power

    with _one_line_errors():
        verdicts, needs = judge_table(table, holdout or [])
    show_power(verdicts, needs)


@app.command()
def show(laws: Annotated[Path, typer.Argument(help="The laws.json of a study.", exists=True, dir_okay=False)]) -> None:
    """Show a study: what each variant lost (of the damage table beside the laws), exponents, forms and verdicts."""
    from stratalaw.laws.analysis import Analysis
    from stratalaw.seals import read_table
    from stratalaw.terminal.analysis import show_analysis
    from stratalaw.terminal.damage import show_overview

    with _one_line_errors():
        analysis, table = Analysis.read(laws), laws.with_name("damage.parquet")
        damage = read_table(table, "damage")[0] if table.exists() else None
    if damage is not None:
        show_overview(damage)
    show_analysis(analysis)


@app.command()
def compare(
    folders: Annotated[
        list[Path],
        typer.Argument(
            help="The original first, then what is compared with it: folders results/scores/MODEL/VARIANT, or "
            "lm-eval's with samples (--log_samples).",
            metavar="A B …",
            exists=True,
            file_okay=False,
        ),
    ],
    metric: Annotated[
        str | None, typer.Option(help="Metric of lm-eval's samples, e.g. acc_norm (default: acc, else the first).")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="File for the table, as CSV.", dir_okay=False)] = None,
) -> None:
    """Compare variants item by item: differences and how sure they are, flips, the smallest loss that would be seen."""
    from stratalaw.damage.folders import compare_folders
    from stratalaw.damage.table import DIGITS
    from stratalaw.files import write_csv
    from stratalaw.terminal.damage import show_damage

    with _one_line_errors():
        damage, metrics = compare_folders(folders, metric)
    show_damage(damage, metrics)
    if out is not None:
        write_csv(damage, out, DIGITS)


@app.command()
def predict(
    laws: LawsFile,
    n_params: Annotated[float, typer.Option(min=1, max=1e15, help="Parameters of the model, e.g. 8e9.")],
    bits: Annotated[int, typer.Option(min=2, max=8, help="Nominal bits per weight.")],
    group_size: Annotated[int, typer.Option(min=1, help="Input features that share a scale.")] = 128,
    calibration_size: Annotated[int, typer.Option(min=2, help="Number of calibration samples.")] = 128,
    level: Annotated[float, typer.Option(min=0.5, max=0.999, help="Level of the prediction interval.")] = 0.95,
    baseline: Annotated[
        list[str] | None,
        typer.Option(help="Accuracy of the unquantized model in a stratum, e.g. reasoning=.62 (repeatable)."),
    ] = None,
) -> None:
    """Predict the accuracy of a variant in each stratum, with its interval; what was measured is shown as measured."""
    from stratalaw.planning.prediction import predict
    from stratalaw.study.variants import Quantization
    from stratalaw.terminal.planning import show_predictions

    variant = Quantization(bits, group_size, calibration_size, 0)
    with _one_line_errors():
        predicted = predict(_read_laws(laws), n_params, [variant], level, _accuracies("--baseline", baseline))
    show_predictions(predicted, f"{n_params:.3g} parameters, {variant.name}", level)


@app.command()
def plan(
    study: Annotated[
        str,
        typer.Argument(help="A study, or a model: of the Hub, or a folder.", metavar="STUDY.yaml|MODEL"),
    ],
    laws: Annotated[
        Path | None,
        typer.Option(
            help="The laws.json of the study; for a model, that of `fit --library` (default: published numbers).",
            exists=True,
            dir_okay=False,
        ),
    ] = None,
    memory: Annotated[str | None, typer.Option(help="Memory limit, e.g. 8GB.")] = None,
    floor: Annotated[list[str] | None, typer.Option(help="Accuracy to reach, e.g. reasoning=0.6 (repeatable).")] = None,
    weight: Annotated[
        list[str] | None, typer.Option(help="Weight of a stratum, e.g. reasoning=2 (repeatable; default: 1 each).")
    ] = None,
    context: Annotated[
        int | None,
        typer.Option(
            min=1, help="Tokens whose keys and values are kept in memory (default: 4096, or as many as a model takes)."
        ),
    ] = None,
    portfolio: Annotated[
        Path | None,
        typer.Option(help="Several workloads, as YAML, in place of the above.", exists=True, dir_okay=False),
    ] = None,
    risk: Annotated[
        float | None,
        typer.Option(min=0.001, max=0.5, help="Plan with the accuracy that is missed with this probability."),
    ] = None,
    keep: Annotated[
        list[str] | None, typer.Option(help="For a model: stratum that matters (repeatable; default: all).")
    ] = None,
    baseline: Annotated[
        list[str] | None,
        typer.Option(help="For a model: accuracy of its original, e.g. mmlu=0.77 (repeatable)."),
    ] = None,
    explain: Annotated[
        bool, typer.Option("--explain", help="For a model: show the published measurements that lie nearest.")
    ] = False,
    out: Annotated[Path | None, typer.Option(help="For a model: file for all options, as CSV.", dir_okay=False)] = None,
) -> None:
    """Choose what to deploy: the best variant within a memory limit, or the smallest one that meets floors."""
    if not study.endswith((".yaml", ".yml")):
        with _one_line_errors():
            _refuse_all("a model", {"floor": floor, "weight": weight, "portfolio": portfolio, "risk": risk})
            baselines = _pairs(baseline, "a benchmark and an accuracy such as mmlu=0.77")
            _plan_model(study, laws, memory, context, keep, baselines, explain, out)
        return
    with _one_line_errors():
        _refuse_all("a study", {"keep": keep, "baseline": baseline, "explain": explain, "out": out})
        if not Path(study).exists():
            raise StratalawError(f"{study}: no such file")
        if laws is None:
            raise StratalawError(f"{study}: to plan with a study, give its --laws laws.json")
    from stratalaw.layout import Results
    from stratalaw.models.known_shapes import shapes_to_plan_with
    from stratalaw.models.shapes import CONTEXT
    from stratalaw.planning.candidates import candidates_of, check_strata, demand_of, read_demand, strata_of
    from stratalaw.planning.portfolio import Infeasible
    from stratalaw.planning.portfolio import plan as make_plan
    from stratalaw.study import read_study
    from stratalaw.terminal.planning import show_plan

    with _one_line_errors():
        analysis = _read_laws(laws)
        if portfolio is not None:
            demand = read_demand(portfolio)
        else:
            equal = dict.fromkeys(sorted(strata_of(analysis)), 1.0)
            floors = _accuracies("--floor", floor)
            if memory is None and not floors:
                raise StratalawError(
                    "give --memory, such as 8GB, for the most accurate variant that fits, --floor, such as "
                    "reasoning=0.6, for the smallest that reaches it, or both"
                )
            workload = {"name": "all", "weights": equal | _pairs(weight), "floors": floors}
            demand = demand_of({"workloads": [workload], "memory": memory, "context": context or CONTEXT})
        wanted = read_study(Path(study))
        shapes = shapes_to_plan_with(wanted, study, Results())
        candidates = candidates_of(wanted, shapes, analysis, demand.context, risk)
        check_strata(demand, candidates)
    workloads = demand.as_workloads()
    try:
        chosen = make_plan(candidates, workloads, demand.memory, demand.most_variants)
    except Infeasible as error:
        typer.echo(f"No feasible plan: {error}.", err=True)
        if error.nearest is not None:
            show_plan(error.nearest, workloads, candidates, demand.memory, "The nearest plan")
        raise typer.Exit(1) from None
    show_plan(chosen, workloads, candidates, demand.memory, "The plan")


def _plan_model(
    name: str,
    laws: Path | None,
    memory: str | None,
    context: int | None,
    keep: list[str] | None,
    baselines: dict[str, float],
    explain: bool,
    out: Path | None,
) -> None:
    """Answer from published numbers; raises StratalawError."""
    from stratalaw.models.known_shapes import shapes_of_original
    from stratalaw.models.shapes import CONTEXT
    from stratalaw.published.answer import Question, answer, subject_in, subject_of
    from stratalaw.published.law import Law, law_rows, shipped_law
    from stratalaw.published.library import OWN_MEASUREMENTS, STRATA, read_library, read_measurements
    from stratalaw.terminal.published import show_answer, show_rows
    from stratalaw.units import parse_bytes

    if memory is None:
        raise StratalawError(f"{name}: --memory is missing, e.g. --memory 12GB")
    folder = Path(name)
    try:
        limit = parse_bytes(memory)
    except ValueError as error:
        raise StratalawError(f"--memory {error}") from None
    is_folder = name and folder.is_dir()
    subject = subject_in(folder, shapes_of_original(folder)) if is_folder else subject_of(name)
    if laws is None:
        law, rows = shipped_law(), law_rows(read_library())
    else:
        law = Law.read(laws.read_text(), str(laws))
        rows = law_rows(read_measurements(laws.with_name(OWN_MEASUREMENTS)))
        if len(rows) != law.counts["rows"]:
            raise StratalawError(f"{laws}: {OWN_MEASUREMENTS} beside it is not what it was fitted to; fit it again")
    tokens = min(CONTEXT, subject.shapes.max_length) if context is None else context
    asked = Question(limit, tokens, tuple(dict.fromkeys(keep or STRATA)), baselines)
    found = answer(subject, asked, law, rows)
    show_answer(found, law)
    if explain:
        show_rows(found, rows)
    if out is not None:
        from stratalaw.files import write_csv

        write_csv(found.table(), out, "%.6g")
    if found.chosen is None:
        raise typer.Exit(1)


@app.command()
def select(
    study: StudyFile,
    laws: LawsFile,
    seconds: Annotated[
        Path,
        typer.Option(
            help="Cost of each variant: CSV with model, variant, n_params, seconds.", exists=True, dir_okay=False
        ),
    ],
    gpu_hours: Annotated[float, typer.Option(min=0, help="Budget in GPU-hours.")],
    out: Annotated[Path | None, typer.Option(help="File for the chosen variants, as CSV.", dir_okay=False)] = None,
) -> None:
    """Choose which variants of a study to measure: the most informative within a budget, with every claim testable."""
    from stratalaw.files import write_csv
    from stratalaw.planning.selection import candidates_with_cost, designs_of
    from stratalaw.planning.selection import select as choose
    from stratalaw.planning.skeleton import skeleton
    from stratalaw.study import read_study
    from stratalaw.terminal.planning import show_selection

    with _one_line_errors():
        analysis = _read_laws(laws)
        candidates = candidates_with_cost(read_study(study), seconds, analysis)
        of_strata = [law for law in analysis.laws if law.stratum != "general"]
        designs = designs_of(of_strata, candidates)
        cost, budget = candidates.seconds.to_numpy(), gpu_hours * 3600
        kept = skeleton(candidates, budget)
        chosen = choose(designs, cost, budget, kept)
    show_selection(designs, candidates, chosen, kept.models, [law.stratum for law in of_strata])
    if out is not None:
        write_csv(candidates.loc[chosen, ["model", "variant", "seconds"]], out)


@app.command(name="next", context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def next_command(
    context: typer.Context,
    study: StudyFile,
    gpu_hours: Annotated[
        float | None, typer.Option(min=0, help="Budget of the whole study, with what was measured already.")
    ] = None,
    until: Annotated[
        str | None,
        typer.Option(help="Precision to reach, e.g. 2 (points of accuracy), or 95% (of a plan)."),
    ] = None,
    wish: Annotated[
        str | None,
        typer.Option(
            "--for",
            help='What to know, e.g. "reasoning of w3", "plan --memory 8GB", "exponent delta", "claim group" '
            "(default: every variant).",
        ),
    ] = None,
    batch: Annotated[
        int | None,
        typer.Option(
            min=1, help="Variants to measure at once (default: as many as were measured already; 6 for a plan)."
        ),
    ] = None,
    run: Annotated[
        bool,
        typer.Option("--run", help="Measure them with snakemake, and go on until the goal or the budget is reached."),
    ] = False,
    results: Annotated[Path, typer.Option(help="The workflow's folder of results.")] = Path("results"),
) -> None:
    """Say which variants of a study to measure next, as targets of Snakemake, from what was measured so far.

    The targets alone are on the standard output: stratalaw next STUDY.yaml --until 2 | xargs -r snakemake. With --run,
    give the arguments of snakemake, e.g. --profile profiles/demo.
    """
    from stratalaw.jobs.sequel import Sequel
    from stratalaw.layout import Results
    from stratalaw.planning.steps import Step
    from stratalaw.terminal.steps import describe_step

    def tell(step: Step) -> None:
        for line in describe_step(step, sequel.goal):
            typer.echo(line, err=True)

    with _one_line_errors():
        if context.args and not run:
            raise StratalawError(f"{context.args[0]}: arguments of snakemake go with --run")
        if gpu_hours is None and until is None:
            raise StratalawError("give a budget (--gpu-hours), a precision to reach (--until 2), or both")
        sequel = Sequel(study, wish, until, gpu_hours, batch, Results(results))
        if run:
            raise typer.Exit(sequel.run(context.args, tell))
        step = sequel.step()
        tell(step)
        for target in sequel.targets(step):
            typer.echo(target)


@app.command()
def forecast(
    study: StudyFile,
    name: Annotated[str, typer.Argument(help="A variant that was not run.", metavar="MODEL/VARIANT")],
    out: Annotated[Path | None, typer.Option(help="File for all items, as CSV.", dir_okay=False)] = None,
    results: Annotated[Path, typer.Option(help="The workflow's folder of results.")] = Path("results"),
) -> None:
    """Forecast which items a variant that was not run will answer right, from the variants that were measured."""
    with _one_line_errors():
        from stratalaw.files import write_csv
        from stratalaw.jobs.forecast import forecast_items
        from stratalaw.layout import Results
        from stratalaw.study import read_study
        from stratalaw.terminal.forecasts import show_forecast

        found = forecast_items(read_study(study), name, Results(results))
        show_forecast(found, name)
        if out is not None:
            write_csv(found.items, out, "%.4g")


@app.command()
def sensitivities(
    study: StudyFile,
    model: Annotated[str, typer.Option(help="A model of the study.")],
    base: Annotated[str, typer.Option(help="The variant to start from, e.g. w3-g128-c32-s0.")],
    other: Annotated[
        list[str], typer.Option(help="A variant with more or fewer bits, or another group size (repeatable).")
    ],
    stratum: Annotated[
        list[str] | None, typer.Option(help="Stratum to measure (repeatable; default: all of the study).")
    ] = None,
    items: Annotated[int, typer.Option(min=2, help="Items of each stratum, at most.")] = 100,
    results: Annotated[Path, typer.Option(help="The workflow's folder of results.")] = Path("results"),
) -> None:
    """Measure what each part of a model changes in each stratum when it alone has other bits, from its variants."""
    with _one_line_errors():
        from stratalaw.jobs.sensitivities import measure_sensitivities
        from stratalaw.layout import Results
        from stratalaw.study import read_study
        from stratalaw.terminal.allocation import show_sensitivities

        asked = read_study(study)
        strata = stratum or list(asked.evaluation.strata)
        table = measure_sensitivities(asked, model, base, other, strata, items, Results(results))
        for variant, rows in table.groupby("variant", sort=False):
            show_sensitivities(rows, f"{model}, {base} to {variant}")


@app.command()
def allocate(
    study: StudyFile,
    model: Annotated[str, typer.Option(help="A model of the study, whose sensitivities were measured.")],
    memory: Annotated[str, typer.Option(help="Average bits of a weight, e.g. 3.5bits, or bytes of all weights.")],
    keep: Annotated[
        list[str] | None, typer.Option(help="Stratum that matters (repeatable; default: all that have a --weight).")
    ] = None,
    weight: Annotated[
        list[str] | None, typer.Option(help="Weight of a stratum, e.g. reasoning=2 (repeatable).")
    ] = None,
    floor: Annotated[
        list[str] | None,
        typer.Option(help="Least share of what the most bits add to a stratum, e.g. memorization=0.3 (repeatable)."),
    ] = None,
    items: Annotated[
        int, typer.Option(min=2, help="Items of each stratum that matters, at most, by which candidates are compared.")
    ] = 300,
    out: Annotated[Path, typer.Option(help="File for the allocation, as YAML.", dir_okay=False)] = Path(
        "allocation.yaml"
    ),
    results: Annotated[Path, typer.Option(help="The workflow's folder of results.")] = Path("results"),
) -> None:
    """Choose the bits of each part of a model so that a stratum keeps most, and judge it by held-out items."""
    with _one_line_errors():
        import yaml

        from stratalaw.files import write_text
        from stratalaw.jobs.allocation import allocate as make_allocation
        from stratalaw.layout import Results
        from stratalaw.study import read_study
        from stratalaw.terminal.allocation import show_allocation

        weights = dict.fromkeys(keep or [], 1.0) | _pairs(weight)
        if not weights:
            raise StratalawError("give --keep, such as reasoning, or --weight, such as reasoning=2")
        found = make_allocation(read_study(study), model, memory, weights, _pairs(floor), items, Results(results))
        show_allocation(found, weights, f"{model}, {memory}")
        if found.uniform is not None:
            typer.echo(f"take {found.uniform} as it is; {out} is not written")
            return
        write_text(yaml.safe_dump(found.as_plain(), sort_keys=False), out)
        typer.echo(f"{out} holds the allocation; name it under mixed of the model, and run the study")
        if found.recommends_rule and found.matrices_of_rule:
            of_rule = out.with_stem(f"{out.stem}-simple")
            write_text(yaml.safe_dump(found.as_plain(of_rule=True), sort_keys=False), of_rule)
            typer.echo(f"{of_rule} holds that of the simple rule, which needs no measurement of items")


@app.command()
def export(
    study: StudyFile,
    name: Annotated[str, typer.Argument(help="Which variant.", metavar="MODEL/VARIANT")],
    folder: Annotated[Path, typer.Argument(help="Folder for the checkpoint and its model card; must not exist.")],
    upload: Annotated[
        str | None,
        typer.Option(help="Repository of the Hub to put it in as well, e.g. me/model-w4; made private if it is new."),
    ] = None,
    results: Annotated[Path, typer.Option(help="The workflow's folder of results.")] = Path("results"),
) -> None:
    """Export a variant of a finished study: the packed checkpoint ready to serve, with a model card."""
    with _one_line_errors():
        from stratalaw.export.folder import export
        from stratalaw.layout import Results
        from stratalaw.study import read_study

        export(read_study(study), name, folder, Results(results))
        typer.echo(f"{name} is in {folder}; its README.md says what it lost and what runs it")
        if upload is not None:
            from stratalaw.export.upload import upload as put_on_the_hub

            typer.echo(f"Uploaded to {put_on_the_hub(folder, upload)}")


@app.command()
def publish(
    study: StudyFile,
    folder: Annotated[Path, typer.Argument(help="Folder for the tables and figures.", file_okay=False)],
    results: Annotated[Path, typer.Option(help="The workflow's folder of results.")] = Path("results"),
) -> None:
    """Copy a study's results to a folder for others to check: tables, figures, coverage, seconds per job."""
    from stratalaw.layout import Results
    from stratalaw.report.publication import publish
    from stratalaw.study import read_study

    with _one_line_errors():
        publish(read_study(study), Results(results), folder)


def _read_laws(path: Path) -> Analysis:
    """The analysis in a laws.json that holds laws; raises StratalawError for one that says why it has none."""
    from stratalaw.laws.analysis import Analysis, LawsError

    analysis = Analysis.read(path)
    if not analysis.laws:
        raise LawsError(f"{path}: {analysis.why_no_laws}")
    return analysis


@contextmanager
def _one_line_errors() -> Iterator[None]:
    """Show errors that a user can fix as one line; anything else is a bug and shows its traceback.

    What libraries have to say meanwhile is no answer to a command, and is not shown.
    """
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(action="ignore"):
            yield
    except StratalawError as error:
        message = str(error)
    except ModuleNotFoundError as error:
        if error.name is None or not _is_of_the_pipeline(error.name):
            raise
        message = f"this command needs {error.name}, which is not installed: pip install 'stratalaw[pipeline]'"
    else:
        return
    finally:
        logging.disable(logging.NOTSET)
    typer.echo(message, err=True)
    raise typer.Exit(1)


def _is_of_the_pipeline(module: str) -> bool:
    """Whether a module comes with the extra ``pipeline``, whose packages are named like their modules."""
    required = (requirement for requirement in requires("stratalaw") or () if 'extra == "pipeline"' in requirement)
    names = {re.split(r"[^\w-]", requirement)[0].replace("-", "_") for requirement in required}
    return module.partition(".")[0] in names


def _refuse_all(of: str, options: dict[str, object]) -> None:
    """Raise StratalawError for an option that says nothing of what is planned."""
    for name, value in options.items():
        if value:
            raise StratalawError(f"--{name} is not for {of}")


def _pairs(entries: list[str] | None, what: str = "a stratum and a number such as reasoning=0.6") -> dict[str, float]:
    """``name=number`` entries as a mapping; ``what``: what an entry is, for the message."""
    pairs = {}
    for entry in entries or []:
        name, _, number = entry.partition("=")
        try:
            pairs[name] = float(number)
        except ValueError:
            raise StratalawError(f"{entry!r} is not {what}") from None
    return pairs


def _accuracies(option: str, entries: list[str] | None) -> dict[str, float]:
    """``stratum=accuracy`` entries of an option as a mapping."""
    from stratalaw.planning.prediction import check_is_accuracy

    pairs = _pairs(entries)
    for stratum, value in pairs.items():
        try:
            check_is_accuracy(stratum, value)
        except ValueError as error:
            raise StratalawError(f"{option} {error}") from None
    return pairs

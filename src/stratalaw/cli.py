"""The command ``stratalaw``."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer

from stratalaw.study import Study
from stratalaw.variants import Quantization

app = typer.Typer(no_args_is_help=True, add_completion=False)

LawsFile = Annotated[Path, typer.Option(help="laws.json of a study", exists=True, dir_okay=False)]
StudyFile = Annotated[Path, typer.Argument(help="the study, as YAML", metavar="STUDY.yaml")]


@app.callback()
def stratalaw() -> None:
    """Task-stratified scaling laws of post-training quantization."""
    os.environ.setdefault("HF_HUB_VERBOSITY", "error")  # not each wait and retry: what fails for good is one line


@app.command()
def schema() -> None:
    """Print the JSON schema of a study, by which editors complete and check the files in config/."""
    print(json.dumps(Study.model_json_schema(), indent=2))


@app.command()
def pin(study: StudyFile) -> None:
    """Write the commits of a study's models and data set on the Hub into its file, and show them."""
    from stratalaw.pin import pin
    from stratalaw.tables import show_pinned

    with _one_line_errors():
        pinned = pin(study)
    show_pinned(study, pinned)


@app.command()
def preflight(
    study: StudyFile = Path("config/config.yaml"),
    gpu_memory: Annotated[float, typer.Option(help="memory of one GPU, in GB")] = 80,
) -> None:
    """Say, before a study runs, whether it can: group sizes, memory, disk, kernels; exit with 1 if it cannot."""
    from stratalaw.preflight import GB, preflight
    from stratalaw.study import read_study
    from stratalaw.tables import show_preflight

    with _one_line_errors():
        found = preflight(read_study(study), str(study), gpu_memory * GB)
    show_preflight(found)
    if found.problems:
        raise typer.Exit(1)


@app.command()
def cost(
    study: StudyFile = Path("config/config.yaml"),
    gpus: Annotated[int | None, typer.Option(min=1, help="also simulate this number of GPUs")] = None,
    device: Annotated[str | None, typer.Option(help="whose rates, such as H100 or cpu")] = None,
    download_rate: Annotated[float, typer.Option(min=0.001, help="of the network, in MB/s")] = 100,
) -> None:
    """Say what a study takes before it runs: GPU-hours, disk, and wall time on 1 to 64 GPUs."""
    from stratalaw.cost.estimate import WORKERS, cost_of
    from stratalaw.cost.tables import show_cost
    from stratalaw.study import read_study

    with _one_line_errors():
        wanted = read_study(study)
        workers = sorted({*WORKERS, gpus or WORKERS[0]})
        found = cost_of(wanted, str(study), download_rate * 1e6, device, workers=workers)
    show_cost(wanted.name, found, gpus)


@app.command()
def status(study: StudyFile) -> None:
    """Show how far a study is in this folder: done, failed and why, remaining, and the time left."""
    from stratalaw.status import show_status, status_of
    from stratalaw.study import read_study

    with _one_line_errors():
        show_status(status_of(read_study(study), Path()))


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def resume(context: typer.Context) -> None:
    """Go on with a run on Slurm whose snakemake died: cancel its jobs, unlock the folder, and run snakemake again.

    Give the arguments that snakemake was given, such as --profile profiles/slurm --config study=config/config.yaml.
    """
    from stratalaw.resume import resume

    with _one_line_errors():
        status = resume(context.args)
    raise typer.Exit(status)


@app.command()
def fit(
    table: Annotated[Path, typer.Argument(help="observations, as CSV or parquet")],
    out: Annotated[Path | None, typer.Option(help="folder for laws.json, tables, figures and the checklist")] = None,
    form: Annotated[list[str] | None, typer.Option(help="forms to compare; all if not given")] = None,
    holdout: Annotated[list[str] | None, typer.Option(help="models to leave out of the fit")] = None,
    items: Annotated[Path | None, typer.Option(help="scores of items (parquet), to resample them jointly")] = None,
    resamples: Annotated[int, typer.Option(min=100, help="of the bootstrap")] = 1000,
) -> None:
    """Fit the laws to a table of observations: exponents, how sure they are, rival forms, verdicts."""
    from stratalaw.laws.report import fit_table, write_report
    from stratalaw.tables import show_analysis

    try:
        observations, analysis = fit_table(table, form or [], holdout or [], items, resamples)
    except (ValueError, LookupError) as error:
        typer.echo(error.args[0], err=True)
        raise typer.Exit(1) from None
    show_analysis(analysis)
    if out is not None:
        write_report(observations, analysis, out)
        typer.echo(f"Tables, figures and the checklist are in {out}")


@app.command()
def show(laws: Annotated[Path, typer.Argument(help="laws.json of a study", exists=True, dir_okay=False)]) -> None:
    """Show the laws of a study: exponents, forms and verdicts."""
    from stratalaw.stages import read_analysis
    from stratalaw.tables import show_analysis

    show_analysis(read_analysis(str(laws)))


@app.command()
def predict(
    laws: LawsFile,
    n_params: Annotated[float, typer.Option(min=1, help="parameters of the model, such as 8e9")],
    bits: Annotated[int, typer.Option(min=2, max=8, help="nominal bits of a weight")],
    group_size: Annotated[int, typer.Option(min=1, help="input features that share a scale")] = 128,
    calibration_size: Annotated[int, typer.Option(min=2, help="calibration samples")] = 128,
    level: Annotated[float, typer.Option(min=0.5, max=0.999, help="of the prediction interval")] = 0.95,
) -> None:
    """Predict the accuracy of a variant in each stratum, with its interval."""
    from stratalaw.planning.prediction import predict
    from stratalaw.planning.tables import show_predictions
    from stratalaw.stages import read_analysis

    variant = Quantization(bits, group_size, calibration_size, 0)
    with _one_line_errors():
        found = predict(read_analysis(str(laws)), n_params, [variant], level)
    show_predictions(found, f"{n_params:.3g} parameters, {variant.name}", level)


@app.command()
def plan(
    study: StudyFile,
    laws: LawsFile,
    memory: Annotated[str | None, typer.Option(help="memory to stay within, such as 8GB")] = None,
    floor: Annotated[list[str] | None, typer.Option(help="accuracy to reach, such as reasoning=0.6")] = None,
    weight: Annotated[list[str] | None, typer.Option(help="weight of a stratum, such as reasoning=2; 1 each")] = None,
    context: Annotated[int, typer.Option(min=1, help="tokens whose keys and values are kept")] = 4096,
    portfolio: Annotated[
        Path | None, typer.Option(help="several workloads, as YAML; in place of the above", exists=True)
    ] = None,
    risk: Annotated[float | None, typer.Option(min=0.001, max=0.5, help="of missing what is planned with")] = None,
) -> None:
    """Choose what to deploy: the best variant within a memory, or the smallest one that meets floors."""
    from stratalaw.planning.candidates import candidates_of, check_strata, demand_of, read_demand
    from stratalaw.planning.portfolio import Infeasible
    from stratalaw.planning.portfolio import plan as make_plan
    from stratalaw.planning.tables import show_plan
    from stratalaw.stages import read_analysis
    from stratalaw.study import read_study

    with _one_line_errors():
        analysis = read_analysis(str(laws))
        if portfolio is not None:
            demand = read_demand(portfolio)
        else:
            equal = {law.stratum: 1.0 for law in analysis.laws if law.stratum != "general"}
            workload = {"name": "all", "weights": equal | _pairs(weight), "floors": _pairs(floor)}
            demand = demand_of({"workloads": [workload], "memory": memory, "context": context})
        candidates = candidates_of(read_study(study), analysis, demand.context, risk)
        check_strata(demand, candidates)
    workloads = demand.as_workloads()
    try:
        found = make_plan(candidates, workloads, demand.memory, demand.most_variants)
    except Infeasible as error:
        typer.echo(f"There is no such plan: {error}.", err=True)
        if error.nearest is not None:
            show_plan(error.nearest, workloads, candidates, demand.memory, "The nearest plan")
        raise typer.Exit(1) from None
    show_plan(found, workloads, candidates, demand.memory, "The plan")


@app.command()
def select(
    study: StudyFile,
    laws: LawsFile,
    seconds: Annotated[Path, typer.Option(help="cost: CSV with model, variant, n_params, seconds", exists=True)],
    gpu_hours: Annotated[float, typer.Option(min=0, help="budget")],
    out: Annotated[Path | None, typer.Option(help="where to write the chosen variants, as CSV")] = None,
) -> None:
    """Choose which variants of a study to measure: those that tell most about the exponents within a budget."""
    from stratalaw.planning.selection import candidates_with_cost, designs_of
    from stratalaw.planning.selection import select as choose
    from stratalaw.planning.tables import show_selection
    from stratalaw.stages import read_analysis, write_csv
    from stratalaw.study import read_study

    with _one_line_errors():
        analysis = read_analysis(str(laws))
        candidates = candidates_with_cost(read_study(study), seconds, analysis)
        own = [law for law in analysis.laws if law.stratum != "general"]
        designs = designs_of(own, candidates)
        chosen = choose(designs, candidates.seconds.to_numpy(), gpu_hours * 3600)
    show_selection(designs, candidates, chosen, [law.stratum for law in own])
    if out is not None:
        write_csv(candidates.loc[chosen, ["model", "variant", "seconds"]], str(out))


@app.command()
def publish(
    study: StudyFile,
    folder: Annotated[Path, typer.Argument(help="where the tables and figures go")],
    results: Annotated[Path, typer.Option(help="the workflow's results")] = Path("results"),
) -> None:
    """Copy what a study found to a folder for others to check: tables, figures, coverage, seconds of every job."""
    from stratalaw.publication import publish
    from stratalaw.study import read_study

    with _one_line_errors():
        publish(read_study(study), results, folder)


@contextmanager
def _one_line_errors() -> Iterator[None]:
    try:
        yield
    except ValueError as error:
        typer.echo(str(error), err=True)
        raise typer.Exit(1) from None


def _pairs(entries: list[str] | None) -> dict[str, float]:
    """``name=number`` entries as a mapping."""
    found = {}
    for entry in entries or []:
        name, _, number = entry.partition("=")
        try:
            found[name] = float(number)
        except ValueError:
            raise ValueError(f"{entry!r} is not a stratum and a number such as reasoning=0.6") from None
    return found

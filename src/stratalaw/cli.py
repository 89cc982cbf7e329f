"""The command ``stratalaw``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from stratalaw.study import Study, StudyError

app = typer.Typer(no_args_is_help=True, add_completion=False)


@app.callback()
def stratalaw() -> None:
    """Task-stratified scaling laws of post-training quantization."""


@app.command()
def schema() -> None:
    """Print the JSON schema of a study, by which editors complete and check the files in config/."""
    print(json.dumps(Study.model_json_schema(), indent=2))


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
def pin(study: Annotated[Path, typer.Argument(help="the study's YAML file", metavar="STUDY.yaml")]) -> None:
    """Write the commits of a study's models and data set on the Hub into its file, and show them."""
    from stratalaw.downloads import DownloadError
    from stratalaw.pin import pin
    from stratalaw.tables import show_pinned

    try:
        pinned = pin(study)
    except (StudyError, DownloadError) as error:
        typer.echo(error.args[0], err=True)
        raise typer.Exit(1) from None
    show_pinned(study, pinned)


@app.command()
def preflight(
    study: Annotated[Path, typer.Argument(help="the study's YAML file", metavar="STUDY.yaml")] = Path(
        "config/config.yaml"
    ),
    gpu_memory: Annotated[float, typer.Option(help="memory of one GPU, in GB")] = 80,
) -> None:
    """Say, before a study runs, whether it can: group sizes, memory, disk, kernels; exit with 1 if it cannot."""
    from stratalaw.downloads import DownloadError
    from stratalaw.preflight import GB, preflight
    from stratalaw.study import read_study
    from stratalaw.tables import show_preflight

    try:
        found = preflight(read_study(study), str(study), gpu_memory * GB)
    except (StudyError, DownloadError) as error:
        typer.echo(error.args[0], err=True)
        raise typer.Exit(1) from None
    show_preflight(found)
    if found.problems:
        raise typer.Exit(1)

"""The command ``stratalaw``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

import typer

from stratalaw.study import Study

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
def status(study: Annotated[Path, typer.Argument(help="the study's YAML file")]) -> None:
    """Show how far a study is in this folder: done, failed and why, remaining, and the time left."""
    from stratalaw.models import ModelError
    from stratalaw.status import show_status, status_of
    from stratalaw.study import StudyError, read_study

    try:
        show_status(status_of(read_study(study), Path()))
    except (StudyError, ModelError) as error:
        typer.echo(error.args[0], err=True)
        raise typer.Exit(1) from None


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def resume(context: typer.Context) -> None:
    """Go on with a run on Slurm whose snakemake died: cancel its jobs, unlock the folder, and run snakemake again.

    Give the arguments that snakemake was given, such as --profile profiles/slurm --config study=config/config.yaml.
    """
    from stratalaw.resume import ResumeError
    from stratalaw.resume import resume as resume_run

    try:
        raise typer.Exit(resume_run(context.args))
    except ResumeError as error:
        typer.echo(error.args[0], err=True)
        raise typer.Exit(1) from None

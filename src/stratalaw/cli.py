"""The command ``stratalaw``."""

from __future__ import annotations

import json

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

"""Snakemake in a fork of a process that has its libraries loaded: most of a start's time goes into imports.

Each run is a process of its own, with the folder, the environment and the search path that it would have if it had been
started anew, and loads this library itself. What others read from the environment when they are loaded
(``huggingface_hub``: where the Hub is) was read when this process was started: where that matters, start anew.
"""

import atexit
import json
import os
import signal
import subprocess
import sys
import tempfile
import traceback
from functools import cache
from importlib import import_module
from pathlib import Path

LONGEST_SECONDS = 900
PRELOADED = (
    *("snakemake.cli", "snakemake.report.html_reporter", "snakemake_executor_plugin_slurm"),
    *("pandas", "pydantic", "scipy.optimize", "safetensors"),
    *("transformers.models.auto.auto_mappings", "lm_eval.tasks"),
)


@cache
def _server() -> subprocess.Popen:
    """The process that forks; it ends when its input does, with the process of the tests."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    server = subprocess.Popen(
        [sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
    )
    atexit.register(server.communicate)
    return server


def run_snakemake(arguments: list[str], folder: Path, **environment: str) -> subprocess.CompletedProcess:
    """Run ``snakemake ARGUMENTS`` in a folder, with this environment and more, to its end; what it said."""
    # Which test runs, and in which process, would make processes that stay from one job to the next start anew.
    ours = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    with tempfile.TemporaryDirectory() as said:
        streams = [f"{said}/stdout", f"{said}/stderr"]
        server = _server()
        assert server.stdin and server.stdout
        print(json.dumps([arguments, str(folder), ours | environment, streams]), file=server.stdin, flush=True)
        status = int(server.stdout.readline())
        return subprocess.CompletedProcess(arguments, status, *(Path(stream).read_text() for stream in streams))


def _serve() -> None:
    for name in PRELOADED:
        import_module(name)
    for line in sys.stdin:
        if (child := os.fork()) == 0:
            _run(*json.loads(line))
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)


def _run(arguments: list[str], folder: str, environment: dict[str, str], streams: list[str]) -> None:
    """In a fork: be snakemake, and exit."""
    signal.alarm(LONGEST_SECONDS)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    for descriptor, stream in enumerate(streams, start=1):
        os.dup2(os.open(stream, os.O_WRONLY | os.O_CREAT | os.O_APPEND), descriptor)
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(environment)
    # As `python -m` has it: the folder first, not that of this file.
    sys.path[:1] = [folder, *filter(None, environment.get("PYTHONPATH", "").split(os.pathsep))]
    sys.argv = ["snakemake", *arguments]
    status = 1
    try:
        sys.modules["snakemake.cli"].main()
        status = 0
    except SystemExit as exit_:
        if isinstance(exit_.code, str):
            print(exit_.code, file=sys.stderr)
        else:
            status = exit_.code or 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(status)


if __name__ == "__main__":
    _serve()

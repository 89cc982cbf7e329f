"""Train all rungs, several at once on each GPU: ``python -m ladder.train_all --seeds 0 1``.

A seed's text is written once, by all cores, to a folder in memory. Every rung of a seed is a process of its own; those
of one family and seed share a GPU where there are enough.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ladder.rungs import RUNGS
from ladder.stream import Recipe, write_stream
from ladder.train import RUNS


def start(rung: str, seed: int, gpu: int, stream: Path, tokens: int) -> subprocess.Popen:
    """A process that trains one rung; its log lies in the folder of the run."""
    folder = RUNS / f"{rung}-s{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "ladder.train", rung, "--seed", str(seed), "--stream", str(stream)]
    # All compile at once; each with as many threads as the cores allow.
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": str(gpu), "TORCHINDUCTOR_COMPILE_THREADS": "2"}
    with (folder / "log.txt").open("w") as log:
        return subprocess.Popen([*command, "--tokens", str(tokens)], stdout=log, stderr=log, env=environment)


def train_all(rungs: list[str], seeds: list[int], tokens: int, gpus: int) -> None:
    """Train the rungs with each of the seeds; raises RuntimeError naming the runs that failed."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as name:
        streams = {seed: Path(name) / str(seed) for seed in seeds}
        started = time.monotonic()
        for seed, folder in streams.items():
            write_stream(folder, seed, Recipe(tokens=tokens))
        print(f"text of {len(seeds)} seeds: {time.monotonic() - started:.0f} s", flush=True)
        groups = sorted({(seed, RUNGS[rung].family) for seed in seeds for rung in rungs})
        runs = {
            f"{rung} seed {seed}": start(
                rung, seed, groups.index((seed, RUNGS[rung].family)) % gpus, streams[seed], tokens
            )
            for seed in seeds
            for rung in rungs
        }
        failed = [run for run, process in runs.items() if process.wait()]
        print(f"{len(runs)} runs: {time.monotonic() - started:.0f} s", flush=True)
    if failed:
        raise RuntimeError(f"{', '.join(failed)} failed: see log.txt in {RUNS}")


def main() -> None:
    import torch

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rungs", nargs="+", choices=RUNGS, default=list(RUNGS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--tokens", type=int, default=Recipe.tokens)
    arguments = parser.parse_args()
    train_all(arguments.rungs, arguments.seeds, arguments.tokens, max(1, torch.cuda.device_count()))


if __name__ == "__main__":
    main()

"""What a job prints goes to its log; what it dies of is told in one line as well."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def logging_to(path: str | Path) -> Iterator[None]:
    """Send standard output and error, those of libraries written in C included, to a file.

    An exception is written to the file in full, and its message to the former standard error before the process exits
    with status 1.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    streams = (sys.stdout, sys.stderr)
    former = [os.dup(stream.fileno()) for stream in streams]
    with path.open("w") as log:
        try:
            for stream in streams:
                stream.flush()
                os.dup2(log.fileno(), stream.fileno())
            yield
        except Exception as error:
            traceback.print_exc()
            message = " ".join(str(error).split()) or type(error).__name__
            os.write(former[1], f"{message} (details: {path})\n".encode())
            raise SystemExit(1) from None
        finally:
            for stream, descriptor in zip(streams, former, strict=True):
                stream.flush()
                os.dup2(descriptor, stream.fileno())
                os.close(descriptor)

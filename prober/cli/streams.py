"""The standard streams when they are not what one hopes for: closed from the start, or gone in the middle."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TextIO

READER_GONE = 141
"""The exit code when the output's reader has left: what a shell says of a process that SIGPIPE ended."""

_STDIN, _STDOUT, _STDERR = 0, 1, 2


def fill_standard_streams() -> None:
    """Let a stream that the caller has closed lead nowhere, rather than into the first file that is opened."""
    while (number := os.open(os.devnull, os.O_RDWR)) <= _STDERR:
        os.set_inheritable(number, True)
    os.close(number)
    # At run time each of them is None when its descriptor was closed as Python started.
    sys.stdin = sys.stdin or _stream(_STDIN, "r")
    sys.stdout = sys.stdout or _stream(_STDOUT, "w")
    sys.stderr = sys.stderr or _stream(_STDERR, "w")


def drop_output() -> None:
    """Let what is still buffered for an output that takes no more lead nowhere, so that Python ends in silence."""
    for number, stream in ((_STDOUT, sys.stdout), (_STDERR, sys.stderr)):
        try:
            stream.flush()
        except OSError:
            nowhere = os.open(os.devnull, os.O_WRONLY)
            os.dup2(nowhere, number)
            os.close(nowhere)


def say(text: str) -> None:
    """One line to standard error, if anybody listens."""
    with contextlib.suppress(OSError):
        sys.stderr.write(f"prober: {text}\n")
        sys.stderr.flush()


def _stream(number: int, mode: str) -> TextIO:
    return open(number, mode, encoding="utf-8", closefd=False)  # type: ignore[return-value]

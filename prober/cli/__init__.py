"""The command line: one file per command, each loaded only when it is called."""

from __future__ import annotations

import sys


def main() -> None:
    """Entry of the console script: run a command, turn our errors into one clear line and an exit code."""
    from prober.cli.app import app
    from prober.errors import ProberError, SandboxError

    try:
        app(prog_name="prober")
    except SandboxError as error:
        sys.stderr.write(f"prober: {error}\n")
        sys.exit(4)
    except ProberError as error:
        sys.stderr.write(f"prober: {error}\n")
        sys.exit(2)

"""The command line: one file per command, each loaded only when it is called."""

from __future__ import annotations

import sys

from prober.cli.streams import READER_GONE, drop_output, fill_standard_streams, say

USAGE, VOID, INTERRUPTED = 2, 4, 130


def main() -> None:
    """Entry of the console script: run a command, turn what ends it into one clear line and an exit code.

    What the prober itself did wrong never ends with the code that blames the target.
    """
    fill_standard_streams()
    try:
        code = _code()
    except KeyboardInterrupt:
        code = INTERRUPTED
    drop_output()
    sys.exit(code)


def _code() -> int | str | None:
    from prober.errors import ProberError, SandboxError

    try:
        return _command_code()
    except SandboxError as error:
        say(str(error))
        return VOID
    except ProberError as error:
        say(str(error))
        return USAGE
    except BrokenPipeError:
        return READER_GONE
    except OSError as error:
        say(f"a fault of our own: {error}")
        return VOID
    except Exception as error:  # noqa: BLE001 - said, and ends as void
        import traceback

        traceback.print_exc()
        say(f"a fault of our own, nothing is said about the target: {type(error).__name__}")
        return VOID


def _command_code() -> int | str | None:
    """Run the command that was typed, and see that all of what it wrote has left. Raises what it raises."""
    from prober.cli.app import app

    try:
        app(prog_name="prober")
    except SystemExit as end:
        if isinstance(end.__context__, BrokenPipeError):  # typer makes a 1 of it, which would blame the target
            raise end.__context__ from None
        sys.stdout.flush()
        return end.code
    return 0

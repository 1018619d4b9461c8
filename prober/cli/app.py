"""All commands, in the order of --help; what one does is loaded when it is called, so that --help is quick."""

from __future__ import annotations

from typing import Annotated

import typer

from prober import __version__
from prober.cli.keeping import app as keeping
from prober.cli.looking import app as looking
from prober.cli.probing import app as probing

EPILOG = """\
\b
Try it, without any configuration:
  prober run alert-latency

\b
Exit codes of run:
  0    pass: every delivery visible in time and intact
  1    fail: overdue, early, lost, damaged, misplaced, unwanted, refused
       or unanswered
  2    wrong usage or configuration
  3    inconclusive: ambiguous, or not decided yet
  4    void: nothing could be said, by a fault of our own
  130  interrupted twice

\b
The configuration is the first of
  --config FILE
  $PROBER_CONFIG
  ./prober.yaml
  $XDG_CONFIG_HOME/prober/prober.yaml (~/.config/prober/prober.yaml)

Durations are written 200ms, 30s, 5m, 2h.
"""  # \b: what follows, up to the next empty line, is not wrapped again

app = typer.Typer(
    name="prober",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    help="Ask a publishing system to publish something harmless, watch where people would see it, and say for each "
    "place when it became visible, with how much uncertainty, and whether the promise was kept.",
    epilog=EPILOG,
)


def _version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"prober {__version__}")
        raise typer.Exit


@app.callback()
def _root(
    _show: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Nothing but the options above."""


for group in (probing, looking, keeping):
    app.add_typer(group)

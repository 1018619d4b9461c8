"""The commands and their options; what they do is loaded when they are called, so that --help is quick."""

from __future__ import annotations

from typing import Annotated

import typer

from prober import __version__

EPILOG = """\
Exit codes of run: 0 pass · 1 fail (overdue, early, lost, damaged, misplaced, unwanted, refused, unanswered) ·
4 void (nothing could be measured, by a fault of our own) · 3 inconclusive · 2 usage or configuration ·
130 interrupted twice.

The configuration is the first of --config FILE, $PROBER_CONFIG, ./prober.yaml and
$XDG_CONFIG_HOME/prober/prober.yaml. Durations are written 200ms, 30s, 5m, 2h.
"""

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

Config = Annotated[
    str | None,
    typer.Option("--config", "-c", metavar="FILE", help="The configuration (prober.yaml).", show_default=False),
]
Scenarios = Annotated[
    str | None,
    typer.Option(
        "--scenarios", metavar="DIR", help="Use the scenarios in this folder instead of the shipped ones.",
        show_default=False,
    ),
]  # fmt: skip
LedgerOption = Annotated[
    str | None,
    typer.Option(
        "--ledger", metavar="PATH|URL", show_default=False,
        help="Where the durable record is kept. Without it: the configuration's, else the XDG state directory; a "
        "sandbox run throws its own away.",
    ),
]  # fmt: skip
Output = Annotated[
    str, typer.Option("--output", "-o", metavar="text|json|nagios", help="How the result is written to stdout.")
]


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


RUN_EPILOG = """\
Examples:

  prober run alert-latency
      one critical alert on the embedded sandbox, or on the configured target

  prober run alert-latency --count 20 --every 3s --output json > result.json
      twenty probes, one every three seconds whatever becomes of the earlier ones

  prober run alert-latency --weather slack-outage --within 3s --give-up 8s
      the sandbox in bad weather: see what an outage looks like

  prober run alert-latency newsletter-delivery --config staging.yaml --ledger /var/lib/prober/ledger.sqlite
      two scenarios on staging, kept on record; `prober show PROBE` then shows the evidence

Ctrl-C once: nothing more is launched, what is under way is awaited, the exit code is the result's.
Ctrl-C twice: leave at once with 130; what is on record stays, and the next run on the ledger resolves it.
"""


@app.command(epilog=RUN_EPILOG)
def run(
    names: Annotated[list[str], typer.Argument(metavar="NAME...", help="Scenarios; `prober list` shows them.")],
    count: Annotated[int, typer.Option("--count", "-n", min=1, metavar="N", help="Probes of each scenario.")] = 1,
    every: Annotated[str, typer.Option(metavar="DURATION", help="Time from one probe to the next.")] = "10s",
    within: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Another deadline than the scenario's.", show_default=False)
    ] = None,
    give_up: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Another horizon than the scenario's.", show_default=False)
    ] = None,
    max_time: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION", help="End after this time; what is open is then inconclusive.", show_default=False
        ),
    ] = None,
    output: Output = "text",
    weather: Annotated[
        str | None,
        typer.Option(metavar="NAME|FILE", help="Weather of the sandbox (implies --sandbox).", show_default=False),
    ] = None,
    sandbox: Annotated[
        bool, typer.Option("--sandbox", help="Use the embedded sandbox even when a target is configured.")
    ] = False,
    ledger: LedgerOption = None,
    config: Config = None,
    scenarios: Scenarios = None,
) -> None:
    """Run scenarios now and say what became of them: timeliness at the deadline, the end when all is settled."""
    from prober.cli.run import RunOptions, run_command

    raise typer.Exit(
        run_command(
            RunOptions(
                names=tuple(names),
                count=count,
                every=every,
                within=within,
                give_up=give_up,
                max_time=max_time,
                output=output,
                weather=weather,
                sandbox=sandbox,
                ledger=ledger,
                config=config,
                scenarios=scenarios,
            )
        )
    )


@app.command("list")
def list_(
    output: Annotated[str, typer.Option("--output", "-o", metavar="text|json", help="How it is written.")] = "text",
    config: Config = None,
    scenarios: Scenarios = None,
) -> None:
    """List the scenarios, and the configured channels that each would be watched on."""
    from prober.cli.listing import list_command

    list_command(output, config, scenarios)


SHOW_EPILOG = """\
Examples:

  prober show k3f7q2m9xd
      the probe's timeline: planned, each step, each waypoint and sighting, the verdicts with their reasons

  prober show k3f --output json --ledger /var/lib/prober/ledger.sqlite
      the same for a program; the beginning of the name is enough while it is unambiguous
"""


@app.command(epilog=SHOW_EPILOG)
def show(
    probe: Annotated[str, typer.Argument(metavar="PROBE", help="A probe's name, or its beginning.")],
    output: Annotated[str, typer.Option("--output", "-o", metavar="text|json", help="How it is written.")] = "text",
    ledger: LedgerOption = None,
    config: Config = None,
) -> None:
    """Show everything on record about one probe, as a timeline."""
    from prober.cli.show import show_command

    show_command(probe, output, ledger, config)


@app.command()
def schema(
    what: Annotated[
        str, typer.Argument(metavar="[scenario|content|configuration|result]", help="Which form.")
    ] = "scenario",
) -> None:
    """Print the JSON schema of scenario files, content files, prober.yaml, or the JSON result."""
    from prober.cli.schema import schema_command

    schema_command(what)


SANDBOX_EPILOG = """\
Examples:

  prober sandbox --write prober.yaml
      in one terminal; then in another, in the same folder: prober run alert-latency --ledger ledger.sqlite

  prober sandbox --weather slack-outage --dialect seen
      bad weather, and the API as a real build was seen to speak it
"""


@app.command(epilog=SANDBOX_EPILOG)
def sandbox(
    weather: Annotated[
        str | None, typer.Option(metavar="NAME|FILE", help="The weather; fair without it.", show_default=False)
    ] = None,
    dialect: Annotated[str, typer.Option(metavar="documented|seen", help="How the API answers.")] = "documented",
    write: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Write the ready prober.yaml there instead of stdout.", show_default=False),
    ] = None,
) -> None:
    """Run the embedded world alone, on loopback, and print a prober.yaml that is ready for it."""
    from prober.cli.sandbox import sandbox_command

    sandbox_command(weather, dialect, write)

"""The commands that probe, and their options."""

from __future__ import annotations

from typing import Annotated

import typer

from prober.cli.parameters import Config, LedgerOption, Output, Scenarios

app = typer.Typer()

RUN_EPILOG = """\
\b
Examples:
  prober run alert-latency
      One critical alert to e-mail, Slack and Discord; without a
      configured target on the embedded sandbox.

\b
  prober run alert-latency --count 20 --every 3s --output json
      Twenty probes, one every three seconds whatever becomes of the
      earlier ones; the result as JSON (prober schema result).

\b
  prober run alert-latency --weather lossy --count 5 --every 300ms \\
      --within 3s --give-up 8s
      The sandbox in bad weather: what a loss looks like.

\b
  prober run alert-latency newsletter-delivery -c staging.yaml \\
      --ledger /var/lib/prober/ledger.sqlite
      Two scenarios on staging, kept on record: prober show PROBE then
      shows the evidence.

\b
Ctrl-C once: no more is launched, what is under way is awaited, and the
exit code is the result's. Ctrl-C twice: leave at once with 130; what is
on record stays, and the next run on that ledger resolves it.

Exit codes: 0 pass, 1 fail, 2 usage, 3 inconclusive, 4 void (prober --help).
With --output nagios: 0 pass, 2 fail, 3 everything else.
"""


@app.command(epilog=RUN_EPILOG, short_help="Run scenarios now and say what became of them.")
def run(
    names: Annotated[list[str], typer.Argument(metavar="NAME", hidden=True)],
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
    no_sweep: Annotated[
        bool, typer.Option("--no-sweep", help="Leave on the channels what the probes have left there.")
    ] = False,
    ledger: LedgerOption = None,
    config: Config = None,
    scenarios: Scenarios = None,
) -> None:
    """Run the scenarios NAME now and say what became of each delivery.

    Whether it was in time is said at the latest at its deadline; the run ends when all is settled. `prober list`
    shows the names.
    """
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
                sweep=not no_sweep,
            )
        )
    )


GATE_EPILOG = """\
\b
Examples:
  prober gate -c staging.yaml
      The scenarios tagged smoke until it is decided, in about 90 s:
      proves that at least 90 % arrive whole and in time.

\b
  prober gate --profile strict -c staging.yaml --junit gate.xml
      Proves 95 %, in 3 minutes or more; the result also as JUnit XML.

\b
  prober gate --sandbox --weather lossy
      What a failed gate looks like, without any configuration.

\b
Each channel of each scenario has a sequential test of its own, and all
must pass. Ask once: a gate that is repeated until it is green proves
nothing; what looks bad by chance is outweighed by more probes within
the same gate.

\b
On GitHub the summary of the step ($GITHUB_STEP_SUMMARY) and the
annotations are written by themselves.

\b
Ctrl-C ends it with what is known: inconclusive, exit code 130.

\b
Exit codes of gate:
  0    pass: every channel passed
  1    fail: at least one channel failed
  2    wrong usage or configuration, or no target
  3    inconclusive: a limit was reached before it was decided
  4    void: we could not see enough, nothing is said about the target
  130  interrupted
"""


@app.command(epilog=GATE_EPILOG, short_help="Probe until it is decided whether the target may be released.")
def gate(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", hidden=True)] = None,
    profile: Annotated[
        str, typer.Option(metavar="quick|strict", help="quick proves 90 %, strict 95 %, at 95 % confidence.")
    ] = "quick",
    tag: Annotated[str, typer.Option(metavar="TAG", help="Without a NAME: the scenarios with this tag.")] = "smoke",
    max_probes: Annotated[
        int | None,
        typer.Option(min=1, metavar="N", help="Launches at the most (quick 120, strict 200).", show_default=False),
    ] = None,
    max_time: Annotated[
        str | None,
        typer.Option(metavar="DURATION", help="Time at the most (quick 10m, strict 15m).", show_default=False),
    ] = None,
    within: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Another deadline than the scenario's.", show_default=False)
    ] = None,
    give_up: Annotated[
        str | None, typer.Option(metavar="DURATION", help="Another horizon than the scenario's.", show_default=False)
    ] = None,
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="text|json|junit|markdown", help="How the result is written.")
    ] = "text",
    json: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write the result there too, as JSON.", show_default=False)
    ] = None,
    junit: Annotated[str | None, typer.Option(metavar="FILE", help="As JUnit XML.", show_default=False)] = None,
    markdown: Annotated[str | None, typer.Option(metavar="FILE", help="As Markdown.", show_default=False)] = None,
    weather: Annotated[
        str | None,
        typer.Option(metavar="NAME|FILE", help="Weather of the sandbox (implies --sandbox).", show_default=False),
    ] = None,
    sandbox: Annotated[bool, typer.Option("--sandbox", help="Try it on the embedded sandbox.")] = False,
    ledger: LedgerOption = None,
    config: Config = None,
    scenarios: Scenarios = None,
) -> None:
    """Probe until it is decided, channel by channel, whether the target may be released.

    Without a NAME the scenarios with the tag `smoke`. Without a configured target the gate refuses (exit code 2): a
    lost configuration is never a green gate.
    """
    from prober.cli.gate import GateOptions, gate_command

    raise typer.Exit(
        gate_command(
            GateOptions(
                names=tuple(names or ()),
                tag=tag,
                profile=profile,
                max_probes=max_probes,
                max_time=max_time,
                within=within,
                give_up=give_up,
                output=output,
                json=json,
                junit=junit,
                markdown=markdown,
                weather=weather,
                sandbox=sandbox,
                ledger=ledger,
                config=config,
                scenarios=scenarios,
            )
        )
    )


SERVE_EPILOG = """\
\b
Examples:
  prober serve
      Every scenario with a schedule, by the configuration; metrics and
      status on http://127.0.0.1:9464/.

\b
  prober serve --sandbox alert-latency
      One scenario on the embedded world, to look at it.

\b
  prober serve --read-only
      Show what `prober tick` and others put on the ledger; probe nothing.

\b
  kill -HUP PID
      Read the configuration and the scenarios again. (Or: curl -X POST
      -H "Authorization: Bearer $TOKEN" http://127.0.0.1:9464/-/reload)
"""


@app.command(epilog=SERVE_EPILOG, short_help="Run the scenarios by their schedules, for ever.")
def serve(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", hidden=True)] = None,
    listen: Annotated[
        str, typer.Option(metavar="HOST:PORT", help="Where metrics and status are served.")
    ] = "127.0.0.1:9464",
    weather: Annotated[
        str | None,
        typer.Option(metavar="NAME|FILE", help="Weather of the sandbox (implies --sandbox).", show_default=False),
    ] = None,
    sandbox: Annotated[bool, typer.Option("--sandbox", help="Use the embedded sandbox.")] = False,
    read_only: Annotated[
        bool, typer.Option("--read-only", help="Probe nothing: only show a ledger that others fill.")
    ] = False,
    ledger: LedgerOption = None,
    config: Config = None,
    scenarios: Scenarios = None,
) -> None:
    """Run the scenarios NAME (without a name: all that have a schedule) until SIGTERM, and serve metrics and status.

    SIGTERM or Ctrl-C launches nothing more, waits for what is under way (serve.drain, 30s), and leaves the rest on
    record for the next start.
    """
    from prober.cli.serve import ServeOptions, serve_command

    options = ServeOptions(listen, tuple(names or ()), sandbox, weather, ledger, config, scenarios, read_only)
    serve_command(options)


TICK_EPILOG = """\
\b
Examples:
  * * * * * prober tick >>$HOME/prober.log 2>&1
      A line of a crontab: what is due each minute. Passes may overlap.

\b
  prober tick --linger 0 alert-latency
      Send now and end; a later tick collects. Latencies are then as wide
      as the time between ticks, unless the provider's stamps narrow them.

\b
  prober tick --output json
      What this pass came to, for a program.

\b
Exit codes:
  0    the pass ran, whatever the verdicts are (report and metrics tell)
  2    wrong usage or configuration
  4    nothing could be read
  75   nothing could be done: another process held the ledger's lock
  130  interrupted: what is under way is left for the next tick
"""


@app.command(epilog=TICK_EPILOG, short_help="One bounded pass for cron: publish what is due, collect, settle.")
def tick(
    names: Annotated[list[str] | None, typer.Argument(metavar="[NAME]...", hidden=True)] = None,
    linger: Annotated[
        str | None,
        typer.Option(
            metavar="DURATION", show_default=False,
            help="How long to wait for what was sent, at the most. Without it: the last deadline and 5 s.",
        ),
    ] = None,
    output: Annotated[str, typer.Option("--output", "-o", metavar="text|json", help="How it is written.")] = "text",
    weather: Annotated[
        str | None,
        typer.Option(metavar="NAME|FILE", help="Weather of the sandbox (implies --sandbox).", show_default=False),
    ] = None,
    sandbox: Annotated[bool, typer.Option("--sandbox", help="Use the embedded sandbox.")] = False,
    ledger: LedgerOption = None,
    config: Config = None,
    scenarios: Scenarios = None,
) -> None:  # fmt: skip
    """Publish the scenarios NAME (without a name: all that have a schedule) that are due, collect, settle, sweep.

    Of each scenario only the newest slot is run, up to one period old; what was missed is counted. Ends when all is
    settled, or when --linger is over. While another tick observes, this one only publishes, and the other collects.
    """
    from prober.cli.tick import TickOptions, tick_command

    options = TickOptions(tuple(names or ()), linger, output, sandbox, weather, ledger, config, scenarios)
    raise typer.Exit(tick_command(options))

"""The commands and their options; what they do is loaded when they are called, so that --help is quick."""

from __future__ import annotations

from typing import Annotated

import typer

from prober import __version__

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


RULES_EPILOG = """\
\b
Examples:
  prober rules -c prober.yaml --write prober.rules.yml
      Recording and alerting rules of its objectives, for the
      rule_files of Prometheus; promtool check rules reads them.

\b
  prober rules --runbooks https://wiki.example/prober
      The same with links to your own copy of deploy/runbooks.
"""


@app.command(epilog=RULES_EPILOG, short_help="Write Prometheus rules from the objectives.")
def rules(
    write: Annotated[
        str | None, typer.Option(metavar="FILE", help="Write there instead of stdout.", show_default=False)
    ] = None,
    runbooks: Annotated[
        str, typer.Option(metavar="URL", help="Where the runbooks stand; an anchor is added.")
    ] = "deploy/runbooks/README.md",
    config: Config = None,
    scenarios: Scenarios = None,
) -> None:
    """Write Prometheus recording and alerting rules: burn rates of the objectives, thresholds, the prober itself."""
    from prober.cli.rules import rules_command

    rules_command(write, runbooks, config, scenarios)


LIST_EPILOG = """\
\b
Examples:
  prober list
      The shipped scenarios; with a configuration, the channels too.

\b
  prober list --scenarios ./scenarios --output json
      The scenarios of another folder, for a program.
"""


@app.command("list", epilog=LIST_EPILOG, short_help="List the scenarios and where each is watched.")
def list_(
    output: Annotated[str, typer.Option("--output", "-o", metavar="text|json", help="How it is written.")] = "text",
    config: Config = None,
    scenarios: Scenarios = None,
) -> None:
    """List the scenarios: what each promises, and the configured channels that it is watched on."""
    from prober.cli.listing import list_command

    list_command(output, config, scenarios)


SHOW_EPILOG = """\
\b
Examples:
  prober show k3f7q2m9xd
      When it was planned, each step, waypoint and sighting, and the
      verdicts with their reasons.

\b
  prober show k3f --output json --ledger /var/lib/prober/ledger.sqlite
      The same for a program; the beginning of the name is enough while
      only one probe has it.
"""


@app.command(epilog=SHOW_EPILOG, short_help="Show everything on record about one probe.")
def show(
    probe: Annotated[str, typer.Argument(metavar="PROBE", hidden=True)],
    output: Annotated[str, typer.Option("--output", "-o", metavar="text|json", help="How it is written.")] = "text",
    ledger: LedgerOption = None,
    config: Config = None,
) -> None:
    """Show everything on record about the probe PROBE (its name, or the beginning of it) as a timeline."""
    from prober.cli.show import show_command

    show_command(probe, output, ledger, config)


SWEEP_EPILOG = """\
\b
Examples:
  prober sweep --dry-run
      What would go, and what cannot be looked at; nothing is touched.

\b
  prober sweep --max-time 10m --output json
      Until nothing of ours that is old enough is left, for ten minutes
      at the most.

Only messages go that carry a key which verifies for this environment,
and control messages of our own. How long they stay is said in
limits.sweep of the configuration.

Exit codes: 0 done, 2 usage, 3 the time was over before, 4 something
could not be reached.
"""


@app.command("sweep", epilog=SWEEP_EPILOG, short_help="Remove what probes have left on the channels.")
def sweep_(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would go.")] = False,
    max_time: Annotated[
        str | None, typer.Option(metavar="DURATION", help="End after this time.", show_default=False)
    ] = None,
    output: Annotated[str, typer.Option("--output", "-o", metavar="text|json", help="How it is written.")] = "text",
    ledger: LedgerOption = None,
    config: Config = None,
) -> None:
    """Withdraw publications and remove messages that have served, old leftovers of other runs, and old records."""
    from prober.cli.sweep import sweep_command

    raise typer.Exit(sweep_command(output, ledger, config, max_time=max_time, dry_run=dry_run))


CHECK_EPILOG = """\
\b
Examples:
  prober check
      Everything that a run on the configured target needs, one line
      each, with the mend where something is wrong.

\b
  prober check -c staging.yaml --output json
      The same for a program, before a deployment.

\b
  prober check --post
      Besides, post one message of our own to each Slack and Discord
      channel and look for it: proves the right to post, dates the clocks.

\b
  prober check --weather blind
      What it looks like when mailboxes refuse the login (sandbox).

\b
Exit codes:
  0  nothing is wrong (a line with ! is worth a look)
  1  something is wrong with the target, an account, a channel, a key,
     the clock or the ledger
  2  wrong usage or configuration, or no target is configured
  4  nothing is wrong as far as could be seen, but something could not be
     examined: a provider, or a name that does not resolve
"""


@app.command(epilog=CHECK_EPILOG, short_help="Examine configuration, accounts, channels, clocks; say the mend.")
def check(
    output: Annotated[str, typer.Option("--output", "-o", metavar="text|json", help="How it is written.")] = "text",
    post: Annotated[
        bool,
        typer.Option("--post", help="Also post a message of our own to each Slack and Discord channel."),
    ] = False,
    weather: Annotated[
        str | None,
        typer.Option(metavar="NAME|FILE", help="Weather of the sandbox (implies --sandbox).", show_default=False),
    ] = None,
    sandbox: Annotated[bool, typer.Option("--sandbox", help="Examine the embedded sandbox.")] = False,
    ledger: LedgerOption = None,
    config: Config = None,
) -> None:
    """Examine all that a run needs, at once, and say the mend for what is wrong.

    Configuration, keys, clocks, ledger, the target (reached, credentials, contract, health), its channels and
    subscribers (only ours?), and each observer's account: scopes, intents, membership, permissions, folders, queues.
    Without --post nothing is posted anywhere, and nothing is ever published.
    """
    from prober.cli.check import check_command

    raise typer.Exit(check_command(output, config, ledger, sandbox=sandbox, weather=weather, post=post))


PROVISION_EPILOG = """\
\b
Examples:
  prober provision --dry-run
      What would be made in the configured target; nothing is.

\b
  prober provision
      Make what is missing, find what is there, and print the YAML that
      belongs into prober.yaml; a second time it only finds.

\b
Exit codes: 0 all is there, 1 the target refused something, 2 usage,
configuration, or an address that the target never takes, 4 it could not
be tried (our name resolution, our token).
"""


@app.command(epilog=PROVISION_EPILOG, short_help="Make or find the test channels and subscribers in the target.")
def provision(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be made.")] = False,
    output: Annotated[str, typer.Option("--output", "-o", metavar="text|json", help="How it is written.")] = "text",
    sandbox: Annotated[bool, typer.Option("--sandbox", help="Use the embedded sandbox: all is there.")] = False,
    config: Config = None,
) -> None:
    """Make or find, for each configured channel, its test channel in the target and the subscriber of its inbox.

    A channel NAME becomes the target channel PREFIX + NAME (target.name_prefix, prober- without it). Nothing is
    touched whose name does not begin so. Prints YAML: target.channels and each channel's target_channel.
    """
    from prober.cli.provision import provision_command

    raise typer.Exit(provision_command(output, config, sandbox=sandbox, dry_run=dry_run))


REPORT_EPILOG = """\
\b
Examples:
  prober report
      The last 30 days: counts by verdict, quantiles in which lost ones
      count as infinitely late, objectives, and the worst probes.

\b
  prober report --since 24h --scenario alert-latency --channel slack
      One channel of one scenario, of the last day.

\b
  prober report --since 2026-11-01 --until 2026-11-08 -o html > week.html
      A week as one file with plots, to send, to print, to keep.

\b
  prober report --since 7d --output json --ledger ./ledger.sqlite
      For a program (prober schema result); -o markdown for a comment.

It only reads: no target and no observer is asked, and nothing is written. It
exits with 0 whatever the verdicts are.
"""


@app.command(epilog=REPORT_EPILOG, short_help="Report on a window of time: counts, quantiles, objectives.")
def report(
    since: Annotated[
        str, typer.Option(metavar="DURATION|TIME", help="Where the window begins; a duration counts from its end.")
    ] = "30d",
    until: Annotated[
        str, typer.Option(metavar="DURATION|TIME", help="Where it ends; a duration counts from now.")
    ] = "now",
    scenario: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only this scenario.", show_default=False)
    ] = None,
    channel: Annotated[str | None, typer.Option(metavar="NAME", help="Only this channel.", show_default=False)] = None,
    location: Annotated[
        str | None, typer.Option(metavar="NAME", help="Only what this location probed.", show_default=False)
    ] = None,
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="text|json|markdown|html", help="How it is written to stdout.")
    ] = "text",
    ledger: LedgerOption = None,
    config: Config = None,
) -> None:
    """Report on the deliveries planned in a window: what became of them, how long they took, what it means."""
    from prober.cli.report import report_command

    report_command(
        since,
        until,
        scenario=scenario,
        channel=channel,
        location=location,
        output=output,
        ledger=ledger,
        config=config,
    )


SCHEMA_EPILOG = """\
\b
Examples:
  prober schema configuration > prober.schema.json
      Then "# yaml-language-server: $schema=prober.schema.json" as the
      first line of prober.yaml lets an editor complete and check it.

\b
  prober schema result
      What run and show write with --output json.
"""


@app.command(epilog=SCHEMA_EPILOG, short_help="Print the JSON Schema of a file or of the result.")
def schema(
    what: Annotated[str, typer.Argument(metavar="FORM", hidden=True)] = "scenario",
) -> None:
    """Print the JSON Schema of FORM.

    FORM is scenario (without it), content, configuration or result.
    """
    from prober.cli.schema import schema_command

    schema_command(what)


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
    ledger: LedgerOption = None,
    config: Config = None,
    scenarios: Scenarios = None,
) -> None:
    """Run the scenarios NAME (without a name: all that have a schedule) until SIGTERM, and serve metrics and status.

    SIGTERM or Ctrl-C launches nothing more, waits for what is under way (serve.drain, 30s), and leaves the rest on
    record for the next start.
    """
    from prober.cli.serve import ServeOptions, serve_command

    serve_command(ServeOptions(listen, tuple(names or ()), sandbox, weather, ledger, config, scenarios))


SANDBOX_EPILOG = """\
\b
Examples:
  prober sandbox --write prober.yaml
      In one terminal; then in another, in the same folder:
      prober run alert-latency --ledger ledger.sqlite

\b
  prober sandbox --weather slack-outage --dialect seen
      Bad weather, and the API as a real build was seen to speak it.

\b
  prober sandbox --aws --write prober.yaml
      With an inbox in an S3 bucket, and SES's events and suppression list.
"""


@app.command(epilog=SANDBOX_EPILOG, short_help="Run the embedded world alone, to look at it.")
def sandbox(
    weather: Annotated[
        str | None, typer.Option(metavar="NAME|FILE", help="The weather; fair without it.", show_default=False)
    ] = None,
    dialect: Annotated[str, typer.Option(metavar="documented|seen", help="How the API answers.")] = "documented",
    write: Annotated[
        str | None,
        typer.Option(metavar="FILE", help="Write the ready prober.yaml there instead of stdout.", show_default=False),
    ] = None,
    aws: Annotated[bool, typer.Option("--aws", help="Add an S3 inbox, and what SES says of its mail.")] = False,
) -> None:
    """Run the embedded world alone, on loopback, until Ctrl-C.

    Prints a prober.yaml that is ready for it, and how to look at it with curl and a mail client.
    """
    from prober.cli.sandbox import sandbox_command

    sandbox_command(weather, dialect, write, aws=aws)

"""The commands that only look, and their options."""

from __future__ import annotations

from typing import Annotated

import typer

from prober.cli.parameters import Config, LedgerOption, Scenarios

app = typer.Typer()

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


AUDIT_EPILOG = """\
\b
Examples:
  prober audit
      What was asked of the target and the providers in the last day.

\b
  prober audit --since 7d --output json --ledger ./ledger.sqlite
      For a program: kind, place, subject, probe, process, answer.

What has no answer on record may have been done or not: the process ended
before it came. It is kept as long as the probes (limits.retention).
"""


@app.command(epilog=AUDIT_EPILOG, short_help="List each request that changed something outside, and its answer.")
def audit(
    since: Annotated[
        str, typer.Option(metavar="DURATION|TIME", help="Where the window begins; a duration counts from its end.")
    ] = "1d",
    until: Annotated[
        str, typer.Option(metavar="DURATION|TIME", help="Where it ends; a duration counts from now.")
    ] = "now",
    output: Annotated[str, typer.Option("--output", "-o", metavar="text|json", help="How it is written.")] = "text",
    ledger: LedgerOption = None,
    config: Config = None,
) -> None:
    """List every request that changed something outside: when, what, where, its answer, for which probe, by whom.

    Publishing and its steps, withdrawals and removals, control messages, what provision makes, what is deleted from
    queues, and access tokens that were fetched.
    """
    from prober.cli.audit import audit_command

    audit_command(since, until, output=output, ledger=ledger, config=config)


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

"""The commands that look after a deployment, and their options."""

from __future__ import annotations

from typing import Annotated

import typer

from prober.cli.parameters import Config, LedgerOption

app = typer.Typer()

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

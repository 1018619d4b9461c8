"""Options that several commands have, as they are typed and explained."""

from __future__ import annotations

from typing import Annotated

import typer

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

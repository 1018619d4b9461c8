"""``prober provision``: the target's test channels and subscribers, and what to write into the configuration."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from prober.cli.deployment import deployment
from prober.cli.options import one_of
from prober.cli.streams import say
from prober.clock import SystemClock
from prober.config import dump_configuration
from prober.errors import ConfigurationError, OwnFault, TargetError
from prober.report.lines import shorten
from prober.report.values import TargetName, json_text

if TYPE_CHECKING:
    from prober.provisioning import Provisioned

_FAIL, _VOID = 1, 4


def provision_command(output: str, config: str | None, *, sandbox: bool, dry_run: bool) -> int:
    """Write what was found and made to stdout, as YAML; return the exit code.

    Raises ConfigurationError, SandboxError.
    """
    one_of("--output", output, ("text", "json"))
    try:
        target, done, values = asyncio.run(_provided(config, sandbox=sandbox, dry_run=dry_run))
    except TargetError as error:
        say(f"{error} (prober check says more)")
        return _VOID if isinstance(error, OwnFault) else _FAIL
    refused = any(one.act == "refused" for one in done)
    if output == "json":
        sys.stdout.write(json_text(_to_json(target, done, values, dry_run=dry_run, refused=refused)) + "\n")
    else:
        sys.stdout.writelines(f"{line}\n" for line in _text(done, values))
    return _FAIL if refused else 0


async def _provided(
    config: str | None, *, sandbox: bool, dry_run: bool
) -> tuple[TargetName, tuple[Provisioned, ...], dict[str, Any]]:
    from contextlib import AsyncExitStack

    from prober.assembly import bounds, make_target
    from prober.auditing import Audit
    from prober.ledger.acting import record_acts
    from prober.ledger.ledger import Ledger
    from prober.ledger.owner import claim_ledger
    from prober.processes import this_process
    from prober.provisioning import ensure_acceptable, provision, to_configure
    from prober.targets import Furnishing

    async with deployment(config, None, sandbox=sandbox) as found:
        limits = bounds(found.settings)
        async with make_target(found.settings, SystemClock()) as target:
            if not isinstance(target, Furnishing):
                problem = "channels cannot be made in a target of this sort"
                mend = "make them by hand, and name them in target.channels and channels.*.target_channel"
                raise ConfigurationError(problem, mend, found.settings.source, field="target.adapter")
            ensure_acceptable(target, limits.channels, found.settings.source)
            async with AsyncExitStack() as stack:
                kept = None
                if found.ledger and not dry_run:
                    kept = await stack.enter_async_context(Ledger(found.ledger))
                    await kept.write(claim_ledger, found.settings.environment)
                audit = Audit(kept, SystemClock(), found.settings.location, this_process())
                try:
                    done = await provision(target, limits, dry_run=dry_run, audit=audit)
                finally:
                    if kept is not None:
                        await record_acts(kept, audit.location, audit.by, [target], whole=True)
        return found.target, done, to_configure(limits, done)


def _text(done: tuple[Provisioned, ...], values: Mapping[str, Any]) -> Iterator[str]:
    """YAML as a whole: what was done as comments, what belongs into the configuration below."""
    for one in done:
        yield f"# {one.act:<10}  {one.sort:<10}  {shorten(one.name, 200)}  {one.id}".rstrip()
        if one.sentence:
            yield f"#   {shorten(one.sentence, 300)} → {one.mend}"
    if not values["channels"]:
        yield "# nothing to configure yet"
        return
    yield from dump_configuration(values).splitlines()


def _to_json(
    target: TargetName, done: tuple[Provisioned, ...], values: Mapping[str, Any], *, dry_run: bool, refused: bool
) -> dict[str, Any]:
    return {
        "version": 1,
        "target": {"name": target.name, "sandbox": target.sandbox},
        "result": "fail" if refused else "pass",
        "dry_run": dry_run,
        "objects": [
            {
                "sort": one.sort,
                "channel": one.channel,
                "name": one.name,
                "act": one.act.value,
                "id": one.id or None,
                "sentence": one.sentence,
                "mend": one.mend,
            }
            for one in done
        ],
        "configuration": values,
    }

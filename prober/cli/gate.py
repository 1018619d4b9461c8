"""``prober gate``: probe until it is decided whether the target is good enough to release."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TextIO

from prober.ad_hoc import Asked, with_bounds
from prober.channel_choice import resolve_channels
from prober.cli.deployment import Deployment, deployment
from prober.cli.gating import Gating
from prober.cli.live import View, open_view
from prober.cli.logs import send_logs_to
from prober.cli.options import duration_option, one_of
from prober.cli.run import INTERRUPTED, LeftAtOnce, named, without_reader
from prober.clock import SystemClock
from prober.errors import ConfigurationError
from prober.gate import PROFILES, Profile
from prober.ledger.ledger import Ledger
from prober.model import Scenario
from prober.report.gate_forms import annotation_lines, junit_text, markdown_text
from prober.report.gate_text import gate_lines
from prober.report.gate_values import GateResult, Limit, gate_to_json
from prober.report.values import exit_code, json_text
from prober.resources import contents_directory, scenarios_directory
from prober.scenario_files import load_scenarios

FORMS: dict[str, Callable[[GateResult], str]] = {
    "json": lambda result: json_text(gate_to_json(result)) + "\n",
    "junit": lambda result: junit_text(result) + "\n",
    "markdown": markdown_text,
}
"""How a result is written, beside the text."""


@dataclass(frozen=True, slots=True)
class GateOptions:
    """The command's options as they were typed."""

    names: tuple[str, ...]
    tag: str
    profile: str
    max_probes: int | None
    max_time: str | None
    within: str | None
    give_up: str | None
    output: str
    json: str | None
    junit: str | None
    markdown: str | None
    weather: str | None
    sandbox: bool
    ledger: str | None
    config: str | None
    scenarios: str | None


@dataclass(frozen=True, slots=True)
class Plan:
    """What was asked for, understood."""

    scenarios: tuple[Scenario, ...]
    profile: Profile
    max_probes: int
    max_time: float


def gate_command(options: GateOptions) -> int:
    """Run the gate, write the result, return the exit code. Raises ProberError before anything was published."""
    one_of("--output", options.output, ("text", *FORMS))
    plan = _plan(options)
    files = _files(options)
    clock = SystemClock()
    view = open_view(options.output, clock.now)
    try:
        with send_logs_to(view.note):
            result = asyncio.run(_run(plan, options, view, clock))
    except LeftAtOnce:
        return INTERRUPTED
    return conclude(result, options.output, files)


def conclude(result: GateResult, output: str, files: Sequence[tuple[str, Path]]) -> int:
    """Write the result in every form that was asked for; the exit code. Raises OSError."""
    for form, path in files:
        path.write_text(FORMS[form](result), encoding="utf-8")
    if output != "text":
        sys.stdout.write(FORMS[output](result))
    _tell_github(result, sys.stdout if output == "text" else sys.stderr)
    return INTERRUPTED if result.finding.limit is Limit.INTERRUPTED else exit_code(result.finding.result)


def _plan(options: GateOptions) -> Plan:
    if options.weather is not None:
        from prober.sandbox.weather import load_weather

        load_weather(options.weather)  # a wrong file is said before anything starts
    profile = PROFILES[one_of("--profile", options.profile, tuple(PROFILES))]
    directory = Path(options.scenarios) if options.scenarios else scenarios_directory()
    known = load_scenarios(directory, contents_directory())
    chosen = [named(name, known) for name in dict.fromkeys(options.names)]
    chosen = chosen or [scenario for scenario in known.values() if options.tag in scenario.tags]
    if not chosen:
        tags = sorted({tag for scenario in known.values() for tag in scenario.tags})
        mend = f"name scenarios, or a tag that one has: {', '.join(tags)}"
        raise ConfigurationError(f"no scenario has the tag {options.tag!r}", mend, field="--tag")
    within, give_up = duration_option("--within", options.within), duration_option("--give-up", options.give_up)
    if within is not None and give_up is not None and give_up < within:
        raise ConfigurationError("the horizon lies before the deadline", "give a --give-up of at least --within",
                                 field="--give-up")  # fmt: skip
    return Plan(
        scenarios=tuple(with_bounds(scenario, within, give_up) for scenario in chosen),
        profile=profile,
        max_probes=options.max_probes or profile.max_probes,
        max_time=duration_option("--max-time", options.max_time) or profile.max_time,
    )


def _files(options: GateOptions) -> list[tuple[str, Path]]:
    """Where to write which form, tried out before minutes are spent."""
    named_files = ((form, getattr(options, form)) for form in FORMS)
    files = [(form, Path(name)) for form, name in named_files if name is not None]
    for form, path in files:
        try:
            path.touch()
        except OSError as error:
            raise ConfigurationError(f"cannot be written: {error.strerror}", "name another", str(path),
                                     field=f"--{form}") from error  # fmt: skip
    return files


async def _run(plan: Plan, options: GateOptions, view: View, clock: SystemClock) -> GateResult:
    with view:
        async with AsyncExitStack() as stack:
            ending = stack.enter_context(_ctrl_c())
            stack.enter_context(without_reader(view, alone=options.output == "text"))
            place = await stack.enter_async_context(
                deployment(options.config, options.ledger, sandbox=options.sandbox, weather=options.weather)
            )
            path = place.ledger or str(Path(stack.enter_context(tempfile.TemporaryDirectory())) / "ledger.sqlite")
            ledger = await stack.enter_async_context(Ledger(path))
            gating = await _gating(plan, place, ledger, view, clock, stack=stack)
            ending.append(gating.interrupt)
            result = await gating.run(place.target)
            if options.output == "text":
                view.progress((), None)
                view.show(lambda width: gate_lines(result, width))
    return result


async def _gating(
    plan: Plan, place: Deployment, ledger: Ledger, view: View, clock: SystemClock, *, stack: AsyncExitStack
) -> Gating:
    from prober.assembly import drafting, open_flow

    asked = [Asked(scenario, resolve_channels(scenario, place.settings.channels)) for scenario in plan.scenarios]
    tests = sum(len(one.channels) for one in asked)
    test, every = plan.profile.test(tests), plan.profile.every(tests)
    view.note(_announcement(plan, asked, every))
    if plan.max_probes < test.pass_at(0):
        view.note(f"--max-probes {plan.max_probes} is too few to pass: that takes at least {test.pass_at(0)}.")
    elif plan.max_time < every * (test.pass_at(0) - 1):
        view.note(f"--max-time is too short to pass: that takes at least {every * (test.pass_at(0) - 1):.0f} s.")
    flow = await open_flow(
        stack, place.settings, ledger, clock, lambda doubt: view.note(f"Before publishing: {doubt}.")
    )
    return Gating(
        flow,
        drafting(place.settings),
        plan.profile,
        asked,
        view,
        max_probes=plan.max_probes,
        max_time=plan.max_time,
        sweeps=not place.target.sandbox,  # the embedded world goes as a whole
    )


def _announcement(plan: Plan, asked: Sequence[Asked], every: float) -> str:
    names = ", ".join(one.scenario.name for one in asked)
    test = plan.profile.test(sum(len(one.channels) for one in asked))
    return (
        f"Gate {plan.profile.name}: {names} every {every:.1f} s until it is decided; "
        f"a pass takes {test.pass_at(0)} good probes in a row on each channel, {every * (test.pass_at(0) - 1):.0f} s."
    )


@contextmanager
def _ctrl_c() -> Iterator[list[Callable[[], None]]]:
    """Once: what is in the list is called, if there is something yet. Twice, or too early for that: leave at once."""
    loop, task, acts = asyncio.get_running_loop(), asyncio.current_task(), list[Callable[[], None]]()
    assert task is not None  # noqa: S101 - inside asyncio.run

    def interrupt() -> None:
        if not acts:
            task.cancel()
        while acts:
            acts.pop()()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, interrupt)
    try:
        yield acts
    except asyncio.CancelledError:
        raise LeftAtOnce from None
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


def _tell_github(result: GateResult, stream: TextIO) -> None:
    """Annotations, and the summary of the step, where GitHub runs us."""
    if os.environ.get("GITHUB_ACTIONS") == "true":
        stream.writelines(line + "\n" for line in annotation_lines(result))
    summary = os.environ.get("GITHUB_STEP_SUMMARY")
    if summary:
        with Path(summary).open("a", encoding="utf-8") as file:
            file.write(markdown_text(result))

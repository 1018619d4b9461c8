"""``prober run``: scenarios now, live, then the result."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from prober.ad_hoc import AdHocRun, Asked, with_bounds
from prober.channel_choice import resolve_channels
from prober.cli.live import View, Waiting, open_view
from prober.cli.logs import send_logs_to
from prober.cli.options import duration_option, load_for, one_of
from prober.clock import SystemClock
from prober.config import Settings, default_ledger_path, searched_paths, settings_from_mapping
from prober.errors import ConfigurationError
from prober.ledger.ledger import Ledger
from prober.ledger.planning import PlannedProbe
from prober.ledger.reading import ProbeRecord
from prober.ledger.tables import instant_of
from prober.model import Scenario
from prober.nearest import did_you_mean
from prober.report.evidence import probe_result
from prober.report.nagios import nagios_exit_code, nagios_line
from prober.report.result import json_text, run_result, to_json
from prober.report.swept import swept_line
from prober.report.values import DeliveryResult, ProbeResult, RunResult, TargetName, exit_code
from prober.resources import contents_directory, scenarios_directory
from prober.scenario_files import load_scenarios
from prober.sweep import Swept

INTERRUPTED = 130


@dataclass(frozen=True, slots=True)
class RunOptions:
    """The command's options as they were typed."""

    names: tuple[str, ...]
    count: int
    every: str
    within: str | None
    give_up: str | None
    max_time: str | None
    output: str
    weather: str | None
    sandbox: bool
    ledger: str | None
    config: str | None
    scenarios: str | None
    sweep: bool = True


@dataclass(frozen=True, slots=True)
class Plan:
    """What was asked for, understood."""

    scenarios: tuple[Scenario, ...]
    count: int
    every: float
    max_time: float | None
    settings: Settings | None  # None: the sandbox
    weather: str | None
    ledger: str | None
    sweep: bool = True


def run_command(options: RunOptions) -> int:
    """Run, write the result to stdout, return the exit code. Raises ProberError before anything was published."""
    one_of("--output", options.output, ("text", "json", "nagios"))
    plan = _plan(options)
    clock = SystemClock()
    view = open_view(options.output, clock.now)
    try:
        with send_logs_to(view.note):
            result = asyncio.run(_run(plan, options, view, clock))
    except LeftAtOnce:
        return INTERRUPTED
    if options.output == "json":
        sys.stdout.write(json_text(to_json(result)) + "\n")
    elif options.output == "nagios":
        sys.stdout.write(nagios_line(result) + "\n")
        return nagios_exit_code(result.result)
    return exit_code(result.result)


class LeftAtOnce(BaseException):
    """Ctrl-C came twice."""


def _plan(options: RunOptions) -> Plan:
    settings = None
    if options.weather is not None:
        from prober.sandbox.weather import load_weather

        load_weather(options.weather)  # a wrong file is said before anything starts
    if not options.sandbox and options.weather is None:
        settings = load_for(options.config)
        if settings is not None and settings.target is None:
            settings = None
    directory = Path(options.scenarios) if options.scenarios else scenarios_directory()
    known = load_scenarios(directory, contents_directory())
    within, give_up = duration_option("--within", options.within), duration_option("--give-up", options.give_up)
    if within is not None and give_up is not None and give_up < within:
        raise ConfigurationError("the horizon lies before the deadline", "give a --give-up of at least --within",
                                 field="--give-up")  # fmt: skip
    every = duration_option("--every", options.every)
    return Plan(
        scenarios=tuple(with_bounds(named(name, known), within, give_up) for name in dict.fromkeys(options.names)),
        count=options.count,
        every=every or 0.0,
        max_time=duration_option("--max-time", options.max_time),
        settings=settings,
        weather=options.weather,
        sweep=options.sweep and settings is not None,  # the embedded sandbox takes its messages with it
        ledger=options.ledger or (settings.ledger or str(default_ledger_path(os.environ)) if settings else None),
    )


def named(name: str, known: Mapping[str, Scenario]) -> Scenario:
    if name not in known:
        mend = did_you_mean(name, known) or f"there are {', '.join(known)}"
        raise ConfigurationError(f"there is no scenario {name!r}", mend, field="NAME")
    return known[name]


async def _run(plan: Plan, options: RunOptions, view: View, clock: SystemClock) -> RunResult:
    stop = asyncio.Event()
    with view:
        async with AsyncExitStack() as stack:
            stack.enter_context(_ctrl_c(stop, view))
            stack.enter_context(without_reader(view, alone=options.output == "text"))
            place = plan.ledger or str(Path(stack.enter_context(tempfile.TemporaryDirectory())) / "ledger.sqlite")
            where = asyncio.create_task(_where(plan, options, view, stack))
            opening = asyncio.create_task(stack.enter_async_context(Ledger(place)))
            loading = asyncio.create_task(asyncio.to_thread(_load, plan.settings))
            tasks = (where, opening, loading)
            await asyncio.wait(tasks)  # side by side: each takes its time
            for failure in filter(None, [task.exception() for task in tasks]):
                raise failure
            settings, target = await where
            result = await _probe(plan, settings, target, await opening, view, clock=clock, stop=stop)
            if options.output == "text":
                view.closing(result)
    return result


def _load(settings: Settings | None) -> None:
    """Load the adapters while the sandbox starts: half a second of imports."""
    from prober.assembly import load_adapters

    load_adapters(settings)


async def _where(plan: Plan, options: RunOptions, view: View, stack: AsyncExitStack) -> tuple[Settings, TargetName]:
    """The configured target, or the embedded one."""
    if plan.settings is not None:
        assert plan.settings.target is not None  # noqa: S101 - else there were no settings
        return plan.settings, TargetName(str(plan.settings.target.get("url", "")), sandbox=False)
    if plan.weather is None and not options.sandbox:
        paths = " or ".join(_short(path) for path in searched_paths(options.config, os.environ, Path.cwd()))
        view.note(f"No target in {paths}: using the sandbox.")
    from prober.sandbox.launch import start_sandbox

    sandbox = await stack.enter_async_context(start_sandbox(plan.weather))
    settings = settings_from_mapping(sandbox.configuration, "the sandbox's configuration")
    return settings, TargetName("sandbox", sandbox=True)


def _short(path: Path) -> str:
    """The path as it is typed: from the current folder, or from home, where it lies below."""
    for folder, sign in ((Path.cwd(), "."), (Path(os.environ.get("HOME") or Path.home()), "~")):
        if path.is_relative_to(folder):
            return f"{sign}/{path.relative_to(folder)}"
    return str(path)


async def _probe(
    plan: Plan,
    settings: Settings,
    target: TargetName,
    ledger: Ledger,
    view: View,
    *,
    clock: SystemClock,
    stop: asyncio.Event,
) -> RunResult:
    from prober.assembly import drafting, open_flow

    asked = [Asked(scenario, resolve_channels(scenario, settings.channels)) for scenario in plan.scenarios]
    async with AsyncExitStack() as stack:
        flow = await open_flow(stack, settings, ledger, clock, lambda doubt: view.note(f"Before publishing: {doubt}."))
        run = AdHocRun(
            flow,
            drafting(settings),
            asked,
            ViewListener(view),
            count=plan.count,
            every=plan.every,
            sweeps=plan.sweep,
        )
        records = await run.run(stop, plan.max_time)
    return run_result(target, [probe_result(record) for record in records])


@contextmanager
def _ctrl_c(stop: asyncio.Event, view: View) -> Iterator[None]:
    """Once: launch no more, wait for what is under way. Twice: leave at once."""
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None  # noqa: S101 - inside asyncio.run

    def interrupt() -> None:
        if not stop.is_set():
            stop.set()
            view.note("Interrupted: nothing more is launched; waiting for what is under way. Ctrl-C again leaves.")
        else:
            task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, interrupt)
    try:
        yield
    except asyncio.CancelledError:
        raise LeftAtOnce from None
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)


@contextmanager
def without_reader(view: View, *, alone: bool) -> Iterator[None]:
    """Leave at once when the view is lost and it ``alone`` would have shown the result. Raises its OSError then."""
    loop, task, lost = asyncio.get_running_loop(), asyncio.current_task(), list[OSError]()
    assert task is not None  # noqa: S101 - inside asyncio.run

    def leave(error: OSError) -> None:
        lost.append(error)
        if alone:
            loop.call_soon_threadsafe(task.cancel)

    view.when_lost(leave)
    try:
        yield
    except asyncio.CancelledError:
        if lost and alone:
            raise lost[0] from None
        raise


class ViewListener:
    """Turns what is on record into what is shown, each fact once."""

    def __init__(self, view: View) -> None:
        self._view = view
        self._own: set[str] = set()
        self._answered: set[str] = set()
        self._shown: dict[tuple[str, str], tuple[bool, bool]] = {}
        self._waiting: dict[str, list[Waiting]] = {}
        self._blind: set[str] = set()

    def launched(self, probes: Sequence[PlannedProbe]) -> None:
        """See :class:`prober.ad_hoc.Listener`."""
        for probe in probes:
            self._own.add(probe.id)
            deliveries = tuple(
                DeliveryResult(d.channel.name, d.channel.kind, d.within, d.give_up) for d in probe.deliveries
            )
            result = ProbeResult(probe.scenario, probe.id, None, probe.publication.kind, deliveries=deliveries)
            self._view.launched(result)

    def changed(self, record: ProbeRecord) -> None:
        """See :class:`prober.ad_hoc.Listener`."""
        result = probe_result(record)
        if result.answer is not None and result.probe not in self._answered:
            self._answered.add(result.probe)
            if result.probe in self._own:
                self._view.answered(result)
        for delivery in result.deliveries:
            now = (delivery.timeliness is not None, delivery.outcome is not None)
            if now != self._shown.get((result.probe, delivery.channel), (False, False)):
                self._shown[result.probe, delivery.channel] = now
                if result.probe not in self._own:
                    self._view.note("A delivery that an earlier run left open:")
                self._view.settled(result, delivery)
        self._waiting[result.probe] = list(_waiting(record, result))
        self._show_waiting()

    def blind(self, observer: str, why: str) -> None:
        """See :class:`prober.ad_hoc.Listener`."""
        self._view.note(f"Observer {observer} is blind: {why}" if why else f"Observer {observer} sees again.")
        (self._blind.add if why else self._blind.discard)(observer)
        self._show_waiting()

    def _show_waiting(self) -> None:
        rows = [row for rows in self._waiting.values() for row in rows]
        self._view.waiting([replace(row, blind=row.observer in self._blind) for row in rows])

    def swept(self, swept: Swept) -> None:
        """See :class:`prober.ad_hoc.Listener`."""
        if (told := swept_line(swept)) is not None:
            self._view.note(told)

    def held_up(self, seconds: float) -> None:
        """See :class:`prober.ad_hoc.Listener`."""
        self._view.note(f"The prober itself was held up for {seconds:.1f} s: what came meanwhile was seen late.")


def _waiting(record: ProbeRecord, result: ProbeResult) -> Iterator[Waiting]:
    steps = {step.number: step for step in record.steps}
    for row, delivery in zip(record.deliveries, result.deliveries, strict=True):
        if delivery.settled:
            continue
        step = steps[row.step_number]
        due = instant_of(step, "requested") or instant_of(step, "taken")
        if due is not None and row.scheduled_time is not None:
            due = due.at_wall(row.scheduled_time)
        yield Waiting(result.scenario, result.probe, row.channel, due, row.within, row.give_up, row.observer)

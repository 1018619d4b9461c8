"""Drives the stages for a gate: launches until it is decided, shows how it stands, ends."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial

from prober.ad_hoc import AdHocRun
from prober.ad_hoc import Asked as AskedChannels
from prober.cli.live import View
from prober.clock import Instant
from prober.draft import Drafting
from prober.gate import Asked, Event, Profile, judge_gate, said_by
from prober.ledger.planning import PlannedProbe
from prober.ledger.reading import ProbeRecord
from prober.model import PublishResult
from prober.report.evidence import probe_result
from prober.report.gate_text import progress_line, result_word, standing_lines
from prober.report.gate_values import GateResult, Limit, names_of
from prober.report.lines import Line, Span
from prober.report.result import summarise
from prober.report.swept import swept_line
from prober.report.text import MARKS, RESULT_TONES, Widths, answered_lines, delivery_lines
from prober.report.values import DeliveryResult, ProbeResult, Result, RunResult, TargetName
from prober.stages import Flow
from prober.sweep import Swept

PROGRESS = 10
"""Launches after which a log is told how it stands."""


class Gating:
    """One gate from its first launch to its decision, or to a limit."""

    def __init__(
        self,
        flow: Flow,
        drafting: Drafting,
        profile: Profile,
        asked: Sequence[AskedChannels],
        view: View,
        *,
        max_probes: int,
        max_time: float,
        sweeps: bool = False,
    ) -> None:
        self._clock = flow.clock
        self._profile = profile
        self._view = view
        self._max_time = max_time
        self._asked = [Asked(one.scenario.name, c.name, one.scenario.within) for one in asked for c in one.channels]
        every = profile.every(len(self._asked))
        self._run = AdHocRun(flow, drafting, asked, self, count=max_probes, every=every, sweeps=sweeps)
        self._probes: dict[str, ProbeResult] = {}  # in the order of their launches
        self._told: set[tuple[str, str]] = set()
        self._widths = Widths()
        self._launched = 0
        self._began: Instant | None = None
        self._interrupted = False
        self._finding = judge_gate(profile, self._asked, ())

    def interrupt(self) -> None:
        """End now, with what is known."""
        self._interrupted = True
        self._run.end()

    async def run(self, target: TargetName) -> GateResult:
        """Launch until it is decided or a limit is reached."""
        end = self._clock.now().plus(self._max_time)
        records = await self._run.run(asyncio.Event(), self._max_time)
        seconds = self.seconds
        probes = tuple(probe_result(record) for record in records)
        if not self._finding.decided:
            out_of_time = self._clock.now().since(end) >= 0
            limit = Limit.INTERRUPTED if self._interrupted else Limit.TIME if out_of_time else Limit.PROBES
            self._finding = judge_gate(self._profile, self._asked, self._probes.values(), limit)
        run = RunResult(target, self._finding.result, self._finding.reason, probes, summarise(probes))
        return GateResult(run, self._finding, self._launched, seconds)

    @property
    def seconds(self) -> float:
        """Since the first launch."""
        return 0.0 if self._began is None else self._clock.now().since(self._began)

    def launched(self, probes: Sequence[PlannedProbe]) -> None:
        """See :class:`prober.ad_hoc.Listener`."""
        self._began = self._began or self._clock.now()
        self._launched += 1
        for probe in probes:
            deliveries = tuple(
                DeliveryResult(d.channel.name, d.channel.kind, d.within, d.give_up) for d in probe.deliveries
            )
            result = ProbeResult(probe.scenario, probe.id, None, probe.publication.kind, deliveries=deliveries)
            self._probes[probe.id] = result
            self._widths = self._widths.including(result)
        self._judge()
        if self._launched % PROGRESS == 0:
            self._view.progress(
                standing_lines(self._finding), progress_line(self._finding, self._launched, self.seconds)
            )

    def changed(self, record: ProbeRecord) -> None:
        """See :class:`prober.ad_hoc.Listener`. What an earlier run left open is no event of this gate."""
        result = probe_result(record)
        if self._finding.decided or self._probes.get(result.probe) in {None, result}:
            return
        self._probes[result.probe] = result
        self._tell(result)
        self._judge()

    def _tell(self, probe: ProbeResult) -> None:
        """Show what is not good, each fact once."""
        answer = probe.answer
        if answer is not None and answer.result is not PublishResult.ACCEPTED and (probe.probe, "") not in self._told:
            self._told.add((probe.probe, ""))
            self._view.show(partial(answered_lines, probe, self._widths))
        for delivery in probe.deliveries:
            said, name = said_by(probe, delivery), (probe.probe, delivery.channel)
            if said is not None and said.event is not Event.GOOD and name not in self._told:
                self._told.add(name)
                self._view.show(partial(delivery_lines, probe, delivery, self._widths))

    def _judge(self) -> None:
        before = {(each.scenario, each.channel): each.result for each in self._finding.channels}
        self._finding = judge_gate(self._profile, self._asked, self._probes.values())
        for name, channel in zip(names_of(self._finding.channels), self._finding.channels, strict=True):
            if channel.result not in {Result.INCONCLUSIVE, before[channel.scenario, channel.channel]}:
                counted = channel.good + channel.bad + channel.void
                word = Span(f"{MARKS[channel.result]} {name}: {result_word(channel)}", RESULT_TONES[channel.result])
                self._view.show(partial(_single, (word, Span(f" after {counted} probes"))))
        self._view.progress(standing_lines(self._finding), None)
        if self._finding.decided:
            self._run.end()

    def blind(self, observer: str, why: str) -> None:
        """See :class:`prober.ad_hoc.Listener`."""
        self._view.note(f"Observer {observer} is blind: {why}" if why else f"Observer {observer} sees again.")

    def swept(self, swept: Swept) -> None:
        """See :class:`prober.ad_hoc.Listener`."""
        if (told := swept_line(swept)) is not None:
            self._view.note(told)

    def held_up(self, seconds: float) -> None:
        """See :class:`prober.ad_hoc.Listener`."""
        self._view.note(f"The prober itself was held up for {seconds:.1f} s: what came meanwhile was seen late.")


def _single(line: Line, _width: int) -> list[Line]:
    return [line]

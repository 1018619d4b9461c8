"""``scenarios/NAME.yaml`` and ``fixtures/content/NAME.yaml`` -> the scenarios that can be probed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import ZoneInfo, available_timezones

from pydantic import AfterValidator, Field

from prober.channel_choice import ALL, most_target_channels
from prober.errors import ConfigurationError
from prober.model import Arrive, Content, PublicationKind, Scenario, Schedule
from prober.nearest import did_you_mean
from prober.schedule import validate as validate_schedule
from prober.validation import Form, Name, Seconds, first_of, validate
from prober.yaml_source import Loc, Located, read_located, sealed

_SUFFIXES = (".yaml", ".yml")
_LEAST_PERIOD = 1.0


class Priority(StrEnum):
    """How urgent an alert is."""

    LOW = "low"
    MEDIUM = "medium"
    HIGH = "high"
    CRITICAL = "critical"


def _positive(seconds: float) -> float:
    if seconds <= 0:
        raise ValueError("must be longer than 0s")
    return seconds


def _not_blank(text: str) -> str:
    if not text.strip():
        raise ValueError("must not be blank")
    return text


Span = Annotated[Seconds, AfterValidator(_positive)]
Text = Annotated[str, AfterValidator(_not_blank), Field(json_schema_extra={"pattern": r"\S"})]


class PublicationForm(Form):
    """What is asked of the target; ``content`` names a file of contents."""

    kind: PublicationKind
    content: Name
    priority: Priority | None = None
    scheduled_after: Span | None = None


class ScheduleForm(Form):
    """When it runs: ``every`` so often, or by a ``cron`` expression of five fields in a time zone."""

    every: Span | None = None
    cron: Text | None = None
    time_zone: str | None = None


class ScenarioForm(Form):
    """A declared, recurring question to the target."""

    name: Name
    description: Text
    tags: tuple[Name, ...] = ()
    publication: PublicationForm
    channels: Annotated[tuple[Name, ...], Field(min_length=1)]
    within: Span
    give_up: Span
    arrive: Arrive = Arrive.ALWAYS
    cancel_after: Span | None = None
    schedule: ScheduleForm | None = None


class ContentForm(Form):
    """What a probe publishes, and what must be readable on arrival."""

    template: Text
    subject: Text
    text: Text
    expect: tuple[Text, ...] = ()


@sealed
def load_scenarios(directory: Path, contents_directory: Path) -> Mapping[str, Scenario]:
    """Every scenario of a folder, by name in alphabetical order.

    Raises ConfigurationError with the file, line and field that are wrong, or when the folder holds no scenario.
    """
    found: dict[str, Scenario] = {}
    for path in _files(directory):
        scenario = _scenario(path, contents_directory)
        if scenario.name in found:
            problem = f"the scenario {scenario.name!r} stands in {found[scenario.name].source}, too"
            raise ConfigurationError(problem, "remove one of the two files", str(path))
        found[scenario.name] = scenario
    if not found:
        raise ConfigurationError("holds no scenario", "write one as NAME.yaml", str(directory))
    return dict(sorted(found.items()))


@sealed
def load_content(name: str, directory: Path) -> Content:
    """One content by the name of its file. Raises ConfigurationError, with the nearest name when there is none."""
    path = _content_path(name, directory)
    if path is None:
        raise ConfigurationError(f"there is no content {name!r}", _known_contents(name, directory), str(directory))
    form = validate(ContentForm, read_located(path))
    return Content(name, form.template, form.subject, form.text, form.expect)


def scenario_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a scenario file."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **ScenarioForm.model_json_schema()}


def content_schema() -> dict[str, Any]:
    """JSON Schema (draft 2020-12) of a content file."""
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **ContentForm.model_json_schema()}


def _files(directory: Path) -> list[Path]:
    try:
        entries = sorted(directory.iterdir())
    except OSError as error:
        problem = f"the folder of scenarios cannot be read: {(error.strerror or 'unknown error').lower()}"
        raise ConfigurationError(problem, "check the path", str(directory)) from error
    return [path for path in entries if path.suffix in _SUFFIXES and not path.name.startswith(".")]


def _content_path(name: str, directory: Path) -> Path | None:
    return next((path for path in (directory / (name + suffix) for suffix in _SUFFIXES) if path.is_file()), None)


def _known_contents(name: str, directory: Path) -> str:
    known = [path.stem for path in sorted(directory.glob("*.y*ml")) if path.suffix in _SUFFIXES]
    return did_you_mean(name, known) or f"write {name}.yaml there"


def _scenario(path: Path, contents_directory: Path) -> Scenario:
    located = read_located(path)
    form = validate(ScenarioForm, located)
    publication = form.publication
    problems = [located.error(problem, mend, loc) for problem, mend, loc in _contradictions(form, path.stem)]
    if _content_path(publication.content, contents_directory) is None:
        mend = _known_contents(publication.content, contents_directory)
        problem = f"there is no content {publication.content!r}"
        problems.append(located.error(problem, mend, ("publication", "content")))
    schedule = _schedule(form.schedule, located, problems)
    if problems:
        raise first_of(problems)
    return Scenario(
        name=form.name,
        description=form.description.strip(),
        kind=publication.kind,
        channels=form.channels,
        within=form.within,
        give_up=form.give_up,
        content=load_content(publication.content, contents_directory),
        priority=publication.priority or "",
        scheduled_after=publication.scheduled_after,
        arrive=form.arrive,
        cancel_after=form.cancel_after,
        schedule=schedule,
        tags=frozenset(form.tags),
        source=str(path),
    )


def _contradictions(form: ScenarioForm, stem: str) -> Iterator[tuple[str, str, Loc]]:
    """What no single field can know is wrong: problem, mend, place."""
    if form.name != stem:
        yield f"the file is called {stem!r}", "give the file and the scenario the same name", ("name",)
    if form.within > form.give_up:
        yield "is longer than give_up", "wait at least as long as the promise lasts", ("within",)
    yield from _wrong_publication(form)
    most = most_target_channels(form.publication.kind)
    if len(form.channels) > most:
        problem = f"{len(form.channels)} channels are more than the {most} that one {form.publication.kind} goes to"
        yield problem, f"name at most {most}", ("channels",)
    if ALL in form.channels and len(form.channels) > 1:
        yield f"{ALL!r} already stands for every channel", "let it stand alone", ("channels",)
    yield from _wrong_stop(form)


def _wrong_publication(form: ScenarioForm) -> Iterator[tuple[str, str, Loc]]:
    publication = form.publication
    if publication.kind is PublicationKind.ALERT and publication.scheduled_after is not None:
        yield "an alert goes out at once", "remove it, or use another kind", ("publication", "scheduled_after")
    if publication.kind is not PublicationKind.ALERT and publication.priority is not None:
        yield "only an alert has a priority", "remove it", ("publication", "priority")


def _wrong_stop(form: ScenarioForm) -> Iterator[tuple[str, str, Loc]]:
    scheduled = form.publication.scheduled_after
    if form.arrive is Arrive.ALWAYS:
        if form.cancel_after is not None:
            yield "what is cancelled does not arrive", "add arrive: never", ("cancel_after",)
        return
    if form.cancel_after is None:
        yield "nothing stops this publication", "add cancel_after", ("arrive",)
    elif scheduled is None:
        mend = "add publication.scheduled_after, longer than cancel_after"
        yield "what goes out at once cannot be stopped in time", mend, ("cancel_after",)
    elif form.cancel_after >= scheduled:
        yield "comes too late to stop it", "make it shorter than publication.scheduled_after", ("cancel_after",)


def _schedule(form: ScheduleForm | None, located: Located, problems: list[ConfigurationError]) -> Schedule:
    if form is None:
        return Schedule()
    schedule = Schedule(form.every, form.cron, form.time_zone or "UTC")
    wrong = list(_wrong_schedule(form, schedule))
    problems += [located.error(problem, mend, ("schedule", *loc)) for problem, mend, loc in wrong]
    return schedule


def _wrong_schedule(form: ScheduleForm, schedule: Schedule) -> Iterator[tuple[str, str, Loc]]:
    if (form.every is None) == (form.cron is None):
        yield "needs either every or cron", "write one of the two", ()
    elif form.every is not None and form.every < _LEAST_PERIOD:
        yield "is too often", "run it at most once a second", ("every",)
    elif form.every is not None and form.time_zone is not None:
        yield "only cron has a time zone", "remove it", ("time_zone",)
    elif form.cron is not None and not _is_time_zone(schedule.time_zone):
        mend = did_you_mean(schedule.time_zone, sorted(available_timezones()))
        yield f"there is no time zone {schedule.time_zone!r}", mend, ("time_zone",)
    elif form.cron is not None:
        try:
            validate_schedule(schedule)
        except ValueError as error:
            yield str(error), "", ("cron",)


def _is_time_zone(name: str) -> bool:
    try:
        ZoneInfo(name)
    except (KeyError, OSError, ValueError):  # the library lets all three out, depending on the name
        return False
    return True

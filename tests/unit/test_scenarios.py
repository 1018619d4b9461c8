"""Scenario and content files become Scenarios, and a scenario's entries become channels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from prober.channel_choice import resolve_channels
from prober.errors import ConfigurationError
from prober.model import Arrive, Channel, ChannelKind, Content, PublicationKind, Scenario, Schedule
from prober.resources import contents_directory, fixtures_directory, scenarios_directory
from prober.scenario_files import content_schema, load_content, load_scenarios, scenario_schema

GOOD = """\
name: one
description: It arrives.
tags: [smoke]
publication:
  kind: newsletter
  content: letter
  scheduled_after: 10s
channels: [email, slack]
within: 30s
give_up: 2m
schedule:
  cron: "*/5 * * * *"
  time_zone: Europe/Berlin
"""
LETTER = "template: probe-letter\nsubject: A probe\ntext: Nothing to do.\nexpect: [Nothing]\n"
CONTENT = Content("letter", "probe-letter", "A probe", "Nothing to do.", ("Nothing",))


def make_channels(*names: str) -> dict[str, Channel]:
    """Channels of the kind with which their name begins."""
    kinds = {name: ChannelKind(name.split("-")[0]) for name in names}
    return {name: Channel(name, kind, "observer", f"{name}@inbox.example", f"t-{name}") for name, kind in kinds.items()}


def asking(*entries: str, kind: PublicationKind = PublicationKind.MANUAL) -> Scenario:
    return Scenario("one", "It arrives.", kind, entries, 30.0, 120.0, CONTENT, source="one.yaml")


def failure(call: Callable[[], object]) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        call()
    return caught.value


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "contents").mkdir()
    (tmp_path / "contents/letter.yaml").write_text(LETTER, encoding="utf-8")
    (tmp_path / "scenarios").mkdir()
    return tmp_path


def load(folder: Path, text: str = GOOD, file: str = "one.yaml") -> Scenario:
    (folder / "scenarios" / file).write_text(text, encoding="utf-8")
    return load_scenarios(folder / "scenarios", folder / "contents")["one"]


def replaced(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new, 1)


def test_a_scenario_is_read_whole(folder: Path) -> None:
    """Every field of a right file arrives in the Scenario."""
    assert load(folder) == Scenario(
        name="one",
        description="It arrives.",
        kind=PublicationKind.NEWSLETTER,
        channels=("email", "slack"),
        within=30.0,
        give_up=120.0,
        content=CONTENT,
        scheduled_after=10.0,
        schedule=Schedule(None, "*/5 * * * *", "Europe/Berlin"),
        tags=frozenset({"smoke"}),
        source=str(folder / "scenarios/one.yaml"),
    )


def test_a_scenario_without_a_schedule_runs_on_demand(folder: Path) -> None:
    """Tags and schedule may be left out."""
    scenario = load(folder, GOOD.split("schedule:", maxsplit=1)[0].replace("tags: [smoke]\n", ""))
    assert (scenario.schedule, scenario.tags) == (Schedule(), frozenset())


def test_a_scenario_that_must_not_arrive(folder: Path) -> None:
    """``arrive: never`` with a stop that comes in time is read."""
    scenario = load(folder, GOOD + "arrive: never\ncancel_after: 2s\n")
    assert (scenario.arrive, scenario.cancel_after) == (Arrive.NEVER, 2.0)


@dataclass(frozen=True)
class Mistake:
    """One change to the good file, and what must be told about it."""

    old: str
    new: str
    line: int
    field: str
    problem: str
    mend: str = ""


@pytest.mark.parametrize(
    "mistake",
    [
        Mistake("name: one", "name: two", 1, "name", "the file is called 'one'", "same name"),
        Mistake("name: one", "name: Öne", 1, "name", "'Öne' is no name"),
        Mistake("within:", "witin:", 9, "witin", "unknown field", "did you mean 'within'?"),
        Mistake("within: 30s\n", "", 1, "within", "missing"),
        Mistake("within: 30s", "within: 30 seconds", 9, "within", "'30 seconds' is no duration"),
        Mistake("within: 30s", "within: [30s]", 9, "within", "is no duration"),
        Mistake("within: 30s", "within: 0s", 9, "within", "longer than 0s"),
        Mistake("within: 30s", "within: 3m", 9, "within", "longer than give_up"),
        Mistake("within: 30s", "within: on", 9, "within", "'on' is no duration"),
        Mistake("kind: newsletter", "kind: newsleter", 5, "publication.kind", "not one of", "'newsletter'?"),
        Mistake("kind: newsletter", "knid: newsletter", 5, "publication.knid", "unknown field", "'kind'?"),
        Mistake("  kind: newsletter\n", "", 4, "publication.kind", "missing"),
        Mistake("content: letter", "content: leter", 6, "publication.content", "no content 'leter'", "'letter'?"),
        Mistake("content: letter", "content: ../x", 6, "publication.content", "is no name"),
        Mistake("content: letter", "content: letter\n  priority: high", 7, "publication.priority", "only an alert"),
        Mistake("kind: newsletter", "kind: alert", 7, "publication.scheduled_after", "at once"),
        Mistake("10s", "0s", 7, "publication.scheduled_after", "longer than 0s"),
        Mistake("[email, slack]", "[]", 8, "channels", "at least 1 item"),
        Mistake("[email, slack]", "email", 8, "channels", "expected a list, got text"),
        Mistake("[email, slack]", "[email, 7]", 8, "channels[1]", "expected text, got a whole number", "quotes"),
        Mistake("[email, slack]", f"[{', '.join(['email'] * 11)}]", 8, "channels", "more than the 10"),
        Mistake("[email, slack]", "[all, slack]", 8, "channels", "'all' already stands", "alone"),
        Mistake("channels:", "cancel_after: 1s\nchannels:", 8, "cancel_after", "does not arrive", "arrive: never"),
        Mistake("channels:", "arrive: nevr\nchannels:", 8, "arrive", "'nevr' is not one of", "'never'?"),
        Mistake("channels:", "arrive: never\nchannels:", 8, "arrive", "nothing stops", "cancel_after"),
        Mistake("channels:", "arrive: never\ncancel_after: 10s\nchannels:", 9, "cancel_after", "too late", "shorter"),
        Mistake(
            "  scheduled_after: 10s\n",
            "arrive: never\ncancel_after: 1s\n",
            8,
            "cancel_after",
            "cannot be stopped",
            "scheduled_after",
        ),
        Mistake("*/5 * * * *", "*/5 * * *", 12, "schedule.cron", "4 fields"),
        Mistake("*/5 * * * *", "61 * * * *", 12, "schedule.cron", "cron expression"),
        Mistake("Europe/Berlin", "Europe/Berln", 13, "schedule.time_zone", "no time zone", "'Europe/Berlin'?"),
        Mistake("Europe/Berlin", "../../etc/passwd", 13, "schedule.time_zone", "no time zone"),
        Mistake("schedule:\n", "schedule:\n  every: 1m\n", 11, "schedule", "either every or cron"),
        Mistake('  cron: "*/5 * * * *"\n', "", 11, "schedule", "either every or cron"),
        Mistake('cron: "*/5 * * * *"', "every: 1m", 13, "schedule.time_zone", "only cron"),
        Mistake('cron: "*/5 * * * *"\n  time_zone: Europe/Berlin', "every: 200ms", 12, "schedule.every", "too often"),
        Mistake("description: It arrives.", "description: ' '", 2, "description", "blank"),
        Mistake("tags: [smoke]", "tags: [smoke]\ntags: [x]", 4, "tags", "stands here twice"),
    ],
)
def test_a_mistake_is_named_with_its_place(folder: Path, mistake: Mistake) -> None:
    """A wrong value is told with file, line, field, what is wrong and the nearest right name."""
    error = failure(lambda: load(folder, replaced(mistake.old, mistake.new)))
    assert (error.line, error.field) == (mistake.line, mistake.field), error
    assert error.file == str(folder / "scenarios/one.yaml")
    assert mistake.problem in error.problem
    assert mistake.mend in error.mend


def test_an_alert_goes_to_five_channels_at_most(folder: Path) -> None:
    """Six entries are too many for an alert, five are not."""
    text = replaced("newsletter", "alert").replace("  scheduled_after: 10s\n", "  priority: critical\n")
    assert load(folder, text.replace("[email, slack]", "[a, b, c, d, e]")).priority == "critical"
    error = failure(lambda: load(folder, text.replace("[email, slack]", "[a, b, c, d, e, f]")))
    assert "more than the 5" in error.problem


def test_a_wrong_priority_names_the_nearest(folder: Path) -> None:
    """A misspelt priority is told with the right one."""
    text = replaced("newsletter", "alert").replace("  scheduled_after: 10s\n", "  priority: critcal\n")
    assert "did you mean 'critical'?" in failure(lambda: load(folder, text)).mend


def test_other_files_in_the_folder_are_left_alone(folder: Path) -> None:
    """Only YAML files that are not hidden are scenarios, in alphabetical order."""
    for name in ("README.md", ".hidden.yaml", "x.yaml~"):
        (folder / "scenarios" / name).write_text("no scenario", encoding="utf-8")
    for name in ("b", "a"):
        (folder / f"scenarios/{name}.yaml").write_text(GOOD.replace("name: one", f"name: {name}"), encoding="utf-8")
    load(folder)
    assert list(load_scenarios(folder / "scenarios", folder / "contents")) == ["a", "b", "one"]


def test_two_files_never_hold_the_same_scenario(folder: Path) -> None:
    """``one.yaml`` beside ``one.yml`` is an error, not a guess."""
    load(folder)
    assert "one.yaml, too" in failure(lambda: load(folder, file="one.yml")).problem


def test_a_folder_without_scenarios_is_an_error(folder: Path) -> None:
    """An empty or absent folder of scenarios is told."""
    assert "no scenario" in failure(lambda: load_scenarios(folder / "scenarios", folder)).problem
    assert "cannot be read" in failure(lambda: load_scenarios(folder / "absent", folder)).problem


def test_content_mistakes_are_named(folder: Path) -> None:
    """A wrong or absent content is told with its file, or the nearest name."""
    contents = folder / "contents"
    assert load_content("letter", contents) == CONTENT
    assert "did you mean 'letter'?" in failure(lambda: load_content("lettr", contents)).mend
    (contents / "letter.yaml").write_text(LETTER.replace("subject", "subjct"), encoding="utf-8")
    error = failure(lambda: load(folder))
    assert (error.file, error.line, error.field) == (str(contents / "letter.yaml"), 2, "subjct")


def test_the_shipped_scenarios() -> None:
    """The three shipped scenarios ask what the product promises."""
    shipped = load_scenarios(scenarios_directory(), contents_directory())
    assert list(shipped) == ["alert-latency", "newsletter-delivery", "publication-fanout"]
    alert, newsletter, fanout = shipped.values()
    assert (alert.kind, alert.priority, alert.within, alert.give_up) == ("alert", "critical", 30.0, 120.0)
    assert alert.channels == ("email", "slack", "discord")
    assert alert.tags == {"smoke"}
    assert alert.schedule == Schedule(every=60.0)
    assert (newsletter.kind, newsletter.scheduled_after) == ("newsletter", 5.0)
    assert (newsletter.within, newsletter.give_up) == (120.0, 600.0)
    assert newsletter.channels == ("email", "email")
    assert newsletter.schedule == Schedule(every=300.0)
    assert (fanout.kind, fanout.channels, fanout.give_up) == ("manual", ("all",), 600.0)


def test_the_shipped_contents_are_harmless_and_unmistakable() -> None:
    """Each shipped content says what it is, holds what it expects, and has a template of its own."""
    contents = [load_content(path.stem, contents_directory()) for path in sorted(contents_directory().glob("*.yaml"))]
    assert [content.name for content in contents] == ["alert", "newsletter", "publication"]
    assert len({content.template for content in contents}) == 3
    for content in contents:
        assert "This is a delivery probe. No action is needed." in content.text
        assert all(expected in content.text for expected in content.expect)
        assert content.expect
        assert len(content.text) > 300
        assert "http" not in content.text


def test_resources_lie_in_the_package_or_beside_it() -> None:
    """Scenarios and fixtures are found in a checkout as in a wheel."""
    assert (scenarios_directory() / "alert-latency.yaml").is_file()
    assert contents_directory() == fixtures_directory() / "content"


@pytest.mark.parametrize(
    ("entries", "chosen"),
    [
        (("email", "slack", "discord"), ["email", "slack-a", "discord-a"]),
        (("email", "email"), ["email", "email-2"]),
        (("slack", "slack"), ["slack-a", "slack-b"]),
        (("slack", "slack-a"), ["slack-b", "slack-a"]),
        (("email-2", "email"), ["email-2", "email"]),
        (("email-2", "email", "email"), ["email-2", "email", "email-3"]),
        (("all",), ["email", "slack-a", "email-2", "slack-b", "discord-a", "email-3"]),
    ],
)
def test_entries_stand_for_channels(entries: tuple[str, ...], chosen: list[str]) -> None:
    """A name is that channel, a kind or a repeated name the next channel of the kind that nobody names."""
    channels = make_channels("email", "slack-a", "email-2", "slack-b", "discord-a", "email-3")
    assert [channel.name for channel in resolve_channels(asking(*entries), channels)] == chosen


@pytest.mark.parametrize(
    ("entries", "problem", "mend"),
    [
        (("slcak",), "no channel is named 'slcak'", "did you mean 'slack'?"),
        (("email-inbx",), "no channel is named 'email-inbx'", "did you mean 'email-inbox'?"),
        (("discord",), "'discord' asks for one more discord channel than the 0 configured", "configure"),
        (("email", "email"), "'email' asks for one more email channel than the 1 configured", "configure"),
        (("email-inbox", "email-inbox"), "'email-inbox' is named twice", "once"),
    ],
)
def test_an_entry_that_stands_for_nothing_is_named(entries: tuple[str, ...], problem: str, mend: str) -> None:
    """An entry without a channel is told with the entry, the scenario and the nearest name."""
    error = failure(lambda: resolve_channels(asking(*entries), make_channels("email-inbox", "slack")))
    assert problem in error.problem
    assert "scenario 'one'" in error.problem
    assert mend in error.mend
    assert (error.file, error.field) == ("one.yaml", "channels")


def test_all_needs_a_channel_and_respects_the_targets_limit() -> None:
    """``all`` of nothing is an error; the limit counts target channels, which may feed several channels."""
    assert "no channel is configured" in failure(lambda: resolve_channels(asking("all"), {})).problem
    many = make_channels(*(f"email-{n}" for n in range(6)))
    alert = asking("all", kind=PublicationKind.ALERT)
    assert "at most 5 target channels, not 6" in failure(lambda: resolve_channels(alert, many)).problem
    shared = {name: replace(channel, target_channel="t") for name, channel in many.items()}
    assert len(resolve_channels(alert, shared)) == 6


@given(st.lists(st.sampled_from(["email", "email-2", "slack", "slack-2", "discord"]), min_size=1, max_size=6))
def test_a_channel_is_chosen_once(entries: list[str]) -> None:
    """Whatever the entries, there are as many different channels as entries, or an error."""
    channels = make_channels("email", "slack", "email-2", "email-3", "discord")
    try:
        chosen = resolve_channels(asking(*entries), channels)
    except ConfigurationError:
        return
    assert len({channel.name for channel in chosen}) == len(entries)
    assert all(channel.kind == entry.split("-")[0] for channel, entry in zip(chosen, entries, strict=True))


def test_the_schemas_describe_the_shipped_files() -> None:
    """The JSON schemas are right ones and accept every shipped file."""
    shipped = ((scenario_schema(), scenarios_directory()), (content_schema(), contents_directory()))
    for schema, directory in shipped:
        Draft202012Validator.check_schema(schema)
        for path in directory.glob("*.yaml"):
            value = yaml.safe_load(path.read_text(encoding="utf-8"))
            assert list(Draft202012Validator(schema).iter_errors(value)) == [], path


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("within: 30s", "within: 30 seconds"),
        ("within: 30s", "within: -1"),
        ("within: 30s\n", ""),
        ("within:", "witin:"),
        ("kind: newsletter", "kind: newsleter"),
        ("[email, slack]", "[]"),
        ("name: one", "name: One"),
        ("description: It arrives.", "description: ' '"),
    ],
)
def test_the_schema_refuses_what_the_loader_refuses(folder: Path, old: str, new: str) -> None:
    """What a single field can show to be wrong is wrong by the schema, too."""
    text = replaced(old, new)
    assert Draft202012Validator(scenario_schema()).is_valid(yaml.safe_load(GOOD))
    assert not Draft202012Validator(scenario_schema()).is_valid(yaml.safe_load(text))
    assert failure(lambda: load(folder, text))

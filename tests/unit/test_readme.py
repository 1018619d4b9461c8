"""The README tells the truth: its YAML is read, its commands exist, its links lead somewhere."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from typer.testing import CliRunner

from prober.assembly import OBSERVERS, drafting
from prober.channel_choice import resolve_channels
from prober.cli.app import app
from prober.config import load_settings, settings_from_mapping, validate_adapter
from prober.model import Outcome, Timeliness
from prober.objectives import DEFAULT_OBJECTIVES, Indicator
from prober.observers.discord import DiscordSettings
from prober.observers.imap import ImapSettings
from prober.observers.s3 import S3Settings
from prober.observers.slack import SlackSettings
from prober.report.values import EXIT_CODES
from prober.resources import contents_directory, scenarios_directory
from prober.sandbox.weather import load_weather, parse_weather, weather_names
from prober.scenario_files import ContentForm, PublicationForm, ScenarioForm, load_scenarios
from prober.serve_form import serve_of
from prober.targets.http_form import read_settings
from prober.targets.template import ALWAYS, OF_ID, OF_PUBLICATION, OF_RECIPIENT
from prober.traces_form import traces_of

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CHANGELOG.md", ROOT / "scenarios/README.md"]
README = PAGES[0].read_text(encoding="utf-8")
BLOCKS = {
    "configuration": r"environment:",
    "serve": "# a part of prober.yaml: serve",
    "traces": "# a part of prober.yaml: traces",
    "observer": r"# another observer:",
    "mailbox": r"# another mailbox:",
    "target": r"# another target:",
    "objectives": r"# objectives:",
    "weather": r"# weather:",
    "scenario": r"# scenario:",
}
ENVIRON = {
    name: f"a secret of the test, {name}"
    for name in (
        "PROBER_KEY",
        "PROBER_MAILBOX_PASSWORD",
        "PROBER_MAILBOX_CLIENT_SECRET",
        "PROBER_SLACK_BOT_TOKEN",
        "PROBER_SLACK_APP_TOKEN",
        "PROBER_DISCORD_TOKEN",
    )
}
SETTINGS: dict[str, Any] = {"imap": ImapSettings, "s3": S3Settings, "slack": SlackSettings, "discord": DiscordSettings}


def yaml_blocks(text: str = README) -> list[str]:
    return re.findall(r"^```yaml\n(.*?)^```", text, re.DOTALL | re.MULTILINE)


def block(name: str) -> str:
    (found,) = [text for text in yaml_blocks() if re.match(BLOCKS[name], text)]
    return found


def commands() -> dict[str, set[str]]:
    """The commands that there are, with their options."""
    group = typer.main.get_command(app)
    found = group.commands  # type: ignore[attr-defined]
    return {name: {opt for param in one.params for opt in param.opts} for name, one in found.items()}


def test_every_yaml_is_known_to_a_test() -> None:
    """No YAML stands in the README that nobody reads here."""
    assert sorted(name for text in yaml_blocks() for name, start in BLOCKS.items() if re.match(start, text)) == sorted(
        BLOCKS
    )
    assert len(yaml_blocks()) == len(BLOCKS)


def test_the_configuration_is_a_configuration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The example is read whole, by every adapter too, and serves every shipped scenario that it has channels for."""
    for name, value in ENVIRON.items():
        monkeypatch.setenv(name, value)
    (tmp_path / "secrets").mkdir()
    (tmp_path / "secrets/publishing-token").write_text("a token of the test\n", encoding="utf-8")
    (tmp_path / "prober.yaml").write_text(block("configuration"), encoding="utf-8")
    settings = load_settings(tmp_path / "prober.yaml")
    other = yaml.safe_load(block("observer"))
    assert {raw["adapter"] for raw in settings.observers.values()} | {other["adapter"]} == set(OBSERVERS)
    for raw in (*settings.observers.values(), other, yaml.safe_load(block("mailbox"))):
        validate_adapter(SETTINGS[raw["adapter"]], raw)
    scenarios = load_scenarios(scenarios_directory(), contents_directory())
    assert drafting(settings).templates.keys() <= {scenario.content.template for scenario in scenarios.values()}
    for name in ("alert-latency", "publication-fanout"):
        assert len(resolve_channels(scenarios[name], settings.channels)) == 3


def test_the_services_part_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    """What only serve needs is read as it is written there."""
    monkeypatch.setenv("PROBER_SERVE_TOKEN", "a token of the test")
    monkeypatch.setenv("PROBER_HEARTBEAT_URL", "http://127.0.0.1/beat")
    serve = serve_of(yaml.safe_load(block("serve")))
    assert (serve.heartbeat_every, serve.drain) == (60.0, 30.0)
    assert serve.textfile == "/var/lib/node_exporter/prober.prom"


def test_the_part_about_traces_is_one() -> None:
    """What says where traces go is read as it is written there."""
    to = traces_of(yaml.safe_load(block("traces")), {"COLLECTOR_TOKEN": "a secret of the test"})
    assert to is not None
    assert (to.url, to.timeout, [*to.headers]) == ("http://127.0.0.1:4318/v1/traces", 10.0, ["x-tenant"])


def test_the_objectives_are_those_that_hold_without_any() -> None:
    """The example of objectives is what applies where none is written, and the table has every indicator."""
    head = {"environment": "lab", "keys": [{"id": "a", "secret": "s" * 16}]}
    assert settings_from_mapping(head | yaml.safe_load(block("objectives")), "README").objectives == DEFAULT_OBJECTIVES
    assert set(re.findall(r"^\| `(\w+)` \| .* \| .* \|$", README, re.MULTILINE)) >= set(Indicator)


def test_the_described_target_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """The example of a described API is one, and the table has every placeholder."""
    monkeypatch.setenv("PROBER_CLIENT", "a client of the test")
    settings = read_settings(yaml.safe_load(block("target")))
    assert settings.steps.cancel is not None
    rows = re.findall(r"^\| (every request|every step|`send`.*?|`cancel`.*?) \| (.*) \|$", README, re.MULTILINE)
    listed = [set(re.findall(r"`([\w.]+)`", names)) for _, names in rows]
    assert listed == [{*ALWAYS, "values.NAME"}, {*OF_PUBLICATION}, {*OF_RECIPIENT, *OF_ID}, {*OF_ID}]


def test_the_configuration_shows_no_secret() -> None:
    """Every secret of the example is a reference."""
    text = block("configuration") + block("mailbox")
    assert set(re.findall(r"\$\{env:(\w+)\}", text)) == set(ENVIRON)
    for line in text.splitlines():
        if re.search(r"\b(secret|token|password|bot_token|app_token|client_secret): ", line):
            assert "${" in line


def test_the_weather_is_a_weather() -> None:
    """The example of a weather is read."""
    assert parse_weather(block("weather")).channels["slack"].loss == 0.3


def test_the_scenario_is_the_shipped_one() -> None:
    """The example of a scenario is the one that the first command runs."""
    shipped = (scenarios_directory() / "alert-latency.yaml").read_text(encoding="utf-8")
    assert yaml.safe_load(block("scenario")) == yaml.safe_load(shipped)


def test_the_scenarios_of_their_page_are_scenarios(tmp_path: Path) -> None:
    """Each example of scenarios/README.md is read as it stands, and the page explains every field."""
    page = PAGES[2].read_text(encoding="utf-8")
    for text in yaml_blocks(page):
        (tmp_path / f"{yaml.safe_load(text)['name']}.yaml").write_text(text, encoding="utf-8")
    assert set(load_scenarios(tmp_path, contents_directory())) == {"alert-latency", "cancelled-newsletter"}
    publication = {f"publication.{name}" for name in PublicationForm.model_fields}
    for field in (ScenarioForm.model_fields.keys() - {"publication"}) | publication | ContentForm.model_fields.keys():
        assert re.search(rf"^\|.*`{re.escape(field)}`", page, re.MULTILINE), field


def test_every_weather_is_listed() -> None:
    """The table of weathers has each shipped one and no other, and each begins with its command."""
    assert sorted(re.findall(r"\(fixtures/weather/(.+?)\.yaml\)", README)) == sorted(weather_names())
    for name in weather_names():
        first = (ROOT / f"fixtures/weather/{name}.yaml").read_text(encoding="utf-8").splitlines()[0]
        assert f"--weather {name}" in first
        check_command(first.removeprefix("# "))
        assert load_weather(name).description


def check_command(line: str) -> None:
    """The command exists, it has these options, and the scenarios that it runs are there."""
    known = commands()
    words = shlex.split(line)
    name, rest = words[1], words[2:]
    assert name in known, line
    for word in rest:
        assert not word.startswith("--") or word in known[name] | {"--help"}, line
    if name == "run" and rest and not rest[0].startswith("-") and rest[0].islower():
        folder = ROOT / rest[rest.index("--scenarios") + 1] if "--scenarios" in rest else scenarios_directory()
        assert rest[0] in load_scenarios(folder, contents_directory()), line


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_command_that_is_named_exists(page: Path) -> None:
    """Wherever a page writes a prober command, that command exists and has those options."""
    text = page.read_text(encoding="utf-8")
    blocks = re.findall(r"^\$ (prober .+)$", text, re.MULTILINE)
    inline = [found for found in re.findall(r"`(prober [^`]+)`", text) if "[" not in found]
    assert blocks or inline
    for line in [*blocks, *inline]:
        if line.split()[1] in {"--version", "--help"}:
            continue
        check_command(line)


def test_every_option_that_is_named_exists() -> None:
    """An option in the text is an option of some command."""
    known = {option for options in commands().values() for option in options} | {"--version", "--help"}
    assert set(re.findall(r"(?<![\w-])(--[a-z][a-z-]+)", README)) <= known


def test_every_command_is_named() -> None:
    """The table of commands has each one that there is."""
    assert set(re.findall(r"^\| `prober (\w+)", README, re.MULTILINE)) == set(commands())


@pytest.mark.parametrize("arguments", [(), *((name,) for name in commands())], ids=" ".join)
def test_help_reads_like_a_page_at_80_columns(arguments: tuple[str, ...]) -> None:
    """Each --help exits with 0, fits 80 columns, and shows its examples as they are written."""
    result = CliRunner().invoke(app, [*arguments, "--help"], terminal_width=80, env={"COLUMNS": "80"})
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert max(map(len, lines)) <= 80
    assert "\b" not in result.output
    assert any(re.match(r"    prober \w+", line) for line in lines)


def test_every_link_leads_to_a_file() -> None:
    """Each relative link of each page leads to a file of this repository."""
    for page in PAGES:
        for link in re.findall(r"\]\(([^)#]+)\)", page.read_text(encoding="utf-8")):
            assert link.startswith("https://") or (page.parent / link).is_file(), f"{page.name}: {link}"


def test_every_verdict_and_exit_code_is_explained() -> None:
    """The tables of verdicts and exit codes are those of the code."""
    for verdict in (*Timeliness, *Outcome):
        assert re.search(rf"^\|.*`{verdict}`", README, re.MULTILINE)
    for result, code in EXIT_CODES.items():
        assert f"| {code} {result} |" in README


def test_the_first_screen_has_one_command_and_its_output() -> None:
    """After one sentence comes one command, and its output ends with a pass."""
    first = README.split("```")[1]
    assert first.startswith("console\n$ python3 -m venv .venv && ")
    assert first.rstrip().endswith("PASS  3 of 3 deliveries on time")
    assert first.count("$ ") == 1
    assert max(map(len, first.splitlines()[2:])) <= 80

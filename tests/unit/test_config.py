"""prober.yaml and the environment become Settings, and every mistake is named with its place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import pytest
import yaml
from jsonschema import Draft202012Validator
from pydantic import BaseModel, ConfigDict, SecretStr

from prober.config import (
    Settings,
    configuration_schema,
    default_ledger_path,
    find_configuration,
    load_settings,
    searched_paths,
    settings_from_mapping,
    validate_adapter,
)
from prober.errors import ConfigurationError
from prober.launching import Budget
from prober.model import Channel, ChannelKind
from prober.objectives import Indicator, Objective

CANARY = "canary-5f0c2b9e7d"
TARGET_CHANNEL = "0b7f3f5e-2a54-4c0e-9d3c-0a4b7f1d2c11"
GOOD = f"""\
environment: staging
location: eu-west-1
keys:
  - id: a
    secret: ${{env:PROBER_KEY}}
target:
  adapter: publishing_module
  url: https://publishing.example/v1
  token: ${{env:PROBER_TOKEN}}
  channels: [{TARGET_CHANNEL}]
observers:
  mailbox:
    adapter: imap
    host: imap.example
    password: ${{file:mailbox-password}}
  chat:
    adapter: discord
    token: ${{env:PROBER_TOKEN}}
channels:
  email:
    observer: mailbox
    kind: email
    address: probe@inbox.example
    target_channel: {TARGET_CHANNEL}
    senders: ["@publishing.example"]
  discord:
    observer: chat
    kind: discord
    address: 1234567890123456789
objectives:
  in-time: {{indicator: timeliness, goal: 95%, channels: [email]}}
limits:
  in_flight: 50
"""
ENVIRON = {"PROBER_KEY": f"{CANARY}-signing-key", "PROBER_TOKEN": f"{CANARY}-token"}


@dataclass(frozen=True)
class Mistake:
    """One change to the good file, and what must be told about it."""

    old: str
    new: str
    line: int
    field: str
    problem: str
    mend: str


class MailSettings(BaseModel):
    """Stands for an adapter's own settings."""

    model_config = ConfigDict(extra="forbid")

    host: str
    password: SecretStr
    port: int = 993
    tls: Literal["tls", "starttls", "none"] = "tls"
    token_file: Path | None = None


def write(folder: Path, text: str) -> Path:
    path = folder / "prober.yaml"
    path.write_text(text, encoding="utf-8")
    return path


def load(folder: Path, text: str = GOOD) -> Settings:
    (folder / "mailbox-password").write_text(f"{CANARY}-password\n", encoding="utf-8")
    return load_settings(write(folder, text), ENVIRON)


def failure(call: Callable[[], object]) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        call()
    return caught.value


def replaced(old: str, new: str) -> str:
    assert old in GOOD
    return GOOD.replace(old, new, 1)


def test_a_whole_configuration_is_read(tmp_path: Path) -> None:
    """Every part of a right file arrives in the Settings."""
    settings = load(tmp_path)
    assert (settings.environment, settings.location) == ("staging", "eu-west-1")
    assert [(key.id, key.secret.get_secret_value()) for key in settings.keys] == [("a", f"{CANARY}-signing-key")]
    assert settings.target is not None
    assert settings.target["url"] == "https://publishing.example/v1"
    assert list(settings.observers) == ["mailbox", "chat"]
    assert settings.channels == {
        "email": Channel(
            "email", ChannelKind.EMAIL, "mailbox", "probe@inbox.example", TARGET_CHANNEL, ("@publishing.example",)
        ),
        "discord": Channel("discord", ChannelKind.DISCORD, "chat", "1234567890123456789"),
    }
    assert settings.objectives == (Objective("in-time", Indicator.TIMELINESS, 0.95, channels=frozenset({"email"})),)
    assert settings.limits.limits.total == Budget(in_flight=50)
    assert settings.ledger == ""
    assert settings.source == str(tmp_path / "prober.yaml")


def test_the_least_configuration_is_environment_and_keys() -> None:
    """Everything but the environment and its keys may be left out."""
    settings = settings_from_mapping({"environment": "lab", "keys": [{"id": "a", "secret": "s" * 16}]}, "made")
    assert (settings.location, settings.target, settings.observers, settings.channels) == ("local", None, {}, {})


@pytest.mark.parametrize(
    "mistake",
    [
        Mistake("environment:", "enviroment:", 1, "enviroment", "unknown field", "did you mean 'environment'?"),
        Mistake("location: eu-west-1", "location: EU", 2, "location", "'EU' is no name", ""),
        Mistake("location: eu-west-1", "location: 7", 2, "location", "expected text, got a whole number", "quotes"),
        Mistake("    secret: ${env:PROBER_KEY}\n", "", 4, "keys[0].secret", "missing", ""),
        Mistake("secret: ${env:PROBER_KEY}", "secret: short", 5, "keys[0].secret", "shorter than 16", "random"),
        Mistake("  - id: a", "  - id: ab", 4, "keys[0].id", "one character", ""),
        Mistake(
            "publishing_module", "publishing", 7, "target.adapter", "not one of", "did you mean 'publishing_module'?"
        ),
        Mistake(
            "adapter: imap", "adapter: imapp", 13, "observers.mailbox.adapter", "not one of", "did you mean 'imap'?"
        ),
        Mistake("  mailbox:\n", "  Mailbox:\n", 12, "observers.Mailbox", "'Mailbox' is no name", ""),
        Mistake("observer: mailbox", "observer: mailbax", 21, "channels.email.observer", "no observer", "'mailbox'?"),
        Mistake(
            "kind: email", "kind: emial", 22, "channels.email.kind", "'emial' is not one of", "did you mean 'email'?"
        ),
        Mistake("kind: email", "kind: slack", 22, "channels.email.kind", "reads email channels", "kind: email"),
        Mistake("probe@inbox.example", "probe", 23, "channels.email.address", "no e-mail address", "name@domain"),
        Mistake(
            f"target_channel: {TARGET_CHANNEL}",
            "target_channel: other",
            24,
            "channels.email.target_channel",
            "not in",
            "",
        ),
        Mistake('["@publishing.example"]', "all", 25, "channels.email.senders", "expected a list, got text", ""),
        Mistake("senders:", "sender:", 25, "channels.email.sender", "unknown field", "did you mean 'senders'?"),
        Mistake(
            "  in-time: {indicator: timeliness, goal: 95%, channels: [email]}",
            "  - a",
            30,
            "objectives",
            "expected fields, got a list",
            "",
        ),
        Mistake("  in_flight: 50", "  50", 32, "limits", "expected fields, got a whole number", ""),
    ],
)
def test_a_mistake_is_named_with_its_place(tmp_path: Path, mistake: Mistake) -> None:
    """A wrong value is told with file, line, field, what is wrong and the nearest right name."""
    error = failure(lambda: load(tmp_path, replaced(mistake.old, mistake.new)))
    assert (error.file, error.line, error.field) == (str(tmp_path / "prober.yaml"), mistake.line, mistake.field), error
    assert mistake.problem in error.problem
    assert mistake.mend in error.mend


def test_all_problems_of_a_file_are_counted(tmp_path: Path) -> None:
    """The first problem of a file is told, and how many others there are."""
    text = replaced("location: eu-west-1", "location: EU").replace("kind: email", "kind: emial")
    error = failure(lambda: load(tmp_path, text))
    assert error.line == 2
    assert "1 more problem in this file" in error.mend


def test_a_misspelt_field_is_one_problem(tmp_path: Path) -> None:
    """A misspelt required field is told once, as unknown and not also as missing."""
    assert "more problem" not in failure(lambda: load(tmp_path, replaced("environment:", "enviroment:"))).mend


def test_two_channels_never_share_an_address(tmp_path: Path) -> None:
    """A second channel with the same address is refused, whatever its letters' case."""
    more = "  email-2: {observer: mailbox, kind: email, address: Probe@Inbox.example}\nobjectives:"
    error = failure(lambda: load(tmp_path, replaced("objectives:", more)))
    assert error.field == "channels.email-2.address"
    assert "'email' has the same address" in error.problem


def test_two_keys_never_share_an_id() -> None:
    """Two signing keys need two ids; a third key is refused."""
    keys = [{"id": "a", "secret": "s" * 16}] * 2
    assert failure(lambda: settings_from_mapping({"environment": "x", "keys": keys}, "made")).field == "keys[1].id"
    three = [{"id": key, "secret": "s" * 16} for key in "abc"]
    assert "at most 2" in failure(lambda: settings_from_mapping({"environment": "x", "keys": three}, "made")).problem


def test_an_allow_list_may_hold_references(tmp_path: Path) -> None:
    """The allow-list of target channels is compared as what its references stand for, in any case."""
    text = replaced(f"channels: [{TARGET_CHANNEL}]", "channels: ['${env:ALLOWED}']")
    (tmp_path / "mailbox-password").write_text("x", encoding="utf-8")
    settings = load_settings(write(tmp_path, text), {**ENVIRON, "ALLOWED": TARGET_CHANNEL.upper()})
    assert settings.channels["email"].target_channel == TARGET_CHANNEL
    error = failure(lambda: load_settings(tmp_path / "prober.yaml", {**ENVIRON, "ALLOWED": CANARY}))
    assert error.field == "channels.email.target_channel"
    assert CANARY not in str(error)


def test_a_ledger_path_begins_at_the_file(tmp_path: Path) -> None:
    """A relative ledger path is relative to the configuration file, a URL is left as it is."""
    assert load(tmp_path, GOOD + "ledger: state/l.sqlite\n").ledger == str(tmp_path / "state/l.sqlite")
    assert load(tmp_path, GOOD + "ledger: postgresql://u@h/d\n").ledger == "postgresql://u@h/d"


def test_adapter_settings_are_resolved_and_validated(tmp_path: Path) -> None:
    """An adapter's model gets its settings without ``adapter``, with every reference followed."""
    settings = validate_adapter(MailSettings, load(tmp_path).observers["mailbox"], "observers.mailbox", environ=ENVIRON)
    assert settings.host == "imap.example"
    assert settings.password.get_secret_value() == f"{CANARY}-password"


@pytest.mark.parametrize(
    ("line", "field", "problem", "mend"),
    [
        ("hots: x", "hots", "unknown field", "did you mean 'host'?"),
        ("port: many", "port", "expected a whole number, got text", ""),
        ("tls: tsl", "tls", "'tsl' is not one of tls, starttls, none", "did you mean 'tls'?"),
        ("token_file: 7", "token_file", "expected a path", ""),
    ],
)
def test_an_adapter_mistake_is_named_with_its_place(
    tmp_path: Path, line: str, field: str, problem: str, mend: str
) -> None:
    """A mistake in an adapter's part is told with file, line and field, though its model knows nothing of files."""
    raw = load(tmp_path, replaced("    host: imap.example\n", f"    host: imap.example\n    {line}\n")).observers
    error = failure(lambda: validate_adapter(MailSettings, raw["mailbox"], "observers.mailbox", environ=ENVIRON))
    assert (error.line, error.field) == (15, f"observers.mailbox.{field}")
    assert problem in error.problem
    assert mend in error.mend


def test_a_plain_mapping_is_validated_where_it_is_said_to_be() -> None:
    """Settings that never were in a file are named by the place the caller gives."""
    error = failure(lambda: validate_adapter(MailSettings, {"host": "x"}, "observers.made"))
    assert (error.field, error.line) == ("observers.made.password", None)


def test_find_configuration_in_the_order_of_precedence(tmp_path: Path) -> None:
    """``--config`` beats PROBER_CONFIG beats ./prober.yaml beats the user's own."""
    home, cwd = tmp_path / "home", tmp_path / "cwd"
    environ = {"HOME": str(home)}
    own = home / ".config/prober/prober.yaml"
    paths = [tmp_path / "explicit.yaml", tmp_path / "variable.yaml", cwd / "prober.yaml", own]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    named = {**environ, "PROBER_CONFIG": str(paths[1])}
    assert find_configuration(str(paths[0]), named, cwd) == paths[0]
    assert find_configuration(None, named, cwd) == paths[1]
    assert find_configuration(None, environ, cwd) == paths[2]
    paths[2].unlink()
    assert find_configuration(None, environ, cwd) == paths[3]
    assert searched_paths(None, environ, cwd) == (paths[2], paths[3])
    paths[3].unlink()
    assert find_configuration(None, environ, cwd) is None


@pytest.mark.parametrize(
    ("explicit", "field"), [("absent.yaml", "--config"), (None, "PROBER_CONFIG"), (".", "--config")]
)
def test_a_named_configuration_must_exist(tmp_path: Path, explicit: str | None, field: str) -> None:
    """A file that is named and is not there is an error, not a reason to look elsewhere."""
    (tmp_path / "prober.yaml").touch()
    error = failure(lambda: find_configuration(explicit, {"PROBER_CONFIG": "absent.yaml"}, tmp_path))
    assert error.field == field


def test_xdg_directories(tmp_path: Path) -> None:
    """The XDG variables move configuration and ledger; relative ones are ignored."""
    environ = {"HOME": "/home/ada", "XDG_CONFIG_HOME": "/etc/xdg-a", "XDG_STATE_HOME": "/var/xdg-b"}
    assert searched_paths(None, environ, tmp_path)[1] == Path("/etc/xdg-a/prober/prober.yaml")
    assert default_ledger_path(environ) == Path("/var/xdg-b/prober/ledger.sqlite")
    relative = {"HOME": "/home/ada", "XDG_STATE_HOME": "x"}
    assert default_ledger_path(relative) == Path("/home/ada/.local/state/prober/ledger.sqlite")


def test_an_unreadable_file_is_told(tmp_path: Path) -> None:
    """A folder or an absent file in the place of the configuration is a ConfigurationError."""
    assert "is a directory" in failure(lambda: load_settings(tmp_path, {})).problem
    assert "no such file" in failure(lambda: load_settings(tmp_path / "x.yaml", {})).problem


def test_the_schema_accepts_what_is_accepted() -> None:
    """The JSON schema is a right one, accepts the whole example and refuses what the loader refuses."""
    schema = configuration_schema()
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    assert list(validator.iter_errors(yaml.safe_load(GOOD))) == []
    for old, new in (
        ("environment:", "enviroment:"),
        ("kind: email", "kind: emial"),
        ("  - id: a", "  - id: ab"),
        ("adapter: imap", "adapter: imapp"),
        ("  mailbox:\n", "  Mailbox:\n"),
        ("senders:", "sender:"),
    ):
        assert not validator.is_valid(yaml.safe_load(replaced(old, new))), new

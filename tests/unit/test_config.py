"""prober.yaml and the environment become Settings, and every mistake is named with its place."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator
from pydantic import BaseModel, ConfigDict, SecretStr, field_validator, model_validator

from prober.config import (
    Settings,
    configuration_schema,
    default_ledger_path,
    dump_configuration,
    find_configuration,
    load_settings,
    searched_paths,
    settings_from_mapping,
    validate_adapter,
)
from prober.errors import ConfigurationError
from prober.model import Channel, ChannelKind
from prober.yaml_source import parse_located

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
  timeliness: {{ratio: 0.95}}
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

    @field_validator("host", "password")
    @classmethod
    def _quotes_what_it_got(cls, value: Any) -> Any:
        shown = value.get_secret_value() if isinstance(value, SecretStr) else value
        if "bad" in shown:
            raise ValueError(f"{shown!r} is bad")
        return value

    @model_validator(mode="before")
    @classmethod
    def _quotes_all(cls, values: Any) -> Any:
        if values.get("port") == 1:
            raise ValueError(f"port 1 is not for {values}")
        return values


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
    assert settings.objectives == {"timeliness": {"ratio": 0.95}}
    assert settings.limits == {"in_flight": 50}
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
        Mistake("  timeliness: {ratio: 0.95}", "  - a", 30, "objectives", "expected fields, got a list", ""),
        Mistake("  in_flight: 50", "  50", 32, "limits", "expected fields, got a whole number", ""),
    ],
)
def test_a_mistake_is_named_with_its_place(tmp_path: Path, mistake: Mistake) -> None:
    """A wrong value is told with file, line, field, what is wrong and the nearest right name."""
    error = failure(lambda: load(tmp_path, replaced(mistake.old, mistake.new)))
    assert (error.file, error.line, error.field) == (str(tmp_path / "prober.yaml"), mistake.line, mistake.field), error
    assert mistake.problem in error.problem
    assert mistake.mend in error.mend


@pytest.mark.parametrize(
    ("content", "line", "problem"),
    [
        (b"", 1, "the file is empty"),
        (b"# nothing\n", 1, "the file is empty"),
        (b"---\n...\n", 1, "the file is empty"),
        (b"- a\n- b\n", 1, "expected fields, got a list"),
        (b"word\n", 1, "expected fields, got text"),
        (b"a: 1\nb: [1, 2\n", 3, "is no YAML"),
        (b"a: 1\n\tb: 2\n", 2, "is no YAML"),
        (b"a: b: c\n", 1, "is no YAML"),
        (b"a: 1\nb: 2\na: 3\n", 3, "stands here twice, first on line 1"),
        (b"a: {b: 1, b: 2}\n", 1, "stands here twice"),
        (b"a: 1\nb: \xff\xfe\n", 2, "is not UTF-8 text"),
        (b"a: 1\nb: \x07\n", 2, "holds a control character"),
        (b"a: 1\n2: b\n", 2, "a field's name must be text"),
        (b"a: !!python/object:os.system x\n", 1, "tag"),
        (b"a: 1\n---\nb: 1\n", 2, "is no YAML"),
        (b"a: &x [*x]\n", 1, "too large or nested too deeply"),
        (b"a: " + b"[" * 5000, None, "nested too deeply"),
        (b"a: " + b"x" * 1_000_000, None, "is larger than"),
    ],
)
def test_a_file_that_is_no_mapping_is_told_so(tmp_path: Path, content: bytes, line: int | None, problem: str) -> None:
    """Whatever is wrong with the text of a file is a ConfigurationError with the line, never another error."""
    path = tmp_path / "prober.yaml"
    path.write_bytes(content)
    error = failure(lambda: load_settings(path, {}))
    assert problem in error.problem, error
    assert (error.file, error.line) == (str(path), line)


def test_aliases_that_explode_are_refused(tmp_path: Path) -> None:
    """A short file whose aliases stand for millions of values is refused at once."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 9)}]" for n in range(1, 12)]
    assert "too large" in failure(lambda: load_settings(write(tmp_path, "\n".join(lines)), {})).problem


def test_merged_fields_keep_the_own_ones() -> None:
    """``<<`` fills in fields, never replaces one that is written."""
    located = parse_located("base: &b {x: 1, y: 2}\nother:\n  <<: *b\n  y: 3\n", "text")
    assert located["other"] == {"x": 1, "y": 3}
    assert located.line(("other", "y")) == 4


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


def test_references_inside_texts_and_plain_dollars(tmp_path: Path) -> None:
    """A reference may be a part of a text, and ``$${`` is a plain ``${``."""
    (tmp_path / "name").write_text("box\n", encoding="utf-8")
    raw = parse_located("host: ${file:name}.${env:ZONE}\npassword: a$${env:X}b", "text", tmp_path)
    settings = validate_adapter(MailSettings, raw, environ={"ZONE": "example"})
    assert (settings.host, settings.password.get_secret_value()) == ("box.example", "a${env:X}b")


def test_a_field_for_a_path_keeps_the_path(tmp_path: Path) -> None:
    """``${file:…}`` in a field that wants a file gives the path, not what the file holds."""
    raw = parse_located("host: h\npassword: p\ntoken_file: ${file:token}", "text", tmp_path)
    assert validate_adapter(MailSettings, raw, environ={}).token_file == tmp_path / "token"


@pytest.mark.parametrize(
    ("reference", "problem", "mend"),
    [
        ("${env:ABSENT}", "the environment variable ABSENT is not set", "set ABSENT"),
        ("${env:EMPTY}", "the environment variable EMPTY is empty", "set EMPTY"),
        ("${file:absent}", "absent cannot be read", "check the path"),
        ("${file:empty}", "empty is empty", "write the secret"),
        ("${file:binary}", "binary is not UTF-8", "as text"),
        ("${file:.}", "cannot be read: is a directory", "check the path"),
        ("${evn:NAME}", "no reference begins with 'evn:'", "did you mean 'env'?"),
        ("${NAME}", "a reference without a source", "${env:NAME}"),
        ("${env:}", "names nothing", "${env:…}"),
    ],
)
def test_a_reference_to_nothing_is_named(tmp_path: Path, reference: str, problem: str, mend: str) -> None:
    """A reference that cannot be followed is told with the name of what is missing and the line of its field."""
    (tmp_path / "empty").write_text("\n", encoding="utf-8")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    raw = parse_located(f"host: h\npassword: '{reference}'", "text", tmp_path)
    error = failure(lambda: validate_adapter(MailSettings, raw, "o", environ={"EMPTY": ""}))
    assert problem in error.problem
    assert mend in error.mend
    assert (error.line, error.field) == (2, "password")


def shown(error: BaseException) -> str:
    """All that a traceback can show of an error, the local variables of every frame included."""
    lines = traceback.TracebackException.from_exception(error, capture_locals=True).format()
    return "".join(lines) + repr(error) + str(error) + repr(error.__context__) + repr(error.__cause__)


@pytest.mark.parametrize(
    "text",
    [
        "host: h\npassword: ${env:CANARY}\nprot: 1",
        'host: h\npassword: ["${env:CANARY}"]',
        "host: bad ${env:CANARY}\npassword: p",
        "host: h\npassword: bad ${env:CANARY}",
        "host: h\npassword: ${env:CANARY}\nport: 1",
        "host: h\npassword: p\nport: ${env:CANARY}",
        "host: h\npassword: p\ntls: ${env:CANARY}",
        "host: h\npassword: p\ntoken_file: ['${env:CANARY}']",
        "host: ${env:CANARY}",
        "host: ${env:CANARY}\npassword: ${env:ABSENT}",
        f"host: h\npassword: bad {CANARY}",
        f"host: h\npassword: {CANARY}\nport: 1",
        f"host: h\npassword: [{CANARY}]",
    ],
)
def test_a_failing_adapter_never_tells_a_secret(monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    """Neither message, traceback, local variables nor the errors behind show a secret, wherever it was put."""
    monkeypatch.setenv("CANARY", CANARY)
    raw = parse_located(text, "text")
    del text
    error = failure(lambda: validate_adapter(MailSettings, raw, "observers.mailbox"))
    assert CANARY not in shown(error)


@pytest.mark.parametrize(
    "line",
    [
        "location: ${env:CANARY}",
        "keys: ['${env:CANARY}']",
        "keys: [{id: '${env:CANARY}', secret: 0123456789abcdef}]",
        "keys: [{id: a, secret: {x: '${env:CANARY}'}}]",
        "keys: [{id: a, secret: '${env:SHORT}'}]",
        "channels: {email: {observer: '${env:CANARY}', kind: email, address: a@b}}",
        "channels: {email: {observer: x, kind: '${env:CANARY}', address: '${env:CANARY}'}}",
        "ledger: ['${env:CANARY}']",
        f"keys: [{{id: a, secret: *{CANARY}}}]",
        f"keys: [{{id: a, secret: !{CANARY} x}}]",
        f"keys: [{{id: a, secret: @{CANARY}}}]",
        f"keys: [{{id: a, secret: '{CANARY}",
        f"keys: [{{id: a, secret: x: {CANARY}}}]",
        f"keys: {{secret: &{CANARY} 1, s: &{CANARY} 2}}",
    ],
)
def test_a_failing_file_never_tells_a_secret(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, line: str) -> None:
    """The same for the whole file, also where the mistake is one of syntax in the very line of the secret."""
    monkeypatch.setenv("CANARY", f"{CANARY}-{'X' * 40}")
    monkeypatch.setenv("SHORT", CANARY[:7])
    path = write(tmp_path, f"environment: lab\n{line}\n")
    del line
    told = shown(failure(lambda: load_settings(path)))
    assert CANARY[:7] not in told


def test_settings_show_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``repr`` and ``str`` of Settings and of every part of it show neither resolved nor literal secrets."""
    monkeypatch.setenv("PROBER_LEDGER", f"postgresql://u:{CANARY}@h/d")
    text = replaced("host: imap.example", f"host: {CANARY}") + "ledger: ${env:PROBER_LEDGER}\n"
    (tmp_path / "mailbox-password").write_text("x", encoding="utf-8")
    for name, value in ENVIRON.items():
        monkeypatch.setenv(name, value)
    settings = load_settings(write(tmp_path, text))
    assert CANARY in settings.ledger
    for part in (settings, settings.keys, settings.target, settings.observers, settings.limits):
        assert CANARY not in repr(part) + str(part) + f"{part}"


def test_secrets_of_adapters_are_read_late(tmp_path: Path) -> None:
    """A configuration loads although a secret of an adapter is missing; only who needs it complains."""
    environ = {"PROBER_KEY": ENVIRON["PROBER_KEY"]}
    settings = load_settings(write(tmp_path, GOOD), environ)
    error = failure(lambda: validate_adapter(MailSettings, settings.observers["chat"], environ=environ))
    assert "PROBER_TOKEN is not set" in error.problem
    assert error.line == 18


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


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**38), 10**38)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.sampled_from(["on", "1:30", "007", "0x1f", "1e3", "~", "<<", "=", "2026-11-23", "1_000", "- a", "a: b", "*x"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(st.text(), VALUES, min_size=1, max_size=4))
def test_what_is_dumped_is_read_back_the_same(mapping: dict[str, Any]) -> None:
    """A configuration that was written out is read back value for value."""
    assert parse_located(dump_configuration(mapping), "text") == mapping


@given(st.text(alphabet=st.characters(codec="utf-8")) | st.text(alphabet="ab:-[]{}*&!|>'\"%@`#,? \n\t<~"))
def test_no_text_raises_anything_else(text: str) -> None:
    """Whatever stands in a file, it is a mapping or a ConfigurationError."""
    with suppress(ConfigurationError):
        assert isinstance(parse_located(text, "text"), Mapping)


def test_plain_words_are_text() -> None:
    """``on``, ``no``, sexagesimals, dates and leading zeros stay the text that was written."""
    located = parse_located("a: [on, no, 1:30, 2026-11-23, 007, 0x1f, 1_000, yes]", "text")
    assert located["a"] == ["on", "no", "1:30", "2026-11-23", "007", "0x1f", "1_000", "yes"]


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

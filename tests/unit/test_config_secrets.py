"""Secrets come from references, late, and no error, traceback or repr ever tells one."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import pytest
from pydantic import BaseModel, ConfigDict, SecretStr, field_validator, model_validator

from prober.config import load_settings, validate_adapter
from prober.errors import ConfigurationError
from prober.yaml_source import parse_located

CANARY = "canary-5f0c2b9e7d"
GOOD = """\
environment: staging
keys: [{id: a, secret: "${env:PROBER_KEY}"}]
target: {adapter: publishing_module, token: "${env:PROBER_TOKEN}"}
observers:
  mailbox:
    adapter: imap
    host: imap.example
    password: ${file:mailbox-password}
  chat:
    adapter: discord
    password: ${env:PROBER_TOKEN}
    host: discord.example
serve: {token: "${env:PROBER_TOKEN}"}
"""
ENVIRON = {"PROBER_KEY": f"{CANARY}-signing-key", "PROBER_TOKEN": f"{CANARY}-token"}


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


def failure(call: Callable[[], object]) -> ConfigurationError:
    with pytest.raises(ConfigurationError) as caught:
        call()
    return caught.value


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
    text = GOOD.replace("host: imap.example", f"host: {CANARY}") + "ledger: ${env:PROBER_LEDGER}\n"
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
    assert error.line == 11

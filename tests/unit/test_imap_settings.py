"""The settings of an IMAP observer and the table of providers behind them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from prober.observers.imap_providers import PROVIDERS, UNKNOWN, called, provider_of
from prober.observers.imap_settings import ImapSettings

README = Path(__file__).parents[2] / "README.md"
OAUTH2 = {"grant": "client_credentials", "client_id": "id", "client_secret": "canary-secret", "token_url": "https://t/"}
REFRESH = {"grant": "refresh_token", "client_id": "id", "refresh_token": "canary-refresh"}


def settings(**its: Any) -> ImapSettings:
    return ImapSettings.model_validate({"host": "imap.example.org", "username": "u", **its})


def test_gmail_needs_no_token_url() -> None:
    """Where the provider's endpoint is known it need not be written; a refresh token has its scope already."""
    gmail = settings(host="imap.gmail.com", oauth2=REFRESH)
    assert (gmail.token_url, gmail.scope) == ("https://oauth2.googleapis.com/token", "")
    assert gmail.trusted_authserv_ids == ("mx.google.com",)
    assert settings(host="imap.gmail.com", password="p").provider.passwords


def test_microsoft_has_a_scope_and_takes_no_password() -> None:
    """Its scope is known, its endpoint has the tenant in it; a password is refused before anybody sends it."""
    microsoft = settings(host="outlook.office365.com", oauth2=OAUTH2)
    assert microsoft.scope == "https://outlook.office365.com/.default"
    with pytest.raises(ValueError, match="Microsoft 365 takes no passwords: configure oauth2"):
        settings(host="outlook.office365.com", password="canary")
    with pytest.raises(ValueError, match="needs the token_url"):
        settings(host="outlook.office365.com", oauth2={**OAUTH2, "token_url": ""})


@pytest.mark.parametrize(
    ("its", "words"),
    [
        ({}, "exactly one of password and oauth2"),
        ({"password": "canary", "oauth2": OAUTH2}, "exactly one of password and oauth2"),
        ({"oauth2": {**OAUTH2, "client_secret": None}}, "grant: client_credentials needs client_secret"),
        ({"oauth2": {**REFRESH, "token_url": "https://t/", "refresh_token": ""}}, "needs refresh_token"),
        ({"oauth2": {**OAUTH2, "refresh_token": "canary"}}, "uses no refresh_token"),
        ({"oauth2": {**OAUTH2, "token_url": "http://t.example/"}}, "must begin with https://"),
        ({"oauth2": {**OAUTH2, "token_url": "https://me:canary@t/"}}, "must not hold credentials"),
        ({"password": "canary", "renew": "29m"}, "less than 1740"),
    ],
)
def test_mistakes_are_named_without_a_secret(its: dict[str, Any], words: str) -> None:
    """Each says what to write instead."""
    with pytest.raises(ValueError, match="validation error") as told:
        settings(**its)
    assert words in str(told.value)
    assert "canary" not in str(told.value)


def test_secrets_are_not_shown() -> None:
    """Neither the settings nor their parts show a secret."""
    both = (settings(oauth2=OAUTH2), settings(oauth2={**REFRESH, "token_url": "https://t/"}))
    assert "canary" not in repr(both) + str(both)
    assert [one.secrets() for one in both] == [("canary-secret",), ("canary-refresh",)]


@pytest.mark.parametrize(
    ("host", "identity", "name"),
    [
        ("imap.gmail.com", "", "Gmail"),
        ("Outlook.Office365.com.", "", "Microsoft 365"),
        ("imap-mail.outlook.com", "", "Microsoft 365"),
        ("imap.example.org", "Dovecot", "Dovecot"),
        ("imap.example.org", "Gimap", "Gmail"),
        ("imap.example.org", "cyrus", "any other"),
        ("notgmail.com", "", "any other"),
        ("gmail.com.example.org", "", "any other"),
    ],
)
def test_a_provider_is_known_by_host_or_by_its_own_word(host: str, identity: str, name: str) -> None:
    """And a name that only looks similar is not taken for it."""
    assert provider_of(host, identity).name == name


def test_a_server_says_its_name() -> None:
    """In the answer to ID, whatever else stands there, or nothing."""
    assert called([(b"vendor", b"x", b"NAME", b"Dovecot")]) == "Dovecot"
    for strange in ([], [None], [(b"name", None)], [(b"name",)], [b"name"]):
        assert called(strange) == ""


def test_the_readme_has_the_table() -> None:
    """What users read about the providers is what the code acts upon."""
    text = README.read_text(encoding="utf-8")
    for provider in (*PROVIDERS, UNKNOWN):
        row = next(line for line in text.splitlines() if line.startswith(f"| {provider.name} |"))
        limit = "not known" if provider.connections is None else str(provider.connections)
        assert [cell.strip() for cell in row.split("|")][2:5] == [
            "password, oauth2" if provider.passwords else "oauth2",
            limit,
            "NOOP" if provider.tells else "a new opening",
        ]

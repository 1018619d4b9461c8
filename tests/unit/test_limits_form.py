"""The parts ``limits`` and ``serve`` of the configuration: what they stand for, and what is wrong with them."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from prober.config import Settings, load_settings
from prober.errors import ConfigurationError
from prober.launching import Budget, Maintenance
from prober.model import Schedule
from prober.serve_form import serve_of

BEGIN = "environment: test\nkeys: [{id: a, secret: a-secret-of-some-length}]\n"


def load(tmp_path: Path, text: str) -> Settings:
    path = tmp_path / "prober.yaml"
    path.write_text(BEGIN + text, encoding="utf-8")
    return load_settings(path, {})


def test_limits_are_read(tmp_path: Path) -> None:
    """Budgets, both kinds of window, the kill switch beside the file, and prices."""
    settings = load(
        tmp_path,
        """limits:
  per_hour: 120
  kill_switch: stop
  scenarios: {alert-latency: {in_flight: 5}}
  maintenance:
    - {from: 2026-12-01T22:00:00Z, to: 2026-12-01T23:00:00+00:00, scenarios: [alert-latency]}
    - {cron: "0 2 * * sun", time_zone: Europe/Berlin, for: 2h}
  prices: {slack: 0.5}
""",
    )
    limits = settings.limits.limits
    assert limits.total == Budget(per_hour=120)
    assert limits.scenarios == {"alert-latency": Budget(in_flight=5)}
    start = datetime(2026, 12, 1, 22, tzinfo=UTC).timestamp()
    assert limits.maintenance == (
        Maintenance(start, start + 3600, scenarios=frozenset({"alert-latency"})),
        Maintenance(recurring=Schedule(cron="0 2 * * sun", time_zone="Europe/Berlin"), duration=7200.0),
    )
    assert settings.limits.kill_switch == str(tmp_path / "stop")
    assert settings.limits.prices == {"email": 0.0001, "slack": 0.5}


def test_serve_is_read_and_shows_no_secret(tmp_path: Path) -> None:
    """The heartbeat's URL and the token are secret, and the textfile counts from the file's folder."""
    settings = load(
        tmp_path,
        "serve: {token: canary-canary-canary, heartbeat: 'https://hc.example/canary', textfile: prober.prom}\n",
    )
    serve = serve_of(settings.serve)
    assert serve.textfile == str(tmp_path / "prober.prom")
    assert serve.token is not None
    assert serve.token.get_secret_value() == "canary-canary-canary"
    assert "canary" not in repr(serve)


@pytest.mark.parametrize(
    ("text", "line", "words"),
    [
        ("limits: {per_hour: many}", 3, "limits.per_hour: expected a whole number"),
        ("limits:\n  maintenance:\n    - {from: 2026-12-01T22:00:00Z}", 5, "no end after its beginning"),
        ("limits:\n  maintenance:\n    - {cron: '0 2 * * *'}", 5, "needs a length"),
        ("limits:\n  maintenance:\n    - {for: 2h}", 5, "either from a time or by cron"),
        ("limits:\n  maintenance:\n    - {cron: 'never', for: 2h}", 5, "cron: cron expression 'never' has 1 fields"),
        ("limits: {kill_swich: x}", 3, "did you mean 'kill_switch'?"),
        ("serve: {token: short}", 3, "serve.token"),
    ],
)
def test_mistakes_name_their_place(tmp_path: Path, text: str, line: int, words: str) -> None:
    """File, line, field and what to do."""
    with pytest.raises(ConfigurationError) as caught:
        load(tmp_path, text + "\n")
    assert f"prober.yaml:{line}: " in str(caught.value)
    assert words in str(caught.value)

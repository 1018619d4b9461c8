"""The units and the crontab of deploy/ are valid, run the prober as it wants to be run, and let it do no harm."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from prober.durations import parse_duration
from tests.servers.programs import program
from tests.unit.test_deploy import CONFIG, CRON, LONGEST_PASS, PAGE, TEXTFILE, UNITS, setting
from tests.unit.test_readme import check_command


def test_systemd_accepts_the_units(tmp_path: Path) -> None:
    """systemd-analyze finds nothing to say of them, with a program in the place of the installed one."""
    for name, text in UNITS.items():
        instance = name.replace("@", "@alert-latency")
        (tmp_path / instance).write_text(text.replace("/opt/prober/bin/prober", "/bin/true"), encoding="utf-8")
    command = [program("systemd-analyze", "systemd"), "verify", *map(str, sorted(tmp_path.iterdir()))]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=200, check=False)
    ours = [line for line in (ended.stdout + ended.stderr).splitlines() if "prober" in line]
    assert (ended.returncode, ours) == (0, [])


@pytest.mark.parametrize("name", ["prober.service", "prober-tick@.service"])
def test_a_unit_runs_the_prober(name: str) -> None:
    """Each service runs a command that there is, as its own user, on a read-only tree, with the ledger's folder."""
    check_command(setting(name, "ExecStart").replace("%i", "alert-latency"))
    assert setting(name, "User") == "prober"
    assert setting(name, "ProtectSystem") == "strict"
    assert setting(name, "StateDirectory") == "prober"
    assert setting(name, "Environment") == f"PROBER_CONFIG={CONFIG}"
    assert setting(name, "WorkingDirectory") == "/var/lib/prober"


def test_the_units_are_closed_alike() -> None:
    """What keeps the service from doing harm keeps passes too; they may write one folder more, if it is there."""
    service, tick = (
        dict(line.split("=", 1) for line in UNITS[name].partition("StateDirectory=")[2].splitlines()[1:] if "=" in line)
        for name in ("prober.service", "prober-tick@.service")
    )
    assert tick.pop("ReadWritePaths") == f"-{TEXTFILE.parent}"
    service.pop("WantedBy")
    assert service == tick
    for name in ("NoNewPrivileges", "ProtectHome", "PrivateTmp", "PrivateDevices", "RestrictNamespaces"):
        assert service[name] == "yes"
    assert (service["UMask"], service["CapabilityBoundingSet"], service["ProtectSystem"]) == ("0077", "", "strict")
    assert f"install -d -o prometheus -g prober -m 0775 {TEXTFILE.parent}" in PAGE


def test_the_service_comes_back_and_its_passes_follow_each_other() -> None:
    """Whatever ends serve, but for a wrong configuration and a stop, starts it again, for ever; a reload is SIGHUP. A
    pass is one run each minute, is never cut off, and a held ledger is no failure."""
    for name, value in {"Type": "exec", "Restart": "always", "RestartPreventExitStatus": "2",
                        "StartLimitIntervalSec": "0", "ExecReload": "/bin/kill -HUP $MAINPID"}.items():  # fmt: skip
        assert setting("prober.service", name) == value
    for name, value in {"Type": "oneshot", "SuccessExitStatus": "75",
                        "ExecStart": "/opt/prober/bin/prober tick %i"}.items():  # fmt: skip
        assert setting("prober-tick@.service", name) == value
    assert parse_duration(setting("prober-tick@.service", "TimeoutStartSec").replace("min", "m")) >= LONGEST_PASS
    assert setting("prober-tick@.timer", "OnCalendar") == "minutely"
    assert setting("prober-tick@.timer", "AccuracySec") == "1s"


def test_the_crontab_is_one() -> None:
    """Comments, variables, and one line of five times, a user and a command of the prober."""
    lines = [line for line in CRON.splitlines() if line and not line.startswith("#")]
    variables = dict(line.split("=", 1) for line in lines[:-1])
    assert variables == {"SHELL": "/bin/sh", "PROBER_CONFIG": "/etc/prober/prober.yaml"}
    *times, user, command = lines[-1].split(None, 6)
    assert times == ["*"] * 5
    assert user == setting("prober.service", "User")
    assert "%" not in command
    check_command(command.split(" 2>&1 |")[0])
    assert CRON.endswith("\n"), "cron ignores a last line without its end"

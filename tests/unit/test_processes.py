"""Whether the process that claimed a step still lives."""

from __future__ import annotations

import os
import subprocess
import sys

from prober.clock import boot_id
from prober.processes import alive, can_tell, of_this_boot, this_process


def test_this_process_lives() -> None:
    """A process knows itself, and not its number under another start time or boot."""
    name = this_process()
    assert alive(name)
    boot, pid, started, namespace = name.split("/")
    assert not alive(f"{boot}/{pid}/{int(started) + 1}/{namespace}")
    assert not alive(f"{'0' * len(boot)}/{pid}/{started}/{namespace}")


def test_of_whom_it_can_be_told() -> None:
    """Another boot may be another machine, and a process number of another container says nothing here."""
    boot, pid, started, namespace = this_process().split("/")
    assert can_tell(this_process())
    assert can_tell(f"{boot}/{pid}/{started}")  # as older versions wrote it
    assert not can_tell(f"{'0' * len(boot)}/{pid}/{started}/{namespace}")
    assert not can_tell(f"{boot}/{pid}/{started}/{namespace}1")
    assert not alive(f"{boot}/{pid}/{started}/{namespace}1")
    assert of_this_boot(f"{boot}/{pid}/{started}/{namespace}1")
    assert not of_this_boot(f"{'0' * len(boot)}/{pid}/{started}/{namespace}")


def test_ended_process_is_dead() -> None:
    """A process that has ended is dead even if its number is used again."""
    code = "from prober.processes import this_process; print(this_process())"
    name = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip()
    assert not alive(name)


def test_unburied_process_is_dead() -> None:
    """A process that has ended but that its parent has not waited for takes no more steps."""
    code = "from prober.processes import this_process; print(this_process())"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        name = child.stdout.readline().strip()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert not alive(name)


def test_nonsense_is_dead() -> None:
    """What is no name of a process is nobody."""
    for name in ("", "x", "a/b/c", "///", boot_id(), f"{boot_id()}/1"):
        assert not alive(name)

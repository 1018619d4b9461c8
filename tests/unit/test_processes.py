"""Whether the process that claimed a step still lives."""

from __future__ import annotations

import os
import subprocess
import sys

from prober.processes import alive, this_process


def test_this_process_lives() -> None:
    """A process knows itself, and not its number under another start time or boot."""
    name = this_process()
    assert alive(name)
    boot, pid, started = name.split("/")
    assert not alive(f"{boot}/{pid}/{int(started) + 1}")
    assert not alive(f"{'0' * len(boot)}/{pid}/{started}")


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
    for name in ("", "x", "a/b/c", "///"):
        assert not alive(name)

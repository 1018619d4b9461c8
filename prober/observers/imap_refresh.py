"""A refresh token that its provider may replace at each use: where it is kept, and what is said where it is not."""

from __future__ import annotations

import fcntl
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import structlog

from prober.errors import Unreadable
from prober.observers.imap_connection import Lifeline
from prober.observers.imap_settings import OAuth2Settings

log = structlog.get_logger()

_MOST_BYTES = 65_536
_LOOK_AGAIN = 0.05


class RefreshToken:
    """The refresh token of one account; not for two threads at once.

    ``trouble`` says in a sentence why a restart may find it refused, '' while nothing speaks for that.
    """

    def __init__(self, oauth2: OAuth2Settings) -> None:
        self._file = oauth2.refresh_token_file
        configured = oauth2.refresh_token
        self._value = configured.get_secret_value() if configured is not None else ""
        self.trouble = ""

    @contextmanager
    def held(self, lifeline: Lifeline, within: float) -> Iterator[None]:
        """Keep every other process that uses the file from renewing the token meanwhile: one that reads it inside gets
        what the last renewal left. Raises Unreadable when that takes more than ``within`` seconds, or is cut.
        """
        lock = None if self._file is None else _locked(self._file, lifeline, within)
        try:
            yield
        finally:
            if lock is not None:
                os.close(lock)

    def current(self) -> str:
        """The token to use now: the file's, since another process may have renewed it. Raises Unreadable."""
        if self._file is not None and not self.trouble:
            self._value = _read(self._file) or self._value
            if not self._value:
                raise Unreadable("login_refused", f"{self._file} holds no refresh token; write it there, in one line")
        return self._value

    def replace(self, value: str) -> tuple[str, ...]:
        """The provider may have replaced it: keep the new one, in the file where there is one; returns what was done,
        in words for the record."""
        if value == self._value:
            return ()
        self._value = value
        trouble = "there is no refresh_token_file to keep it in"
        if self._file is not None:
            trouble = _written(self._file, value)
        if trouble and not self.trouble:
            log.warning(
                "A refresh token was replaced by its provider, and the new one is in memory only: after a restart the "
                "configured one may be refused.",
                action="refresh_token_unkept",
                why=trouble,
            )
        self.trouble = trouble
        return (f"refresh token replaced, {'in memory only' if trouble else 'kept in its file'}",)


def _locked(path: Path, lifeline: Lifeline, within: float) -> int | None:
    """A descriptor that holds the lock beside the file, which is itself replaced at each renewal; None where no file
    can be made: then no token can be kept there either."""
    beside = path.with_name(f"{path.name}.lock")
    try:
        lock = os.open(beside, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if not beside.exists():
            return None
        raise _no_lock(beside, f"cannot be opened: {error.strerror}; mend its permissions") from None
    try:
        _take(lock, beside, lifeline, within)
    except BaseException:
        os.close(lock)
        raise
    return lock


def _take(lock: int, beside: Path, lifeline: Lifeline, within: float) -> None:
    give_up = time.monotonic() + within
    while True:
        try:
            return fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if lifeline.is_cut:
                raise Unreadable("unreachable", "stopped") from None
            if time.monotonic() >= give_up:
                problem = f"has been held by another process for {within:g} s; see whether one hangs, and end it"
                raise _no_lock(beside, problem) from None
        except OSError as error:
            problem = f"cannot be locked: {error.strerror}; keep refresh_token_file on a local file system"
            raise _no_lock(beside, problem) from None
        time.sleep(_LOOK_AGAIN)


def _no_lock(beside: Path, problem: str) -> Unreadable:
    return Unreadable("login_refused", f"the refresh token cannot be renewed safely: {beside} {problem}")


def _read(path: Path) -> str:
    """What the file holds, empty where there is none."""
    try:
        with path.open("rb") as file:
            held = file.read(_MOST_BYTES)
    except FileNotFoundError:
        return ""
    except OSError as error:
        raise Unreadable("login_refused", f"{path} cannot be read: {error.strerror}; mend its permissions") from None
    return held.decode("ascii", "replace").strip()


def _written(path: Path, value: str) -> str:
    """Replace the file at once or not at all, for its owner only; returns why it could not be, else ''."""
    try:
        descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            with os.fdopen(descriptor, "w", encoding="ascii", errors="strict") as file:
                file.write(f"{value}\n")
                file.flush()
                os.fsync(file.fileno())
            Path(name).replace(path)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
    except (OSError, UnicodeEncodeError) as error:
        return f"{path} cannot be written: {getattr(error, 'strerror', None) or 'not ASCII'}"
    return ""

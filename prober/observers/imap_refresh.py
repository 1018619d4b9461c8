"""A refresh token that its provider may replace at each use: where it is kept, and what is said where it is not."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import structlog

from prober.errors import Unreadable
from prober.observers.imap_settings import OAuth2Settings

log = structlog.get_logger()

_MOST_BYTES = 65_536


class RefreshToken:
    """The refresh token of one account; not for two threads at once.

    ``trouble`` says in a sentence why a restart may find it refused, '' while nothing speaks for that.
    """

    def __init__(self, oauth2: OAuth2Settings) -> None:
        self._file = oauth2.refresh_token_file
        configured = oauth2.refresh_token
        self._value = configured.get_secret_value() if configured is not None else ""
        self.trouble = ""

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

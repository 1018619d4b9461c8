"""Debian's Dovecot on loopback: any number of mailboxes, plain, STARTTLS and TLS, and an oauth2 passdb where asked for.

with dovecot() as server:
    box = server.mailbox()
    box.put(b"Subject: hello\\r\\n\\r\\n")      # a file in Maildir/new, as Postfix delivers
    ImapSettings.model_validate(box.settings())
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from imapclient import IMAPClient
from imapclient.exceptions import LoginError

from tests.servers.certificates import Authority, Issued
from tests.servers.programs import HOST, free_port, listens, need_root, program, running, short_folder, wait_until

PASSWORD = "canary-mailbox-password"
DOMAIN = "inbox.test"

USERS = tuple(f"box{number}" for number in range(300))
"""Whose mailboxes a server may have: Postfix wants to know their names beforehand."""

UMLAUT = "umlaut"
"""One more, whose password is not ASCII: UMLAUT_PASSWORD."""

UMLAUT_PASSWORD = "canary-pässwörd"

_serial = itertools.count()


@dataclass
class Mailbox:
    """One account, and its Maildir on disk."""

    server: Dovecot
    user: str

    @property
    def address(self) -> str:
        return f"{self.user}@{DOMAIN}"

    @property
    def folder(self) -> Path:
        return self.server.mail / self.user

    def settings(self, **changes: Any) -> dict[str, Any]:
        """What the configuration of an imap observer of this mailbox says; without TLS unless changed."""
        its = {"host": HOST, "port": self.server.port, "username": self.user, "password": PASSWORD, "tls": "none"}
        return {**its, **changes}

    def put(self, raw: bytes, folder: str = "INBOX") -> Path:
        """Let a message become visible in a moment, as a delivery agent does: written apart, then renamed into new."""
        place = self.maildir(folder)
        name = f"{time.time():.6f}.M{next(_serial)}P{os.getpid()}.tests"
        draft = place / "tmp" / name
        draft.write_bytes(raw)
        self.server.own(draft)
        return draft.rename(place / "new" / name)

    def maildir(self, folder: str = "INBOX") -> Path:
        """A folder's Maildir, made where it is missing."""
        place = self.folder if folder == "INBOX" else self.folder / f".{folder}"
        missing = [self.folder, place, *(place / part for part in ("cur", "new", "tmp"))]
        for part in missing:
            if not part.exists():
                part.mkdir()
                self.server.own(part)
        return place

    def set_password(self, password: str) -> None:
        """Let another password be the right one; returns when the server has seen the change."""
        self.server.passwords[self.user] = password
        self.server.write_passwords()
        if not wait_until(self._lets_in):
            raise TimeoutError(f"{self.user}'s password does not change")

    def _lets_in(self) -> bool:
        try:
            with self.client():
                return True
        except LoginError:
            return False

    @contextlib.contextmanager
    def client(self) -> Iterator[IMAPClient]:
        """The owner, logged in beside the prober."""
        with IMAPClient(HOST, self.server.port, ssl=False, timeout=10) as client:
            client.plain_login(self.user, self.server.passwords[self.user])
            yield client


@dataclass
class Dovecot:
    """A server that runs. ``port`` speaks plain text and STARTTLS, ``tls_port`` TLS from the first byte.

    ``mail`` holds a Maildir per user, all owned by ``uid``; ``certificate`` is the file that ``authority`` vouches
    for. ``log`` is the server's own.
    """

    folder: Path
    port: int
    tls_port: int
    uid: int
    authority: Authority
    certificate: Issued
    passwords: dict[str, str]
    taken: int = 0

    @property
    def mail(self) -> Path:
        return self.folder / "mail"

    @property
    def log(self) -> Path:
        return self.folder / "dovecot.log"

    def mailbox(self) -> Mailbox:
        """A new, empty mailbox."""
        box = Mailbox(self, USERS[self.taken])
        self.taken += 1
        box.maildir()
        return box

    def own(self, path: Path) -> None:
        os.chown(path, self.uid, self.uid)

    def write_passwords(self) -> None:
        """The server sees a change by the file's time in seconds and its size, so the size always grows."""
        lines = [f"{user}:{{PLAIN}}{password}::::::\n" for user, password in self.passwords.items()]
        draft = self.folder / "passwords.new"
        draft.write_text("".join([*lines, "#" * (100 * next(_serial)), "\n"]))
        draft.chmod(0o644)
        draft.rename(self.folder / "passwords")


@contextlib.contextmanager
def dovecot(
    *,
    certificate_hosts: tuple[str, ...] = ("localhost", HOST),
    certificate: Callable[..., Issued] | None = None,
    introspection_url: str = "",
    settings: str = "",
) -> Iterator[Dovecot]:
    """A server of one's own, from when it listens. ``settings`` are more lines of its configuration.

    Its certificate is the authority's for these hosts, or what ``certificate(folder, *hosts)`` makes.

    With ``introspection_url`` XOAUTH2 is offered, and each token verified there (RFC 7662).
    """
    binary = program("dovecot", "dovecot-imapd")
    need_root("dovecot")
    with short_folder("dovecot") as folder:
        authority = Authority(folder)
        port, tls_port = free_port(), free_port()
        issued = certificate(folder, *certificate_hosts) if certificate else authority.issue(*certificate_hosts)
        # A user id of its own: the system's limit of inotify instances counts per user.
        server = Dovecot(folder, port, tls_port, port, authority, issued,
                         {**dict.fromkeys(USERS, PASSWORD), UMLAUT: UMLAUT_PASSWORD})  # fmt: skip
        server.mail.mkdir()
        server.own(server.mail)
        server.write_passwords()
        configuration = folder / "dovecot.conf"
        configuration.write_text(_configuration(server, introspection_url) + settings)
        if introspection_url:
            (folder / "oauth2.conf").write_text(_INTROSPECTION.format(url=introspection_url))
        with running([binary, "-F", "-c", configuration], lambda: listens(port) and listens(tls_port), server.log):
            yield server


def recreate(box: Mailbox, folder: str) -> None:
    """Delete a folder through IMAP and make it anew, which gives it another UIDVALIDITY."""
    with box.client() as client:
        client.delete_folder(folder)
        client.create_folder(folder)


def _configuration(server: Dovecot, introspection_url: str) -> str:
    oauth2 = _OAUTH2.format(folder=server.folder) if introspection_url else ""
    mechanisms = "plain login xoauth2 oauthbearer" if introspection_url else "plain login"
    return _CONFIGURATION.format(server=server, mechanisms=mechanisms, oauth2=oauth2, host=HOST)


_CONFIGURATION = """
base_dir = {server.folder}/run
state_dir = {server.folder}/state
log_path = {server.log}
protocols = imap
listen = {host}
ssl = yes
ssl_cert = <{server.certificate.certificate}
ssl_key = <{server.certificate.key}
ssl_dh =
disable_plaintext_auth = no
auth_mechanisms = {mechanisms}
auth_failure_delay = 0
first_valid_uid = 1000
mail_location = maildir:{server.mail}/%n
mail_max_userip_connections = 20
mailbox_list_index = yes
passdb {{
  driver = passwd-file
  args = username_format=%n {server.folder}/passwords
  mechanisms = plain login
}}
{oauth2}
userdb {{
  driver = static
  args = uid={server.uid} gid={server.uid} home={server.mail}/%n allow_all_users=yes
}}
namespace inbox {{
  inbox = yes
  separator = /
  mailbox Junk {{
    auto = subscribe
    special_use = \\Junk
  }}
}}
service imap-login {{
  chroot =
  inet_listener imap {{
    address = {host}
    port = {server.port}
  }}
  inet_listener imaps {{
    address = {host}
    port = {server.tls_port}
    ssl = yes
  }}
}}
service anvil {{
  chroot =
  unix_listener anvil-auth-penalty {{
    mode = 0
  }}
}}
service stats {{
  chroot =
}}
"""

_OAUTH2 = """
passdb {{
  driver = oauth2
  mechanisms = xoauth2 oauthbearer
  args = {folder}/oauth2.conf
}}
"""

_INTROSPECTION = """
introspection_mode = post
introspection_url = {url}
username_attribute = username
active_attribute = active
active_value = true
"""

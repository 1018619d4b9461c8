"""Debian's Postfix on loopback, delivering into the Maildirs of a Dovecot; nothing of it leaves this machine.

``NAME+junk@inbox.test`` is delivered into Junk, every other tag into the inbox.
"""

from __future__ import annotations

import contextlib
import shutil
import smtplib
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.servers.dovecot import DOMAIN, USERS, Dovecot
from tests.servers.programs import HOST, free_port, listens, need_root, program, running, short_folder, wait_until

HOST_NAME = "mx.inbox.test"


@dataclass(frozen=True)
class Postfix:
    """A server that runs, and listens on ``port`` for SMTP."""

    folder: Path
    port: int

    @property
    def log(self) -> Path:
        return self.folder / "maillog"

    def send(self, raw: bytes, recipient: str, sender: str = "news@target.example") -> None:
        """Hand one mail in. Raises smtplib's errors."""
        with smtplib.SMTP(HOST, self.port, local_hostname="target.example", timeout=30) as client:
            client.sendmail(sender, [recipient], raw)


@contextlib.contextmanager
def postfix(inboxes: Dovecot) -> Iterator[Postfix]:
    """A server of one's own, from when it listens."""
    binary = program("postfix", "postfix")
    need_root("postfix")
    with short_folder("postfix") as folder:
        server = Postfix(folder, free_port())
        configuration, data = folder / "etc", folder / "data"
        for part in (configuration, data, folder / "queue"):
            part.mkdir()
        shutil.chown(data, "postfix")
        # What the configuration does not name is not there: no program that sends mail elsewhere.
        (configuration / "master.cf").write_text(_MASTER.format(host=HOST, port=server.port))
        (configuration / "main.cf").write_text(_MAIN.format(server=server, inboxes=inboxes, domain=DOMAIN, host=HOST,
                                                            host_name=HOST_NAME))  # fmt: skip
        rows = [f"{user}@{DOMAIN} {user}/\n{user}+junk@{DOMAIN} {user}/.Junk/\n" for user in USERS]
        (configuration / "mailboxes").write_text("".join(rows))
        # It makes the queue's folders. The master itself is our child: a start script would leave it behind.
        subprocess.run([binary, "-c", configuration, "check"], check=True, capture_output=True)
        master = program("master", "postfix")
        with running([master, "-c", configuration, "-d"], lambda: listens(server.port), server.log):
            yield server
        # Its children end by themselves when they notice that it has: until then one of them may still listen.
        assert wait_until(lambda: not listens(server.port)), "somebody of Postfix still listens"


_MAIN = """
compatibility_level = 3.6
queue_directory = {server.folder}/queue
data_directory = {server.folder}/data
mail_owner = postfix
setgid_group = postdrop
maillog_file = {server.log}
maillog_file_prefixes = {server.folder}
myhostname = {host_name}
mydestination =
inet_interfaces = {host}
inet_protocols = ipv4
mynetworks = {host}/32
smtpd_relay_restrictions = reject_unauth_destination
smtpd_peername_lookup = no
smtpd_client_connection_rate_limit = 0
default_transport = error:nothing leaves the tests
recipient_delimiter = +
message_size_limit = 60000000
mailbox_size_limit = 0
virtual_mailbox_limit = 0
virtual_mailbox_domains = {domain}
virtual_mailbox_base = {inboxes.mail}
virtual_mailbox_maps = texthash:{server.folder}/etc/mailboxes
virtual_uid_maps = static:{inboxes.uid}
virtual_gid_maps = static:{inboxes.uid}
alias_maps =
alias_database =
"""

_MASTER = """
{host}:{port} inet n - n - - smtpd
postlog unix-dgram n - n - 1 postlogd
pickup unix n - n 60 1 pickup
cleanup unix n - n - 0 cleanup
qmgr unix n - n 300 1 qmgr
rewrite unix - - n - - trivial-rewrite
bounce unix - - n - 0 bounce
defer unix - - n - 0 bounce
trace unix - - n - 0 bounce
verify unix - - n - 1 verify
flush unix n - n 1000? 0 flush
proxymap unix - - n - - proxymap
proxywrite unix - - n - 1 proxymap
error unix - - n - - error
retry unix - - n - - error
discard unix - - n - - discard
virtual unix - n n - - virtual
anvil unix - - n - 1 anvil
"""

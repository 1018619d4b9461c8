"""The servers that other tests start: mail goes in through Postfix and comes out of Dovecot."""

from __future__ import annotations

import ssl
from pathlib import Path

import pytest
from imapclient import IMAPClient

from tests.servers.dovecot import Dovecot, Mailbox, recreate
from tests.servers.postfix import Postfix, postfix
from tests.servers.programs import HOST, listens, program, wait_until

MAIL = b"From: news@target.example\r\nTo: you@inbox.test\r\nSubject: hello\r\n\r\nbody\r\n"


def count(box: Mailbox, folder: str) -> int:
    with box.client() as client:
        return int(client.select_folder(folder, readonly=True)[b"EXISTS"])


@pytest.mark.parametrize(("tag", "folder"), [("", "INBOX"), ("+tag", "INBOX"), ("+junk", "Junk")])
def test_mail_goes_from_postfix_to_dovecot(postfix_server: Postfix, inbox: Mailbox, tag: str, folder: str) -> None:
    """What Postfix took lies in the recipient's folder, also under a plus-tag."""
    postfix_server.send(MAIL, inbox.address.replace("@", f"{tag}@"))
    assert wait_until(lambda: count(inbox, folder) == 1), postfix_server.log.read_text()[-2000:]


def test_nothing_of_postfix_is_left(dovecot_server: Dovecot) -> None:
    """When a server's context ends, so have its master and whoever listened for it."""
    with postfix(dovecot_server) as server:
        master = int((server.folder / "queue/pid/master.pid").read_text())
    assert not Path(f"/proc/{master}").exists()
    assert not listens(server.port)


def test_a_recreated_folder_has_another_uidvalidity(inbox: Mailbox) -> None:
    """Deleting and making a folder anew gives its UIDs another meaning."""
    inbox.put(MAIL, "Junk")
    with inbox.client() as client:
        old = client.select_folder("Junk")[b"UIDVALIDITY"]
    recreate(inbox, "Junk")
    with inbox.client() as client:
        assert client.select_folder("Junk")[b"UIDVALIDITY"] != old


def test_the_certificate_is_vouched_for(dovecot_server: Dovecot) -> None:
    """A client that trusts the tests' authority, and nobody else, believes the server."""
    context = ssl.create_default_context(cafile=str(dovecot_server.authority.file))
    with IMAPClient("localhost", dovecot_server.tls_port, ssl_context=context, timeout=10) as client:
        assert client.capabilities()
    with pytest.raises(ssl.SSLCertVerificationError):
        IMAPClient(HOST, dovecot_server.tls_port, ssl_context=ssl.create_default_context(), timeout=10)


def test_a_missing_program_fails_with_its_package() -> None:
    """Without a server a test fails, is not skipped, and says what to install."""
    with pytest.raises(pytest.fail.Exception, match="apt-get install no-such-package"):
        program("no-such-program", "no-such-package")

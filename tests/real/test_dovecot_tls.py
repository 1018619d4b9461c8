"""TLS from the first byte and STARTTLS against Debian's Dovecot: verified, each refusal with its mend."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from tests.real.watching import letter, next_messages, observer, refusal
from tests.servers.certificates import Authority, self_signed
from tests.servers.dovecot import Dovecot, Mailbox, dovecot
from tests.servers.programs import HOST

MODES = ("tls", "starttls")


@dataclass(frozen=True)
class Servers:
    """One whose certificate is its authority's for ``localhost`` only, and one that vouches for itself."""

    known: Dovecot
    selfish: Dovecot


@pytest.fixture(scope="module")
def servers() -> Iterator[Servers]:
    with dovecot(certificate_hosts=("localhost",)) as known, dovecot(certificate=self_signed) as selfish:
        yield Servers(known, selfish)


def secured(box: Mailbox, mode: str, **changes: Any) -> dict[str, Any]:
    port = box.server.tls_port if mode == "tls" else box.server.port
    return {"host": "localhost", "port": port, "tls": mode, **changes}


@pytest.mark.parametrize("mode", MODES)
async def test_mail_comes_through_tls(servers: Servers, mode: str) -> None:
    """With the server's authority in ca_file mail is pushed and read as ever."""
    box = servers.known.mailbox()
    async with observer(box, **secured(box, mode, ca_file=str(servers.known.authority.file))) as watched:
        batch = await watched.read(None)
        for number in range(3):
            box.put(letter(f"{number}"))
            (message,), batch = await next_messages(watched, batch.cursor)
            assert message.texts[0] == f"{number}"
    log = servers.known.log.read_text()
    assert [", TLS, " in line for line in log.splitlines() if f"user=<{box.user}>" in line] == [True, True]


@pytest.mark.parametrize("mode", MODES)
async def test_an_unknown_authority_is_refused(servers: Servers, mode: str) -> None:
    """What neither the public authorities nor ca_file's vouch for is not believed, and no password is sent."""
    box = servers.known.mailbox()
    stranger = Authority(servers.known.folder, "stranger")
    for trust in ({}, {"ca_file": str(stranger.file)}):
        blind = await refusal(observer(box, **secured(box, mode, **trust)))
        assert blind.reason == "tls"
        assert "its authority is not known; name the authority's certificate in ca_file" in blind.detail
    assert f"user=<{box.user}>" not in servers.known.log.read_text()


@pytest.mark.parametrize("mode", MODES)
async def test_another_host_name_is_refused(servers: Servers, mode: str) -> None:
    """A genuine certificate for another name is not believed."""
    box = servers.known.mailbox()
    trust = {"host": HOST, "ca_file": str(servers.known.authority.file)}
    blind = await refusal(observer(box, **secured(box, mode, **trust)))
    assert blind.reason == "tls"
    assert "use in host the name that the certificate has" in blind.detail
    assert f"user=<{box.user}>" not in servers.known.log.read_text()


@pytest.mark.parametrize("mode", MODES)
async def test_a_self_signed_certificate_is_refused(servers: Servers, mode: str) -> None:
    """A server that vouches for itself is believed only when ca_file names its very certificate."""
    box = servers.selfish.mailbox()
    blind = await refusal(observer(box, **secured(box, mode)))
    assert blind.reason == "tls"
    assert "it is self-signed; name it in ca_file" in blind.detail
    trust = {"ca_file": str(servers.selfish.certificate.certificate)}
    async with observer(box, **secured(box, mode, **trust)) as watched:
        assert (await watched.read(None)).readings


@pytest.mark.parametrize("mode", MODES)
async def test_verification_can_be_switched_off_for_one_connection(servers: Servers, mode: str) -> None:
    """``verify: false`` lets this observer trust any certificate, and no other."""
    box = servers.selfish.mailbox()
    async with observer(box, **secured(box, mode, verify=False)) as watched:
        assert (await watched.read(None)).readings
        assert (await refusal(observer(box, **secured(box, mode)))).reason == "tls"


async def test_the_wrong_kind_of_tls_is_told(servers: Servers) -> None:
    """TLS where the server speaks plainly is tls, and so is a ca_file that is not there."""
    box = servers.known.mailbox()
    plain = await refusal(observer(box, **secured(box, "tls", port=servers.known.port)))
    assert (plain.reason, "check tls, port" in plain.detail) == ("tls", True)
    missing = await refusal(observer(box, **secured(box, "tls", ca_file="/nowhere/ca.pem")))
    assert (missing.reason, "check ca_file" in missing.detail) == ("tls", True)

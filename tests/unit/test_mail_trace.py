"""Received and Authentication-Results: what trusted servers said is told, whatever else is written there."""

from __future__ import annotations

import time

import pytest

from prober.observers.mail import read_mail
from prober.observers.mail_trace import Authentication, authentication, receiver, stored_at

GOOGLE = (
    "mx.google.com;\n dkim=pass header.i=@target.example header.s=s1 header.b=AbC/d;\n"
    " spf=pass (google.com: domain of a@target.example designates 192.0.2.1 as permitted sender)"
    " smtp.mailfrom=a@target.example;\n dmarc=pass (p=NONE sp=NONE dis=NONE) header.from=target.example"
)
MICROSOFT = (
    "spf=pass (sender IP is 192.0.2.1) smtp.mailfrom=target.example; dkim=fail (body hash did not verify)"
    " header.d=target.example;dmarc=fail action=none header.from=target.example;compauth=fail reason=001"
)
EVERY = ("mx.google.com",)


def results(found: Authentication | None) -> dict[str, str]:
    assert found is not None
    return dict(found.results)


def test_googles_results_are_read() -> None:
    """With an authserv-id, comments, folds and properties."""
    found = authentication([GOOGLE], EVERY)
    assert results(found) == {"spf": "pass", "dkim": "pass", "dmarc": "pass"}
    assert str(found) == "mx.google.com: spf=pass dkim=pass dmarc=pass"
    assert found is not None
    assert not found.failed


def test_microsofts_results_are_read() -> None:
    """Which lack the authserv-id, against the standard, and are believed where that is configured only."""
    found = authentication([MICROSOFT], ("",))
    assert results(found) == {"spf": "pass", "dkim": "fail", "dmarc": "fail"}
    assert found is not None
    assert found.failed
    assert authentication([MICROSOFT], EVERY) is None


def test_only_the_topmost_of_a_trusted_server_counts() -> None:
    """What a sender wrote below in the same name, or anybody in another, is not believed."""
    forged = GOOGLE.replace("=pass", "=fail")
    assert results(authentication(["evil.example; spf=fail", GOOGLE, forged], EVERY))["spf"] == "pass"
    assert authentication([GOOGLE], ("mx.other.example",)) is None
    assert authentication([GOOGLE], ()) is None
    assert authentication(['"mx.google.com"; spf=pass', "(mx.google.com) evil; spf=pass"], EVERY) is None


@pytest.mark.parametrize(
    ("value", "failed"),
    [
        ("x; dmarc=pass; spf=fail; dkim=fail", False),
        ("x; dmarc=fail; spf=pass; dkim=pass", True),
        ("x; spf=fail; dkim=fail; dkim=pass", False),
        ("x; spf=softfail", True),
        ("x; dmarc=none; spf=pass", False),
        ("x; none", False),
        ("x 1; SPF/1 = Pass", False),
        ("x; spf=<script>; dkim=neverheardof", True),
    ],
)
def test_dmarc_decides_else_one_pass_is_enough(value: str, failed: bool) -> None:
    """A failed authentication is a warning; what cannot be understood passes for nothing."""
    found = authentication([value], ("x",))
    assert found is not None
    assert found.failed is failed


def test_nothing_foreign_comes_through() -> None:
    """Only known mechanisms and results are told, so that nothing of a message becomes a label or markup."""
    found = authentication(["x; spf=gotcha; evil=pass; dkim=pass"], ("x",))
    assert results(found) == {"spf": "other", "dkim": "pass"}


def test_hops_are_read_from_the_last() -> None:
    """Each Received names its server and time; one without either is passed over or has no name."""
    mail = read_mail(
        b"Received: from a (b [192.0.2.1]) by mx.example (Postfix) with ESMTP id 1 for <a@b>;\n"
        b"\tWed, 25 Nov 2026 09:00:02 +0100 (CET)\n"
        b"Received: (qmail 12 invoked by uid 0); 25 Nov 2026 08:00:01 -0000\n"
        b"Received: by nobody knows when\n\nbody\n"
    )
    assert mail.hops == (("mx.example", 1795593602.0), ("?", 1795593601.0))


@pytest.mark.parametrize(
    "value",
    ["(" * 100_000, '"' * 99_999, "\\" * 99_999, "a=b;" * 50_000, "by " * 50_000, "x;" + "(" * 4000 + "spf=pass"],
)
def test_hostile_headers_take_no_time(value: str) -> None:
    """Neither nesting nor length costs more than a moment, and nothing is raised."""
    began = time.process_time()
    authentication([value], ("x",))
    receiver(value)
    read_mail(f"Received: {value}\nAuthentication-Results: {value}\n\n".encode())
    assert time.process_time() - began < 2.0


def test_a_maildir_name_tells_its_time() -> None:
    """To the microsecond, where it has one; other GUIDs tell nothing."""
    assert stored_at("1795600010.Vfe00I20e15cM127232.vm") == 1795600010.127232
    assert stored_at("1795600010.M2P14444.tests") == 1795600010.000002
    for other in ("", "6b06b8d6a1b2c3d4e5f60718293a4b5c", "1795600010.tests", "M1.M2"):
        assert stored_at(other) is None

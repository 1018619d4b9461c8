"""What a target says went wrong is read whatever its shape, bounded and without secrets."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from prober.targets.problems import MOST_DETAIL, MOST_TITLE, Problem, clean, parse_json, phrase, read_problem


def _read(status: int, document: object, headers: dict[str, str] | None = None, hide: tuple[str, ...] = ()) -> Problem:
    return read_problem(status, headers or {}, json.dumps(document).encode(), hide)


def test_the_documented_envelope() -> None:
    """The envelope's first error gives title and detail, its meta the correlation id."""
    error = {
        "type": "about:blank",
        "title": "Unknown channel",
        "status": 400,
        "detail": "no channel x",
        "instance": "/",
    }
    told = _read(400, {"data": None, "meta": {"request_id": "r-1"}, "errors": [error, error]})
    assert told == Problem("Unknown channel", "no channel x (and 1 more)", "r-1")


def test_rfc_7807() -> None:
    """A problem document gives title, detail and trace id from its top level."""
    told = _read(409, {"type": "t", "title": "Too late", "status": 409, "detail": "it is sent", "traceId": "00-ab-1"})
    assert told == Problem("Too late", "it is sent", "00-ab-1")


def test_validation_findings() -> None:
    """Each finding of a request validation is told with its place, up to a bound."""
    finding = {"loc": ["body", "channels", 0], "msg": "not a uuid", "type": "uuid_parsing", "ctx": {"x": 1}}
    told = _read(422, {"detail": [finding]})
    assert (told.title, told.detail) == (phrase(422), "body.channels.0: not a uuid")
    assert _read(422, {"detail": [finding] * 9}).detail.endswith("(and 4 more)")


def test_routing_errors() -> None:
    """A plain detail that only repeats the status is told once."""
    assert _read(404, {"detail": "Not Found"}) == Problem("Not Found")
    assert _read(400, {"detail": "no such channel"}) == Problem("Bad Request", "no such channel")


@pytest.mark.parametrize(
    ("document", "words"),
    [
        ({"detail": {"message": "nested"}}, "nested"),
        ({"message": "plain"}, "plain"),
        ({"error": {"code": 7}}, '{"code": 7}'),
        ({"errors": ["just words"]}, "just words"),
        ({"errors": "one text"}, "one text"),
        ({"detail": ["a", {"msg": "b"}, {"loc": 3}]}, "a; b"),
        (["a list"], '["a list"]'),
    ],
)
def test_other_shapes(document: object, words: str) -> None:
    """What no contract names is told as far as it has words."""
    assert _read(500, document).detail == words


def test_no_json() -> None:
    """A page of a gateway is quoted from its beginning, on one line."""
    told = read_problem(502, {}, b"<html>\n<b>bad\x00\xff gateway</b>" + b"x" * 9000)
    assert told.title == "Bad Gateway"
    assert told.detail.startswith("<html> <b>bad")
    assert len(told.detail) <= MOST_DETAIL


def test_correlation_id_prefers_the_header() -> None:
    """The server's own header is the better correlation id."""
    assert _read(500, {"meta": {"request_id": "b"}}, {"x-correlation-id": "a"}).correlation_id == "a"


def test_secrets_are_hidden() -> None:
    """A secret that the other side repeats is never shown, nor cut in half by a bound."""
    told = _read(401, {"title": "bad s3cr3t-token", "detail": "x" * 990 + "s3cr3t-token", "traceId": "s3cr3t-token"},
                 hide=("s3cr3t-token",))  # fmt: skip
    assert "s3cr" not in repr(told)


def test_an_unknown_status_has_a_name() -> None:
    """A status that the standard does not know is named by its number."""
    assert _read(599, {}).title == "HTTP status 599"


def test_deep_nesting_is_no_json() -> None:
    """A body that nests without end is refused, not followed."""
    assert parse_json(b"[" * 200_000) is None


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(
            st.sampled_from(
                ["errors", "detail", "title", "meta", "request_id", "traceId", "loc", "msg", "message", "x"]
            ),
            inner,
            max_size=5,
        )
    ),
    max_leaves=20,
)


@given(st.integers(100, 999), _JSON.map(lambda value: json.dumps(value).encode()) | st.binary())
def test_it_never_raises(status: int, body: bytes) -> None:
    """Whatever the body is, the answer is bounded, printable and has a title."""
    told = read_problem(status, {}, body)
    assert 0 < len(told.title) <= MOST_TITLE
    assert len(told.detail) <= MOST_DETAIL
    assert (told.title + told.detail + told.correlation_id).isprintable()


@given(st.text(), st.integers(1, 50))
def test_clean_is_bounded(text: str, limit: int) -> None:
    """A cleaned text is one printable line within its limit."""
    assert len(clean(text, limit)) <= limit
    assert clean(text, limit).isprintable()

"""What strangers' messages may look like: ``key`` is what they carry, ``url`` what wants to be fetched."""

from __future__ import annotations

import base64
import quopri
from collections.abc import Mapping
from typing import Any

from tests.real.strangers import EVE, letter

Json = dict[str, Any]
MEGABYTE = 1_000_000
HUGE = 10**4000


def nested(value: Any, levels: int) -> Any:
    for level in range(levels):
        value = [value] if level % 2 else {"text": value}
    return value


def slack_messages(key: str, url: str) -> list[Json]:
    """Messages that a person sees on the channel, each with the key in it: of every subtype, and of wrong types."""
    text = f"hello {key} <{url}|{url}>"
    section = {"type": "section", "text": {"type": "mrkdwn", "text": text}}
    return [
        {"text": text},
        {"text": text, "subtype": "bot_message"},
        {"text": text, "subtype": "me_message"},
        {"text": "", "subtype": "file_share", "files": [{"title": text, "url_private": url, "permalink_public": url}]},
        {"text": 5, "blocks": [section, {"type": "image", "image_url": url, "alt_text": "x"}]},
        {"text": ["a", {"b": None}], "attachments": [{"fallback": text, "image_url": url, "title_link": url}, None, 7]},
        {"text": "x", "metadata": {"event_type": "t", "event_payload": {"k": text, "n": HUGE}}},
        {"text": text, "blocks": 5, "attachments": "none", "files": {"a": [None]}, "metadata": [1]},
        {"text": text, "user": {"id": 1}, "bot_id": 7, "app_id": [], "team": HUGE},
        {"text": text, "bot_id": "\ud800x\0", "username": "\x1b[31m|\r\n", "icons": {"image_48": url}},
        {"text": text, "thread_ts": 0, "edited": "x", "reactions": "many", "ts_": -1e308},
        {"text": "x", "blocks": nested(key, 20)},
        {"text": text, "blocks": nested("deep", 400), "metadata": nested(1, 400)},
        {"text": key, "unfurl_links": True, "attachments": [{"from_url": url, "original_url": url, "text": "\0"}]},
    ]


def slack_notices(key: str) -> list[Json]:
    """Messages that only tell of others: no person sees them as a message of their own on the channel."""
    return [
        {"text": key, "subtype": "channel_join"},
        {"text": key, "subtype": "tombstone", "hidden": True},
        {"text": key, "subtype": "thread_broadcast", "thread_ts": "1700000000.000100"},
        {"text": key, "thread_ts": "1700000000.000100"},
        {"text": key, "subtype": "pinned_item"},
        {"text": key, "subtype": {"message": "changed"}},
        {"text": key, "subtype": 17},
    ]


def slack_events(key: str) -> list[Json]:
    """Events about messages, which come as pushes alone."""
    message = {"type": "message", "text": key, "ts": "1700000000.000100", "user": "U0EVE"}
    return [
        {"subtype": "message_changed", "message": message, "previous_message": message, "hidden": True},
        {"subtype": "message_deleted", "previous_message": message, "deleted_ts": message["ts"]},
        {"subtype": "message_replied", "message": message},
        {"subtype": None, "text": key, "ts": 1700000000},
        {"text": key, "ts": None},
        {"text": key, "ts": "1e9"},
        {"type": ["message"], "text": key},
        {"channel": {"id": 1}, "text": key},
    ]


def discord_messages(key: str, url: str) -> list[Json]:
    """Messages that a person sees on the channel, each with the key in it: of every form, and of wrong types."""
    embed = {"description": key, "url": url, "image": {"url": url, "proxy_url": url}, "fields": [None, {"name": 1}]}
    text_display = {"type": 10, "content": key}
    button = {"type": 2, "style": 5, "label": key, "url": url}
    snapshot = {"message": {"type": 0, "content": key, "embeds": [], "attachments": []}}
    content = f"hello {key} {url}"
    return [
        {"content": content},
        {"content": content, "type": 19, "referenced_message": {"content": "x", "id": 5}},
        {"content": content, "type": 20, "interaction": {"name": "x"}},
        {"content": "", "embeds": [embed]},
        {"content": "", "components": [{"type": 17, "components": [text_display]}], "flags": 1 << 15},
        {"content": "", "components": [{"type": 1, "components": [button]}]},
        {"content": "", "attachments": [{"filename": f"{key}.png", "url": url, "proxy_url": url}]},
        {"content": "", "poll": {"question": {"text": key}, "answers": [{"poll_media": {"text": "yes"}}]}},
        {"content": "", "sticker_items": [{"id": "1", "name": key, "format_type": 1}]},
        {"content": "", "message_snapshots": [None, 5, snapshot], "message_reference": {"type": 1}},
        {"content": 5, "embeds": [None, {"title": key}, 7]},
        {"content": None, "embeds": key, "attachments": 5},
        {"content": content, "author": None, "webhook_id": {"a": 1}, "mentions": None, "flags": "x", "type": "0"},
        {"content": content, "author": {"id": "\ud800\0"}, "embeds": {"a": [None]}, "poll": 5, "sticker_items": True},
        {"content": content, "author": ["x"], "member": HUGE, "nonce": HUGE, "edited_timestamp": -1e308},
        {"content": content, "embeds": nested("deep", 400), "components": nested(None, 400)},
        {"content": content, "message_snapshots": {"message": 5}, "activity": "x", "flags": -(2**70)},
    ]


def discord_notices(key: str) -> list[Json]:
    """Messages of Discord's own that only tell of something."""
    blocked = {"type": "auto_moderation_message", "description": key, "fields": [{"name": "rule_name", "value": "x"}]}
    return [
        {"content": key, "type": 6},
        {"content": key, "type": 7},
        {"content": key, "type": 18},
        {"content": "", "type": 21, "referenced_message": {"content": key}},
        {"content": key, "type": 24, "embeds": [blocked]},
        {"content": key, "type": 46},
        {"content": key, "type": 10**6},
        {"content": key, "type": 2**80},
    ]


def _parts(*parts: bytes, kind: str = "mixed", boundary: str = "b") -> bytes:
    head = f"Content-Type: multipart/{kind}; boundary={boundary}\r\n\r\n".encode()
    line = f"--{boundary}\r\n".encode()
    return head + b"".join(line + part + b"\r\n" for part in parts) + f"--{boundary}--\r\n".encode()


def _entity(kind: str, body: bytes, encoding: str = "7bit") -> bytes:
    return f"Content-Type: {kind}\r\nContent-Transfer-Encoding: {encoding}\r\n\r\n".encode() + body


def _mail(entity: bytes, subject: str = "hello") -> bytes:
    return f"From: <{EVE}>\r\nSubject: {subject}\r\nMIME-Version: 1.0\r\n".encode() + entity


def sent_mails(key: str, url: str) -> list[bytes]:
    """Mails that SMTP takes, each with the key where it is read."""
    lure = f'<img src="{url}/pixel"><link rel="stylesheet" href="{url}/css"><iframe src="{url}"></iframe>{key}'.encode()
    external = _entity(f'message/external-body; access-type=URL; URL="{url}/body"', b"Content-Type: text/plain\r\n\r\n")
    requests = (
        f"List-Unsubscribe: <{url}/leave>\r\nList-Unsubscribe-Post: List-Unsubscribe=One-Click\r\n"
        f"Disposition-Notification-To: {EVE}\r\nContent-Location: {url}/self\r\nX-Confirm-Reading-To: {EVE}\r\n"
    )
    nest = _entity("text/plain", key.encode())
    for level in range(8):
        nest = _parts(nest, boundary=f"b{level}")
    return [
        letter(key, headers=requests),
        _mail(_parts(_entity("text/html", lure), external)),
        letter(subject=key, headers="X-Padding: " + ("x" * 900 + "\r\n ") * 3000 + "end\r\n"),
        letter(subject=key, headers="".join(f"X-{number}: {'y' * 900}\r\n" for number in range(2500))),
        letter(key, headers="To: " + ", \r\n ".join(f"a{n}+b@evil.example" for n in range(20_000)) + "\r\n"),
        _mail(nest),
    ]


def left_mails(key: str, url: str) -> list[bytes]:
    """Mails such as no server should take, each with the key where it is read."""
    octets = key.encode()
    line = b"All work and no play makes a dull mail of fifty megabytes, again and again and again.\r\n"
    bomb = base64.encodebytes(octets + b"\n" + b"\0" * MEGABYTE)
    deep = _entity("text/plain", b"the bottom")
    for level in range(50):
        deep = _parts(_entity("text/plain", octets), deep, boundary=f"b{level}")
    return [
        _mail(_entity("text/plain", octets + b"\r\n" + line * (50 * MEGABYTE // len(line)))),
        _mail(_entity("text/plain", bomb, "base64")),
        _mail(_parts(_entity("text/plain", octets), _entity("application/zip", bomb, "base64"))),
        _mail(deep),
        _mail(_parts(*[_entity("text/plain", octets)] * 2000)),
        _mail(_entity("text/plain; charset=utf-7", octets + b"+2AA-" * 1000)),
        _mail(_entity('text/plain; charset="no such\\charset"', octets + b"\xff\xfe\x00")),
        _mail(_entity("text/plain; charset=utf-16", octets + b"x" * (len(octets) % 2 + 1))),
        _mail(_entity("text/plain", b"\xff" * 9), subject=f"=?utf-7?q?{key}?= =?x?b?=?= =?utf-8?b?//?= =?idna?q?a?="),
        f"From: =?utf-7?q?a+2AA-b?=@evil.example\r\nTo: =?utf-7?q?x+2AA-+y?=@evil.example\r\n"
        f"Message-ID: <=?utf-7?q?a+2AA-?={url}\0@evil.example>\r\nSubject: {key}\0\r\n\r\n".encode(),
        b"Subject: " + octets + b" " + b"=?utf-8?q?x?= " * 1000 + b"\r\n\r\n",
        b"Subject: " + octets + b" " + b"(" * MEGABYTE + b"\r\nFrom: " + b"(" * MEGABYTE + b"\r\n\r\n",
        b"Content-Type: text/html\r\n\r\n" + octets + b"<" * MEGABYTE,
        b"Content-Type: text/html\r\n\r\n" + octets + b"&#x" + b"9" * MEGABYTE + b";",
        b"\r\n\r\n" + octets,
    ]


def disguised_mails(marker: str, says: str) -> Mapping[str, bytes]:
    """One marker as mail systems, templates and filters may mangle it; ``says`` is what must be readable beside it."""
    half = len(marker) // 2
    first, second = marker[:half], marker[half:]
    plain = _entity("text/plain", says.encode())
    markup = f"<p>{says}</p><p><b>{first}</b><!-- -->&#8203;<span class='x'>{second}</span></p>"
    soft = quopri.encodestring(f"{says}\n{'x' * (70 - half)}{marker}".encode()).replace(b"\n", b"\r\n")
    folded = f"=?utf-8?b?{base64.b64encode(first.encode()).decode()}?=\r\n =?utf-8?q?{second}?="
    broken = "\u200b".join([first, "\u202e".join(second), "\u2066\u200f"])
    percent = "".join(f"%{ord(letter):02x}" for letter in marker)
    entities = "".join(f"&#{ord(letter)};" for letter in marker)
    spelled = "".join(f"={ord(letter):02X}=\r\n" for letter in marker).encode()
    return {
        "split by tags": _mail(_entity("text/html", markup.encode())),
        "split by soft breaks": _mail(_entity("text/plain", soft, "quoted-printable")),
        "folded in the subject": _mail(plain, subject=folded),
        "strewn with what is invisible": _mail(_entity("text/plain; charset=utf-8", f"{says}\r\n{broken}".encode())),
        "in a link within a link": _mail(
            _entity(
                "text/html", f"<p>{says}</p><a href='http://x.example/?u=http%3A%2F%2Fy%2F{percent}'>x</a>".encode()
            )
        ),
        "as character references": _mail(_entity("text/html", f"<p>{says} {entities}</p>".encode())),
        "each letter encoded": _mail(_entity("text/plain", says.encode() + b"\r\n" + spelled, "quoted-printable")),
        "in capitals": _mail(_entity("text/plain", f"{says}\r\n{marker.upper()}".encode())),
        "in a header": _mail(plain).replace(b"Subject:", f"X-Probe: {marker}\r\nSubject:".encode()),
        "in the second part": _mail(
            _parts(plain, _entity("text/html", f"<i>{marker}</i>".encode()), kind="alternative")
        ),
    }


def bounce(marker: str) -> bytes:
    """A report that a mail could not be delivered, with that mail in it."""
    lost = _entity("message/rfc822", letter(marker, subject=marker))
    status = _entity("message/delivery-status", b"Action: failed\r\nStatus: 5.1.1\r\n")
    return _mail(_parts(_entity("text/plain", b"It could not be delivered."), status, lost, kind="report"))

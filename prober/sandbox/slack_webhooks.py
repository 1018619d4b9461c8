"""Slack's incoming webhooks for the sandbox: the product posts to a channel by a secret address, without a token."""

from __future__ import annotations

import hashlib
import json
from typing import Any

from aiohttp import web

from prober.sandbox.slack_workspace import Refusal, Workspace

_STATUSES = {"invalid_payload": 400, "no_text": 400, "no_service": 404, "channel_not_found": 404}


def webhook_path(workspace: Workspace, channel_id: str) -> str:
    """The path of a channel's webhook; its last part is the secret."""
    author = workspace.publisher
    secret = hashlib.sha256(f"{workspace.team_id} {author.bot_id} {channel_id}".encode()).hexdigest()[:24]
    return f"/services/{workspace.team_id}/{author.bot_id}/{channel_id}{secret}"


async def take_webhook(workspace: Workspace, request: web.Request) -> web.Response:
    """Post what the body says as the product; a channel named in it is ignored, as for Slack apps."""
    channel_id = request.match_info["secret"][:-24]
    try:
        if channel_id not in workspace.publisher.channels or request.path != webhook_path(workspace, channel_id):
            raise Refusal("no_service")
        payload = await _payload(request)
        wait = workspace.throttle("chat.postMessage", workspace.publisher, {"channel": channel_id})
        if wait > 0:
            return web.Response(status=429, text="rate_limited", headers={"Retry-After": str(int(wait) + 1)})
        body = {key: payload.get(key) for key in ("blocks", "attachments", "metadata")} | {"subtype": "bot_message"}
        text = str(payload.get("text") or "")
        if not (text or body["blocks"] or body["attachments"]):
            raise Refusal("no_text")
        workspace.append(workspace.publisher, channel_id, text, body)
    except Refusal as refusal:
        return web.Response(status=_STATUSES.get(str(refusal), 400), text=str(refusal))
    return web.Response(text="ok")


async def _payload(request: web.Request) -> dict[str, Any]:
    """The message as JSON, or as the form field ``payload`` that holds it."""
    try:
        form = request.content_type == "application/x-www-form-urlencoded"
        told = json.loads(str((await request.post())["payload"]) if form else await request.text())
    except (ValueError, KeyError):
        raise Refusal("invalid_payload") from None
    if not isinstance(told, dict):
        raise Refusal("invalid_payload")
    return told

"""``prober sandbox``: the embedded world alone, and how to look at it."""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from prober.cli.options import one_of
from prober.config import dump_configuration
from prober.errors import ConfigurationError, SandboxError
from prober.sandbox.launch import SandboxProcess, start_sandbox
from prober.sandbox.weather import load_weather

BOT_AGENT = "DiscordBot (https://prober.example, 1)"
"""Discord answers no bot that does not name itself in this form."""


def sandbox_command(weather: str | None, dialect: str, write: str | None, *, aws: bool = False) -> None:
    """Run until Ctrl-C. Raises ConfigurationError, SandboxError."""
    one_of("--dialect", dialect, ("documented", "seen"))
    if weather is not None:
        load_weather(weather)  # a wrong one is said before anything starts
    if write is not None and Path(write).exists():
        raise ConfigurationError("there is a file of this name already", "remove it, or name another", write,
                                 field="--write")  # fmt: skip
    try:
        asyncio.run(_run(weather, dialect, write, aws=aws))
    finally:
        if write is not None:
            Path(write).unlink(missing_ok=True)  # it names ports and secrets of a world that is gone


async def _run(weather: str | None, dialect: str, write: str | None, *, aws: bool) -> None:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    async with start_sandbox(weather, dialect, aws=aws) as sandbox:
        text = dump_configuration(sandbox.configuration)
        if write is None:
            sys.stdout.write(text)
            sys.stdout.flush()
        else:
            _write(Path(write), text)
        sys.stderr.write(_guide(sandbox, write) + "\n")
        ended = asyncio.ensure_future(sandbox.wait())
        stopped = asyncio.ensure_future(stop.wait())
        await asyncio.wait({ended, stopped}, return_when=asyncio.FIRST_COMPLETED)
        for waiting in (ended, stopped):
            waiting.cancel()
        if not stop.is_set():
            raise SandboxError("the sandbox has ended by itself")


def _write(path: Path, text: str) -> None:
    try:
        path.touch(mode=0o600, exist_ok=False)
        path.write_text(text, encoding="utf-8")
    except OSError as error:
        raise ConfigurationError(f"cannot be written: {error.strerror}", "name another", str(path),
                                 field="--write") from error  # fmt: skip


def _guide(sandbox: SandboxProcess, write: str | None) -> str:
    """How to use it and how to look at it."""
    conf: Mapping[str, Any] = sandbox.configuration
    target, mailbox = conf["target"], conf["observers"]["mailbox-1"]
    slack, discord = conf["observers"]["slack"], conf["observers"]["discord"]
    channels = conf["channels"]
    file = write or "prober.yaml"
    lines = [
        f"The sandbox runs: world {sandbox.world_id}, loopback only, until Ctrl-C.",
        f"The configuration {'in ' + write if write else 'above, saved as ' + file + ','} points at it:",
        f"  prober run alert-latency --config {file} --ledger ledger.sqlite --no-sweep",
        "Look at it:",
        f"  curl -H 'Authorization: Bearer {target['token']}' {target['url']}/publications",
        f"  curl -H 'Authorization: Bearer {slack['bot_token']}' "
        f"'{slack['api_url']}conversations.history?channel={channels['slack']['address']}'",
        f"  curl -A '{BOT_AGENT}' -H 'Authorization: Bot {discord['token']}' "
        f"{discord['api_url']}/channels/{channels['discord']['address']}/messages",
        f"  curl --user '{mailbox['username']}:{mailbox['password']}' "
        f"'imap://{mailbox['host']}:{mailbox['port']}/INBOX;MAILINDEX=1'",
        f"  any mail client: IMAP on {mailbox['host']} port {mailbox['port']}, no TLS, that user and password",
        "The truth (when each message became visible), and the weather while it runs:",
        f"  curl -H 'Authorization: Bearer {sandbox.control_token}' {sandbox.control_url}/truth",
        f"  curl -H 'Authorization: Bearer {sandbox.control_token}' -X POST {sandbox.control_url}/weather "
        '-d \'{"channels": {"slack": {"loss": 0.5}}}\'',
        *_aws_guide(sandbox, conf["observers"].get("ses")),
    ]
    return "\n".join(lines)


def _aws_guide(sandbox: SandboxProcess, ses: Mapping[str, Any] | None) -> list[str]:
    """How to look at AWS, where there is one."""
    if ses is None:
        return []
    address, url = sandbox.configuration["channels"]["email-s3"]["address"], ses["endpoint_url"]

    def curl(service: str, rest: str) -> str:
        keys = f"{ses['access_key_id']}:{ses['secret_access_key']}"
        return f"  curl --aws-sigv4 aws:amz:{ses['region']}:{service} --user {keys} {rest}"

    return [
        f"Mail to {address} lies in a bucket, told of in a queue; SES tells of all mail in another, which",
        "the prober empties, and holds back mail to each address that has bounced:",
        curl("s3", f"'{url}/{ses['bucket']}?list-type=2&prefix={ses['prefix']}'"),
        curl("ses", f"{url}/v2/email/suppression/addresses"),
        curl("ses", f"-X DELETE {url}/v2/email/suppression/addresses/{address}"),
        f"  curl -H 'Authorization: Bearer {sandbox.control_token}' -X POST {sandbox.control_url}/weather "
        '-d \'{"channels": {"email-s3": {"feedback": {"bounce": 1}}}}\'',
    ]

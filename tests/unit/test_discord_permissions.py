"""What a bot may do in a Discord channel: the rules of Discord's documentation, one by one."""

from __future__ import annotations

from typing import Any

import pytest

from prober.observers.discord_permissions import (
    NEEDED,
    READ_MESSAGE_HISTORY,
    SEND_MESSAGES,
    VIEW_CHANNEL,
    missing,
    permissions,
)

GUILD, BOT, ROLE, OTHER = "1", "2", "3", "4"
ALL = VIEW_CHANNEL | SEND_MESSAGES | READ_MESSAGE_HISTORY
ADMINISTRATOR = 1 << 3


def held(everyone: int, *overwrites: tuple[str, int, int], role: int = 0, roles: tuple[str, ...] = (ROLE,),
         owner: str = "9") -> int:  # fmt: skip
    """The bits of a bot with these roles; an overwrite is whose, what it allows, what it denies."""
    guild = {"id": GUILD, "owner_id": owner, "roles": [{"id": GUILD, "permissions": str(everyone)},
                                                       {"id": ROLE, "permissions": str(role)},
                                                       {"id": OTHER, "permissions": str(ADMINISTRATOR)}]}  # fmt: skip
    member = {"user": {"id": BOT}, "roles": list(roles)}
    told = [{"id": whose, "allow": str(allow), "deny": str(deny)} for whose, allow, deny in overwrites]
    return permissions(guild, member, {"permission_overwrites": told})


@pytest.mark.parametrize(
    ("bits", "lacking"),
    [
        (held(ALL), []),
        (held(0, role=ALL), []),
        (held(0, role=ALL, roles=()), list(NEEDED)),
        (held(ALL, (GUILD, 0, SEND_MESSAGES)), ["Send Messages"]),
        (held(ALL, (GUILD, 0, SEND_MESSAGES), (ROLE, SEND_MESSAGES, 0)), []),
        (held(ALL, (ROLE, SEND_MESSAGES, 0), (BOT, 0, SEND_MESSAGES)), ["Send Messages"]),
        (held(ALL, (ROLE, 0, READ_MESSAGE_HISTORY), (BOT, READ_MESSAGE_HISTORY, 0)), []),
        (held(ALL, (OTHER, 0, ALL)), []),
        (held(ALL, (GUILD, 0, VIEW_CHANNEL)), list(NEEDED)),
        (held(ADMINISTRATOR, (BOT, 0, ALL)), []),
        (held(0, (BOT, 0, ALL), owner=BOT), []),
        (held(SEND_MESSAGES | READ_MESSAGE_HISTORY), list(NEEDED)),
    ],
)
def test_the_rules(bits: int, lacking: list[str]) -> None:
    """Roles add up; overwrites for everyone, then for roles, then for the member; without View Channel nothing."""
    assert missing(bits) == lacking


def test_among_roles_an_allowance_wins() -> None:
    """Overwrites of several roles are taken together, and what one allows the others do not deny."""
    roles = (ROLE, "5")
    told = ((ROLE, 0, SEND_MESSAGES), ("5", SEND_MESSAGES, 0))
    for order in (told, told[::-1]):
        assert missing(held(ALL, *order, roles=roles)) == []


@pytest.mark.parametrize("channel", [{}, {"permission_overwrites": None}, {"permission_overwrites": []}])
def test_a_channel_without_overwrites(channel: dict[str, Any]) -> None:
    """The guild's permissions hold."""
    guild = {"id": GUILD, "roles": [{"id": GUILD, "permissions": str(ALL)}]}
    assert missing(permissions(guild, {"user": {"id": BOT}, "roles": []}, channel)) == []


@pytest.mark.parametrize(
    "guild",
    [{}, {"id": "1"}, {"id": "1", "roles": 7}, {"id": "1", "roles": ["x"]},
     {"id": "1", "roles": [{"id": "1", "permissions": "many"}]}],
)  # fmt: skip
def test_what_is_not_discords_is_refused(guild: dict[str, Any]) -> None:
    """Answers of another shape raise what the examination knows, and nothing else."""
    with pytest.raises((TypeError, ValueError, KeyError, AttributeError)):
        permissions(guild, {"user": {"id": BOT}, "roles": []}, {})

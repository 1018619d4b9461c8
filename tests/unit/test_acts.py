"""What adapters do of their own accord: noted with its answer, and gathered where it is done again and again."""

from __future__ import annotations

import pytest

from prober.acts import GATHERED, Act, Acts, place_of
from prober.errors import OwnFault, Unreadable
from prober.sandbox.manual_clock import START, ManualClock


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


async def test_an_act_is_told_once_with_its_instants_and_answer(clock: ManualClock) -> None:
    """When it began, when it was answered, and how."""
    acts = Acts(clock)
    with acts.asking("token", "POST https://login.example/token", "refresh_token") as told:
        await clock.advance(2)
        told += ["granted for 3600 s", "refresh token replaced, kept in its file"]
    assert acts.take() == (
        Act("token", "POST https://login.example/token", "refresh_token", began=START, ended=START + 2,
            answer="granted for 3600 s, refresh token replaced, kept in its file"),
    )  # fmt: skip
    assert acts.take(whole=True) == ()


@pytest.mark.parametrize("error", [OwnFault("no connection"), Unreadable("timeout", "not in time")])
async def test_a_refusal_is_an_answer_and_anything_else_leaves_it_open(clock: ManualClock, error: Exception) -> None:
    """What was refused says so; what was cut off may have been done or not."""
    acts = Acts(clock)
    with pytest.raises(type(error)), acts.asking("control", "slack", ""):
        raise error
    with pytest.raises(KeyboardInterrupt), acts.asking("control", "discord", ""):
        raise KeyboardInterrupt
    failed, cut = acts.take()
    assert (failed.place, failed.answer, failed.ended) == ("slack", f"failed: {error}", START)
    assert (cut.place, cut.answer, cut.ended) == ("discord", "", None)


async def test_what_is_done_again_and_again_is_gathered(clock: ManualClock) -> None:
    """The first is told at once, the others together once a minute, what differs by itself, and at the end all."""
    acts = Acts(clock)
    numbers: list[int] = []
    for _ in range(170):
        with acts.asking("forget", "mail", "a notification", 10) as told:
            told.append("deleted")
        numbers += [act.number for act in acts.take()]
        await clock.advance(1)
    assert numbers[0] == 10
    assert len(numbers) == 1 + int(170 / GATHERED)
    with acts.asking("forget", "mail", "a notification") as told:
        told.append("deleted but for 1")
    (other,) = acts.take()
    assert other.answer == "deleted but for 1"
    (last,) = acts.take(whole=True)
    assert sum(numbers) + last.number == 1700
    assert last.began < (last.ended or 0.0) < clock.now().wall


async def test_what_could_not_be_put_on_record_is_kept(clock: ManualClock) -> None:
    """Given back, it comes again, together with what was done since."""
    acts = Acts(clock)
    for number in (1, 2):
        with acts.asking("forget", "mail", "a notification", number) as told:
            told.append("deleted")
    acts.add(acts.take())
    assert acts.take() == ()
    await clock.advance(GATHERED)
    (act,) = acts.take()
    assert act.number == 3


def test_a_place_shows_no_secret() -> None:
    """Neither credentials nor a query."""
    assert place_of("POST", "https://me:canary@login.example:8443/t?secret=canary") == (
        "POST https://login.example:8443/t"
    )

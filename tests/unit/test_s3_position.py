"""Where a bucket has been read up to: each object once, none passed over, in bounded room."""

from __future__ import annotations

from collections.abc import Iterable

from hypothesis import given, settings
from hypothesis import strategies as st

from prober.observers.s3_position import LIFECYCLE, MARGIN, MOST_KNOWN, Position, beginning, fingerprint, load_position

PLACE = "eu-west-1/b/inbound/"
NOW = 1_800_000_000


def lacking(position: Position, objects: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
    """Those of the objects that are new."""
    names = position.names()
    return [(key, at) for key, at in objects if at >= position.floor and fingerprint(key) not in names]


def lacks(position: Position, key: str, modified: int) -> bool:
    return bool(lacking(position, [(key, modified)]))


def test_what_was_there_is_behind_and_the_rest_is_ahead() -> None:
    """After a beginning no listed object is new, and each other one of the same second or later is."""
    position = beginning(PLACE, [("a", NOW - 10_000), ("b", NOW - 5), ("c", NOW)], NOW)
    assert not any(lacks(position, key, at) for key, at in (("a", NOW - 10_000), ("b", NOW - 5), ("c", NOW)))
    assert lacks(position, "d", NOW)
    assert lacks(position, "e", NOW - MARGIN)


def test_an_empty_bucket_passes_nothing_over() -> None:
    """Of a bucket that was empty in the beginning everything is new, whatever S3's clock says."""
    position = beginning(PLACE, [], NOW)
    assert lacks(position, "a", 1)


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(st.integers(0, 40), st.integers(0, 3)), max_size=60))
def test_each_object_is_read_once_in_whatever_order_it_appears(arrivals: list[tuple[int, int]]) -> None:
    """Objects that appear within the margin of newer ones are read, once, also across saved cursors."""
    position = beginning(PLACE, [], NOW)
    listed: list[tuple[str, int]] = []
    read: list[str] = []
    for number, (behind, batch) in enumerate(arrivals):
        listed.append((f"{number}", NOW + number - behind))
        if batch == 0:
            new = lacking(position, listed)
            read += [key for key, _ in new]
            again = load_position(position.advanced(new, NOW).saved(), PLACE)
            assert again is not None
            position = again
    new = lacking(position, listed)
    assert sorted([*read, *(key for key, _ in new)], key=int) == [key for key, _ in listed]


def test_the_cursor_stays_bounded() -> None:
    """However many objects come, a bounded number is remembered, and none of them is read again."""
    objects = [(f"{number}", NOW + number // 100) for number in range(3 * MOST_KNOWN)]
    position = beginning(PLACE, objects, NOW + 10_000)
    assert len(position.names()) <= MOST_KNOWN
    assert not lacking(position, objects)
    assert len(position.saved()) < 40 * MOST_KNOWN


def test_one_second_is_never_torn() -> None:
    """All objects of the newest second are remembered, however many they are: none of it may be read twice."""
    objects = [(f"{number}", NOW) for number in range(MOST_KNOWN + 10)]
    position = beginning(PLACE, objects, NOW)
    assert not lacking(position, objects)
    assert lacks(position, "one more", NOW)


def test_an_object_of_the_future_hides_nothing() -> None:
    """One stamp of a clock that was wrong does not put what comes next behind."""
    position = beginning(PLACE, [("future", NOW + 1_000_000)], NOW)
    assert lacks(position, "next", NOW)
    assert not lacks(position, "future", NOW + 1_000_000)


def test_a_gap_that_a_lifecycle_rule_fits_into_breaks_coverage() -> None:
    """After a day without a read objects may have come and gone."""
    position = beginning(PLACE, [], NOW)
    assert position.lasts(NOW + LIFECYCLE - 1)
    assert not position.lasts(NOW + LIFECYCLE + 1)


def test_a_cursor_of_elsewhere_is_lost() -> None:
    """A cursor of another place, of another form, or none at all is no position."""
    saved = beginning(PLACE, [("a", NOW)], NOW).saved()
    assert load_position(saved, PLACE) == beginning(PLACE, [("a", NOW)], NOW)
    assert load_position(saved, "elsewhere") is None
    assert load_position(None, PLACE) is None
    assert load_position(saved[:-5], PLACE) is None
    assert load_position(saved.replace('"version":1', '"version":2'), PLACE) is None
    assert load_position('{"version":1,"place":"' + PLACE + '","floor":0,"known":[1],"read_at":0}', PLACE) is None

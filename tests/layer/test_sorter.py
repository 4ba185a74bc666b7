"""Sorted in bounded memory: the same whether it fits or waits on disk."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from builder.layer.sorter import Listing, Sorter


def items(count: int) -> list[bytes]:
    rng = random.Random(count)
    return [b"%d" % rng.randrange(10**9) + bytes(rng.randrange(200)) for _ in range(count)]


@pytest.mark.parametrize("count", [0, 1, 10, 400_000])
@pytest.mark.parametrize("order", ["shuffled", "sorted", "reversed"])
def test_what_comes_in_any_order_is_given_back_sorted(
    tmp_path: Path, count: int, order: str
) -> None:
    given = items(count)
    wanted = sorted(given)
    if order != "shuffled":
        given = wanted if order == "sorted" else wanted[::-1]
    sorter = Sorter(str(tmp_path))
    for item in given:
        sorter.add(item)
    assert bool(sorter) == bool(count)
    assert list(sorter) == wanted
    assert list(sorter) == wanted, "a second time"
    assert os.listdir(tmp_path) == []
    sorter.close()


def test_two_readers_do_not_disturb_each_other(tmp_path: Path) -> None:
    sorter = Sorter(str(tmp_path))
    for item in items(300_000):
        sorter.add(item)
    assert all(one == other for one, other in zip(sorter, sorter, strict=True))
    sorter.close()


def test_items_larger_than_a_run_are_kept(tmp_path: Path) -> None:
    sorter = Sorter(str(tmp_path))
    for letter in (b"c", b"a", b"b"):
        sorter.add(letter * (30 << 20))
    assert [item[:1] for item in sorter] == [b"a", b"b", b"c"]
    sorter.close()


def test_a_listing_keeps_the_order() -> None:
    given = items(50_000)
    listing = Listing(given)
    assert list(listing) == given
    assert list(Listing([])) == []

"""A chunk that is sent again is stored once, and acknowledged when the first copy is durable."""

from __future__ import annotations

import errno

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.store.store_kit import SMALL, Disk, blob, crash, number, written
from wendelin_stream.errors import Corrupt, Retry
from wendelin_stream.store import IDX, Chunk, Flag, Part, Store, StoreConfig
from wendelin_stream.store.dedupe import Window, producer_positions


def test_S11_a_known_chunk_is_acknowledged_again_and_not_stored(store_path):
    told = []
    with Store(store_path, SMALL) as store:
        writer = store.writer("a", "bytes")
        assert not writer.known(number(1))
        assert not writer.append(blob(b"once", chunk_id=number(1))).wait(5).duplicate
        again = writer.append(blob(b"once", chunk_id=number(1)), told.append).wait(5)
        assert (again.duplicate, again.end, writer.end) == (True, 4, 4)
        assert told == [again]
        assert writer.known(number(1))


def test_S31_a_repeat_of_a_pending_chunk_waits_for_the_first_copy(store_path):
    """Two connections may bring the same chunk; neither is acknowledged before it is durable."""
    disk = Disk()
    store = Store(store_path, SMALL, fs=disk)
    writer = store.writer("a", "bytes")
    disk.syncs.clear()
    before = disk.writes
    tickets = [writer.append(blob(b"x", chunk_id=number(1))) for _ in range(3)]
    written(disk, before + 2)
    assert not any(ticket.done for ticket in tickets)
    disk.syncs.set()
    assert [ticket.wait(5).duplicate for ticket in tickets] == [False, True, True]
    assert {ticket.end for ticket in tickets} == {writer.end} == {1}
    store.close()


@pytest.mark.parametrize(("operation", "error"), [("pwritev", Retry), ("fdatasync", Corrupt)])
def test_S17_a_repeat_of_a_chunk_that_fails_fails_too(store_path, operation, error, caplog):
    """And the id is free again, so that a later copy is stored."""
    disk = Disk()
    store = Store(store_path, SMALL, fs=disk)
    writer = store.writer("a", "bytes")
    disk.syncs.clear()
    writer.append(blob(b"0"))
    tickets = [writer.append(blob(b"x", chunk_id=number(1))) for _ in range(2)]
    disk.fail = lambda op, call: errno.EIO if op == operation else None
    if operation == "pwritev":
        tickets = [writer.append(blob(b"y", chunk_id=number(2))) for _ in range(2)]
    disk.syncs.set()
    for ticket in tickets:
        with pytest.raises(error):
            ticket.wait(5)
    assert not writer.known(tickets[0].chunk.chunk_id)
    disk.fail = lambda op, call: None
    store.close()


def test_S31_the_ids_are_rebuilt_from_the_index(store_path):
    """After a restart, also after a crash, a repeat is dropped."""
    with Store(store_path, SMALL) as store:
        for k in range(10):
            store.writer("a", "bytes").append(blob(b"x", b"y", chunk_id=number(k), producer=k % 3, position=k))
    disk = Disk()
    store = Store(store_path, SMALL, fs=disk)
    writer = store.writer("a")
    assert all(writer.known(number(k)) for k in range(10))
    assert not writer.known(number(10))
    assert [writer.position(p) for p in (0, 1, 2, 3)] == [None, 7, 8, None]
    disk.syncs.clear()
    before = disk.writes
    writer.append(blob(b"z", chunk_id=number(10), producer=7, position=70))
    written(disk, before + 2)
    crash(store, disk)
    with Store(store_path, SMALL) as store:
        assert store.writer("a").known(number(10))
        assert store.writer("a").position(7) == 70


def test_S32_only_the_last_ids_are_remembered(store_path):
    """The window is bounded: an older chunk is stored again. (It is cleared in steps, so a few more may be known.)"""
    with Store(store_path, StoreConfig(dedupe=3, keep_free=0)) as store:
        writer = store.writer("a", "bytes")
        for k in range(8):
            writer.append(blob(b"x", chunk_id=number(k))).wait(5)
        assert [writer.known(number(k)) for k in (0, 1, 5, 6, 7)] == [False, False, True, True, True]
        assert not writer.append(blob(b"x", chunk_id=number(0))).wait(5).duplicate


def test_without_a_window_only_pending_repeats_are_dropped(store_path):
    with Store(store_path, StoreConfig(dedupe=0, keep_free=0)) as store:
        writer = store.writer("a", "bytes")
        first, second = (writer.append(blob(b"x", chunk_id=number(1))) for _ in range(2))
        assert (first.wait(5).duplicate, second.wait(5).duplicate) == (False, True)
        assert not writer.append(blob(b"x", chunk_id=number(1))).wait(5).duplicate


def test_chunks_without_an_id_are_never_repeats(store_path):
    with Store(store_path, SMALL) as store:
        writer = store.writer("a", "bytes")
        assert [writer.append(blob(b"x")).wait(5).end for _ in range(3)] == [1, 2, 3]


@given(st.lists(st.lists(st.integers(0, 60), max_size=8), max_size=20), st.integers(1, 20))
def test_the_window_is_that_of_a_plain_list(groups, size):
    """Whatever moves between set and array: the last `size` different ids are known, and no others but recent ones."""
    window, order = Window(size), []
    for group in groups:
        fresh = [k for k in dict.fromkeys(group) if k not in order[-size:]]
        window.add(map(number, fresh))
        order += fresh
    assert all(number(k) in window for k in order[-size:])
    assert not any(number(k) in window for k in range(61, 70))
    assert not any(number(k) in window for k in set(order[: -2 * size]) - set(order[-2 * size :]))


@given(st.lists(st.integers(0, 30), max_size=40), st.integers(1, 20), st.integers(1, 7))
def test_the_window_filled_from_index_blocks_is_that_of_adding(ks, size, block):
    """Blocks of records come newest first; no id counts for nothing, a chunk of several records once."""
    ks = list(dict.fromkeys(ks))
    each = [(k, more) for k in ks for more in [True] * (k % 3) + [False]]
    index = np.zeros(len(each), IDX)
    for record, (k, more) in zip(index, each, strict=True):
        record["chunk_id"] = np.void(number(k) if k else bytes(16))
        record["flags"] = Flag.MORE if more else 0
    blocks = [index[at : at + block] for at in range(0, len(index), block)]
    window = Window(size)
    window.fill(reversed(blocks))
    named = [k for k in ks if k]
    assert {k for k in ks if k and number(k) in window} == set(named[-size:])


def test_ids_that_share_their_first_half_are_told_apart():
    """64 bits find the place, all 128 decide."""
    ids = [b"same----" + bytes([k] * 8) for k in range(10)]
    window = Window(10)
    window.add([*ids[:9], b"zzzzzzzz" * 2])
    assert all(i in window for i in ids[:9])
    assert ids[9] not in window


@given(st.lists(st.tuples(st.integers(0, 4), st.integers(0, 100), st.booleans()), max_size=30), st.integers(1, 7))
def test_positions_are_those_of_each_producers_last_finished_chunk(told, block):
    index = np.zeros(len(told), IDX)
    for record, (producer, position, more) in zip(index, told, strict=True):
        record["producer"], record["position"], record["flags"] = producer, position, 32 if more else 0
    blocks = [index[at : at + block] for at in range(0, len(index), block)]
    expected = {producer: position for producer, position, more in told if producer and not more}
    assert producer_positions(reversed(blocks)) == expected


@pytest.mark.parametrize("count", [40_000])
def test_a_long_stream_keeps_its_ids_in_sorted_arrays(store_path, count):
    """More ids than the set takes: nothing is forgotten within the window, before and after a restart."""
    config = StoreConfig(keep_free=0, group="64 KiB")
    with Store(store_path, config) as store:
        writer = store.writer("a", "bytes")
        tickets = [writer.append(Chunk([Part([])], k.to_bytes(16, "big"))) for k in range(1, count)]
        tickets[-1].wait(30)
        assert all(writer.known(k.to_bytes(16, "big")) for k in range(1, count, 97))
        assert writer.append(Chunk([Part([])], (5).to_bytes(16, "big"))).wait(5).duplicate
    with Store(store_path, config) as store:
        writer = store.writer("a")
        assert all(writer.known(k.to_bytes(16, "big")) for k in range(1, count, 97))
        assert not writer.known(count.to_bytes(16, "big"))

"""Records come back as they were, or not at all."""

from __future__ import annotations

import random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builder.events import Event, Warned
from builder.oci import media
from builder.oci.digest import CacheKey, DiffID, digest_of
from builder.oci.image import Descriptor, encode
from builder.store import records
from builder.store.records import LayerInfo, Record
from builder.store.store import Store

KEY = CacheKey("a" * 64)
DIFF_ID = DiffID(str(digest_of(b"layer")))
BLOB = Descriptor(media.LAYER_GZIP, digest_of(b"blob"), 4)


@pytest.mark.parametrize("record", [Record(DIFF_ID, 1.25, 17), Record(None, 0.0, 17)])
def test_a_record_comes_back(store: Store, record: Record) -> None:
    records.save_record(store, KEY, record)
    assert records.load_record(store, KEY) == record


def test_a_layer_comes_back(store: Store) -> None:
    info = LayerInfo(DIFF_ID, 10240, {"gzip": BLOB, "none": BLOB})
    records.save_layer(store, info)
    assert records.load_layer(store, DIFF_ID) == info


@pytest.mark.parametrize("size", [1, 100_000])
def test_a_document_comes_back_and_a_large_one_is_compressed(store: Store, size: int) -> None:
    document = encode({"entries": ["x" * size]})
    records.save_document(store, KEY, document)
    assert records.load_document(store, KEY) == document
    assert len(store.load("documents", KEY) or b"") < 4096


@pytest.mark.parametrize(
    "garbage",
    [b"", b"null", b"[]", b"{}", b"\xff", b'{"diff_id":1}', b"[" * 100_000, b"\x78\x01junk"],
)
def test_garbage_is_a_miss_and_one_warning(
    store: Store, events: list[Event], garbage: bytes
) -> None:
    store.save("records", KEY, garbage)
    store.save("layers", DIFF_ID[-64:], garbage)
    for _ in range(2):
        assert records.load_record(store, KEY) is None
        assert records.load_layer(store, DIFF_ID) is None
    assert [type(event) for event in events] == [Warned] * 2


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)
FIELDS = sorted({*Record._fields, *LayerInfo._fields})


@settings(
    max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(document=st.dictionaries(st.sampled_from(FIELDS), JSON))
def test_no_document_raises(store: Store, document: dict[str, object]) -> None:
    for decode in (records._record, records._layer):
        decode(document)


def test_a_document_that_expands_without_end_is_cut(store: Store) -> None:
    import zlib

    store.save("documents", KEY, zlib.compress(bytes(records.MAX_DOCUMENT + 1)))
    assert records.load_document(store, KEY) is None


def test_random_flips_never_give_another_record(store: Store) -> None:
    from pathlib import Path

    record = Record(DIFF_ID, 1.25, 17)
    records.save_record(store, KEY, record)
    path = Path(store.root, "records", KEY)
    data = path.read_bytes()
    chance = random.Random(7)
    for _ in range(200):
        flipped = bytearray(data)
        flipped[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
        path.write_bytes(flipped)
        assert records.load_record(store, KEY) is None

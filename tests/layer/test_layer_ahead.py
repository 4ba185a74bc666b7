"""Reading ahead gives the same bytes and errors, and leaves no thread."""

from __future__ import annotations

import io
import threading
from typing import BinaryIO, cast

import pytest

from builder.errors import LayerError
from builder.layer.ahead import ahead, runs_ahead
from builder.layer.compress import codec_of
from builder.layer.decompress import open_layer

DATA = bytes(range(256)) * 40_000  # about 10 MB


def threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "ahead"]


@pytest.mark.parametrize("size", [1, 512, 1 << 20, 3 << 20, -1])
def test_the_bytes_are_the_same(size: int) -> None:
    data = DATA if size != 1 else DATA[:5000]
    with ahead(io.BytesIO(data)) as stream:
        assert b"".join(iter(lambda: stream.read(size), b"")) == data
        assert stream.read(1) == b""
    assert not threads()


def test_an_error_comes_where_its_bytes_would() -> None:
    member = codec_of("gzip").compress(DATA)
    read = 0
    short = open_layer(cast(BinaryIO, io.BytesIO(member[: len(member) // 2])), "gzip")
    with pytest.raises(LayerError, match="cut short"), ahead(short) as stream:
        while data := stream.read(1 << 20):
            assert data == DATA[read : read + len(data)]
            read += len(data)
    assert read
    assert not threads()


def test_who_stops_early_waits_for_nothing() -> None:
    with ahead(io.BytesIO(DATA)) as stream:
        assert stream.read(3) == DATA[:3]
    with pytest.raises(KeyboardInterrupt), ahead(io.BytesIO(DATA)):
        raise KeyboardInterrupt
    assert not threads()


@pytest.mark.parametrize("codec", ["gzip", "zstd", "none"])
def test_runs_of_known_size_are_put_together_in_order(codec: str) -> None:
    made = codec_of(codec)
    pieces = [DATA[at : at + 700_001] for at in range(0, len(DATA), 700_001)] + [b"end"]
    runs = [made.compress(piece) for piece in pieces]
    known = [(len(run), len(piece)) for run, piece in zip(runs, pieces, strict=True)]

    def read(stream: bytes, known: list[tuple[int, int]]) -> bytes:
        with runs_ahead(io.BytesIO(stream), known, made.decompress) as opened:
            return opened.read()

    whole = b"".join(runs)
    assert read(whole, known) == DATA + b"end"
    with pytest.raises(LayerError, match="damaged"):
        read(whole, [*known[:-1], (known[-1][0], 4)])
    with pytest.raises(LayerError, match="longer than its runs"):
        read(whole, known[:-1])
    if codec != "none":
        with pytest.raises(LayerError, match="damaged"):
            read(whole[: -len(runs[-1])] + bytes(len(runs[-1])), known)
        with pytest.raises(LayerError, match="damaged"):
            read(whole[:-1], known)
    assert not threads()

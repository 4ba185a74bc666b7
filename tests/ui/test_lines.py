"""A program's bytes become lines."""

from __future__ import annotations

import pytest

from builder.events import Lines


def lines_of(*chunks: bytes) -> list[str]:
    got: list[str] = []
    lines = Lines(got.append)
    for chunk in chunks:
        lines.feed(chunk)
    lines.close()
    return [line for text in got for line in text.split("\n")]


@pytest.mark.parametrize(
    ("chunks", "expected"),
    [
        ([b"a\nb\n"], ["a", "b"]),
        ([b"a", b"b\n\n", b"c"], ["ab", "", "c"]),
        ([b"dos\r\n"], ["dos"]),
        ([b"dos\r", b"\n"], ["dos"]),
        ([b" 1%\r 50%\r100%\n"], ["100%"]),
        ([b" 1%\r", b" 50%\r", b"100%\r"], ["100%"]),
        ([b"wait\r", b"done\n"], ["done"]),
        ([b"\xe2\x82", b"\xac\n"], ["€"]),
        ([b"caf\xe9\n"], ["caf\\xe9"]),
        ([b"nul\0 stays for the renderer\n"], ["nul\0 stays for the renderer"]),
        ([], []),
        ([b"\r"], []),
    ],
)
def test_chunks_become_lines(chunks: list[bytes], expected: list[str]) -> None:
    assert lines_of(*chunks) == expected


def test_a_line_is_given_as_soon_as_it_ended() -> None:
    got: list[str] = []
    lines = Lines(got.append)
    lines.feed(b"first\nsec")
    assert got == ["first"]


def test_lines_that_come_together_are_given_together() -> None:
    got: list[str] = []
    Lines(got.append).feed(b"\nfirst\nsecond\n\n\xff\n")
    assert got == ["\nfirst\nsecond\n\n\\xff"]


def test_an_endless_line_comes_in_pieces_and_loses_nothing() -> None:
    text = "ä" * 50_000
    data = text.encode()
    pieces = lines_of(*(data[at : at + 1001] for at in range(0, len(data), 1001)))
    assert "".join(pieces) == text
    assert all(len(piece.encode()) <= Lines.LIMIT for piece in pieces)


def test_an_endless_progress_bar_is_its_last_state() -> None:
    assert lines_of(*(b"%d%%\r" % n for n in range(50_000))) == ["49999%"]

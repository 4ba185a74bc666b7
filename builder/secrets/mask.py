"""Mask: a stream or a text without what secrets hold; Finder: whether bytes hold one.

A value is looked for in forms that tools make of it: as it stands, without the blanks around it;
in base64 (wherever it begins in what is encoded); percent-encoded; escaped as JSON has it; and of a
value of several lines, words that look like keys. Line ends count for nothing, neither in a value
nor where it is looked for: one that a tool wrapped is found. A value of less than LEAST bytes is in
everything and is not looked for.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from urllib.parse import quote, quote_plus

LEAST = 4  # bytes
STARS = b"***"
_LONGEST = 4096  # bytes of a pattern: of a longer value its pieces are masked, its beginning found
_LINES = 1000  # of a value, beyond which its lines are not masked each
_KEYS = 100  # words of a value that are looked for alone: each takes its time with every byte
_ENDS = b"\r\n"
_WORD = re.compile(rb"[A-Za-z0-9+/_-]{16,}={0,2}")
_HEX = re.compile(rb"[0-9a-f]{32,}|[0-9A-F]{32,}")


def joined(data: bytes) -> bytes:
    return data.translate(None, _ENDS)


def forms(value: bytes) -> list[bytes]:
    """What a value is found by; patterns hold no line ends."""
    core = value.strip()
    if len(joined(core)) < LEAST:
        return []
    found = [joined(core), *_encoded(core)]
    if b"\n" in core:
        words = [word for word in _WORD.findall(core) if _is_key(word)] + _HEX.findall(core)
        found += words[:_KEYS]
    return [each for each in dict.fromkeys(found) if len(each) >= LEAST]


def _is_key(word: bytes) -> bool:
    """Upper case, lower case and digits: paths and names are hardly so."""
    return all(re.search(kind, word) for kind in (b"[a-z]", b"[A-Z]", b"[0-9]"))


def _encoded(core: bytes) -> Iterator[bytes]:
    text = core.decode("utf-8", "surrogateescape")
    for each in {quote(core, safe=""), quote(core), quote_plus(core)} - {text}:
        yield each.encode()
    for ascii in (True, False):
        escaped = json.dumps(text, ensure_ascii=ascii)[1:-1]
        if escaped != text:
            yield joined(escaped.encode("utf-8", "surrogateescape"))
    for encode in (base64.standard_b64encode, base64.urlsafe_b64encode):
        yield encode(core)
        yield encode(core + b"\n")
        for before in range(3):
            # of the characters of 6 bits each, those that are the value's alone
            first, last = -(-before * 8 // 6), (before + len(core)) * 8 // 6
            inner = encode(bytes(before) + core)[first:last]
            if len(inner) >= 7:
                yield inner


def patterns_to_mask(value: bytes) -> list[bytes]:
    """The forms of a value, and each of its lines; long ones in pieces that cover them."""
    lines = [line.strip() for line in value.splitlines()]
    found: list[bytes] = []
    for each in (*forms(value), *(lines if 1 < len(lines) <= _LINES else ())):
        starts = [*range(0, len(each) - _LONGEST, _LONGEST), max(0, len(each) - _LONGEST)]
        found += [each[start : start + _LONGEST] for start in starts]
    return [each for each in dict.fromkeys(found) if len(each) >= LEAST]


class Mask:
    """Puts STARS in the place of every run of bytes on a line that belongs to a pattern."""

    def __init__(self, values: Iterable[bytes]) -> None:
        found = dict.fromkeys(each for value in values for each in patterns_to_mask(value))
        self.patterns = tuple(sorted(found, key=len, reverse=True))

    def __bool__(self) -> bool:
        return bool(self.patterns)

    def stream(self) -> Stream:
        return Stream(self.patterns)

    def text(self, text: str) -> str:
        data = text.encode("utf-8", "surrogateescape")
        whole = joined(data)
        if not any(each in whole for each in self.patterns):
            return text
        stream = self.stream()
        return (stream.feed(data) + stream.close()).decode("utf-8", "surrogateescape")


class Stream:
    """Masks what comes in chunks, wherever they are cut. What may be the beginning of a pattern is
    held back until more comes."""

    def __init__(self, patterns: Sequence[bytes]) -> None:
        self._patterns = patterns
        self._rest = b""
        self._covered = 0  # bytes at the beginning of the rest, without line ends, to be masked
        self._open = False  # whether the last byte that was given belongs to stars

    def feed(self, chunk: bytes) -> bytes:
        return self._take(self._rest + chunk, ending=False)

    def close(self) -> bytes:
        """What was held back."""
        return self._take(self._rest, ending=True)

    def _take(self, data: bytes, *, ending: bool) -> bytes:
        whole = joined(data)
        spans = self._spans(whole)
        held = 0 if ending else max((_begun(whole, each) for each in self._patterns), default=0)
        cut = len(whole) - held
        self._rest = _last(data, held)
        given = data[: len(data) - len(self._rest)]
        masked = self._masked(
            given, [(start, min(end, cut)) for start, end in spans if start < cut]
        )
        self._covered = next((end - cut for start, end in spans if start <= cut < end), 0)
        return masked

    def _spans(self, whole: bytes) -> list[tuple[int, int]]:
        """What belongs to patterns, from and to; in order, and none meets another."""
        found = [(0, self._covered)] if self._covered else []
        for each in self._patterns:
            start = whole.find(each)
            while start >= 0:
                found.append((start, start + len(each)))
                start = whole.find(each, start + 1)
        spans: list[tuple[int, int]] = []
        for start, end in sorted(found):
            if spans and start <= spans[-1][1]:
                spans[-1] = spans[-1][0], max(spans[-1][1], end)
            else:
                spans.append((start, end))
        return spans

    def _masked(self, data: bytes, spans: Sequence[tuple[int, int]]) -> bytes:
        if not data:
            return b""
        places = [i for i, byte in enumerate(data) if byte not in _ENDS] if spans else []
        parts, done = [], 0
        for start, end in spans:
            first, last = places[start], places[end - 1] + 1
            parts.append(data[done:first])
            stars = re.sub(rb"[^\r\n]+", STARS, data[first:last])
            parts.append(stars[len(STARS) :] if first == 0 and self._open else stars)
            done = last
        self._open = bool(spans) and done == len(data)
        parts.append(data[done:])
        return b"".join(parts)


def _begun(whole: bytes, pattern: bytes) -> int:
    """How many bytes at the end may begin the pattern."""
    tail = whole[max(0, len(whole) - len(pattern) + 1) :]
    start = tail.find(pattern[:1])
    while start >= 0:
        if pattern.startswith(tail[start:]):
            return len(tail) - start
        start = tail.find(pattern[:1], start + 1)
    return 0


def _last(data: bytes, count: int) -> bytes:
    """The end of the data that holds `count` bytes beside line ends."""
    if not count:
        return b""
    place = len(data)
    while count:
        place -= 1
        count -= data[place] not in _ENDS
    return data[place:]


class Finder:
    """Tells which secret some bytes hold."""

    def __init__(self, values: Mapping[str, bytes]) -> None:
        found = {each[:_LONGEST]: name for name, value in values.items() for each in forms(value)}
        self._patterns: list[tuple[bytes, str]] = []
        for each in sorted(found, key=len):  # what holds another is found by that one
            if not any(other in each for other, _ in self._patterns):
                self._patterns.append((each, found[each]))
        self._most = max((len(each) for each, _ in self._patterns), default=1)

    def __bool__(self) -> bool:
        return bool(self._patterns)

    def in_bytes(self, data: bytes) -> str | None:
        """The secret's name."""
        whole = joined(data)
        return next((name for each, name in self._patterns if each in whole), None)

    def in_chunks(self, chunks: Iterable[bytes]) -> str | None:
        """The same of what comes in chunks, all of which are read unless one is found."""
        rest = b""
        for chunk in chunks:
            rest = joined(rest + chunk)
            for each, name in self._patterns:
                if each in rest:
                    return name
            rest = rest[max(0, len(rest) - self._most + 1) :]
        return None

"""Masking: no run of a secret's bytes comes through, however it is cut; all else does."""

from __future__ import annotations

import base64
import json
import os
import random
import re
from urllib.parse import quote

import pytest

from builder.secrets.mask import Finder, Mask, Stream, patterns_to_mask

ROUNDS = int(os.environ.get("BUILDER_MASK_ROUNDS", "3000"))


def reference(patterns: list[bytes], data: bytes) -> bytes:
    """Byte by byte: what belongs to a pattern that stands there but for line ends."""
    places = [i for i, byte in enumerate(data) if byte not in b"\r\n"]
    whole = bytes(data[i] for i in places)
    hidden = set()
    for start in range(len(whole)):
        for each in patterns:
            if whole.startswith(each, start):
                hidden.update(places[start : start + len(each)])
    made = b""
    for i, byte in enumerate(data):
        if i not in hidden:
            made += data[i : i + 1]
        elif i - 1 not in hidden:
            made += b"***"
        assert byte is not None
    return made


def cut(rng: random.Random, data: bytes, most: int) -> list[bytes]:
    chunks = []
    while data:
        size = rng.randint(1, most)
        chunks.append(data[:size])
        data = data[size:]
    return chunks


def streamed(patterns: list[bytes], chunks: list[bytes]) -> bytes:
    stream = Stream(patterns)
    return b"".join([*map(stream.feed, chunks), stream.close()])


def test_any_patterns_in_any_chunks() -> None:
    rng = random.Random(7)
    for _ in range(ROUNDS):
        letters = rng.choice([b"ab", b"abc", b"abcdef"])
        patterns = [
            bytes(rng.choices(letters, k=rng.randint(1, 7))) for _ in range(rng.randint(1, 4))
        ]
        ends = rng.choice([b"", b"\n", b"\r\n", b"\n\n\n"])
        data = bytes(rng.choices(letters + ends, k=rng.randint(0, 60)))
        for most in (1, 3, 60):
            chunks = cut(rng, data, most)
            assert streamed(patterns, chunks) == reference(patterns, data), (patterns, chunks)


def values() -> list[bytes]:
    rng = random.Random(3)
    key = base64.encodebytes(rng.randbytes(1500))
    return [
        b"hunter2",
        b"Zq7canary91xK",
        b'with blanks & "quotes" and 100%\n',
        "pässwörd".encode(),
        b"-----BEGIN OPENSSH PRIVATE KEY-----\n" + key + b"-----END OPENSSH PRIVATE KEY-----\n",
        b"registry=https://r.example/\n//r.example/:_authToken=npm_Ab3dEfGh1jKlMn0pQrStUvWx\n",
        rng.randbytes(300),
        bytes(range(1, 256)) * 80,
        b"x" * 30_000,
    ]


SHOWN = {
    "as it is": lambda value: value,
    "in words": lambda value: b"token=" + value + b";",
    "base64": lambda value: base64.b64encode(value),
    "base64 in lines": lambda value: base64.encodebytes(value),
    "an Authorization header": lambda value: b"Basic " + base64.b64encode(b"user:" + value),
    "of a longer user": lambda value: b"Basic " + base64.b64encode(b"use:" + value + b"::"),
    "for addresses": lambda value: b"https://u:" + quote(value, safe="").encode() + b"@h/",
    "in JSON": lambda value: json.dumps({"a": value.decode("latin-1")}).encode(),
    "folded": lambda value: b"\n".join(value[i : i + 5] for i in range(0, len(value), 5)),
    "with DOS line ends": lambda value: value.replace(b"\n", b"\r\n"),
}


@pytest.mark.parametrize("form", SHOWN)
@pytest.mark.parametrize("number", range(len(values())))
def test_forms_that_tools_make_of_a_value(form: str, number: int) -> None:
    value = values()[number]
    if form == "in JSON" and not value.isascii():
        value = value.decode("utf-8", "surrogateescape").encode("ascii", "replace")
    data = b"before\n" + SHOWN[form](value) + b"\nafter\n"
    rng = random.Random(number)
    core = value.strip()
    for most in (7, 1000, 1 << 16):
        if most == 7 and len(data) > 5000:
            continue
        masked = streamed(patterns_to_mask(value), cut(rng, data, most))
        assert masked.startswith(b"before") and masked.endswith(b"after\n") and b"***" in masked
        left = re.sub(rb"[*\r\n]|before|after|token=|Basic|https://|@h/|u:", b"", masked)
        assert len(left) <= 14, (form, left)  # what stands around it, and an edge of base64
        assert core not in masked
    assert Finder({"other": b"something else", "it": value}).in_bytes(data) == "it"
    for most in (7, 1 << 16):
        assert Finder({"it": value}).in_chunks(cut(rng, data, most)) == "it"


def test_lines_and_keys_of_a_longer_value() -> None:
    npmrc = values()[5]
    mask = Mask([npmrc])
    assert mask.text("got npm_Ab3dEfGh1jKlMn0pQrStUvWx now") == "got *** now"
    assert mask.text("x registry=https://r.example/ y") == "x *** y"
    assert mask.text("see https://r.example/") == "see https://r.example/"
    finder = Finder({"npmrc": npmrc})
    assert finder.in_bytes(b"token: npm_Ab3dEfGh1jKlMn0pQrStUvWx") == "npmrc"
    assert finder.in_bytes(b"registry=https://r.example/") is None
    key = values()[4]
    lines = key.splitlines()
    assert Finder({"key": key}).in_bytes(lines[0]) is None
    assert Finder({"key": key}).in_bytes(b"x" + lines[3]) == "key"


@pytest.mark.parametrize("value", [b"", b"\n", b"abc", b" abc \n", b"a\nb\nc\n"])
def test_too_short_to_be_looked_for(value: bytes) -> None:
    assert not Mask([value]) and not Finder({"it": value})


def test_nothing_is_held_back_for_long() -> None:
    stream = Mask([b"secret"]).stream()
    assert stream.feed(b"a line\n") == b"a line\n"
    assert stream.feed(b"a sec") == b"a "
    assert stream.feed(b"ond\n") == b"second\n"

"""Dockerfiles of random pieces: each is refused with places, or becomes a tree that is its text.

DOCKERFILES=full means many."""

from __future__ import annotations

import os
import random

import pytest

from builder.dockerfile.convert import Wish, convert
from builder.dockerfile.yaml import text_of
from builder.errors import SpecErrors, UsageError
from builder.oci.image import Platform
from builder.spec.node import parse_yaml
from builder.spec.source import Problems, Source
from tests.dockerfile.test_dockerfile_convert import plain, read

ROUNDS = 20_000 if os.environ.get("DOCKERFILES") == "full" else 300
WORDS = [
    *("FROM", "RUN", "COPY", "ADD", "ENV", "ARG", "LABEL", "USER", "WORKDIR", "EXPOSE", "VOLUME"),
    *("CMD", "ENTRYPOINT", "SHELL", "ONBUILD", "HEALTHCHECK", "STOPSIGNAL", "MAINTAINER", "run"),
]
PIECES = [
    *("a", "b=c", "scratch", "x AS y", "y", "--from=y", "--chown=1:2", "--mount=type=cache,target=/c"),
    *("--chmod=755", "--link", "--parents", "--exclude=*.x", "--network=none", "--mount=target=."),
    *("$A", "${A}", "${A:-b}", "${A#v}", "${A%.*}", "${A//a/b}", "${A:+$B}", "\\$A", "'$A'", '"$A b"'),
    *("{{ x }}", "{%", "${#A}", "{", "\\", '"', "'", "`", "<<E", "<<-'E'", "E", "\n", "\\\n", "\n# c\n"),
    *('["a", "b"]', '["a"', "[]", "80/tcp", "/a/", "./", ".", "*.txt", "a/**", "http://h/f", "a.tar"),
    *("\t", "\r\n", "\u00e4", "\u2028", "\x1b", ";", "&&", "|", "=", ":", "#", "SIGTERM", "CMD", "9"),
    *("--checksum=sha256:" + "0" * 64, "https://h/r.git#" + "1" * 40, "TARGETARCH", "$TARGETARCH"),
]  # fmt: skip


def made(chance: random.Random) -> str:
    lines = [
        chance.choice(["FROM a", "FROM scratch", "ARG A=v1.2\nFROM a AS y", "# escape=`\nFROM a"])
    ]
    for _ in range(chance.randrange(12)):
        words = [chance.choice(WORDS), *chance.choices(PIECES, k=chance.randrange(1, 6))]
        lines.append(chance.choice([" ", " ", ""]).join(words))
        if "<<" in lines[-1] and chance.random() < 0.7:
            lines += ["x $A {{", "E"]
    return "\n".join(lines)


@pytest.mark.parametrize("given", [None, {"A": "2"}])
def test_random_dockerfiles(given: dict[str, str] | None) -> None:
    chance = random.Random(7)
    kept = 0
    for _ in range(ROUNDS):
        text = made(chance)
        source = Source("Dockerfile", text)
        try:
            found = convert(
                source, Wish(given, platform=Platform("linux", "amd64") if given else None)
            )
        except (SpecErrors, UsageError) as error:
            for each in error.errors if isinstance(error, SpecErrors) else ():
                assert each.place is not None and each.message, text
            continue
        kept += 1
        written = text_of(found, [])
        problems = Problems(Source("app.yaml", written))
        assert plain(parse_yaml(problems.source, problems)) == plain(found.top), text
        assert not len(problems), text
        try:
            read(found)
        except SpecErrors as error:
            assert all(each.place for each in error.errors), text
    assert kept > ROUNDS // 50

"""Variables of compose files: `$NAME`, `${NAME}`, `${NAME:-default}` and their like."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from builder.bake.evaluate import MAX_TEXT, concatenated
from builder.bake.values import Val, Wrong, said_by, say
from builder.spec.source import quote

MAX_DEPTH = 20
MAX_PARTS = 10_000
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SIGNS = (":-", ":?", ":+", "-", "?", "+")


class Variables:
    """What the names in compose files stand for; `given` is what .env says, `uses` how texts use
    each name, all of it in `alike`: a default that all give is the variable's."""

    def __init__(
        self, given: Mapping[str, str], alike: Mapping[str, set[tuple[str, Any]]] | None = None
    ) -> None:
        self._given = given
        self._alike = alike or {}
        self.uses: dict[str, set[tuple[str, Any]]] = {}
        self.defaults: dict[str, tuple[str, Val] | None] = {}  # the sign and the value

    def value(self, text: str) -> Val:
        """Raises Wrong."""
        return _Reader(self, text).until("", 0)

    def of(self, name: str, sign: str, other: Val | None) -> Val:
        self.uses.setdefault(name, set()).add(
            (sign, other.parts if other and other.sayable else None)
        )
        shared = sign in (":-", "-") and len(self._alike.get(name, ())) == 1
        self.defaults.setdefault(name, (sign, other) if shared and other else None)
        known = self._given.get(name)
        there = bool(known) if sign.startswith(":") else known is not None
        if other is None or sign in (":?", "?"):
            return Val(known or "", frozenset((name,)), say(said_by(name)))
        names = other.names | {name}
        if sign in (":+", "+"):
            code = f"({other.code} if {said_by(name)} else '')" if other.sayable else None
            return Val(other.data if there else "", names, say(code) if code else None)
        data = known if there else other.data
        if shared:
            return Val(data, frozenset((name,)), say(said_by(name)))
        return Val(
            data, names, say(f"({said_by(name)} or {other.code})") if other.sayable else None
        )

    def given(self, name: str) -> str | None:
        return self._given.get(name)


class _Reader:
    def __init__(self, variables: Variables, text: str) -> None:
        self._variables, self._text = variables, text
        self._at = 0

    def until(self, end: str, depth: int) -> Val:
        if depth > MAX_DEPTH:
            raise Wrong(f"more than {MAX_DEPTH} variables within each other")
        parts: list[Val] = []
        size = 0
        text = self._text
        while self._at < len(text):
            if end and text.startswith(end, self._at):
                break
            sign = text.find("$", self._at)
            stop = text.find(end, self._at) if end else -1
            stop = len(text) if stop < 0 else stop
            if sign < 0 or sign > stop:
                parts.append(Val(text[self._at : stop]))
                self._at = stop
                continue
            parts.append(Val(text[self._at : sign]))
            self._at = sign
            parts.append(self._dollar(depth))
            size += len(parts[-1].data)
            if size > MAX_TEXT or len(parts) > MAX_PARTS:
                raise Wrong(
                    f"a text grows longer than {MAX_TEXT} characters, or has too many variables"
                )
        return concatenated(parts)

    def _dollar(self, depth: int) -> Val:
        text, at = self._text, self._at
        if text.startswith("$$", at):
            self._at += 2
            return Val("$")
        braces = text.startswith("${", at)
        found = _NAME.match(text, at + 1 + braces)
        if not found:
            raise Wrong(
                f"{quote(text[at : at + 20])} names no variable", "write $$ for a dollar sign"
            )
        self._at = found.end()
        if not braces:
            return self._variables.of(found[0], "", None)
        sign = next((each for each in _SIGNS if text.startswith(each, self._at)), "")
        self._at += len(sign)
        other = self.until("}", depth + 1) if sign else None
        if not text.startswith("}", self._at):
            raise Wrong(f"{quote(text[at : at + 20])} has no }} at its end")
        self._at += 1
        return self._variables.of(found[0], sign, other)


_LINE = re.compile(r"\s*(?:export\s+)?([A-Za-z_][A-Za-z0-9_.]*)\s*[=:](.*)")


def env_file(text: str) -> dict[str, str]:
    """What a file .env says: NAME=VALUE lines, with quotes and comments."""
    made: dict[str, str] = {}
    for line in text.splitlines()[:10_000]:
        found = _LINE.fullmatch(line)
        if not found or line.lstrip().startswith("#"):
            continue
        value = found[2].strip()
        if value[:1] in "'\"" and value[:1] and (end := value.find(value[0], 1)) > 0:
            inner = value[1:end]
            made[found[1]] = inner if value[0] == "'" else _filled(
                inner.replace("\\n", "\n").replace('\\"', '"'), made
            )  # fmt: skip
        else:
            made[found[1]] = _filled(re.split(r"(?:^|\s)#", value, maxsplit=1)[0].rstrip(), made)
    return made


def _filled(value: str, known: Mapping[str, str]) -> str:
    try:
        return str(Variables(known).value(value).data)
    except Wrong:
        return value

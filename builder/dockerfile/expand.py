"""Expansion: quotes, escapes and variables of a word, to texts and templates.

What is known is text; what depends on a variable of the spec, or on the base's environment, is a
Jinja expression.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from builder.dockerfile.patterns import (
    Tokens,
    TooMuch,
    literal,
    replaced,
    tokens,
    without_prefix,
    without_suffix,
)

MAX_VALUE = 128 << 10  # characters of a value: the longest that the kernel gives to a program
MAX_DEPTH = 20  # of ${ } within each other
MAX_WORK = 8 << 20  # characters that all substitutions of a file look at
_SPECIAL = "@*#?-$!0"


class Fuel:
    """What the substitutions of one file may still look at, in characters."""

    def __init__(self) -> None:
        self._left = MAX_WORK

    def spend(self, at: int, amount: int) -> None:
        self._left -= amount
        if self._left < 0:
            raise Bad(at, "the substitutions of the file make too much of it")


class Ref(NamedTuple):
    """A part of a value that is known when the spec is read."""

    expression: str  # Jinja, which gives a text


Value = tuple["str | Ref", ...]


class Bound(NamedTuple):
    """What a name stands for. `defined`: an expression that says whether it is set; "": it is."""

    value: Value
    defined: str = ""


Scope = Callable[[str], "Bound | None"]
"""What a name stands for; None: it is not set."""


class Bad(Exception):
    """What is wrong in a word, at an offset of it."""

    def __init__(self, at: int, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.at, self.message, self.hint = at, message, hint


def expanded(
    text: str,
    escape: str,
    scope: Scope,
    *,
    quotes: bool = True,
    fuel: Fuel | None = None,
    limit: int = MAX_VALUE,
) -> Value:
    """`quotes`: they quote and are left out, as everywhere but in here-documents. `limit`: of
    characters, before and after. Raises Bad."""
    if len(text) > limit:
        raise Bad(0, f"the text is longer than {limit} characters")
    return _Word(text, escape, scope, quotes, fuel or Fuel(), limit).until("", 0, raw=False)


def known(value: Value) -> str | None:
    """The text of a value that holds no template."""
    if not value:
        return ""
    if any(isinstance(each, Ref) for each in value):
        return None
    return "".join(map(str, value))


def joined(*parts: Value, limit: int = MAX_VALUE) -> Value:
    """One value of several, texts beside each other as one. Raises Bad when it grows too long."""
    made: list[str | Ref] = []
    size = 0
    for part in parts:
        for each in part:
            size += len(each.expression if isinstance(each, Ref) else each)
            if size > limit:
                raise Bad(0, f"the value is longer than {limit} characters")
            if isinstance(each, str) and made and isinstance(made[-1], str):
                made[-1] += each
            elif each:
                made.append(each)
    return tuple(made)


def expression(value: Value) -> str:
    """A value as one Jinja expression."""
    parts = [each.expression if isinstance(each, Ref) else quoted(each) for each in value]
    return parts[0] if len(parts) == 1 else f"({' ~ '.join(parts)})" if parts else "''"


def quoted(text: str) -> str:
    """A text as Jinja writes it in an expression."""
    escapes = {"\\": "\\\\", "'": "\\'", "\n": "\\n", "\r": "\\r", "\t": "\\t"}
    return "'" + "".join(escapes.get(char, char) for char in text) + "'"


class _Word:
    def __init__(
        self, text: str, escape: str, scope: Scope, quotes: bool, fuel: Fuel, limit: int
    ) -> None:
        self._limit = limit
        self._text, self._escape, self._scope, self._quotes = text, escape, scope, quotes
        self._fuel = fuel
        self._at = 0
        self._depth = 0

    def _peek(self) -> str:
        return self._text[self._at : self._at + 1]

    def _next(self) -> str:
        char = self._peek()
        self._at += len(char)
        return char

    def until(self, stop: str, begin: int, *, raw: bool) -> Value:
        """What stands before `stop`, which is passed; "": the end. `raw`: escapes stay."""
        parts: list[Value] = []
        plain: list[str] = []
        while char := self._peek():
            if char == stop:
                self._at += 1
                return joined(*parts, ("".join(plain),), limit=self._limit)
            if char == "$":
                parts += [("".join(plain),), self._dollar(raw)]
                plain = []
            elif self._quotes and char == "'":
                plain.append(self._single())
            elif self._quotes and char == '"':
                parts += [("".join(plain),), self._double(raw)]
                plain = []
            else:
                self._at += 1
                if char == self._escape:
                    if raw:
                        plain.append(char)
                    char = self._next()
                plain.append(char)
        if stop:
            raise Bad(begin, f"'{stop}' is missing", "write \\$ for a dollar sign")
        return joined(*parts, ("".join(plain),), limit=self._limit)

    def _single(self) -> str:
        begin = self._at
        end = self._text.find("'", begin + 1)
        if end < 0:
            raise Bad(begin, "the quote ' has no end", "write \\' for the character")
        self._at = end + 1
        return self._text[begin + 1 : end]

    def _double(self, raw: bool) -> Value:
        begin = self._at
        self._at += 1
        parts: list[Value] = []
        plain: list[str] = []
        while char := self._peek():
            if char == '"':
                self._at += 1
                return joined(*parts, ("".join(plain),), limit=self._limit)
            if char == "$":
                parts += [("".join(plain),), self._dollar(raw)]
                plain = []
                continue
            self._at += 1
            if char == self._escape:
                if raw:
                    plain.append(char)
                if not self._peek():
                    break
                if self._peek() in ('"', "$", self._escape):
                    char = self._next()
            plain.append(char)
        raise Bad(begin, 'the quote " has no end', 'write \\" for the character')

    def _name(self) -> str:
        start = self._at
        char = self._peek()
        if char.isdigit():
            while self._peek().isdigit():
                self._at += 1
        elif char and char in _SPECIAL:
            self._at += 1
        else:
            while (char := self._peek()).isalnum() or char == "_":
                self._at += 1
        return self._text[start : self._at]

    def _dollar(self, raw: bool) -> Value:
        begin = self._at
        self._at += 1
        if self._peek() != "{":
            name = self._name()
            return self._value(name) if name else ("$",)
        self._at += 1
        if self._peek() in ("{", "}", ":", ""):
            raise Bad(begin, "a substitution without a name", "write ${NAME}, or \\$ for the sign")
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise Bad(begin, f"more than {MAX_DEPTH} substitutions within each other")
        try:
            return self._braced(begin, self._name())
        finally:
            self._depth -= 1

    def _braced(self, begin: int, name: str) -> Value:
        sign = self._next()
        if sign == "}":
            return self._value(name)
        null = sign == ":"
        if null:
            sign = self._next()
        if sign and sign in "+-?#%":
            word = self.until("}", begin, raw=sign in "#%")
            if sign in "#%":
                return self._trimmed(begin, name, sign, word)
            return self._chosen(begin, name, sign, word, null)
        if sign == "/" and not null:
            every = self._peek() == "/"
            self._at += every
            pattern = self.until("/", begin, raw=True)
            new = self.until("}", begin, raw=True)
            return self._replaced(begin, name, pattern, new, every)
        if not sign:
            raise Bad(begin, "'}' is missing", "write \\$ for a dollar sign")
        shown = f"{':' * null}{sign}"
        raise Bad(begin, f"{shown!r} is no substitution", "known are :- - :+ + :? ? # ## % %% / //")

    def _value(self, name: str) -> Value:
        bound = self._scope(name)
        value = bound.value if bound else ()
        size = sum(len(each.expression if isinstance(each, Ref) else each) for each in value)
        self._fuel.spend(self._at, 1 + size)
        return value

    def _chosen(self, begin: int, name: str, sign: str, word: Value, null: bool) -> Value:
        bound = self._scope(name)
        text = known(self._value(name)) if bound else None
        if bound is None or (text is not None and not bound.defined):
            there = bound is not None and not (null and not text)
            if sign == "?" and not there:
                said = known(word) or f"is not allowed to be {'empty' if bound else 'unset'}"
                raise Bad(begin, f"{name}: {said}")
            if sign == "+":
                return word if there else ()
            return bound.value if bound and there else word
        value = bound.value
        test = expression(value) if null else bound.defined
        if sign == "?" or (sign == "-" and not test):
            return value
        if sign == "+":
            return (Ref(f"({expression(word)} if {test} else '')"),) if test else word
        if null:
            return (Ref(f"({expression(value)} or {expression(word)})"),)
        return (Ref(f"({expression(value)} if {test} else {expression(word)})"),)

    def _pattern(self, begin: int, word: Value) -> Tokens:
        text = known(word)
        if text is None:
            raise Bad(begin, "the pattern depends on what is known later", "write it as text")
        try:
            return tokens(text)
        except ValueError as error:
            raise Bad(begin, str(error)) from None

    def _trimmed(self, begin: int, name: str, sign: str, word: Value) -> Value:
        text = known(word[:1]) if word else ""
        longest = bool(text) and str(text).startswith(sign)
        if longest and isinstance(word[0], str):
            word = (word[0][1:], *word[1:])
        found = self._pattern(begin, word)
        value = self._value(name)
        text = known(value)
        if text is None:
            return (Ref(_trimming(expression(value), found, sign, longest)),)
        trim = without_prefix if sign == "#" else without_suffix
        return (trim(found, text, longest=longest),)

    def _replaced(self, begin: int, name: str, pattern: Value, new: Value, every: bool) -> Value:
        found = self._pattern(begin, pattern)
        value, other = self._value(name), known(new)
        text = known(value)
        if text is not None and other is not None:
            try:
                return (replaced(found, text, other, every=every),)
            except TooMuch:
                raise Bad(begin, "the substitution takes too long") from None
        plain = literal(found)
        if not plain:
            raise NotSaid
        once = "" if every else ", 1"
        was = expression(value)
        return (Ref(f"{was}.replace({quoted(plain)}, {expression(new)}{once})"),)


class NotSaid(Exception):
    """A substitution of what a template gives, which no template says."""


def _trimming(value: str, found: Tokens, sign: str, longest: bool) -> str:
    """${x#p} and its like of an expression: what has no * or one at the far end of it."""
    plain = literal(found)
    if plain is not None:
        return f"{value}.{'removeprefix' if sign == '#' else 'removesuffix'}({quoted(plain)})"
    star = 0 if sign == "#" else -1
    rest = literal(found[1:] if sign == "#" else found[:-1])
    if not rest or isinstance(found[star], str) or not found[star].many:  # type: ignore[union-attr]
        raise NotSaid
    cut = quoted(rest)
    if sign == "#":
        if longest:
            return f"{value}.rpartition({cut})[2]"
        return f"({value}.partition({cut})[2] if {cut} in {value} else {value})"
    if longest:
        return f"{value}.partition({cut})[0]"
    return f"({value}.rpartition({cut})[0] if {cut} in {value} else {value})"

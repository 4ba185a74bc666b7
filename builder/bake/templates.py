"""Texts of HCL: quoted ones, here-documents, and the templates within both."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from builder.bake.ast import Literal, Template, TemplateFor, TemplateIf
from builder.bake.parse import Parser
from builder.bake.text import Text
from builder.spec.source import quote

_HEREDOC = re.compile(r"<<(-?)([^\W\d][\w-]*)[ \t\r]*\n")
_ESCAPES = {"n": "\n", "r": "\r", "t": "\t", '"': '"', "\\": "\\"}
_PLAIN = re.compile(r"[^\"\\$%\n]+")
_PLAIN_LINES = re.compile(r"[^$%]+")


class _Directive(NamedTuple):
    """`%{ word ... }`, before the parts between them are put together."""

    at: int
    word: str
    data: Any


def quoted_text(parser: Parser) -> Any:
    """At the quote. A text without templates is a Literal, one expression alone is that."""
    at = parser.at
    parser.at += 1
    parts: list[Any] = []
    while True:
        char = parser.text[parser.at : parser.at + 1]
        if char == '"':
            parser.at += 1
            return _whole(parser, at, parts)
        if char in ("", "\n"):
            parser.fail("the text has no closing quote", 'end it with ", or write \\n', at)
        if char == "\\":
            parts.append(_escape(parser))
        elif found := _PLAIN.match(parser.text, parser.at):
            parser.at = found.end()
            parts.append(found[0])
        else:
            parts.append(_part(parser))


def _escape(parser: Parser) -> str:
    at = parser.at
    char = parser.text[at + 1 : at + 2]
    if char in _ESCAPES:
        parser.at += 2
        return _ESCAPES[char]
    size = {"u": 4, "U": 8}.get(char, 0)
    digits = parser.text[at + 2 : at + 2 + size]
    if size and re.fullmatch(f"[0-9a-fA-F]{{{size}}}", digits):
        code = int(digits, 16)
        if code >= 0x110000 or 0xD800 <= code < 0xE000:
            digits = ""
    else:
        digits = ""
    if not digits:
        parser.fail(f"{quote(chr(92) + char)} is no escape", 'a backslash is "\\\\"', at)
    parser.at += 2 + size
    return chr(int(digits, 16))


def heredoc(parser: Parser) -> Any:
    """`<<END` and `<<-END`, which takes away the spaces that all its lines begin with."""
    at = parser.at
    found = _HEREDOC.match(parser.text, at)
    if not found:
        parser.fail("<< begins no here-document", "write <<END and the text in the next lines")
    end = re.compile(rf"^[ \t]*{re.escape(found[2])}(?=[ \t\r]*$)", re.M).search(
        parser.text, found.end()
    )
    if not end:
        parser.fail(f"the here-document has no end, a line {quote(found[2])}", None, at)
    parser.at = found.end()
    parts: list[Any] = []
    while parser.at < end.start():
        plain = _PLAIN_LINES.match(parser.text, parser.at, end.start())
        if plain:
            parser.at = plain.end()
            parts.append(plain[0].replace("\r\n", "\n"))
        else:
            parts.append(_part(parser))
    parser.at = end.end()
    if found[1]:
        parts = _unindented(parts)
    made = _whole(parser, at, parts)
    return made if isinstance(made, Literal | Template) else Template(at, (made,))


def _unindented(parts: list[Any]) -> list[Any]:
    """Without the spaces that every line of a here-document begins with."""
    marked = "".join(each if isinstance(each, str) else "\0" for each in parts)
    least = min(
        (len(line) - len(line.lstrip(" \t")) for line in marked.split("\n") if line.strip(" \t")),
        default=0,
    )
    made: list[Any] = []
    fresh = True
    for each in parts:
        if not isinstance(each, str):
            made.append(each)
            fresh = False
            continue
        lines = each.split("\n")
        for number, line in enumerate(lines):
            if number or fresh:
                kept = len(line) - len(line.lstrip(" \t"))
                lines[number] = line[min(least, kept) :]
        fresh = each.endswith("\n")
        made.append("\n".join(lines))
    return made


def template_of(text: Text) -> Any:
    """A JSON string as the template that it is."""
    parser = Parser(text)
    parser.lines = False
    parts: list[Any] = []
    while parser.at < len(parser.text):
        plain = _PLAIN_LINES.match(parser.text, parser.at)
        if plain:
            parser.at = plain.end()
            parts.append(plain[0])
        else:
            parts.append(_part(parser))
    return _whole(parser, 0, parts)


def _part(parser: Parser) -> Any:
    """At a dollar or percent sign."""
    text, at = parser.text, parser.at
    sign = text[at]
    if text.startswith((sign * 2 + "{"), at):
        parser.at += 3
        return sign + "{"
    if not text.startswith("{", at + 1):
        parser.at += 1
        return sign
    parser.at += 2
    trims = [parser.take("~"), False]
    kept, parser.lines = parser.lines, False
    found = parser.within(parser.expression, lines=False) if sign == "$" else _directive(parser, at)
    trims[1] = parser.take("~")
    parser.need("}", "behind a template")
    parser.lines = kept
    return _Trimmed(found, *trims) if any(trims) else found


class _Trimmed(NamedTuple):
    part: Any
    before: bool
    behind: bool


def _directive(parser: Parser, at: int) -> _Directive:
    word = parser.need_name("if, else, endif, for or endfor")
    if word == "if":
        return _Directive(at, word, parser.expression())
    if word == "for":
        return _Directive(at, word, parser.for_names())
    if word not in ("else", "endif", "endfor"):
        parser.fail(
            f"%{{ {word} }} is not known, expected if, else, endif, for or endfor", None, at
        )
    return _Directive(at, word, None)


def _whole(parser: Parser, at: int, parts: list[Any]) -> Any:
    joined: list[Any] = []
    strip = False
    for each in parts:
        part = each.part if isinstance(each, _Trimmed) else each
        if isinstance(part, str):
            part = part.lstrip() if strip and not isinstance(each, _Trimmed) else part
            strip = strip and not part
            if joined and isinstance(joined[-1], str):
                joined[-1] += part
                continue
        else:
            if (
                isinstance(each, _Trimmed)
                and each.before
                and joined
                and isinstance(joined[-1], str)
            ):
                joined[-1] = joined[-1].rstrip()
            strip = isinstance(each, _Trimmed) and each.behind
        if part != "":
            joined.append(part)
    if not joined:
        return Literal(at, "")
    if len(joined) == 1 and not isinstance(joined[0], _Directive):
        return Literal(at, joined[0]) if isinstance(joined[0], str) else joined[0]
    made, rest, _ = _sequence(parser, joined, 0, ())
    if rest < len(joined):
        bad = joined[rest]
        parser.fail(f"%{{ {bad.word} }} has no beginning", None, bad.at)
    return Template(at, made)


def _sequence(
    parser: Parser, parts: list[Any], start: int, ends: tuple[str, ...], depth: int = 0
) -> tuple[tuple[Any, ...], int, str]:
    """The parts up to a directive of `ends`: they, the index of that, its word."""
    if depth > 20:
        parser.fail("more than 20 directives within each other", None, parts[start - 1].at)
    made: list[Any] = []
    index = start
    while index < len(parts):
        part = parts[index]
        if not isinstance(part, _Directive):
            made.append(part)
            index += 1
            continue
        if part.word in ends:
            return tuple(made), index, part.word
        if part.word not in ("if", "for"):
            return tuple(made), index, ""
        closing = "endif" if part.word == "if" else "endfor"
        stops = ("else", "endif") if part.word == "if" else ("endfor",)
        then, index, word = _sequence(parser, parts, index + 1, stops, depth + 1)
        other: tuple[Any, ...] = ()
        if word == "else":
            other, index, word = _sequence(parser, parts, index + 1, ("endif",), depth + 1)
        if word != closing:
            parser.fail(f"%{{ {part.word} }} has no end", f"end it with %{{ {closing} }}", part.at)
        index += 1
        if part.word == "if":
            made.append(
                TemplateIf(part.at, part.data, Template(part.at, then), Template(part.at, other))
            )
        else:
            key, name, over = part.data
            made.append(TemplateFor(part.at, key, name, over, Template(part.at, then)))
    return tuple(made), index, ""

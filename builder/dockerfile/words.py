"""Words: how the rest of an instruction is split, by Docker's several rules."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import NamedTuple

_PLAIN = re.compile(r"[^\s'\"\\`]+")
_HEREDOC = re.compile(r"\d*<<(-?)([^<]+)")


class Word(NamedTuple):
    text: str  # quotes and escapes as they stand
    at: int  # its offset in the instruction


def split(text: str, at: int) -> list[Word]:
    """At white space, whatever is in quotes (FROM, EXPOSE, COPY)."""
    return [Word(found[0], at + found.start()) for found in re.finditer(r"\S+", text)]


def quoted(text: str, at: int, escape: str) -> list[Word]:
    """At white space out of quotes; quotes and escapes stay (ENV, LABEL, ARG)."""
    words: list[Word] = []
    size, here = len(text), 0
    while here < size:
        if text[here].isspace():
            here += 1
            continue
        start, parts, mark = here, list[str](), ""
        while here < size and (mark or not text[here].isspace()):
            if run := _PLAIN.match(text, here):
                parts.append(run[0])
                here = run.end()
                continue
            char = text[here]
            if char == escape and mark != "'":
                if here + 1 < size:  # else nothing is behind it that it could escape
                    parts.append(text[here : here + 2])
                here += 2
                continue
            if char == mark:
                mark = ""
            elif not mark and char in "'\"":
                mark = char
            parts.append(char)
            here += 1
        if parts:
            words.append(Word("".join(parts), at + start))
    return words


def flags(text: str, at: int, escape: str) -> tuple[list[Word], str, int]:
    """The words that begin with -- at the front, without quotes and escapes; what is left, and its
    offset."""
    found: list[Word] = []
    here, size = 0, len(text)
    while True:
        while here < size and text[here].isspace():
            here += 1
        if not text.startswith("--", here):
            return found, text[here:], at + here
        start, parts, mark = here, list[str](), ""
        while here < size and (mark or not text[here].isspace()):
            char = text[here]
            here += 1
            if char == mark:
                mark = ""
            elif not mark and char in "'\"":
                mark = char
            elif char == escape and mark != "'" and here < size:
                parts.append(text[here])
                here += 1
            else:
                parts.append(char)
        word = "".join(parts)
        if word == "--":
            return found, text[here:].lstrip(), at + here
        found.append(Word(word, at + start))


def array(text: str) -> list[str] | None:
    """The JSON form. None: it is none, and means a command for the shell, or words. Raises
    ValueError for an array that holds something else than texts."""
    if not text.lstrip().startswith("["):
        return None
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not all(isinstance(each, str) for each in value):
        raise ValueError("an array holds something else than texts")
    try:
        "".join(value).encode()
    except UnicodeEncodeError:
        return [
            each.encode("utf-16", "surrogatepass").decode("utf-16", "replace") for each in value
        ]
    return list(value)


def heredoc_words(text: str, escape: str) -> Iterator[tuple[int, str, bool, bool]]:
    """The here-documents that a line announces: offset, name, whether variables are expanded in it,
    whether tabs before its lines go."""
    for word in quoted(text, 0, escape):
        if found := heredoc(word.text):
            yield word.at, *found


def heredoc(word: str) -> tuple[str, bool, bool] | None:
    """A word as name, expand, chomp; None: it announces no here-document."""
    found = _HEREDOC.fullmatch(word)
    if not found:
        return None
    name = _bare(found[2])
    if not name:
        return None
    return name, name == found[2], bool(found[1])


def _bare(text: str) -> str:
    """Without quotes and escapes; empty where they do not close."""
    parts: list[str] = []
    mark, here = "", 0
    while here < len(text):
        char = text[here]
        here += 1
        if char == mark:
            mark = ""
        elif not mark and char in "'\"":
            mark = char
        elif char == "\\" and mark != "'" and here < len(text):
            parts.append(text[here])
            here += 1
        else:
            parts.append(char)
    return "" if mark else "".join(parts)

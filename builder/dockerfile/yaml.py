"""YAML: the tree of a spec as text, as a person would write it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator

from builder.dockerfile.convert import Converted
from builder.spec.node import INT, LIST, MAPPING, TEXT, Node, scalar_kind
from builder.spec.source import written

_WIDTH = 88  # columns of a mapping or list on one line
_BARE = re.compile(r"[A-Za-z0-9/._$(][ -~]*")  # on a line of its own
_BLOCK = re.compile(r"[^\0-\x08\x0b-\x1f\x7f-\x9f\u2028\u2029\ufeff\ud800-\udfff]*")


def text_of(converted: Converted, head: list[str]) -> str:
    """The file, with `head` as comments before it."""
    writer = _Writer(converted.comments)
    lines = [*(f"# {each}".rstrip() for each in head), *writer.mapping(converted.top, "")]
    return "\n".join(lines) + "\n"


class _Writer:
    def __init__(self, comments: dict[int, list[str]]) -> None:
        self._comments = comments

    def _above(self, node: Node, indent: str) -> Iterator[str]:
        for each in self._comments.get(id(node), ()):
            shown = "".join(char if char.isprintable() else " " for char in each)
            yield f"{indent}# {shown}".rstrip()

    def mapping(self, node: Node, indent: str) -> Iterator[str]:
        for key, value in node.pairs:
            yield from self._above(key, indent)
            yield from self._value(f"{indent}{_key(key.text)}:", value, indent)

    def _value(self, start: str, value: Node, indent: str) -> Iterator[str]:
        """What follows a key, or the dash of an entry; `indent` is the key's."""
        line = _bare(value) or self._line(value)
        if line is not None and "\n" not in line and len(start) + len(line) < _WIDTH:
            yield f"{start} {line}"
        elif value.kind == MAPPING:
            yield start
            yield from self.mapping(value, indent + "  ")
        elif value.kind == LIST:
            yield start
            for item in value.items:
                yield from self._entry(item, indent + "  ")
        elif (block := _block(value.text, indent + "  ")) is not None:
            yield f"{start} {block[0]}"
            yield from block[1:]
        else:
            yield f"{start} {_bare(value) or _scalar(value)}"

    def _entry(self, item: Node, indent: str) -> Iterator[str]:
        yield from self._above(item, indent)
        if item.kind != MAPPING:
            yield from self._value(f"{indent}-", item, indent)
            return
        first = True
        for key, value in item.pairs:
            yield from self._above(key, indent + "  ")
            start = f"{indent}{'-' if first else ' '} {_key(key.text)}:"
            yield from self._value(start, value, indent + "  ")
            first = False

    def _line(self, node: Node) -> str | None:
        """A value on one line; None: it is better on several."""
        if node.kind == MAPPING:
            if any(id(key) in self._comments for key, _ in node.pairs) or _steps(node):
                return None
            parts = [(_key(key.text), self._line(value)) for key, value in node.pairs]
            if any(part is None for _, part in parts):
                return None
            return "{" + ", ".join(f"{key}: {part}" for key, part in parts) + "}"
        if node.kind == LIST:
            if any(id(each) in self._comments for each in node.items):
                return None
            lines = [self._line(each) for each in node.items]
            if any(
                line is None or each.kind == MAPPING
                for line, each in zip(lines, node.items, strict=True)
            ):
                return None
            return "[" + ", ".join(str(line) for line in lines) + "]"
        if node.kind == TEXT and _block(node.text, "") is not None:
            return None
        return _scalar(node)


def _key(text: str) -> str:
    return written(text) if text and scalar_kind(text) == TEXT else json.dumps(text)


def _steps(node: Node) -> bool:
    return any(key.text in ("from", "steps", "config") for key, _ in node.pairs)


def _bare(node: Node) -> str:
    """A text that needs no quotes where nothing else is on the line; "": it does."""
    text = node.text
    if node.kind != TEXT or node.style or not _BARE.fullmatch(text) or text != text.strip():
        return ""
    if ": " in text or " #" in text or text.endswith(":") or scalar_kind(text) not in (TEXT, INT):
        return ""
    return text


def _scalar(node: Node) -> str:
    if node.kind != TEXT:
        return node.text
    return json.dumps(node.text, ensure_ascii=False) if node.style else written(node.text)


def _block(text: str, indent: str) -> list[str] | None:
    """A text of several lines as a block; None: it has one, or cannot be one."""
    if "\n" not in text or not _BLOCK.fullmatch(text):
        return None
    lines = text.split("\n")
    if any(line.strip() == "" and line for line in lines):
        return None
    kept = len(text) - len(text.rstrip("\n"))
    sign = "|2" if text[0] in " \n\t" else "|"  # its first line does not say the indentation
    sign += "-" if not kept else "" if kept == 1 else "+"
    body = lines[:-1] if kept else lines
    return [sign, *(indent + line if line else "" for line in body)]

"""Node: YAML as a tree that keeps its places, read from parser events and nothing more than that.

Only YAML 1.2's core scalars have a type, and a number keeps its text: `0644`, `22:22`, `no` and
dates are text, `1.10` is a float that still knows it was written `1.10`. Events are taken instead
of composed nodes because explicit tags stay visible and every bound holds before the next level.
"""

from __future__ import annotations

import re
from collections.abc import Container
from typing import Any

from builder.spec.source import Fault, Problems, Source, did_you_mean, quote

MAX_NODES = 100_000  # counted with every alias expanded
MAX_DEPTH = 40

TEXT, INT, FLOAT, BOOL, NULL, LIST, MAPPING = "text", "int", "float", "bool", "null", "list", "map"

NAMES = {
    TEXT: "text",
    INT: "a number",
    FLOAT: "a number",
    BOOL: "a truth value",
    NULL: "nothing",
    LIST: "a list",
    MAPPING: "a mapping",
}

_INT = re.compile(r"[-+]?(?:0|[1-9][0-9]*)|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(
    r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
    r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)
_DECIMAL = re.compile(r"[-+.0-9eE]+")  # not 0o17, 0x1f, .inf, .nan
_WORDS = {
    **dict.fromkeys(("true", "True", "TRUE", "false", "False", "FALSE"), BOOL),
    **dict.fromkeys(("", "~", "null", "Null", "NULL"), NULL),
}


class Node:
    """A value and where it stands (line and column from 1).

    `text` is a scalar's text, `items` a list's, `pairs` a mapping's (key, value) in order; keys
    are scalars and unique. `style` is the quote or block sign of a scalar, None for a plain one.
    `size` counts this node and all below it, aliases expanded. Aliased nodes are shared. What
    `literal` says was made by a template: it is data, and is not rendered.
    """

    __slots__ = (
        *("column", "end_line", "items", "kind", "line", "literal", "pairs", "size", "source"),
        *("style", "text"),
    )

    def __init__(
        self, kind: str, line: int, column: int, text: str = "", source: Source | None = None
    ) -> None:
        self.source = source
        self.literal = False
        self.kind = kind
        self.line = line
        self.column = column
        self.end_line = line
        self.text = text
        self.style: str | None = None
        self.items: list[Node] = []
        self.pairs: list[tuple[Node, Node]] = []
        self.size = 1

    def fault(self, message: str, hint: str | None = None) -> Fault:
        return Fault(self.line, self.column, message, hint, self.source)

    def made(self, text: str) -> Node:
        """A text that a template in this one's place gave."""
        node = Node(TEXT, self.line, self.column, text, self.source)
        node.literal, node.end_line = True, self.end_line
        return node

    def show(self) -> str:
        """What was found, for a message: a scalar quoted, the others by their kind."""
        if self.kind in (LIST, MAPPING, NULL):
            return NAMES[self.kind]
        return quote(self.text)

    def get(self, key: str) -> Node | None:
        return next((value for name, value in self.pairs if name.text == key), None)


def parse_yaml(source: Source, problems: Problems, tags: Container[str] | None = None) -> Node:
    """The one document of `source`. Tags, duplicate keys and the like are noted in `problems` and
    left out of the tree; what makes the rest unreadable is raised as Fault. With `tags`, for files
    of others, merge keys `<<` stay in the tree, and `style` of a value with such a tag is that."""
    return _Parser(source, problems, tags).document()


def scalar_kind(text: str) -> str:
    """The type of a plain scalar by YAML 1.2's core schema; a leading zero makes text."""
    if (kind := _WORDS.get(text)) is not None:
        return kind
    if text[0] not in "0123456789+-.":
        return TEXT
    if _INT.fullmatch(text):
        return INT
    return FLOAT if _FLOAT.fullmatch(text) else TEXT


def check_key(key: Node) -> None:
    """Raise Fault for a key that YAML takes for a number, a truth value or nothing."""
    if key.kind != TEXT:
        raise key.fault(f"key {quote(key.text)} is not text", f"quote it: {quote(key.text)}")


def data_of(node: Node) -> Any:
    """The plain value of a tree (`vars`). Numbers that would come out with other digits than they
    were written with are a Fault: `1.10` would be printed as 1.1."""
    if node.kind == LIST:
        return [data_of(item) for item in node.items]
    if node.kind == MAPPING:
        for key, _ in node.pairs:
            check_key(key)
        return {key.text: data_of(value) for key, value in node.pairs}
    if node.kind == TEXT:
        return node.text
    if node.kind == BOOL:
        return node.text.lower() == "true"
    if node.kind == NULL:
        return None
    value = None
    if len(node.text) < 40 and _DECIMAL.fullmatch(node.text):
        value = int(node.text) if node.kind == INT else float(node.text)
    if str(value) != node.text:
        raise node.fault(
            f"{node.show()} is a number that would be written {quote(str(value))} in a template"
            if value is not None
            else f"{node.show()} is a number that does not keep its digits in a template",
            f"quote it: {quote(node.text)}" if len(node.text) <= 60 else None,
        )
    return value


_PAIR = re.compile(
    r"(?<!\\)((?:\\\\)*)\\u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})"
)


def _joined(text: str) -> str:
    """The text; in JSON, two escapes that make one character (surrogates, which YAML does not have)
    are the one escape that YAML has for it. Columns behind it are two less."""
    if not _PAIR.search(text):
        return text
    import json

    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return text  # no JSON: it has escapes that YAML refuses

    def join(pair: re.Match[str]) -> str:
        high, low = int(pair[2], 16) - 0xD800, int(pair[3], 16) - 0xDC00
        return f"{pair[1]}\\U{0x10000 + (high << 10) + low:08X}"

    return _PAIR.sub(join, text)


class _Parser:
    def __init__(
        self, source: Source, problems: Problems, tags: Container[str] | None = None
    ) -> None:
        import yaml

        self._yaml = yaml
        self._source = source
        self._problems = problems
        # without libyaml: slower, same
        self._loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        self._events = iter(yaml.parse(_joined(source.text), Loader=self._loader))
        self._anchors: dict[str, Node | None] = {}  # None: not ended yet
        self._nodes = 0
        self._tags = tags

    def _fault(self, line: int, column: int, message: str, hint: str | None = None) -> Fault:
        return Fault(line, column, message, hint, self._source)

    def _next(self) -> Any:
        try:
            return next(self._events)
        except self._yaml.MarkedYAMLError as error:
            from builder.spec.broken import explained

            raise explained(self._source, error, self._reach) from None
        except self._yaml.YAMLError as error:
            raise self._fault(1, 1, str(error).replace("\n", " ")[:200]) from None

    def _reach(self, text: str) -> int:
        """How far another text is YAML: the line of the first error, else one behind the last."""
        try:
            for _ in self._yaml.parse(_joined(text), Loader=self._loader):
                pass
        except self._yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            return mark.line + 1 if mark else 0
        return text.count("\n") + 2

    def document(self) -> Node:
        yaml = self._yaml
        self._next()  # stream start
        event = self._next()
        if isinstance(event, yaml.StreamEndEvent):
            raise self._fault(1, 1, "the file is empty, expected a mapping")
        node = self._node(self._next(), 0)
        self._next()  # document end
        event = self._next()
        if not isinstance(event, yaml.StreamEndEvent):
            mark = event.start_mark
            raise self._fault(
                mark.line + 1, mark.column + 1, "a second document, expected one in each file"
            )
        return node

    def _node(self, event: Any, depth: int) -> Node:
        yaml = self._yaml
        mark = event.start_mark
        line, column = mark.line + 1, mark.column + 1
        kind = type(event)
        if kind is yaml.AliasEvent:
            return self._alias(event.anchor, line, column)
        self._count(1, line, column)
        if event.tag is not None and event.tag not in (self._tags or ()):
            fault = self._fault(
                line,
                column,
                f"tag {quote(event.tag)} is not allowed",
                "leave it out; quotes make text",
            )
            self._problems.add(fault)
        if kind is yaml.ScalarEvent:
            plain = not event.style and event.tag is None
            kind_ = scalar_kind(event.value) if plain else TEXT
            node = Node(kind_, line, column, event.value, self._source)
            node.style = event.style or None
            if not plain and self._tags and event.tag in self._tags:
                node.style = event.tag
            node.end_line = event.end_mark.line + 1
            if event.anchor:
                self._anchors[event.anchor] = node
            return node
        if depth >= MAX_DEPTH:
            raise self._fault(line, column, f"nested deeper than {MAX_DEPTH} levels")
        shape = LIST if kind is yaml.SequenceStartEvent else MAPPING
        node = Node(shape, line, column, source=self._source)
        node.style = event.tag if self._tags else None
        anchor = event.anchor
        if anchor:
            self._anchors[anchor] = None
        if node.kind == LIST:
            while type(event := self._next()) is not yaml.SequenceEndEvent:
                item = self._node(event, depth + 1)
                node.items.append(item)
                node.size += item.size
        else:
            self._pairs(node, depth)
        if anchor:
            self._anchors[anchor] = node
        return node

    def _pairs(self, node: Node, depth: int) -> None:
        seen: dict[str, int] = {}
        while type(event := self._next()) is not self._yaml.MappingEndEvent:
            key = self._node(event, depth + 1)
            value = self._node(self._next(), depth + 1)
            node.size += key.size + value.size
            if key.kind in (LIST, MAPPING):
                line = self._source.lines[key.line - 1][key.column - 2 :]
                if line.startswith("{{"):
                    whole = re.match(r"\{\{[^\"}]{,60}\}\}", line)
                    shown = whole[0] if whole else "{{ NAME }}"
                    hint = f'quote the whole text, as in "{shown}"'
                    column = key.column - 1
                    raise self._fault(key.line, column, "a template that is not quoted", hint)
                self._problems.add(key.fault(f"key {NAMES[key.kind]} is not text"))
            elif key.text == "<<" and key.style is None and self._tags is not None:
                node.pairs.append((key, value))
            elif key.text == "<<" and key.style is None:
                self._problems.add(
                    key.fault(
                        "merge key '<<' is not part of the language",
                        "write the keys out, or use an alias for a whole value",
                    )
                )
            elif key.text in seen:
                self._problems.add(
                    key.fault(
                        f"duplicate key {quote(key.text)}, first given in line {seen[key.text]}"
                    )
                )
            else:
                seen[key.text] = key.line
                node.pairs.append((key, value))

    def _alias(self, anchor: str, line: int, column: int) -> Node:
        if anchor not in self._anchors:
            near = did_you_mean(anchor, list(self._anchors))
            raise self._fault(line, column, f"alias {quote('*' + anchor)} has no anchor{near}")
        node = self._anchors[anchor]
        if node is None:
            raise self._fault(line, column, f"alias {quote('*' + anchor)} contains itself")
        self._count(node.size, line, column)
        return node

    def _count(self, nodes: int, line: int, column: int) -> None:
        self._nodes += nodes
        if self._nodes > MAX_NODES:
            raise self._fault(
                line, column, f"more than {MAX_NODES} values (aliases expanded), expected fewer"
            )

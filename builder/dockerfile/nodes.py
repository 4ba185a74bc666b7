"""Nodes of the spec that a Dockerfile becomes, each with the place of its instruction."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from builder.dockerfile.expand import Ref, Value
from builder.spec.node import INT, LIST, MAPPING, TEXT, Node, scalar_kind

Place = tuple[int, int]  # line and column
_SIGNS = ("{{", "{%", "{#", "\r")


def template(value: Value | str) -> str:
    """A value as a text of a spec, where braces that are no template are said so."""
    parts = (value,) if isinstance(value, str) else value
    return "".join(
        f"{{{{ {_bare(part.expression)} }}}}" if isinstance(part, Ref) else _plain(part)
        for part in parts
    )


def _bare(expression: str) -> str:
    """Without parentheses around the whole, which templates do without."""
    if not (expression.startswith("(") and expression.endswith(")")):
        return expression
    depth, mark, escaped = 0, "", False
    for number, char in enumerate(expression):
        if mark:
            if char == mark and not escaped:
                mark = ""
            escaped = char == "\\" and not escaped
        elif char == "'":
            mark = char
        elif char in "()":
            depth += 1 if char == "(" else -1
            if not depth and number + 1 < len(expression):
                return expression
    return expression[1:-1]


def _plain(text: str) -> str:
    if not any(sign in text for sign in _SIGNS):
        # a brace at the end could become one with what follows
        return text[:-1] + "{{ '{' }}" if text.endswith("{") else text
    raw = "\r" not in text and not text.endswith("{") and "endraw" not in text
    if raw and sum(text.count(sign) for sign in _SIGNS) > 1:
        return f"{{% raw %}}{text}{{% endraw %}}"
    for sign in _SIGNS[:3]:
        text = text.replace(sign, f"\0{sign[1]}")
    for sign in _SIGNS[:3]:
        text = text.replace(f"\0{sign[1]}", f"{{{{ '{sign}' }}}}")
    text = text.replace("\r", "{{ '\\r' }}")
    return text[:-1] + "{{ '{' }}" if text.endswith("{") else text


def text(value: Value | str, at: Place, *, ready: bool = False) -> Node:
    """A text node; `ready`: it is a template already."""
    return Node(TEXT, *at, value if ready and isinstance(value, str) else template(value))


def variable(template_: str, at: Place) -> Node:
    """A default, which is text whatever it looks like."""
    made = text(template_, at, ready=True)
    if scalar_kind(template_) != TEXT:
        made.style = '"'
    return made


def number(value: int, at: Place) -> Node:
    return Node(INT, *at, str(value))


def texts(values: Iterable[Value | str], at: Place) -> Node:
    made = Node(LIST, *at)
    made.items = [text(each, at) for each in values]
    return made


def mapping(pairs: Mapping[str, Node | str], at: Place) -> Node:
    made = Node(MAPPING, *at)
    for name, value in pairs.items():
        put(made, name, text(value, at) if isinstance(value, str) else value, at)
    return made


class _Table(Node):
    """A mapping of which there may be thousands of keys, none of which is taken out."""

    __slots__ = ("places",)

    def __init__(self, kind: str, line: int, column: int) -> None:
        super().__init__(kind, line, column)
        self.places: dict[str, int] = {}


def put(into: Node, name: str, value: Node, at: Place) -> Node:
    """Set a key; one that is there keeps its place. Gives the key's node."""
    if isinstance(into, _Table):
        number = into.places.setdefault(name, len(into.pairs))
    else:
        names = [key.text for key, _ in into.pairs]
        number = names.index(name) if name in names else len(names)
    if number < len(into.pairs):
        key = into.pairs[number][0]
        into.pairs[number] = (key, value)
    else:
        key = Node(TEXT, *at, name)
        into.pairs.append((key, value))
    return key


def drop(into: Node, name: str) -> None:
    into.pairs = [(key, value) for key, value in into.pairs if key.text != name]


def below(into: Node, name: str, at: Place, kind: str = MAPPING) -> Node:
    """The mapping or list under a key, made when it is not there."""
    found = into.get(name)
    if found is None:
        found = _Table(kind, *at) if kind == MAPPING else Node(kind, *at)
        put(into, name, found, at)
    return found

"""Values of a bake file: what an expression gives, and how a spec may say it.

`data` is a text, int, Decimal, bool, None, a list of Val or a mapping of texts to Val. `names` are
the variables that it depends on; for a list or a mapping those that decide which entries there are.
`said` is the value as parts of a template, None: no template says it, or nothing needs one.
`loose` are entries of a list, of which those that come out empty are none.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any, NamedTuple

from builder.dockerfile.expand import Ref, Value, expression
from builder.spec.source import quote

NOTHING: frozenset[str] = frozenset()


class Wrong(Exception):
    """What is wrong with a value; the place is known above."""

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message, self.hint = message, hint


class Val(NamedTuple):
    data: Any
    names: frozenset[str] = NOTHING
    said: Value | None = None
    loose: tuple[Val, ...] | None = None

    @property
    def sayable(self) -> bool:
        """Whether a template, or a text, says it with all its variables."""
        return not self.names or self.said is not None

    @property
    def parts(self) -> Value:
        """As parts of a template, of a value that is sayable."""
        return self.said if self.names and self.said is not None else (shown(self.data),)

    @property
    def code(self) -> str:
        """As a Jinja expression, of a value that is sayable."""
        if self.names and self.said is not None:
            return expression(self.said)
        if isinstance(self.data, bool):
            return "true" if self.data else "false"
        if isinstance(self.data, int | Decimal):
            return f"({shown(self.data)})" if self.data < 0 else shown(self.data)
        if isinstance(self.data, list):
            return f"[{', '.join(each.code for each in self.data)}]"
        return expression((self.data,) if self.data else ())


def kind(data: Any) -> str:
    """For messages, and to compare: values of two kinds are never equal."""
    if data is None:
        return "null"
    if isinstance(data, bool):
        return "a truth value"
    if isinstance(data, int | Decimal):
        return "a number"
    if isinstance(data, str):
        return "text"
    return "a list" if isinstance(data, list) else "an object"


def shown(data: Any) -> str:
    """A text, number or truth value as text. Raises Wrong for the others."""
    if isinstance(data, str):
        return data
    if isinstance(data, bool):
        return "true" if data else "false"
    if isinstance(data, int):
        return str(data)
    if isinstance(data, Decimal):
        text = f"{data:f}"
        return text.rstrip("0").rstrip(".") if "." in text else text
    raise Wrong(f"{kind(data)}, expected text")


def number(data: Any) -> int | Decimal:
    """Raises Wrong."""
    if isinstance(data, str) and 0 < len(data) < 300:
        try:
            made = Decimal(data)
        except ArithmeticError:
            raise Wrong(f"{quote(data)} is no number") from None
        if made.is_finite() and abs(made.adjusted()) < 400 and "_" not in data:
            return whole(made)
    if isinstance(data, bool) or not isinstance(data, int | Decimal):
        raise Wrong(f"{kind(data)}, expected a number")
    return data


def whole(value: Decimal) -> int | Decimal:
    """A number without a fraction as an int."""
    if not value.is_finite() or abs(value.adjusted()) > 400:
        raise Wrong("the number is too large")
    return int(value) if value == value.to_integral_value() else value


def truth(data: Any) -> bool:
    """Raises Wrong."""
    if isinstance(data, bool):
        return data
    if data in ("true", "1"):
        return True
    if data in ("false", "0"):
        return False
    raise Wrong(f"{quote(data) if isinstance(data, str) else kind(data)}, expected true or false")


def plain(value: Val) -> Any:
    """Without what it depends on."""
    if isinstance(value.data, list):
        return [plain(each) for each in value.data]
    if isinstance(value.data, dict):
        return {name: plain(each) for name, each in value.data.items()}
    return value.data


def of(data: Any, names: frozenset[str] = NOTHING) -> Val:
    """Plain data as a value."""
    if isinstance(data, list | tuple):
        return Val([of(each, names) for each in data], names)
    if isinstance(data, Mapping):
        return Val({str(name): of(each, names) for name, each in data.items()}, names)
    return Val(data, names)


def depends(*values: Val) -> frozenset[str]:
    """All variables that they depend on, with those of their entries."""
    found: set[str] = set()
    for value in values:
        found |= value.names
        data = value.data
        if isinstance(data, list | dict):
            found |= depends(*(data.values() if isinstance(data, dict) else data))
    return frozenset(found)


MARK = "\0"
"""Before the name of a variable of the file, in an expression: a spec may call it otherwise."""


def said_by(name: str) -> str:
    """A variable in an expression."""
    return MARK + name


def say(code: str) -> Value:
    return (Ref(code),)


def united(values: Iterable[Val]) -> frozenset[str]:
    return frozenset().union(*(each.names for each in values))

"""`--set NAME=TEXT`: the text read as the type that the variable has already."""

from __future__ import annotations

from typing import Any

from builder.errors import UsageError
from builder.spec.node import BOOL, FLOAT, INT, scalar_kind
from builder.spec.source import quote


def typed(name: str, text: str, default: Any) -> Any:
    """The value of `--set name=text` for a variable whose value was `default`: true or false, a
    number, text, a list as JSON or with commas, a mapping as JSON. Raises UsageError."""
    if isinstance(default, bool):
        if scalar_kind(text) != BOOL:
            raise _wrong(name, text, "true or false")
        return text.lower() == "true"
    if isinstance(default, int):
        return _number(name, text, (INT,), "a whole number")
    if isinstance(default, float):
        return _number(name, text, (INT, FLOAT), "a number")
    if isinstance(default, list):
        return _list(name, text, default)
    if isinstance(default, dict):
        value = _json(name, text, "a mapping as JSON")
        if not isinstance(value, dict):
            raise _wrong(name, text, "a mapping as JSON")
        return value
    return text


def _number(name: str, text: str, kinds: tuple[str, ...], expected: str) -> int | float:
    """One that is written again as it was given: 1.10 would be printed as 1.1."""
    kind = scalar_kind(text)
    if kind not in kinds or len(text) >= 40:
        raise _wrong(name, text, expected)
    try:
        value: int | float = int(text) if kind == INT else float(text)
    except ValueError:  # 0x1f, .inf
        raise _wrong(name, text, expected) from None
    if str(value) != text:
        raise _wrong(name, text, f"{expected}, this one would be written {quote(str(value))}")
    return value


def _list(name: str, text: str, default: list[Any]) -> list[Any]:
    if text.lstrip().startswith("["):
        value = _json(name, text, "a list")
        assert isinstance(value, list)
        return value
    kinds = {type(each) for each in default}
    like = default[0] if len(kinds) == 1 and kinds <= {bool, int, float} else ""
    return [typed(name, each.strip(), like) for each in text.split(",")] if text.strip() else []


def _json(name: str, text: str, expected: str) -> Any:
    import json

    def number(digits: str) -> int | float:
        return _number(name, digits, (INT, FLOAT), "numbers")

    def refused(word: str) -> Any:
        raise ValueError(word)  # NaN, Infinity

    try:
        return json.loads(text, parse_float=number, parse_int=number, parse_constant=refused)
    except (ValueError, RecursionError):
        raise _wrong(name, text, expected) from None


def _wrong(name: str, text: str, expected: str) -> UsageError:
    return UsageError(
        f"--set {name}={quote(text)}: expected {expected}",
        "it has the type of its default; a default in quotes is text",
    )

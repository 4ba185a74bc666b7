"""What a template says of a function whose arguments depend on a variable: a Jinja expression, None
where there is none."""

from __future__ import annotations

from collections.abc import Callable

from builder.bake.values import Val, number, shown
from builder.dockerfile.expand import quoted


def _trimmed_prefix(args: list[Val]) -> str | None:
    text, prefix = args
    if prefix.names or not (size := len(shown(prefix.data))):
        return None
    return f"({text.code}[{size}:] if {text.code}[:{size}] == {prefix.code} else {text.code})"


def _part_of(args: list[Val]) -> str | None:
    text, start, length = args
    if start.names or length.names or number(start.data) < 0 or number(length.data) < 0:
        return None
    first = int(number(start.data))
    return f"{text.code}[{first or ''}:{first + int(number(length.data))}]"


def _replaced(args: list[Val]) -> str | None:
    text, old, new = args
    if old.names or new.names or not shown(old.data):
        return None
    return f"({text.code} | replace({quoted(shown(old.data))}, {quoted(shown(new.data))}))"


def _split_at(args: list[Val]) -> str | None:
    sign, text = args
    return None if sign.names or not sign.data else f"{text.code}.split({sign.code})"


def _trimmed_suffix(args: list[Val]) -> str | None:
    return None if args[1].names else f"{args[0].code}.removesuffix({args[1].code})"


SAID: dict[str, Callable[[list[Val]], str | None]] = {
    "lower": lambda args: f"({args[0].code} | lower)",
    "upper": lambda args: f"({args[0].code} | upper)",
    "trimspace": lambda args: f"({args[0].code} | trim)",
    "replace": _replaced,
    "trimprefix": _trimmed_prefix,
    "trimsuffix": _trimmed_suffix,
    "split": _split_at,
    "substr": _part_of,
}

"""Patterns of ${x#p} and its like: * and ? alone, matched in a time that is known before."""

from __future__ import annotations

from collections.abc import Iterator

MAX_WORK = 8_000_000  # characters that one substitution may look at


class TooMuch(Exception):
    """A substitution would look at more than MAX_WORK characters."""


class _Any:
    """A token: any character; with `many`, any number of them."""

    def __init__(self, many: bool) -> None:
        self.many = many


_ONE, _MANY = _Any(False), _Any(True)
Tokens = list["str | _Any"]


def tokens(pattern: str) -> Tokens:
    """Raises ValueError for an escape that is none."""
    found: Tokens = []
    chars = iter(pattern)
    for char in chars:
        if char == "*":
            if not found or found[-1] is not _MANY:
                found.append(_MANY)
        elif char == "?":
            found.append(_ONE)
        elif char == "\\":
            escaped = next(chars, "")
            if escaped not in tuple("*?\\}/"):
                raise ValueError(f"\\{escaped} is no escape")
            found.append(escaped)
        else:
            found.append(char)
    return found


def literal(found: Tokens) -> str | None:
    """The text of a pattern without * and ?."""
    texts = [each for each in found if isinstance(each, str)]
    return "".join(texts) if len(texts) == len(found) else None


def without_prefix(found: Tokens, text: str, *, longest: bool) -> str:
    """`text` without the prefix that matches; raises TooMuch."""
    last = None
    for end in _ends(found, text, 0):
        last = end
        if not longest:
            break
    return text if last is None else text[last:]


def without_suffix(found: Tokens, text: str, *, longest: bool) -> str:
    return without_prefix(found[::-1], text[::-1], longest=longest)[::-1]


def replaced(found: Tokens, text: str, new: str, *, every: bool) -> str:
    """With `new` in the place of the first longest match, or of each. Raises TooMuch."""
    plain = literal(found)
    if plain:
        return text.replace(plain, new, -1 if every else 1)
    parts: list[str] = []
    here, spent = 0, 0
    while here <= len(text):
        ends = list(_ends(found, text, here))
        spent += len(text) - here
        if spent > MAX_WORK:
            raise TooMuch
        if not ends:
            parts.append(text[here : here + 1])
            here += 1
            continue
        parts.append(new)
        if not every:
            return "".join(parts) + text[ends[-1] :]
        if ends[-1] == here:
            parts.append(text[here : here + 1])
            here += 1
        else:
            here = ends[-1]
            if here == len(text):
                break
    return "".join(parts)


def _ends(found: Tokens, text: str, start: int) -> Iterator[int]:
    """Where a match of the whole pattern from `start` on may end, in order. A bit of `state` says
    that so many tokens have matched."""
    many = one = 0
    of: dict[str, int] = {}
    for number, token in enumerate(found):
        if isinstance(token, str):
            of[token] = of.get(token, 0) | 1 << number
        elif token.many:
            many |= 1 << number
        else:
            one |= 1 << number
    goal = 1 << len(found)
    state = 1 | (1 & many) << 1
    for here in range(start, len(text) + 1):
        if state & goal:
            yield here
        if here == len(text) or not state:
            return
        state = (state & (one | of.get(text[here], 0))) << 1 | state & many
        state |= (state & many) << 1

"""Challenge: a WWW-Authenticate header, read (RFC 9110 section 11; distribution's token spec)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import islice
from typing import NamedTuple

_SCHEME = re.compile(r"[\s,]*([A-Za-z][A-Za-z0-9!#$&+.^_`|~-]*)(?:\s+|\s*$|(?=\s*,))")
_PARAMETER = re.compile(
    r"[\s,]*([A-Za-z0-9!#$%&'*+.^_`|~-]+)\s*=\s*(?:\"((?:[^\"\\]|\\.)*)\"|([^\s,\"]*))"
)
_MOST, _LONGEST = 8, 8192  # headers that are read, characters of each


class Challenge(NamedTuple):
    scheme: str  # lower case: "bearer", "basic"
    parameters: dict[str, str]  # names in lower case


def parse_challenges(headers: Iterable[str]) -> list[Challenge]:
    """Every challenge in the order of the headers. Commas and spaces within quotes belong to the
    value; what cannot be read ends its header."""
    challenges = []
    for whole in islice(headers, _MOST):
        header = whole[:_LONGEST]
        position = 0
        while (scheme := _SCHEME.match(header, position)) is not None:
            position = scheme.end()
            parameters: dict[str, str] = {}
            while (found := _PARAMETER.match(header, position)) is not None:
                name, quoted, plain = found.groups()
                value = plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted)
                parameters.setdefault(name.lower(), value)
                position = found.end()
            challenges.append(Challenge(scheme[1].lower(), parameters))
    return challenges


def merge_scopes(scopes: Iterable[str]) -> tuple[str, ...]:
    """One scope per resource (`repository:a/b:pull,push`), actions and resources sorted."""
    actions: dict[str, set[str]] = {}
    for scope in scopes:
        resource, colon, wanted = scope.rpartition(":")
        if colon:
            actions.setdefault(resource, set()).update(filter(None, wanted.split(",")))
    return tuple(
        f"{resource}:{','.join(sorted(wanted))}" for resource, wanted in sorted(actions.items())
    )

"""Functions of bake files over plain values. All raise Wrong; none reads the environment."""

from __future__ import annotations

import base64
import json
import math
import os
import posixpath
import re
from collections.abc import Callable
from decimal import Decimal
from itertools import product
from typing import Any

from builder.bake import moments, patterns
from builder.bake.values import Wrong, kind, number, shown, whole
from builder.oci.digest import sum_of
from builder.spec.source import quote

UNSTEADY = ("uuidv4", "bcrypt")
"""Functions that would give another value each time."""
_VERB = re.compile(r"%(\[\d{1,3}\])?([-+# 0]*)(\d{0,4})(?:\.(\d{0,3}))?([a-zA-Z%])")


def simple_format(text: str, count: int) -> list[str | int] | None:
    """A format of %s, %d, %v alone as texts and numbers of arguments; None: it has others."""
    parts: list[str | int] = []
    at = used = 0
    for found in _VERB.finditer(text):
        parts.append(text[at : found.start()])
        at = found.end()
        if found[0] == "%%":
            parts.append("%")
        elif found[0] in ("%s", "%d", "%v") and used < count:
            parts.append(used)
            used += 1
        else:
            return None
    rest = text[at:]
    return None if "%" in rest or used != count else [*parts, rest]


def formatted(text: Any, *args: Any) -> str:
    text = shown(text)
    made: list[str] = []
    at = following = 0
    highest = 0
    for found in _VERB.finditer(text):
        before = text[at : found.start()]
        if "%" in before:
            raise Wrong(f"{quote(before)} has a % that formats nothing", "write %%")
        made.append(before)
        at = found.end()
        index, flags, width, precision, verb = found.groups()
        if verb == "%":
            made.append("%")
            continue
        following = int(index[1:-1]) if index else following + 1
        highest = max(highest, following)
        if not 1 <= following <= len(args):
            raise Wrong(f"{quote(found[0])} has no argument, there are {len(args)}")
        shape = (flags, int(width or 0), int(precision) if precision else None)
        made.append(
            _formatted(verb, shape, args[following - 1], has_precision=precision is not None)
        )
    if "%" in text[at:]:
        raise Wrong(f"{quote(text[at:])} has a % that formats nothing", "write %%")
    if highest < len(args):
        raise Wrong(f"{len(args)} values for a format of {highest}")
    return "".join([*made, text[at:]])


def _formatted(
    verb: str, shape: tuple[str, int, int | None], value: Any, *, has_precision: bool
) -> str:
    flags, width, precision = shape
    if has_precision and precision is None:
        precision = 0
    sign = "".join(each for each in "+ #" if each in flags)
    if verb == "v":
        text = (
            "null"
            if value is None
            else shown(value)
            if not isinstance(value, list | dict)
            else _json(value)
        )
    elif verb in "sq":
        text = shown(value) if value is not None else "null"
        text = text[:precision] if precision is not None else text
        text = json.dumps(text, ensure_ascii=False) if verb == "q" else text
    elif verb == "t":
        text = shown(value)
    elif verb in "dboxX":
        found = int(number(value))
        text = (
            "+" if "+" in sign and found >= 0 else " " if " " in sign and found >= 0 else ""
        ) + (str(found) if verb == "d" else format(found, ("#" if "#" in sign else "") + verb))
    elif verb in "eEfgG":
        text = f"%{sign}{'' if precision is None else f'.{precision}'}{verb}" % float(number(value))
    else:
        raise Wrong(f"the format has %{verb}, expected one of %s %d %v %q %t %f %x and the like")
    if "-" in flags:
        return text.ljust(width)
    if "0" in flags and verb not in "sqv":
        signed = text[:1] in ("-", "+", " ")
        return text[:signed] + text[signed:].rjust(width - signed, "0")
    return text.rjust(width)


def _json(value: Any) -> str:
    def ready(data: Any) -> Any:
        if isinstance(data, Decimal):
            return float(data)
        if isinstance(data, list):
            return [ready(each) for each in data]
        return (
            {name: ready(data[name]) for name in sorted(data)} if isinstance(data, dict) else data
        )

    text = json.dumps(ready(value), separators=(",", ":"), ensure_ascii=False)
    for char in "<>&\u2028\u2029":  # as Go writes it
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text


def _json_decode(text: str) -> Any:
    try:
        return json.loads(text, parse_float=_exact, parse_int=_exact)
    except (ValueError, RecursionError):
        raise Wrong(f"{quote(text)} is no JSON") from None


def _exact(text: str) -> int | Decimal:
    if len(text) > 300:
        raise Wrong("a number has more than 300 digits")
    return whole(Decimal(text))


def _csv(text: str) -> list[dict[str, str]]:
    import csv

    rows = list(csv.reader(text.splitlines()))[:10_000]
    if not rows:
        raise Wrong("no line of headings")
    return [dict(zip(rows[0], each, strict=False)) for each in rows[1:]]


def _decoded(text: str) -> str:
    try:
        return base64.b64decode(text, validate=True).decode()
    except ValueError:
        raise Wrong(f"{quote(text)} is no base64 of text") from None


def _indented(count: Any, text: str) -> str:
    if not 0 <= count <= 1000:
        raise Wrong(f"{count} spaces, expected up to 1000")
    return text.replace("\n", "\n" + " " * int(count))


def _split(sign: str, text: str) -> list[str]:
    return (text.split(sign) if sign else list(text)) if text or sign else []


def _part(text: str, start: Any, length: Any) -> str:
    start, length = int(start), int(length)
    start = max(start + len(text), 0) if start < 0 else start
    return text[start:] if length < 0 else text[start : start + length]


def _replace(text: str, old: str, new: str) -> str:
    if len(text) * (len(new) + 1) > 1 << 22:
        raise Wrong("the text grows too long")
    return text.replace(old, new)


def _parse_int(text: Any, base: Any) -> int:
    if not 2 <= base <= 36:
        raise Wrong(f"the base {base}, expected 2 to 36")
    try:
        return int(shown(text)[:300], int(base))
    except ValueError:
        raise Wrong(f"{quote(shown(text))} is no number to the base {base}") from None


def _power(of: Any, to: Any) -> int | Decimal:
    if abs(to) > 1000 or abs(of) > 10**30:
        raise Wrong("the number is too large")
    try:
        made = Decimal(repr(float(of) ** float(to)))
    except (ArithmeticError, TypeError, ValueError):
        raise Wrong(f"{of} to the power of {to} is no number") from None
    return whole(made)


def _log(of: Any, base: Any) -> int | Decimal:
    try:
        return whole(Decimal(repr(math.log(float(of)) / math.log(float(base)))))
    except (ArithmeticError, ValueError, OverflowError):
        raise Wrong(f"{of} has no logarithm to the base {base}") from None


def _range(*args: Any) -> list[Any]:
    start, end, step = (0, args[0], None) if len(args) == 1 else (*args, None)[:3]
    step = step if step is not None else 1 if start <= end else -1
    if step == 0 or (end - start) / step > 1024:
        raise Wrong("more than 1024 numbers" if step else "a step of 0")
    made = []
    while (start < end) if step > 0 else (start > end):
        made.append(start)
        start += step
    return made


def _index_of(items: list[Any], value: Any) -> int:
    for at, each in enumerate(items):
        if kind(each) == kind(value) and each == value:
            return at
    raise Wrong("there is no such entry")


def _has_index(of: Any, key: Any) -> bool:
    if not isinstance(of, list):
        raise Wrong(f"{kind(of)}, expected a list")
    return isinstance(key, int) and 0 <= key < len(of)


def _chunks(items: list[Any], size: Any) -> list[list[Any]]:
    size = int(size) or max(len(items), 1)
    if size < 0:
        raise Wrong("a size below 0")
    return [items[at : at + size] for at in range(0, len(items), size)]


def _set(items: list[Any]) -> list[Any]:
    """As a set comes out: each once, texts and numbers in order."""
    made: list[Any] = []
    for each in items:
        if not any(kind(one) == kind(each) and one == each for one in made):
            made.append(each)
        if len(made) > 1000:
            raise Wrong("more than 1000 different entries")
    same = {kind(each) for each in made}
    return sorted(made) if same <= {"text"} or same <= {"a number"} else made


def _product(*lists: list[Any]) -> list[list[Any]]:
    if math.prod(map(len, lists)) > 20_000:
        raise Wrong("more than 20000 combinations")
    return [list(each) for each in product(*lists)]


def _subtracted(first: list[Any], second: list[Any]) -> list[Any]:
    return [each for each in _set(first) if each not in second]


def _common(first: list[Any], *others: list[Any]) -> list[Any]:
    return [each for each in _set(first) if all(each in other for other in others)]


def _sorted(items: list[Any]) -> list[str]:
    return sorted(shown(each) for each in items)


def _cut(text: str, chars: str) -> str:
    return text.strip(chars)


def _digest(name: str) -> Callable[[str], str]:
    return lambda text: sum_of(name, text)


def _url(text: str) -> str:
    from urllib.parse import quote_plus

    return quote_plus(text, safe="-_.~")


def _sanitized(text: str) -> str:
    return re.sub(r"[^a-zA-Z0-9_-]", "_", text)


def _base_name(path: str) -> str:
    return posixpath.basename(path.rstrip("/")) or ("/" if path else ".")


def _folder_name(path: str) -> str:
    return os.path.normpath(posixpath.dirname(path) or ".")


def _title(text: str) -> str:
    return re.sub(r"(?<![\w'])\w", lambda found: found[0].upper(), text)


def _extreme(choose: Callable[[Any], Any]) -> Callable[..., Any]:
    return lambda *args: choose(args)


TABLE: dict[str, tuple[str, Callable[..., Any]]] = {
    "absolute": ("n", abs),
    "base64decode": ("s", _decoded),
    "base64encode": ("s", lambda text: base64.b64encode(text.encode()).decode()),
    "basename": ("s", _base_name),
    "ceil": ("n", math.ceil),
    "chomp": ("s", lambda text: text.rstrip("\r\n")),
    "chunklist": ("ln", _chunks),
    "csvdecode": ("s", _csv),
    "dirname": ("s", _folder_name),
    "floor": ("n", math.floor),
    "formatdate": ("ss", moments.formatted),
    "formattimestamp": ("ss", moments.formatted),
    "hasindex": ("dd", _has_index),
    "indent": ("ns", _indented),
    "index": ("dd", lambda of, key: _at(of, key)),
    "indexof": ("ld", _index_of),
    "int": ("n", lambda of: int(of)),
    "jsondecode": ("s", _json_decode),
    "jsonencode": ("z", _json),
    "log": ("nn", _log),
    "lower": ("s", str.lower),
    "max": ("nn*", _extreme(max)),
    "md5": ("s", _digest("md5")),
    "min": ("nn*", _extreme(min)),
    "negate": ("n", lambda of: -of),
    "parseint": ("dn", _parse_int),
    "pow": ("nn", _power),
    "range": ("nn?n?", _range),
    "regex": ("ss", patterns.first),
    "regex_replace": ("sss", patterns.replaced),
    "regexall": ("ss", patterns.every),
    "replace": ("sss", _replace),
    "reverse": ("s", lambda text: text[::-1]),
    "sanitize": ("s", _sanitized),
    "sethaselement": ("ld", lambda items, value: value in items),
    "setintersection": ("ll*", _common),
    "setproduct": ("ll*", _product),
    "setsubtract": ("ll", _subtracted),
    "setsymmetricdifference": (
        "ll",
        lambda a, b: _set([*_subtracted(a, b), *_subtracted(b, a)]),
    ),
    "setunion": ("ll*", lambda *lists: _set([each for one in lists for each in one])),
    "sha1": ("s", _digest("sha1")),
    "sha256": ("s", _digest("sha256")),
    "sha512": ("s", _digest("sha512")),
    "signum": ("n", lambda of: (of > 0) - (of < 0)),
    "sort": ("l", _sorted),
    "split": ("ss", _split),
    "strlen": ("s", len),
    "substr": ("snn", _part),
    "timeadd": ("ss", moments.later),
    "timestamp": ("", moments.now),
    "title": ("s", _title),
    "trim": ("ss", _cut),
    "trimprefix": ("ss", str.removeprefix),
    "trimspace": ("s", str.strip),
    "trimsuffix": ("ss", str.removesuffix),
    "upper": ("s", str.upper),
    "urlencode": ("s", _url),
}


def _at(of: Any, key: Any) -> Any:
    if not _has_index(of, key):
        raise Wrong("there is no such entry")
    return of[key]

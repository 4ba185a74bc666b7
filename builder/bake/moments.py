"""Moments of time in bake files: RFC 3339 texts."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime, timedelta

from builder.bake.values import Wrong
from builder.spec.source import quote

_TOKEN = re.compile(r"'(?:[^']|'')*'|(.)\1*|.", re.S)
_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "ms": 1e-3, "s": 1, "m": 60, "h": 3600}
_DURATION = re.compile(r"([-+]?)((?:\d{1,15}(?:\.\d{1,9})?(?:ns|us|µs|ms|s|m|h))+)")


def now() -> str:
    """SOURCE_DATE_EPOCH, else the beginning of time, so that a second conversion says the same."""
    given = os.environ.get("SOURCE_DATE_EPOCH", "0")
    seconds = int(given) if given.isdecimal() and len(given) < 12 else 0
    return _written(datetime.fromtimestamp(seconds, UTC))


def _read(text: str) -> datetime:
    if not re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{1,9})?(Z|[-+]\d\d:\d\d)", text):
        raise Wrong(f"{quote(text)} is no time, expected such as 2025-01-31T12:00:00Z")
    try:
        return datetime.fromisoformat(text)
    except ValueError as error:
        raise Wrong(f"{quote(text)} is no time: {error}") from None


def _written(moment: datetime) -> str:
    return moment.isoformat(timespec="seconds").replace("+00:00", "Z")


def later(text: str, duration: str) -> str:
    found = _DURATION.fullmatch(duration)
    if not found:
        raise Wrong(f"{quote(duration)} is no duration, expected such as 1h30m")
    parts = re.findall(r"([\d.]+)(ns|us|µs|ms|s|m|h)", found[2])
    seconds = sum(float(count) * _UNITS[unit] for count, unit in parts)
    try:
        return _written(_read(text) + timedelta(seconds=-seconds if found[1] == "-" else seconds))
    except OverflowError:
        raise Wrong(f"{quote(duration)} is too long") from None


def formatted(layout: str, text: str) -> str:
    moment = _read(text)
    zone = moment.strftime("%z") or "+0000"
    hour = moment.hour % 12 or 12
    known = {
        "YYYY": f"{moment.year:04}", "YY": f"{moment.year % 100:02}",
        "MMMM": f"{moment:%B}", "MMM": f"{moment:%b}", "MM": f"{moment:%m}", "M": str(moment.month),
        "DD": f"{moment:%d}", "D": str(moment.day), "EEEE": f"{moment:%A}", "EEE": f"{moment:%a}",
        "hh": f"{moment:%H}", "h": str(moment.hour), "HH": f"{hour:02}", "H": str(hour),
        "AA": f"{moment:%p}".upper(), "aa": f"{moment:%p}".lower(),
        "mm": f"{moment:%M}", "m": str(moment.minute),
        "ss": f"{moment:%S}", "s": str(moment.second),
        "ZZZZZ": f"{zone[:3]}:{zone[3:]}", "ZZZZ": zone,
        "ZZZ": "UTC" if zone == "+0000" else zone,
        "Z": "Z" if zone == "+0000" else f"{zone[:3]}:{zone[3:]}",
    }  # fmt: skip
    made = []
    for found in _TOKEN.finditer(layout):
        token = found[0]
        if token.startswith("'"):
            if len(token) < 2:
                raise Wrong(f"{quote(layout)} has a quote without an end")
            made.append(token[1:-1].replace("''", "'"))
        elif token[0].isascii() and token[0].isalpha():
            if token not in known:
                raise Wrong(
                    f"{quote(token)} in {quote(layout)} is no part of a time", "quote text: 'T'"
                )
            made.append(known[token])
        else:
            made.append(token)
    return "".join(made)

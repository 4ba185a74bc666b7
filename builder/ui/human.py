"""Sizes, times and ages as people say them."""

from __future__ import annotations


def size(count: int) -> str:
    """Bytes in powers of 1000, as Docker shows them: 999 B, 1.2 MB, 240 MB."""
    if count < 1000:
        return f"{count} B"
    value = float(count)
    for unit in ("kB", "MB", "GB", "TB", "PB"):
        value /= 1000
        if value < 999.5 or unit == "PB":
            break
    return f"{value:.1f} {unit}" if value < 99.95 else f"{value:.0f} {unit}"


def count(number: int, thing: str) -> str:
    """1 step, 2 steps."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


def seconds(time: float) -> str:
    """A duration: 0.31 s, 12.3 s, 2 min 05 s, 1 h 02 min."""
    if time < 9.995:
        return f"{time:.2f} s"
    if time < 59.95:
        return f"{time:.1f} s"
    minutes, rest = divmod(round(time), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02} s"
    return f"{minutes // 60} h {minutes % 60:02} min"


def clock(time: float) -> str:
    """A time that runs, in whole seconds: 0:07, 12:05, 1:02:05."""
    minutes, rest = divmod(int(time), 60)
    if minutes < 60:
        return f"{minutes}:{rest:02}"
    return f"{minutes // 60}:{minutes % 60:02}:{rest:02}"


def ago(age: float) -> str:
    """An age in seconds, in its largest whole unit: 3 days ago."""
    for name, length in (
        ("year", 31_556_952),
        ("month", 2_629_746),
        ("week", 604_800),
        ("day", 86_400),
        ("hour", 3600),
        ("minute", 60),
        ("second", 1),
    ):
        if age >= length and (whole := int(age // length)):
            return f"{count(whole, name)} ago"
    return "just now"

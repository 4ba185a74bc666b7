"""Codecs: one run of tar bytes to one gzip member or zstd frame."""

from __future__ import annotations

from collections.abc import Callable

from builder.errors import UsageError

LEVELS = {"gzip": (0, 1, 9), "zstd": (1, 3, 19), "none": (0, 0, 0)}
"""codec -> least, default, highest level. gzip's up to 3 are isal's, whose level 1 is 15 times as fast
as zlib's 6 for layers about a seventh larger; those above are zlib's."""


def check_level(codec: str, level: int | None) -> None:
    least, _, highest = LEVELS[codec]
    if level is not None and not least <= level <= highest:
        raise UsageError(f"{level} is not one of {codec}'s levels, expected {least} to {highest}")


def compressor(codec: str, level: int | None = None) -> Callable[[bytes | bytearray], bytes]:
    """A function that compresses one run; the same bytes for the same library release."""
    check_level(codec, level)
    if level is None:
        level = LEVELS[codec][1]
    if codec == "gzip" and level > 3:
        import zlib

        return lambda run: zlib.compress(run, level, wbits=31)
    if codec == "gzip":
        from isal import igzip

        return lambda run: igzip.compress(run, level, mtime=0)
    if codec == "zstd":
        try:
            from compression import zstd  # type: ignore[import-not-found,unused-ignore]  # 3.14
        except ImportError:
            from backports import zstd
        return lambda run: zstd.compress(run, level=level)
    return bytes

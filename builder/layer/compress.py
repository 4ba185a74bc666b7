"""Codecs: one run of tar bytes to one gzip member or zstd frame."""

from __future__ import annotations

from collections.abc import Callable

from builder.errors import UsageError

LEVELS = {"gzip": (0, 1, 3), "zstd": (1, 3, 19), "none": (0, 0, 0)}
"""codec -> least, default, highest level. isal's gzip level 1 is 15 times as fast as zlib's 6 for
layers about a seventh larger."""


def compressor(codec: str, level: int | None = None) -> Callable[[bytes | bytearray], bytes]:
    """A function that compresses one run; the same bytes for the same library release."""
    least, default, highest = LEVELS[codec]
    if level is None:
        level = default
    if not least <= level <= highest:
        raise UsageError(f"level {level} is not one of {codec}'s: {least} to {highest}")
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

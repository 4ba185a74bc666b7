"""Codecs: one run of tar bytes to one gzip member or zstd frame."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from builder.errors import UsageError

LEVELS = {"gzip": (1, 1, 9), "zstd": (1, 3, 19), "none": (0, 0, 0)}
"""codec -> least, default, highest level. gzip's 1 is ISA-L's fastest, five times as fast as zlib's
1 for layers an eighth larger; those above are zlib's."""


def check_level(codec: str, level: int | None) -> None:
    least, _, highest = LEVELS[codec]
    if level is not None and not least <= level <= highest:
        raise UsageError(f"{level} is not one of {codec}'s levels, expected {least} to {highest}")


class Codec(NamedTuple):
    """How one run of tar bytes becomes one gzip member or zstd frame, and back."""

    name: str  # codec, level and library release: what decides the compressed bytes
    compress: Callable[[bytes | bytearray], bytes]
    decompress: Callable[[bytes, int], bytes]  # of a member or frame whose raw size is known


def codec_of(codec: str, level: int | None = None) -> Codec:
    """The same bytes for the same name. `level` None: the default."""
    check_level(codec, level)
    if level is None:
        level = LEVELS[codec][1]
    name = f"{codec} {level} "
    if codec == "none":
        return Codec(name, bytes, lambda run, size: run)
    if codec == "gzip":
        from isal import igzip, igzip_lib

        def decompress(run: bytes, size: int) -> bytes:
            return igzip_lib.decompress(run, flag=igzip_lib.DECOMP_GZIP, bufsize=size or 1)

        if level > 1:
            import zlib

            release = f"zlib {zlib.ZLIB_RUNTIME_VERSION}"
            return Codec(
                name + release, lambda run: zlib.compress(run, level, wbits=31), decompress
            )
        from isal import __version__

        # ISA-L's level 0, the one whose bytes do not depend on where its state lies in memory:
        # with levels 1 and 2 one process in about fifteen wrote some members differently
        return Codec(
            f"{name}isal {__version__}",
            lambda run: igzip.compress(run, 0, mtime=0),
            decompress,
        )
    try:
        from compression import zstd  # type: ignore[import-not-found,unused-ignore]  # 3.14
    except ImportError:
        from backports import zstd
    release = f"zstd {zstd.zstd_version}"
    return Codec(
        name + release,
        lambda run: zstd.compress(run, level=level),
        lambda run, size: zstd.decompress(run),
    )


def compressor(codec: str, level: int | None = None) -> Callable[[bytes | bytearray], bytes]:
    return codec_of(codec, level).compress

"""The logical clock of layers: it ticks at command steps, so that tools that go by times (make,
cargo) find sources older than what was made of them, and newer than what was made before they came.

Times are whole seconds since 1970. `epoch` is SOURCE_DATE_EPOCH, `commands` counts the command
steps below within the image's own specs.
"""

from __future__ import annotations

EPOCH = 315619200
"""1980-01-02 UTC: a day behind the first that zip can say, so that file steps begin with that."""

_DAY = 86_400
_TICK = 4
_CONTENT = 28  # bits


def file_time(epoch: int, commands: int) -> int:
    """What a file step writes has this time, all of it the same: in a tree with parser.y and
    parser.c neither may look out of date."""
    return max(epoch - _DAY, 0) + _TICK * commands


def command_time(epoch: int, commands: int) -> int:
    """What a command wrote has at most this time; `commands` does not count itself."""
    return file_time(epoch, commands) + _TICK // 2


def content_time(epoch: int, digest: bytes) -> int:
    """`times: content`: told by a file's raw SHA-256, for servers that make ETags of times."""
    return epoch + (int.from_bytes(digest[:4]) >> (32 - _CONTENT))


def timestamp(seconds: int) -> str:
    """RFC 3339 in UTC."""
    import time

    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))

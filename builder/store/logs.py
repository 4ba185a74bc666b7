"""Logs: what steps printed, whole, as they are kept: one entry each, compressed.

The log of a step that was made has the step's key as its name, a base's its chain; an image has one
of its last failure, which tells of the steps before it. Nothing here fails a build.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from builder.errors import StoreError
from builder.oci.image import Platform, encode
from builder.store.names import ImageName
from builder.store.records import parse_object

if TYPE_CHECKING:
    from builder.store.store import Store

MOST = 50_000_000  # bytes of a log; of a longer one its beginning and its last END bytes are kept
END = 1_000_000
_CHUNK = 1 << 16


class Failure(NamedTuple):
    """Which step of an image failed, and what was there before it."""

    image: ImageName
    number: int  # of the step, from 1; 0: of the base
    name: str
    message: str
    time: int  # seconds since 1970
    steps: tuple[tuple[int, str, str], ...] = ()  # those before: number, name, key
    base_chain: str = ""


class Kept(NamedTuple):
    """A log as it was kept."""

    text: bytes  # lines of UTF-8, each ended
    missing: int  # bytes that are not in it
    failure: Failure | None


class Log:
    """A log being written, compressed in memory: a command may have ended before it is known what
    it is called. Not for two threads at once."""

    def __init__(self) -> None:
        from isal import isal_zlib

        self._packer = isal_zlib.compressobj(1)
        self._packed: list[bytes] = []
        self._end = bytearray()
        self._room = MOST - END
        self._all: bytes | None = None  # once it has ended
        self.missing = 0
        self.lines = 0

    def write(self, text: str) -> None:
        """Lines without the last one's end."""
        data = text.encode("utf-8", "backslashreplace") + b"\n"
        self.lines += data.count(b"\n")
        if self._room:
            if len(data) <= self._room:
                self._room -= len(data)
                self._packed.append(self._packer.compress(data))
                return
            cut = data.rfind(b"\n", 0, self._room) + 1
            self._packed.append(self._packer.compress(data[:cut]))
            data, self._room = data[cut:], 0
        self._end += data
        if len(self._end) > 2 * END:
            self._drop()

    def _drop(self) -> None:
        """Of the end what is too much, in whole lines."""
        if len(self._end) > END:
            cut = self._end.find(b"\n", len(self._end) - END - 1) + 1
            self.missing += cut
            del self._end[:cut]

    def _whole(self) -> bytes:
        if self._all is None:
            self._drop()
            if self.missing:
                self._packed.append(
                    self._packer.compress(b"... (%d bytes are not kept) ...\n" % self.missing)
                )
            self._packed += (self._packer.compress(bytes(self._end)), self._packer.flush())
            self._all = b"".join(self._packed)
        return self._all

    def ended(self) -> Iterator[str]:
        """The lines that are kept. No more are written."""
        rest = b""
        for chunk in _unpacked(self._whole()):
            *lines, rest = (rest + chunk).split(b"\n")
            for line in lines:
                yield line.decode("utf-8", "replace")

    def save(self, store: Store, name: str, failure: Failure | None = None) -> bool:
        """False: it could not be kept, of which a warning tells. Of a step that printed nothing
        there is none, unless it failed."""
        if not self.lines and not failure:
            return True
        packed = self._whole()
        head: dict[str, Any] = {"missing": self.missing}
        if failure:
            head["failure"] = failure  # as lists
        try:
            store.save("logs", name, encode(head) + b"\n" + packed)
        except StoreError as error:
            why = getattr(error.__cause__, "strerror", None) or error.what
            store.folder.warn(f"what steps print is not kept in the store: {why}")
            return False
        return True


def load_log(store: Store, name: str) -> Kept | None:
    """None: there is none, or it is corrupt."""
    from isal import isal_zlib

    data = store.load("logs", name)
    if data is None:
        return None
    head, _, packed = data.partition(b"\n")
    document = parse_object(head) or {}
    try:
        text = b"".join(_unpacked(packed))
    except isal_zlib.error:  # type: ignore[misc]  # its stub says an instance
        return None
    missing = document.get("missing")
    return Kept(text, missing if type(missing) is int else 0, _failure(document.get("failure")))


def load_failure(store: Store, name: str) -> Failure | None:
    """What a log says of a failure, without its text."""
    head = (store.load("logs", name) or b"").partition(b"\n")[0]
    return _failure((parse_object(head) or {}).get("failure"))


def failures(store: Store) -> list[Failure]:
    """Of the images whose last build failed, the newest first."""
    names = [name for name in store.entries("logs") if name.startswith("failed-")]
    found = [failure for name in names if (failure := load_failure(store, name))]
    return sorted(found, key=lambda each: -each.time)


def _unpacked(packed: bytes) -> Iterator[bytes]:
    """In pieces, at most what a log may have: it may be anybody's bytes."""
    from isal import isal_zlib

    unpacker, left = isal_zlib.decompressobj(), MOST + END
    while left > 0 and not unpacker.eof:
        piece = unpacker.decompress(packed, _CHUNK)
        if not piece and not unpacker.unconsumed_tail:
            return
        packed = unpacker.unconsumed_tail
        left -= len(piece)
        yield piece


def _failure(document: Any) -> Failure | None:
    try:
        image, number, name, message, time, steps, chain = document
        (of, platform, project) = image
        found = Failure(
            ImageName(str(of), Platform(*map(str, platform)), str(project)),
            *(int(number), str(name), str(message), int(time)),
            tuple((int(each), str(called), str(key)) for each, called, key in steps),
            str(chain),
        )
    except (TypeError, ValueError):
        return None  # there is none, or it is of another version
    return found

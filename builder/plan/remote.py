"""Remote: what a step takes from a server, as planning and building see it."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, BinaryIO, NamedTuple, Protocol

from builder.oci.image import Descriptor

if TYPE_CHECKING:
    from builder.store.store import Store
    from builder.transport.fetcher import Fetcher

Progress = Callable[[int, int | None], object]
Tell = Callable[[bytes], None]


class Fetched(NamedTuple):
    """What came, in the store."""

    open: Callable[[], BinaryIO]
    """A stream of all its bytes, which are checked. Raises CorruptBlob."""
    seekable: Callable[[], BinaryIO]
    """The same, seekable: they were checked before."""
    size: int
    sha256: bytes  # raw
    submodules: tuple[tuple[str, str], ...] = ()  # of a commit: their paths and commits


class Remote(Protocol):
    """What is fetched, as a value."""

    def __hash__(self) -> int: ...

    def find(self, store: Store) -> Fetched | None:
        """What came before, if it is there still. Nobody is asked for it."""
        ...

    def promised(self) -> Fetched | None:
        """What will come, without its bytes and size, where a layer can be told of that."""
        ...

    def fetch(self, fetcher: Fetcher, tell: Tell, progress: Progress) -> None:
        """Have it in the store. Raises BuilderError."""
        ...


def fetched(
    store: Store, blob: Descriptor, submodules: tuple[tuple[str, str], ...] = ()
) -> Fetched:
    """A blob that came."""
    checked: list[bool] = []

    def seekable() -> BinaryIO:
        if not checked:
            with store.open(blob) as file:
                while file.read(1 << 20):
                    pass
            checked.append(True)
        handle = os.open(store.blob_path(blob.digest), os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        return os.fdopen(handle, "rb")

    digest = bytes.fromhex(blob.digest[7:])
    return Fetched(partial(store.open, blob), seekable, blob.size, digest, submodules)


def promised(sha256: str) -> Fetched:
    """A file that has not come."""

    def absent() -> BinaryIO:
        raise AssertionError("it is read before it was fetched")

    return Fetched(absent, absent, 0, bytes.fromhex(sha256))

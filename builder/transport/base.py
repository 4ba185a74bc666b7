"""The plug points for where bases come from and where images go."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, NamedTuple, Protocol

from builder.oci.image import Image, Platform
from builder.spec.model import BaseRef

if TYPE_CHECKING:
    from builder.rootfs.base import Provider


class Base(NamedTuple):
    """A resolved base. Its documents were checked; the layers' bytes may still be elsewhere."""

    image: Image
    about: str  # for `plan`: "debootstrap:bookworm, made 3 days ago"
    provider: Provider | None = None
    """Brings its layers. None: all are in the store."""
    note: str = ""
    """What to warn of where it is built on."""


Tell = Callable[[bytes], None]
"""Takes raw chunks of what an outside tool prints, as they come."""


def quiet(chunk: bytes) -> None:
    """Tell nobody."""


class BaseSource(Protocol):
    """Resolves one kind of `from:`."""

    def resolve(
        self, ref: BaseRef, platform: Platform, *, make: bool, pull: str, tell: Tell = quiet
    ) -> Base | None:
        """The base for `platform`. With make=False (plan) nothing expensive is made: None when the
        base does not exist yet and would have to be made. `pull`: always | missing | never.
        Raises TransportError; its place is `ref.place`, whoever says so."""
        ...


class Delivered(NamedTuple):
    """What a destination did: for the last line of a build and for --json."""

    where: str
    sent: int = 0  # bytes


class Destination(Protocol):
    """Takes a finished image whose blobs are in the store."""

    path: str
    """The file or folder that it names, absolute."""

    takes_index: bool
    """Whether it holds an image for several platforms."""

    def check(self) -> None:
        """What it names can take an image, as far as can be seen without writing. Raises
        BuilderError."""
        ...

    def put(self, images: Sequence[Image]) -> Delivered:
        """The image, one for each platform; several only where it `takes_index`."""
        ...

"""The plug points for where layers come from and what they will be made of."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from builder.layer.entry import Change
from builder.oci.image import Layer


class Provider(Protocol):
    """Somewhere that layers come from."""

    def bring(self, layer: Layer) -> bool:
        """Bring a layer into the store, its blob's digest and its diff_id checked. False: it is not
        there. From any thread; one layer is not asked for twice at once. Raises TransportError."""
        ...


class Listing(Protocol):
    """What a layer is made of."""

    @property
    def accounts(self) -> bool:
        """Whether account files are among it."""
        ...

    def sorted(self) -> Iterable[Change]:
        """Each time anew, as a layer wants it."""
        ...

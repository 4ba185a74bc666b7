"""Stack: what lies below a step, as far as it is known before anything is built. A value."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from builder.oci.image import Document, Image, Layer
    from builder.rootfs.base import Listing


class Known(NamedTuple):
    """A layer whose bytes are known."""

    layer: Layer
    listing: Listing | None = None
    """What it was made of just now, if it holds no account file: its paths without reading it."""

    @property
    def identity(self) -> str:
        return self.layer.diff_id


class Promised(NamedTuple):
    """The layer of a file step that will be built: its paths are known, its bytes are not."""

    identity: str  # the step's key
    listing: Listing


class Stack(NamedTuple):
    """Layers bottom first, with the config document that the next step stands on.

    `image` is None from the first layer on whose bytes are not known yet; `layers` is None above a
    step of which not even the paths are. `undecided` says in words what has to be built first.
    `commands` counts the command steps below, of the specs that stand on one another (plan.clock).
    """

    image: Image | None
    config: Document
    layers: tuple[Known | Promised, ...] | None
    undecided: str = ""
    commands: int = 0

    @property
    def identities(self) -> tuple[str, ...] | None:
        return None if self.layers is None else tuple(each.identity for each in self.layers)

    def push(
        self,
        layer: Layer | None,
        history: Mapping[str, object],
        listing: Listing | None = None,
        *,
        command: bool,
    ) -> Stack:
        """One step further, its layer known (None: it was empty)."""
        image, layers = self.image, self.layers
        if image is not None:
            image = image.append(layer, history)
        if layer is not None and layers is not None:
            layers = (*layers, Known(layer, listing))
        return self._replace(image=image, layers=layers, commands=self.commands + command)

    def promise(self, key: str, listing: Listing, undecided: str) -> Stack:
        """One file step further that will be built."""
        assert self.layers is not None
        return self._replace(
            image=None,
            layers=(*self.layers, Promised(key, listing)),
            undecided=self.undecided or undecided,
        )

    def unknown(self, undecided: str, *, command: bool) -> Stack:
        """One step further whose layer is not known before it is made."""
        return self._replace(
            image=None,
            layers=None,
            undecided=self.undecided or undecided,
            commands=self.commands + command,
        )

    def finished(self, image: Image) -> Stack:
        """The same layers, as the image over them is published: what stands on it begins here."""
        return self._replace(image=image, config=image.config)


def stack_on(image: Image, commands: int = 0) -> Stack:
    """The stack of an image's layers; `commands` are those below it."""
    return Stack(image, image.config, tuple(map(Known, image.layers)), "", commands)

"""IMAGE of push, load, inspect, history and tag: a spec, a reference or a digest."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from builder.cli import screen, wiring
from builder.events import Emit, Event
from builder.oci.image import Descriptor, Image, parse_platform
from builder.rootfs.layers import Layers
from builder.spec.files import is_spec
from builder.store.store import Store

if TYPE_CHECKING:
    from builder.spec.model import ImageSpec

_T = TypeVar("_T")


class Wanted(NamedTuple):
    """The image that was named. Its documents are in the store; `layers` brings layers that are
    not, where it is known how."""

    layers: Layers
    emit: Emit
    manifest: Descriptor
    image: Image
    spec: ImageSpec | None = None  # None: named by a reference or a digest

    @property
    def store(self) -> Store:
        return self.layers.store


def use(arguments: argparse.Namespace, action: Callable[[Wanted], _T]) -> _T:
    """Let `action` have the image that IMAGE means, while gc leaves it alone. A spec means the
    image as it stands now, under the variables and platform of this command line: what is not there
    is built. A reference or a digest is taken as it is."""
    if is_spec(arguments.image, arguments.specs) or _is_row(arguments):
        return _use_spec(arguments, action)
    from builder.transport.stored import find_manifest, read_image

    text = arguments.image
    with screen.renderer(arguments.progress) as emit:
        store = wiring.open_store(arguments, emit)
        platform = parse_platform(arguments.platform) if arguments.platform else None
        with store.live():
            manifest = find_manifest(store, text, platform)
            image = read_image(store, manifest, f"image {text!r}")
            return action(Wanted(Layers(store), emit, manifest, image))


def _is_row(arguments: argparse.Namespace) -> bool:
    """Whether IMAGE is an image of a matrix."""
    from builder.project import Project

    return Project(wiring.options(arguments)).has_row(arguments.image)


def _use_spec(arguments: argparse.Namespace, action: Callable[[Wanted], _T]) -> _T:
    from builder.project import Project, Ready

    # a user namespace can only be entered before the first thread, and the live view is one
    early: list[Event] = []
    project = Project(wiring.options(arguments), early.append)
    specs, names = project.load([arguments.image])
    name = project.only(arguments.image, names)
    project.become_root(specs)
    shown = screen.renderer(arguments.progress)
    with screen.telling(shown) as emit:
        project.tell(emit)
        for event in early:
            emit(event)

        def have(ready: Ready) -> _T:
            image, manifest = ready
            return action(Wanted(project.layers, emit, manifest, image, specs[name]))

        return project.use(specs, name, have, build=not arguments.no_build)

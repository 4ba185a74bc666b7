"""IMAGE of push, load, inspect, history and tag: a spec, a reference or a digest."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, TypeVar

from builder.cli import screen, wiring
from builder.errors import UsageError
from builder.events import Emit, Event
from builder.oci import media
from builder.oci.image import Descriptor, Image, Platform, host_platform, parse_platforms
from builder.rootfs.layers import Layers
from builder.spec.files import is_spec
from builder.store.names import ANY
from builder.store.store import Store

if TYPE_CHECKING:
    from builder.project import Project, Ready
    from builder.spec.model import ImageSpec

_T = TypeVar("_T")


class Part(NamedTuple):
    """The image for one platform."""

    manifest: Descriptor
    image: Image


class Wanted(NamedTuple):
    """The image that was named. Its documents are in the store; `layers` brings layers that are
    not, where it is known how."""

    layers: Layers
    emit: Emit
    manifest: Descriptor  # an index, where it is for several platforms
    parts: tuple[Part, ...]  # sorted by platform
    spec: ImageSpec | None = None  # None: named by a reference or a digest
    project: Project | None = None  # of a spec
    specs: Mapping[str, ImageSpec] = {}  # it, and what it stands on, by their tasks

    @property
    def store(self) -> Store:
        return self.layers.store

    @property
    def platform(self) -> Platform:
        """Of the name that means it."""
        index = self.manifest.media_type in media.INDEXES
        return ANY if index else self.parts[0].image.platform

    def one(self, platform: Platform | None = None) -> Part:
        """The image for `platform`, or for this machine's: of commands that take one. Raises
        UsageError."""
        if len(self.parts) == 1:
            return self.parts[0]
        known = [each.image.platform for each in self.parts]
        return self.parts[known.index(fitting(known, platform or host_platform()))]


def fitting(known: Sequence[Platform], wanted: Platform) -> Platform:
    """Of the platforms of an image the best that runs on another one. Raises UsageError."""
    from builder.transport.documents import runs_on

    fitting = [each for each in known if runs_on(each, wanted)]
    if not fitting:
        raise UsageError(
            f"the image is for {', '.join(map(str, known))}, and {wanted} is wanted",
            f"--platform {known[0]}",
        )
    return max(fitting)


def use(
    arguments: argparse.Namespace,
    action: Callable[[Wanted], _T],
    one: Callable[[], Platform] | None = None,
    *,
    tested: bool = False,
) -> _T:
    """Let `action` have the image that IMAGE means, while gc leaves it alone. A spec means the
    image as it stands now, under the variables and platforms of this command line: what is not
    there is built. A reference or a digest is taken as it is. Of a spec for several platforms what
    runs on `one` is enough, asked only then. `tested`: a spec's tests are passed, too."""
    if is_spec(arguments.image, arguments.specs) or _is_row(arguments):
        return _use_spec(arguments, action, one, tested)
    from builder.transport.stored import find_manifest, read_images

    text = arguments.image
    with screen.renderer(arguments.progress) as emit:
        store = wiring.open_store(arguments, emit)
        platforms = parse_platforms(arguments.platform)
        if len(platforms) > 1:
            raise UsageError(
                f"{text!r} is no spec, so it is taken as it is, for one platform or for all",
                f"--platform {platforms[0]}",
            )
        with store.live():
            manifest = find_manifest(store, text, next(iter(platforms), None))
            found = read_images(store, manifest, f"image {text!r}")
            parts = tuple(Part(*each) for each in found)
            return action(Wanted(Layers(store), emit, manifest, parts))


def _is_row(arguments: argparse.Namespace) -> bool:
    """Whether IMAGE is an image of a matrix."""
    from builder.project import Project

    return Project(wiring.options(arguments)).has_row(arguments.image)


def _use_spec(
    arguments: argparse.Namespace,
    action: Callable[[Wanted], _T],
    one: Callable[[], Platform] | None,
    tested: bool,
) -> _T:
    from builder.project import Project

    # a user namespace can only be entered before the first thread, and the live view is one
    early: list[Event] = []
    project = Project(wiring.options(arguments), early.append)
    specs, names = project.load([arguments.image])
    name = project.only(arguments.image, names)
    if one and len(project.images[name]) > 1:
        targets = [specs[part].target or host_platform() for part in project.images[name]]
        project = Project(
            wiring.options(arguments)._replace(platforms=(fitting(targets, one()),)), early.append
        )
        specs, _ = project.load([arguments.image])
    project.become_root(specs)
    shown = screen.renderer(arguments.progress)
    with screen.telling(shown) as emit:
        project.tell(emit)
        for event in early:
            emit(event)

        def have(ready: tuple[Ready, ...]) -> _T:
            top = ready[0].manifest
            if len(ready) > 1:
                from builder.oci.index import index_of

                top = project.store.put(index_of(each.image for each in ready), media.INDEX)
            parts = tuple(Part(each.manifest, each.image) for each in ready)
            spec = specs[project.images[name][0]]
            return action(Wanted(project.layers, emit, top, parts, spec, project, specs))

        return project.use(specs, name, have, build=not arguments.no_build, tested=tested)

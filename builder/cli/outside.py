"""IMAGE of commands that look into one: a spec, what the store has, or what is outside of it."""

from __future__ import annotations

import argparse
import os
from collections.abc import Callable
from typing import TypeVar

from builder.cli import screen, wanted, wiring
from builder.cli.wanted import Part, Wanted
from builder.errors import BuilderError, UsageError
from builder.oci import media
from builder.oci.image import host_platform, parse_platforms
from builder.rootfs.layers import Layers
from builder.spec.files import is_spec
from builder.spec.model import BaseRef, Place

_T = TypeVar("_T")
_KINDS = ("oci", "oci-archive", "docker-archive", "docker-daemon")


def look(arguments: argparse.Namespace, text: str, action: Callable[[Wanted], _T]) -> _T:
    """Let `action` have the image that `text` means, for one platform, while gc leaves it alone:
    what `wanted.use` takes, else a layout or an archive (`oci:DIR[:tag]`, `oci-archive:FILE`,
    `docker-archive:FILE`), an engine's (`docker-daemon:REF`) or a registry's (`docker://REF`, or a
    reference that names its registry and that the store does not have)."""
    ref = _outside(arguments, text)
    if ref is None:
        named = argparse.Namespace(**{**vars(arguments), "image": text})
        return wanted.use(named, action, host_platform)
    platforms = parse_platforms(arguments.platform) or (host_platform(),)
    if len(platforms) > 1:
        raise UsageError(f"{text!r} is looked at for one platform", f"--platform {platforms[0]}")
    from builder.sources import Sources
    from builder.work.cancel import Cancel

    with screen.renderer(arguments.progress) as emit:
        store = wiring.open_store(arguments, emit)
        with store.live():
            sources = Sources(
                store, os.getcwd(), emit, Cancel(), os.environ, arguments.insecure_registry
            )
            pull = "never" if arguments.pull == "never" else "always"  # as it is there now
            try:
                base = sources[ref.kind].resolve(ref, platforms[0], make=True, pull=pull)
                assert base is not None  # all of it is made
                layers = Layers(store)
                layers.offer(text, base.image.layers, *filter(None, [base.provider]))
                image = layers.settle(base.image)
            except BuilderError as error:
                error.place = None  # no spec says it
                raise
            store.put(image.config_bytes(), media.CONFIG)
            manifest = store.put(image.manifest_bytes(), media.MANIFEST)
            return action(Wanted(layers, emit, manifest, (Part(manifest, image),)))


def _outside(arguments: argparse.Namespace, text: str) -> BaseRef | None:
    """None: it is a spec's, or the store's."""
    place = Place(text, 1, 1)
    kind, colon, rest = text.partition(":")
    if kind in _KINDS and colon:
        if not rest.strip():
            what = {"oci": "DIR[:TAG]", "docker-daemon": "REFERENCE"}.get(kind, "FILE[:TAG]")
            raise UsageError(f"{text!r} names no image, expected {kind}:{what}")
        return BaseRef(kind, rest, place)
    if text.startswith("docker://"):
        return BaseRef("registry", text.removeprefix("docker://"), place)
    if is_spec(text, arguments.specs):
        return None
    first, slash, _ = text.partition("/")
    if os.path.exists(text) and not os.path.isdir(os.path.join(text, "specs")):
        _refuse_path(text)
    if not slash or not ("." in first or ":" in first or first == "localhost"):
        return None
    from builder.transport.stored import find_stored

    if find_stored(wiring.open_store(arguments, lambda event: None), text):
        return None
    return BaseRef("registry", text, place)


def _refuse_path(text: str) -> None:
    """A layout or an archive that is named by its path alone. Raises UsageError."""
    if os.path.isfile(os.path.join(text, "index.json")):
        raise UsageError(f"{text!r} is a folder", f"oci:{text} is the layout in it")
    if os.path.isfile(text) and ("/" in text or "." in text):
        raise UsageError(
            f"{text!r} is a file, expected an image",
            f"docker-archive:{text} is what docker save writes, oci-archive:{text} a packed layout",
        )

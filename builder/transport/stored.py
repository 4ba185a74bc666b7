"""Images of the store: by a reference, or by a digest."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping

from builder.errors import CorruptBlob, TransportError, UsageError
from builder.oci import media
from builder.oci.digest import Digest
from builder.oci.image import Descriptor, Image, Platform, host_platform
from builder.oci.reference import parse_reference
from builder.store.names import ANY, ImageName
from builder.store.store import Store
from builder.transport.documents import (
    MAX_MANIFEST,
    IndexEntry,
    as_said,
    choose_platform,
    images_in,
    make_image,
    parse_config,
    parse_index,
)

_DIGITS = re.compile("(sha256:)?[0-9a-f]{6,64}")


def read_images(store: Store, top: Descriptor, where: str) -> tuple[tuple[Descriptor, Image], ...]:
    """The image of a manifest, or those of an index, sorted by platform, each with its manifest.
    Raises CorruptBlob, TransportError beginning with `where`."""
    found: list[tuple[Descriptor, Image]] = []
    for entry, _, manifest in images_in(IndexEntry(top), store.read, where):
        config = parse_config(store.read(manifest.config), where)
        image = make_image(manifest, config, config.platform, where)
        found.append((entry.blob, as_said(image, entry)))
    if not found:
        raise TransportError(f"{where}: its index holds no image")
    return tuple(sorted(found, key=lambda each: each[1].platform))


def find_manifest(store: Store, text: str, platform: Platform | None) -> Descriptor:
    """What a reference, a digest, or the first six or more digits of one mean: a manifest, or the
    index of a name that means one, unless a `platform` is named. Of a reference that means images
    of several platforms, the one of `platform` (None: this machine's, or the only one). Raises
    UsageError where there is no such image."""
    names = store.names()
    for name in spellings(text):
        there = {
            each.platform: blob
            for each, blob in names.items()
            if each.name == name and not each.project
        }
        if ANY in there:
            return _in_index(store, text, there[ANY], platform)
        if there:
            return _of_platform(text, there, platform)
    found = by_digest(names, text)
    if len({names[each].digest for each in found}) == 1:
        return _in_index(store, text, names[found[0]], platform)
    if len(text) == 71 and _DIGITS.fullmatch(text) and (blob := _unnamed(store, Digest(text))):
        return blob
    pushed = _pushed(store, text)
    if pushed:
        return _in_index(store, text, pushed, platform)
    raise no_image(text, names, to_have=True)


def find_stored(store: Store, text: str) -> list[Descriptor]:
    """All that a reference or a digest means in the store: an index, or a manifest for each
    platform; nothing where it means nothing."""
    names = store.names()
    for name in spellings(text):
        there = [blob for each, blob in names.items() if each.name == name and not each.project]
        if there:
            return there
    if by_digest(names, text) or (len(text) == 71 and _DIGITS.fullmatch(text)):
        return [find_manifest(store, text, None)]
    return []


def spellings(text: str) -> tuple[str, ...]:
    """A reference as it may be known: as it is written, and as people write it."""
    try:
        return tuple(dict.fromkeys((text, parse_reference(text).familiar)))
    except UsageError:
        return (text,)


def by_digest(names: Mapping[ImageName, Descriptor], text: str) -> list[ImageName]:
    """The names that mean a digest, or the image whose digest begins so."""
    if not _DIGITS.fullmatch(text):
        return []
    digits = text.removeprefix("sha256:")
    return [name for name, blob in names.items() if blob.digest[7:].startswith(digits)]


def no_image(
    text: str, names: Mapping[ImageName, Descriptor], *, to_have: bool = False
) -> UsageError:
    """`to_have`: whether fetching it would help."""
    for name, blob in names.items():
        if name.project and name.name == text:
            hint = f"one of {name.project} is: name it by its digest, {blob.digest[:19]}"
            return UsageError(f"no image {text!r} of this project, and no such reference", hint)
    if len(by_digest(names, text)) > 1:
        return UsageError(f"several images begin with {text!r}", "give more of its digits")
    near = difflib.get_close_matches(text, [name.name for name in names], 1)
    hint = f"did you mean {near[0]!r}?" if near else "`builder images` lists what there is"
    if to_have and not near and _may_be_pulled(text):
        hint += f", `builder pull {text}` fetches it from its registry"
    return UsageError(f"no image {text!r} in the store", hint)


def _may_be_pulled(text: str) -> bool:
    try:
        parse_reference(text)
    except UsageError:
        return False
    return not _DIGITS.fullmatch(text)


def _of_platform(
    text: str, there: Mapping[Platform, Descriptor], platform: Platform | None
) -> Descriptor:
    wanted = platform or host_platform()
    if wanted in there:
        return there[wanted]
    if len(there) == 1 and platform is None:
        return next(iter(there.values()))
    known = " and ".join(map(str, there))
    raise UsageError(
        f"image {text!r} is there for {known}"
        + (f", not for {platform}" if platform else ", which one is not said"),
        f"--platform {next(iter(there))}",
    )


def _in_index(store: Store, text: str, top: Descriptor, platform: Platform | None) -> Descriptor:
    """What is for `platform`, if one is named and this is an index."""
    if top.media_type not in media.INDEXES or platform is None:
        return top
    index = parse_index(store.read(top), f"image {text!r}", top.media_type)
    return choose_platform(index, platform, f"image {text!r}")


def _pushed(store: Store, text: str) -> Descriptor | None:
    """What was pushed from here under a reference, if it is still here."""
    from builder.transport.registry.seen import pushed_as

    try:
        digest = pushed_as(store, parse_reference(text))
    except UsageError:
        return None
    return _unnamed(store, digest) if digest else None


def _unnamed(store: Store, digest: Digest) -> Descriptor | None:
    """The manifest of an image that no name means any more."""
    blob = store.blob(digest, media.MANIFEST)
    if blob is None or blob.size > MAX_MANIFEST:
        return None
    try:
        document = json.loads(store.read(blob))
    except (CorruptBlob, ValueError, RecursionError):
        return None
    kind = document.get("mediaType", media.MANIFEST) if isinstance(document, dict) else None
    if kind not in media.MANIFESTS and kind not in media.INDEXES:
        return None
    return blob._replace(media_type=str(kind))

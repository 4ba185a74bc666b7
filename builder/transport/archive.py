"""Archive: what `docker save` writes, as a base. `docker-archive:FILE[:tag]`.

Two shapes: the old one (a folder with layer.tar per layer, symlinks between equal ones) and the
newer one with blobs/sha256/. In both, manifest.json names the config and the layers. The archive is
read as a stream, twice, so a compressed one needs no room; its layers are stored compressed.
"""

from __future__ import annotations

import os
import posixpath
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple

from builder.errors import LayerError, TransportError
from builder.layer.entry import FILE, HARDLINK, SYMLINK
from builder.oci.digest import digest_of, hex_of
from builder.oci.image import MAX_LAYERS, Image, Layer, Platform
from builder.spec.model import BaseRef
from builder.transport.base import Base, Tell, quiet
from builder.transport.documents import (
    MAX_CONFIG,
    MAX_MANIFEST,
    check_platform,
    load_list,
    parse_config,
)
from builder.transport.kept import (
    MadeBase,
    content_of,
    identity,
    load_base,
    open_file,
    save_base,
    unchanged,
)

if TYPE_CHECKING:
    from builder.store.store import Store
    from builder.transport.importing import Readable

_KEY_VERSION = 1
_MEMBERS = 100_000
_LINKS = 8  # symlinks followed from one name


class ArchiveSource:
    """`context` is where relative paths start, `clock` gives seconds since 1970."""

    def __init__(self, store: Store, context: str, clock: Callable[[], float] = time.time) -> None:
        self._store, self._context, self._clock = store, context, clock

    def resolve(
        self, ref: BaseRef, platform: Platform, *, make: bool, pull: str, tell: Tell = quiet
    ) -> Base | None:
        path, _, tag = ref.value.partition(":")
        where = str(ref)
        with open_file(os.path.join(self._context, path), where) as file:
            content = content_of(self._store, file, where, self._clock())
            key = hex_of(f"{_KEY_VERSION} {content} {platform} {tag}".encode())
            name = f"archive-{key}"
            kept = load_base(self._store, name)
            if kept is None and make:
                with self._store.lock(name):
                    kept = load_base(self._store, name)
                    if kept is None:
                        kept = self._load(file, tag, platform, where)
                        save_base(self._store, name, kept)
        return Base(kept.image, f"{ref}, sha256:{content[:12]}") if kept else None

    def _load(self, file: BinaryIO, tag: str, platform: Platform, where: str) -> MadeBase:
        before = identity(file)
        try:
            contents = _list(file)
            chosen = choose_image(contents.manifest, tag, where)
            image = self._image(file, contents, chosen, platform, where)
        except LayerError as error:
            raise TransportError(f"{where}: {error.message}", error.hint) from error
        unchanged(file, before, where)
        return MadeBase(image, self._clock())

    def _image(
        self, file: BinaryIO, contents: Members, chosen: Chosen, platform: Platform, where: str
    ) -> Image:
        from builder.layer.decompress import open_layer
        from builder.layer.read import read_tar, show
        from builder.transport.importing import import_tar

        config_at = contents.find(chosen.config, where)
        layers_at = [contents.find(name, where) for name in chosen.layers]
        missing = set(layers_at)
        config: bytes | None = None
        layers: dict[str, Layer] = {}
        file.seek(0)
        for entry, content in read_tar(open_layer(file)):
            name = os.fsdecode(entry.path)
            if entry.type != FILE:
                continue
            if name == config_at:
                config = whole(content, entry.size, MAX_CONFIG, name)
            elif name in missing:
                missing.discard(name)
                layers[name] = import_tar(self._store, content, f"{where}: {show(entry.path)}")
        if config is None:
            raise LayerError(f"the archive's {chosen.config!r} is missing")
        stem = posixpath.basename(chosen.config).removesuffix(".json")
        if len(stem) == 64 and digest_of(config) != f"sha256:{stem}":
            raise LayerError(f"the bytes of {chosen.config!r} are others than its name says")
        parsed = parse_config(config, where)
        check_platform(parsed.platform, platform, where)
        found = tuple(layers[name] for name in layers_at if name in layers)
        if tuple(layer.diff_id for layer in found) != parsed.diff_ids:
            raise LayerError("the layers are not those that the config's diff_ids name")
        return Image(parsed.platform, parsed.document, found)


class Chosen(NamedTuple):
    """One image of manifest.json."""

    config: str
    layers: tuple[str, ...]
    tags: tuple[str, ...]


class Members(NamedTuple):
    """What an archive holds: manifest.json, and the names of all else."""

    manifest: bytes
    links: dict[str, str]  # symlinks and hard links -> the name they mean within the archive
    files: frozenset[str]

    def find(self, name: str, where: str) -> str:
        """The regular member that `name` means. Links are looked up among the members only."""
        found = posixpath.normpath(name)
        for _ in range(_LINKS):
            if found in self.files:
                return found
            if found not in self.links:
                break
            found = self.links[found]
        raise TransportError(f"{where}: the archive has no file {name[:200]!r}")


def _list(file: BinaryIO) -> Members:
    """The first pass: names, links and manifest.json."""
    from builder.layer.decompress import open_layer
    from builder.layer.read import read_tar, show

    manifest: bytes | None = None
    links: dict[str, str] = {}
    files: set[str] = set()
    file.seek(0)
    for entry, content in read_tar(open_layer(file)):
        name = os.fsdecode(entry.path)
        if len(files) + len(links) >= _MEMBERS:
            raise LayerError(f"the archive has more than {_MEMBERS} members")
        if entry.type == FILE:
            if name in files:
                raise LayerError(f"the archive has {show(entry.path)} twice")
            files.add(name)
            if name == "manifest.json":
                manifest = whole(content, entry.size, MAX_MANIFEST, name)
        elif entry.type == SYMLINK:
            folder = posixpath.dirname(name)
            links[name] = posixpath.normpath(posixpath.join(folder, os.fsdecode(entry.link)))
        elif entry.type == HARDLINK:
            links[name] = os.fsdecode(entry.link)
    if manifest is None:
        raise LayerError("it has no manifest.json: it is not what docker save writes")
    return Members(manifest, links, frozenset(files))


def whole(content: Readable, size: int, limit: int, name: str) -> bytes:
    """A document's bytes. Raises LayerError where it has more than `limit`."""
    if size > limit:
        raise LayerError(f"{name[:200]!r} has {size} bytes, at most {limit}")
    return b"".join(iter(lambda: content.read(size), b""))


def choose_image(manifest: bytes, tag: str, where: str) -> Chosen:
    """The image that `tag` means, by its whole name or its tag; "": the only one."""
    place = f"{where}: manifest.json"
    images = [_image_of(each, place) for each in load_list(manifest, place, MAX_MANIFEST, "list")]
    if not tag and len(images) == 1:
        return images[0]
    wanted = tag or "latest"
    found = [each for each in images if any(_means(wanted, name) for name in each.tags)]
    if len(found) == 1:
        return found[0]
    tags = sorted({name for each in images for name in each.tags})
    there = ", ".join(ascii(name[:100])[1:-1] for name in tags[:30]) or "none"
    what = f"has {len(found) or 'no'} images {wanted!r}" if tag else f"holds {len(images)} images"
    raise TransportError(f"{where}: the archive {what}", f"its tags are: {there}")


def _means(wanted: str, name: str) -> bool:
    """Whether `name`, such as `site:1.0`, is called `wanted`: as a whole or by its tag."""
    return wanted in (name, name.rpartition("/")[2].partition(":")[2])


def _image_of(value: Any, where: str) -> Chosen:
    if not isinstance(value, dict):
        raise TransportError(f"{where}: an image is no object")
    config, layers, tags = value.get("Config"), value.get("Layers"), value.get("RepoTags") or []
    texts = [config, *(layers or ()), *tags] if isinstance(layers or [], list) else [None]
    if not isinstance(tags, list) or not all(isinstance(text, str) for text in texts):
        raise TransportError(
            f"{where}: Config, Layers and RepoTags are not texts and lists of them"
        )
    chosen = Chosen(str(config), tuple(layers or ()), tuple(tags))
    if len(chosen.layers) > MAX_LAYERS:
        raise TransportError(
            f"{where}: {len(chosen.layers)} layers, at most {MAX_LAYERS} can be run"
        )
    return chosen

"""DaemonSource: `from: docker-daemon:REF`, an image of a Docker engine as a base.

REF is resolved to the engine's image id, which names the content. What was taken once under an id
is kept, so that a build in which nothing changed asks the engine one question. The export is read
as it streams: layers go into the store as they come, documents are looked at when all is there.
"""

from __future__ import annotations

import difflib
import io
import os
import posixpath
import threading
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, BinaryIO, cast

from builder.errors import LayerError, TransportError
from builder.events import Emit, ignore
from builder.layer.entry import FILE, HARDLINK, SYMLINK
from builder.layer.read import read_tar, show
from builder.oci.digest import digest_of, hex_of
from builder.oci.image import Image, Layer, Platform, encode
from builder.spec.model import BaseRef
from builder.transport.archive import Chosen, Members, choose_image, whole
from builder.transport.base import Base, Tell, quiet
from builder.transport.documents import MAX_CONFIG, check_platform, parse_config
from builder.transport.engine import Engine, connect
from builder.transport.engine_stream import Chunks
from builder.transport.importing import CHUNK, import_tar
from builder.transport.kept import MadeBase, load_base, save_base
from builder.transport.moving import Moving

if TYPE_CHECKING:
    from builder.store.store import Store

_KEY_VERSION = 1
_DOCUMENTS = 32 * 1024 * 1024  # bytes of all members that are kept in memory
_MEMBERS = 100_000
_HEAD = 512


class DaemonSource:
    """`environ` says where the engine is, `clock` gives seconds since 1970."""

    def __init__(
        self,
        store: Store,
        environ: Mapping[str, str],
        emit: Emit = ignore,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._store, self._environ, self._emit, self._clock = store, environ, emit, clock
        self._connecting = threading.Lock()
        self._engine: Engine | None = None

    def resolve(
        self, ref: BaseRef, platform: Platform, *, make: bool, pull: str, tell: Tell = quiet
    ) -> Base | None:
        """`pull`: with `never` the engine is not asked: what REF was when it was last asked counts.
        Otherwise it is asked every time."""
        try:
            return self._resolve(ref, platform, make, pull)
        except LayerError as error:
            raise TransportError(f"{ref}: {error.what}", error.hint).at(ref.place) from error
        except TransportError as error:
            error.at(ref.place)
            raise

    def _resolve(self, ref: BaseRef, platform: Platform, make: bool, pull: str) -> Base | None:
        asked = f"daemon-name-{hex_of(encode([_KEY_VERSION, ref.value, str(platform)]))}"
        if pull == "never":
            known = self._store.load("bases", asked)
            if known is None:
                raise TransportError(
                    f"{ref} was never taken for {platform}, and --pull never forbids to ask",
                    "leave --pull never out",
                )
            identity = known.decode("ascii", "replace")
        else:
            identity = self._identity(ref)
            if self._store.load("bases", asked) != identity.encode():
                self._store.save("bases", asked, identity.encode())
        name = f"daemon-{hex_of(encode([_KEY_VERSION, identity, str(platform)]))}"
        kept = load_base(self._store, name)
        if kept is None and make:
            with self._store.lock(name):
                kept = load_base(self._store, name)
                if kept is None:
                    kept = self._take(ref, identity, platform)
                    save_base(self._store, name, kept)
        return Base(kept.image, f"{ref}, {identity[:19]}") if kept else None

    def _connected(self) -> Engine:
        with self._connecting:
            if self._engine is None:
                self._engine = connect(self._environ)
            return self._engine

    def _identity(self, ref: BaseRef) -> str:
        engine = self._connected()
        found = engine.inspect_image(ref.value)
        if found is not None:
            return str(found["Id"])
        with engine.asking():
            names = [name for each in engine.api.images() for name in each.get("RepoTags") or ()]
        wanted = ref.value if ":" in ref.value.rpartition("/")[2] else f"{ref.value}:latest"
        near = difflib.get_close_matches(wanted, names, 3)
        hint = f"did you mean {' or '.join(near)}?" if near else "`docker images` lists its images"
        raise TransportError(f"the engine at {engine.host} has no image {ref.value!r}", hint)

    def _take(self, ref: BaseRef, identity: str, platform: Platform) -> MadeBase:
        engine = self._connected()
        with Moving(self._emit, f"export {ref}", None) as moving, engine.asking():
            stream = Chunks(moving.through(engine.api.get_image(identity)))
            tar = cast(BinaryIO, io.BufferedReader(stream, CHUNK))
            image = _Export(self._store, str(ref)).read(tar, platform)
        return MadeBase(image, self._clock())


class _Export:
    """One pass over what `docker save` writes."""

    def __init__(self, store: Store, where: str) -> None:
        self._store, self._where = store, where
        self._layers: dict[str, Layer] = {}  # by member name
        self._documents: dict[str, bytes] = {}
        self._links: dict[str, str] = {}

    def read(self, tar: BinaryIO, platform: Platform) -> Image:
        kept = 0
        for entry, content in read_tar(tar):
            name = os.fsdecode(entry.path)
            if len(self._layers) + len(self._documents) + len(self._links) >= _MEMBERS:
                raise LayerError(f"the export has more than {_MEMBERS} members")
            if entry.type == SYMLINK:
                folder = posixpath.dirname(name)
                target = posixpath.join(folder, os.fsdecode(entry.link))
                self._links[name] = posixpath.normpath(target)
            elif entry.type == HARDLINK:
                self._links[name] = os.fsdecode(entry.link)
            elif entry.type == FILE:
                member = _Headed(content)
                if _is_layer(member.head):
                    where = f"{self._where}: {show(entry.path)}"
                    self._layers[name] = import_tar(self._store, member, where)
                    continue
                kept += entry.size
                if kept > _DOCUMENTS:
                    raise LayerError(f"{show(entry.path)} is neither a layer nor a document")
                self._documents[name] = whole(member, entry.size, MAX_CONFIG, name)
        return self._image(platform)

    def _image(self, platform: Platform) -> Image:
        where = self._where
        if "manifest.json" not in self._documents:
            raise LayerError("the export has no manifest.json")
        chosen: Chosen = choose_image(self._documents["manifest.json"], "", where)
        files = frozenset((*self._layers, *self._documents))
        contents = Members(b"", self._links, files)
        config = self._documents.get(contents.find(chosen.config, where))
        layers = [self._layers.get(contents.find(name, where)) for name in chosen.layers]
        if config is None:
            raise LayerError(f"the export's {chosen.config!r} is no document")
        stem = posixpath.basename(chosen.config).removesuffix(".json")
        if len(stem) == 64 and digest_of(config) != f"sha256:{stem}":
            raise LayerError(f"the bytes of {chosen.config!r} are others than its name says")
        parsed = parse_config(config, where)
        check_platform(parsed.platform, platform, where)
        found = tuple(layer for layer in layers if layer is not None)
        if tuple(layer.diff_id for layer in found) != parsed.diff_ids:
            raise LayerError("the layers are not those that the config's diff_ids name")
        return Image(parsed.platform, parsed.document, found)


class _Headed:
    """A member whose first bytes, `head`, can be looked at before it is read."""

    def __init__(self, content: BinaryIO) -> None:
        self._content = content
        self.head = b""
        while len(self.head) < _HEAD and (more := content.read(_HEAD - len(self.head))):
            self.head += more
        self._left = self.head

    def read(self, size: int = -1, /) -> bytes:
        if not self._left:
            return self._content.read(size)
        size = size if size >= 0 else len(self._left)
        data, self._left = self._left[:size], self._left[size:]
        return data


def _is_layer(head: bytes) -> bool:
    """A tar (an empty one is zeros), plain or compressed; documents are JSON and plain text."""
    return (
        head[257:262] == b"ustar"
        or head.startswith((b"\x1f\x8b", b"\x28\xb5\x2f\xfd"))
        or (len(head) == _HEAD and not head.strip(b"\0"))
    )

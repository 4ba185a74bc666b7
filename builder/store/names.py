"""What images are called: entries below names/, one each, and index.json, which other tools read.

The entries are what counts: written whole, one at a time, whatever the number of names. index.json
says the same in one file (image-spec image-layout.md). It is brought up to date once a run, at its
end; when a builder died before that, by the next one to start.
"""

from __future__ import annotations

import json
import os
from _weakref import proxy  # without weakref, which a build with nothing to do would import
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from builder.errors import BuilderError
from builder.oci import media
from builder.oci.digest import hex_of, parse_digest
from builder.oci.image import Descriptor, Platform, encode
from builder.store.incoming import write

if TYPE_CHECKING:
    from builder.store.store import Store

MAX_INDEX = 64 << 20
_REF_NAME = "org.opencontainers.image.ref.name"
_PROJECT = "builder.project"
_KIND = "names"
_INDEX = "index.json"
Entries = list[dict[str, Any]]
"""The descriptors of index.json as read: those of other tools are kept as they are."""


ANY = Platform("", "", "")
"""The platform of a name that means an index."""


class ImageName(NamedTuple):
    """What an image is called: by its spec's name within a project, or by a reference, which
    belongs to no project ("") and is given by a pull or a tag. It means a manifest for a platform,
    or, for ANY, an index; not both."""

    name: str
    platform: Platform
    project: str = ""

    @property
    def key(self) -> str:
        """Names files in the store that are about this name: 64 hex digits."""
        return hex_of(encode([self.project, self.name, *self.platform]))

    def is_like(self, other: ImageName) -> bool:
        """Whether they are one name, for whatever platforms."""
        return (self.name, self.project) == (other.name, other.project)

    def __str__(self) -> str:
        platform = "all platforms" if self.platform == ANY else self.platform
        return f"{self.name} ({platform}{', ' if self.project else ''}{self.project})"


class Names:
    """The names of a store. `later`: index.json waits for `write_index`."""

    def __init__(self, store: Store) -> None:
        self._store: Store = proxy(store)  # a store that is dropped is closed at once
        self._changed: set[str] = set()
        self.later = False

    def find(self, name: ImageName) -> Descriptor | None:
        entry = self._load(name.key)
        return parse_descriptor(entry) if entry else None

    def put(self, name: ImageName, manifest: Descriptor) -> None:
        """Let `name` mean this manifest; the last one wins. Nothing is written when it does."""
        entry = _entry_for(name, manifest)
        if entry == self._load(name.key):
            return
        if name.platform == ANY:
            others = [each for each in self.all() if each != name and each.is_like(name)]
        elif index := self.find(name._replace(platform=ANY)):
            inner = dict(index_entries(self._store, index))
            if inner.get(name.platform) == manifest:
                return
            others = [name._replace(platform=ANY)]
            for platform, each in inner.items():
                if platform != name.platform:
                    self._save(name._replace(platform=platform), each)
        else:
            others = []
        self._save(name, manifest)
        for other in others:  # last: what an index held is held all the time
            self._forget(other)
        self._write_now()

    def _save(self, name: ImageName, manifest: Descriptor) -> None:
        self._changed.add(name.key)
        self._store.save(_KIND, name.key, encode(_entry_for(name, manifest)))

    def _forget(self, name: ImageName) -> None:
        self._changed.add(name.key)
        self._store.forget(_KIND, name.key)

    def remove(self, name: ImageName) -> bool:
        """False: there is no such name."""
        there = name in self.all()
        if there:
            self._forget(name)
            self._write_now()
        return there

    def all(self) -> dict[ImageName, Descriptor]:
        """Every name with its manifest, sorted; also those that other tools put in the index."""
        store = self._store
        keys = store.entries(_KIND)
        entries = {key: self._load(key) for key in keys}
        index = self._read_index()
        if index is None:
            store.folder.warn("index.json is missing or corrupt; it is made again from names/")
            self.rebuild_index()
        lost = {key for key, entry in entries.items() if entry is None}
        listed = [e for e in index or () if _is_foreign(e) or _name_in(e).key in lost]
        found: dict[ImageName, Descriptor] = {}
        for entry in (*entries.values(), *listed):
            blob = parse_descriptor(entry)
            if entry and blob and _ref_name(entry):
                found.setdefault(_name_in(entry), blob)
        return dict(sorted(found.items()))

    # -- index.json -------------------------------------------------------------------------------

    def write_index(self) -> None:
        """Let index.json say what this builder changed. Raises StoreError."""
        if self._changed:
            with self._store.lock("index", "list the images"):
                before = self._read_index()
                if before is None:
                    self._rebuild([])
                else:
                    kept = [e for e in before if _name_in(e).key not in self._changed]
                    # as they are by now, after other builders too
                    self._write([*kept, *filter(None, map(self._load, sorted(self._changed)))])
            self._changed.clear()

    def rebuild_index(self) -> None:
        """Let index.json say what all the entries say. Raises StoreError."""
        with self._store.lock("index", "list the images"):
            self._rebuild(self._read_index() or [])
        self._changed.clear()

    def _write_now(self) -> None:
        if not self.later:
            self.write_index()

    def _rebuild(self, before: Entries) -> None:
        foreign = [entry for entry in before if _is_foreign(entry)]
        self._write([*foreign, *filter(None, map(self._load, self._store.entries(_KIND)))])

    def _write(self, entries: Entries) -> None:
        path = os.path.join(self._store.root, _INDEX)
        write(self._store.folder, path, encode_index(entries))

    def _read_index(self) -> Entries | None:
        path = os.path.join(self._store.root, _INDEX)
        data = self._store.folder.read(path, _INDEX, MAX_INDEX)
        return None if data is None else parse_index(data)

    def _load(self, key: str) -> dict[str, Any] | None:
        data = self._store.load(_KIND, key)
        entries = parse_index(b'{"manifests":[%b]}' % data) if data else None
        return entries[0] if entries and not _is_foreign(entries[0]) else None


def parse_index(data: bytes) -> Entries | None:
    """The entries, or None when this is no index."""
    try:
        document = json.loads(data)
        encode(document)  # lone surrogates could not be written back
    except (ValueError, RecursionError):
        return None
    entries = document.get("manifests") if isinstance(document, dict) else None
    if not isinstance(entries, list) or not all(isinstance(each, dict) for each in entries):
        return None
    return entries


def encode_index(entries: Iterable[Mapping[str, Any]]) -> bytes:
    document = {"schemaVersion": 2, "mediaType": media.INDEX, "manifests": list(entries)}
    return encode(document)


def parse_descriptor(document: object) -> Descriptor | None:
    """A descriptor from JSON, or None when it is none."""
    if not isinstance(document, dict):
        return None
    media_type, size = document.get("mediaType"), document.get("size")
    if not isinstance(media_type, str) or type(size) is not int or size < 0:
        return None
    try:
        return Descriptor(media_type, parse_digest(document.get("digest")), size)
    except BuilderError:
        return None


def index_entries(store: Store, index: Descriptor) -> list[tuple[Platform, Descriptor]]:
    """The manifests of an index that name their platforms; those that are not images (what BuildKit
    adds) are left out. Total: of what is no index, none."""
    try:
        entries = parse_index(store.read(index)) if index.size <= MAX_INDEX else None
    except BuilderError:
        return []
    found = []
    for each in entries or ():
        blob, platform = parse_descriptor(each), _platform_in(each)
        if blob and platform.architecture not in ("", "unknown"):
            found.append((platform, blob))
    return found


def _entry_for(name: ImageName, manifest: Descriptor) -> dict[str, Any]:
    fields = zip(("os", "architecture", "variant"), name.platform, strict=True)
    platform = {field: value for field, value in fields if value}
    return {
        **manifest.document(),
        **({"platform": platform} if platform else {}),
        "annotations": {_REF_NAME: name.name, _PROJECT: name.project},
    }


def _name_in(entry: Mapping[str, Any]) -> ImageName:
    """Total: whatever other tools wrote."""
    platform = ANY if entry.get("mediaType") in media.INDEXES else _platform_in(entry)
    return ImageName(_ref_name(entry) or "", platform, _annotation(entry, _PROJECT) or "")


def _platform_in(entry: Mapping[str, Any]) -> Platform:
    platform = entry.get("platform")
    parts = platform if isinstance(platform, dict) else {}
    fields = (parts.get("os", "linux"), parts.get("architecture", ""), parts.get("variant", ""))
    return Platform(*map(str, fields))


def _ref_name(entry: Mapping[str, Any]) -> str | None:
    return _annotation(entry, _REF_NAME)


def _is_foreign(entry: Mapping[str, Any]) -> bool:
    """Written by another tool: ours say whose they are, or that they are nobody's."""
    return _annotation(entry, _PROJECT) is None


def _annotation(entry: Mapping[str, Any], key: str) -> str | None:
    annotations = entry.get("annotations")
    value = annotations.get(key) if isinstance(annotations, dict) else None
    return value if isinstance(value, str) else None

"""RegistrySource: bases of the kind `from: REFERENCE`.

What a reference was resolved to is kept in the store with its manifest and config, so that a build
in which nothing changed asks nobody. Layers come only when they are needed.
"""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, NamedTuple

from builder.errors import BuilderError, SpecError, TransportError
from builder.events import Emit, Noted, ignore
from builder.oci.digest import Digest, digest_of, hex_of, parse_digest
from builder.oci.image import Image, Layer, Platform, encode
from builder.oci.reference import Reference, parse_reference
from builder.spec.model import BaseRef
from builder.store.records import labelled, parse_object
from builder.transport.base import Base, Tell, quiet
from builder.transport.documents import make_image, parse_config, parse_manifest
from builder.transport.registry.settings import Settings
from builder.work.cancel import Cancel

if TYPE_CHECKING:
    from builder.store.store import Store
    from builder.transport.registry.session import Registry

BASE_NAME = "org.opencontainers.image.base.name"
BASE_DIGEST = "org.opencontainers.image.base.digest"


class _Known(NamedTuple):
    """A reference as it was resolved once."""

    digest: Digest  # what the reference named, an index perhaps
    media_type: str
    manifest: bytes
    config: bytes


class RegistrySource:
    """Bases at registries. Connects when it must, with one Registry for all; `close` it."""

    def __init__(
        self,
        store: Store,
        settings: Settings,
        emit: Emit = ignore,
        cancel: Cancel | None = None,
    ) -> None:
        self._store, self._settings, self._emit = store, settings, emit
        self._cancel = cancel or Cancel()
        self._connecting = threading.Lock()
        self._registry: Registry | None = None

    def close(self) -> None:
        if self._registry is not None:
            self._registry.close()
            self._registry = None

    def resolve(
        self, ref: BaseRef, platform: Platform, *, make: bool, pull: str, tell: Tell = quiet
    ) -> Base | None:
        """`pull`: `missing` asks the registry once per reference, `always` whenever the reference
        is not pinned by a digest, `never` not at all; with or without `make`."""
        try:
            reference = parse_reference(ref.value)
        except BuilderError as error:
            raise SpecError(error.what, error.hint).at(ref.place) from error
        try:
            known = self._known(reference, platform)
            if known is None or (pull == "always" and reference.digest is None):
                known = self._ask(reference, platform, known, pull)
            return self._base(reference, platform, known)
        except TransportError as error:
            error.at(ref.place)
            raise

    def _ask(
        self, reference: Reference, platform: Platform, known: _Known | None, pull: str
    ) -> _Known:
        if pull == "never":
            raise TransportError(
                f"{reference} was never pulled for {platform}, and --pull never forbids to ask",
                f"builder pull {reference.familiar}, or leave --pull never out",
            )
        registry = self._connected()
        with self._cancel.ending(registry.network.stopped.set):
            if known is not None and registry.digest(reference) == known.digest:
                return known
            self._emit(Noted(f"resolving {reference.familiar}"))
            resolved = registry.resolve(reference, platform)
        served = resolved.served
        known = _Known(resolved.digest, served.blob.media_type, served.data, resolved.config)
        self._save(reference, platform, known)
        from builder.transport.registry.seen import note_seen

        for layer in resolved.image.layers:
            note_seen(self._store, layer.blob.digest, reference.name)
        return known

    def _base(self, reference: Reference, platform: Platform, asked: _Known) -> Base:
        where = str(reference)
        manifest = parse_manifest(asked.manifest, where, asked.media_type)
        image = make_image(manifest, parse_config(asked.config, where), platform, where)
        image = _annotated(labelled(self._store, image), reference, asked.digest)

        about = reference._replace(digest=asked.digest).familiar
        return Base(image, about, _Repository(self, reference))

    def bring(self, reference: Reference, layer: Layer) -> None:
        """A layer of the image that `reference` names, into the store."""
        registry = self._connected()
        with self._cancel.ending(registry.network.stopped.set):
            registry.fetch(self._store, reference, layer, str(reference))

    def _connected(self) -> Registry:
        with self._connecting:
            if self._registry is None:
                from builder.transport.registry.session import Registry

                self._registry = Registry(self._settings, self._emit)
            return self._registry

    # -- what is known, in the store ---------------------------------------------------------------

    def _known(self, reference: Reference, platform: Platform) -> _Known | None:
        document = parse_object(self._store.load("bases", _entry(reference, platform))) or {}
        try:
            known = _Known(
                parse_digest(document["digest"]),
                document["mediaType"],
                document["manifest"].encode(),
                document["config"].encode(),
            )
            manifest = parse_manifest(known.manifest, "known", known.media_type)
        except (ValueError, KeyError, TypeError, AttributeError, BuilderError):
            return None
        whole = digest_of(known.manifest) == document.get("served")
        return known if whole and digest_of(known.config) == manifest.config.digest else None

    def _save(self, reference: Reference, platform: Platform, known: _Known) -> None:
        document = {
            "reference": str(reference),
            "platform": str(platform),
            "digest": known.digest,
            "served": digest_of(known.manifest),
            "mediaType": known.media_type,
            "manifest": known.manifest.decode(),
            "config": known.config.decode(),
        }
        self._store.save("bases", _entry(reference, platform), encode(document))


class _Repository(NamedTuple):
    """Brings the layers of one base."""

    source: RegistrySource
    reference: Reference

    def bring(self, layer: Layer) -> bool:
        self.source.bring(self.reference, layer)
        return True


def _annotated(image: Image, reference: Reference, digest: Digest) -> Image:
    name = str(reference._replace(digest=None)) if reference.tag else str(reference)
    return image._replace(annotations={BASE_NAME: name, BASE_DIGEST: digest})


def _entry(reference: Reference, platform: Platform) -> str:
    return "registry-" + hex_of(encode([str(reference), str(platform)]))

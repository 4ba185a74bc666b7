"""Session: what one command does at registries: pull, resolve, list; and push, in push.py."""

from __future__ import annotations

import contextlib
import threading
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from builder.errors import CorruptBlob, StoreError, TransportError
from builder.events import Emit, ignore
from builder.oci import media
from builder.oci.digest import Digest
from builder.oci.image import Descriptor, Image, Layer, Platform
from builder.oci.reference import DOCKER_HUB, Reference
from builder.transport.moving import Moving
from builder.transport.registry.auth import Authorizer
from builder.transport.registry.client import Client, Served
from builder.transport.registry.faults import RegistryError
from builder.transport.registry.http import Http, Response
from builder.transport.registry.network import Lost, Network, Stopped
from builder.transport.registry.origin import parse_origin
from builder.transport.registry.parallel import run_all
from builder.transport.registry.seen import note_seen
from builder.transport.registry.settings import Settings

if TYPE_CHECKING:
    from builder.store.store import Store
    from builder.transport.registry.credentials import Credentials

_HUB_HOST = "registry-1.docker.io"
_NESTED = 4  # an index may hold indexes; nobody nests them deeper


class Resolved(NamedTuple):
    """An image at a registry: its documents, checked; no layer was read."""

    reference: Reference
    digest: Digest  # of what the reference names, which may be an index
    served: Served  # the image's own manifest
    config: bytes
    image: Image


class Pulled(NamedTuple):
    """An image that is in the store whole, its documents to the byte as the registry has them."""

    reference: Reference
    digest: Digest  # of what the reference names, which may be an index
    manifest: Descriptor
    image: Image


class Registry:
    """Registries as one user sees them. Safe for threads; `close` (or `with`) ends connections.

    After a failed push or pull it is of no use any more: its other threads were stopped.
    """

    def __init__(self, settings: Settings, emit: Emit = ignore) -> None:
        self.settings, self.emit = settings, emit
        self.network = Network(settings)
        self._http = Http(self.network, emit)
        self._clients: dict[str, Client] = {}
        self._bases: dict[str, str] = {}
        self._lock = threading.Lock()

    def __enter__(self) -> Registry:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        self.network.close()

    # -- what users ask for ----------------------------------------------------------------------

    def pull(self, reference: Reference, platform: Platform, store: Store) -> Pulled:
        """Bring the image and all its layers into the store; the caller gives it a name."""
        # on a thread as well: see run_all
        ask = partial(self.resolve, reference, platform, store)
        (resolved,) = run_all([ask], 1, self.network)
        where = str(reference)
        run_all(
            [
                partial(self.fetch, store, reference, layer, where)
                for layer in dict.fromkeys(resolved.image.layers)
            ],
            self.settings.jobs,
            self.network,
        )
        for layer in dict.fromkeys(resolved.image.layers):
            note_seen(store, layer.blob.digest, reference.name)
        store.put(resolved.config, media.CONFIG)
        manifest = store.put(resolved.served.data, resolved.served.blob.media_type)
        return Pulled(reference, resolved.digest, manifest, resolved.image)

    def digest(self, reference: Reference) -> Digest:
        """What the reference names now, an index or a manifest, as the registry says."""
        client = self.client(reference)
        which = reference.digest or reference.tag or "latest"
        said = client.head_manifest(which, client.pull_scope)
        return (said or client.get_manifest(which).blob).digest

    def tags(self, repository: Reference) -> list[str]:
        return self.client(repository).tags()

    def catalog(self, registry: str) -> list[str]:
        """`registry`: host[:port]."""
        return self.client(Reference(registry, "", None)).catalog()

    # -- parts -----------------------------------------------------------------------------------

    def resolve(
        self, reference: Reference, platform: Platform, store: Store | None = None
    ) -> Resolved:
        """Read the documents of the image for `platform`, no layer. What `store` has of them is
        not asked for."""
        from builder.transport.documents import (
            MAX_CONFIG,
            MAX_MANIFEST,
            Manifest,
            choose_platform,
            make_image,
            parse_config,
            parse_document,
        )
        from builder.transport.registry.download import read_blob

        client, where = self.client(reference), str(reference)
        served = client.get_manifest(reference.digest or reference.tag or "latest")
        digest = served.blob.digest
        for _ in range(_NESTED):
            document = parse_document(served.data, where, served.blob.media_type)
            if isinstance(document, Manifest):
                config = _kept(store, document.config, MAX_CONFIG)
                if config is None:
                    config = read_blob(client, document.config, MAX_CONFIG)
                image = make_image(document, parse_config(config, where), platform, where)
                return Resolved(reference, digest, served, config, image)
            wanted = choose_platform(document, platform, where)
            kept = _kept(store, wanted, MAX_MANIFEST)
            served = Served(wanted, kept) if kept else _as_promised(client, wanted, where)
        raise TransportError(f"{where}: indexes within indexes, expected an image")

    def resolve_all(self, reference: Reference, store: Store | None = None) -> list[Resolved]:
        """As resolve, for every platform that the reference has."""
        from builder.transport.documents import (
            MAX_CONFIG,
            MAX_MANIFEST,
            IndexEntry,
            as_said,
            images_in,
            make_image,
            parse_config,
        )
        from builder.transport.registry.download import read_blob

        client, where = self.client(reference), str(reference)
        top = client.get_manifest(reference.digest or reference.tag or "latest")

        def read(blob: Descriptor) -> bytes:
            if blob == top.blob:
                return top.data
            kept = _kept(store, blob, MAX_MANIFEST)
            return kept if kept else _as_promised(client, blob, where).data

        found = []
        for entry, data, manifest in images_in(IndexEntry(top.blob), read, where):
            config = _kept(store, manifest.config, MAX_CONFIG)
            if config is None:
                config = read_blob(client, manifest.config, MAX_CONFIG)
            parsed = parse_config(config, where)
            image = as_said(make_image(manifest, parsed, parsed.platform, where), entry)
            served = Served(entry.blob, data)
            found.append(Resolved(reference, top.blob.digest, served, config, image))
        if not found:
            raise TransportError(f"{where}: its index holds no image")
        return found

    def fetch(self, store: Store, reference: Reference, layer: Layer, where: str) -> None:
        """One layer into the store, checked. Wrong bytes are asked for once more."""
        from builder.store.records import is_imported
        from builder.transport.importing import import_layer
        from builder.transport.registry.download import Download

        if is_imported(store, layer):
            return
        client = self.client(reference)
        where = f"{where}: {layer.blob.digest}"
        if store.claim(layer.blob):  # known as another layer, or not as one: see what it is
            with contextlib.suppress(CorruptBlob), store.open(layer.blob) as blob:
                import_layer(store, layer, blob, where)
                return
        for last in (False, True):
            what = f"pull {reference.familiar} {layer.blob.digest[7:19]}"
            try:
                with (
                    Moving(self.emit, what, layer.blob.size) as moving,
                    contextlib.closing(Download(client, layer.blob, moving.at)) as download,
                ):
                    import_layer(store, layer, download, where)
                return
            except (Lost, Stopped, RegistryError):
                raise  # that was no matter of bytes
            except TransportError:
                if last:
                    raise

    def client(self, name: Reference) -> Client:
        """The client for a reference's repository."""
        with self._lock:
            client = self._clients.get(name.name)
            if client is None:
                client = self._clients[name.name] = self._client(name)
            return client

    def _client(self, name: Reference) -> Client:
        base = self._bases.get(name.registry)
        if base is None:
            base = self._bases[name.registry] = self._base(name.registry)

        def ask(method: str, url: str, *, headers: object, body: bytes | None) -> Response:
            return self._http.send(method, url, headers=headers, body=body)  # type: ignore[arg-type]

        def find() -> Credentials | None:
            from builder.transport.registry.credentials import find_credentials

            return find_credentials(self.settings, name.registry, name.repository)

        authorizer = Authorizer(
            parse_origin(base),
            self.network,
            ask,
            find,
        )
        return Client(self._http, authorizer, base, name)

    def _base(self, registry: str) -> str:
        """The registry's URL: https, unless plain http may be and is spoken there."""
        host = _HUB_HOST if registry == DOCKER_HUB else registry
        origin = parse_origin(f"https://{host}")
        if self.network.may_be_plain(origin.host, host) and not self.network.speaks_tls(origin):
            return f"http://{host}"
        return f"https://{host}"


def _as_promised(client: Client, wanted: Descriptor, where: str) -> Served:
    """A manifest that an index names."""
    served = client.get_manifest(wanted.digest)
    if served.blob != wanted:
        raise TransportError(
            f"{where}: the index says {wanted.digest} is {wanted.media_type} of"
            f" {wanted.size} bytes, it is {served.blob.media_type} of {served.blob.size}"
        )
    return served


def _kept(store: Store | None, blob: Descriptor, limit: int) -> bytes | None:
    """A small blob out of the store, if it is there and whole."""
    if store is None or blob.size > limit or not store.claim(blob):
        return None
    with contextlib.suppress(StoreError):  # CorruptBlob is one: it was told and taken out
        return store.read(blob)
    return None

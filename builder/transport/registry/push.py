"""Push: images to repositories: layers, configs, manifests, and when all is there the tags.

Whenever it is killed, a tag is what it was or what it shall be, and the next push sends only what
is not there yet.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from builder.errors import TransportError, UsageError
from builder.oci import media
from builder.oci.digest import Digest, digest_of
from builder.oci.image import Descriptor, Image
from builder.oci.reference import DOCKER_HUB, Reference, parse_reference
from builder.transport.moving import Moving
from builder.transport.registry.client import Client
from builder.transport.registry.network import Unreachable
from builder.transport.registry.parallel import run_all
from builder.transport.registry.seen import note_pushed, note_seen, seen_at
from builder.transport.registry.upload import Source, upload

if TYPE_CHECKING:
    from builder.store.store import Store
    from builder.transport.registry.session import Registry


class Tally(NamedTuple):
    """How many blobs, and how many bytes."""

    blobs: int = 0
    bytes: int = 0

    def plus(self, size: int) -> Tally:
        return Tally(self.blobs + 1, self.bytes + size)


class PushResult(NamedTuple):
    """What a push did for all references of one image in one repository."""

    references: tuple[Reference, ...]
    digest: Digest
    sent: Tally
    mounted: Tally
    skipped: Tally  # there already
    requests: int  # of the whole push, shared by the results of one push_all

    def document(self) -> dict[str, Any]:
        """For --json."""
        return {
            "references": [str(reference) for reference in self.references],
            "digest": self.digest,
            **{name: getattr(self, name)._asdict() for name in ("sent", "mounted", "skipped")},
            "requests": self.requests,
        }


Document = tuple[str, bytes]
"""A manifest or an index: its media type and its bytes."""


class Push(NamedTuple):
    """An image and the references it shall have. `manifest` is the document as it was pulled, to be
    passed on to the byte with the config that it names, which is in the store; None: both are made
    from the image."""

    image: Image
    references: tuple[Reference, ...]
    manifest: Document | None = None


class PushIndex(NamedTuple):
    """An index and the references it shall have; its images, which get none of their own."""

    images: tuple[Push, ...]
    references: tuple[Reference, ...]
    document: Document


class _Target(NamedTuple):
    """One image into one repository."""

    client: Client
    references: tuple[Reference, ...]
    media_type: str
    manifest: bytes  # or index
    configs: Mapping[Descriptor, bytes]
    layers: tuple[Descriptor, ...]  # each once
    inner: tuple[Document, ...] = ()  # the manifests of an index


def push_all(
    registry: Registry, store: Store, pushes: Sequence[Push | PushIndex]
) -> list[PushResult]:
    """Push them together; a result per image and repository, in order.

    No tag of any of them is written before every blob and manifest of all is there.
    """
    return _PushAll(registry, store, pushes).run()


class _PushAll:
    def __init__(
        self, registry: Registry, store: Store, pushes: Sequence[Push | PushIndex]
    ) -> None:
        self.registry, self.store, self.emit = registry, store, registry.emit
        self.jobs, self.network = registry.settings.jobs, registry.network
        self.targets = [target for push in pushes for target in _targets(registry, store, push)]
        self.tallies: list[dict[str, Tally]] = [{} for _ in self.targets]
        self.lock = threading.Lock()

    def run(self) -> list[PushResult]:
        begun = self.network.requests
        jobs, network = self.jobs, self.network
        done = run_all([partial(_is_complete, target) for target in self.targets], jobs, network)
        missing = [number for number, complete in enumerate(done) if not complete]
        for number, complete in enumerate(done):
            if complete:
                self._skip(number)
        run_all(self._blob_tasks(missing, layers=True), jobs, network)
        run_all(self._blob_tasks(missing, layers=False), jobs, network)
        inner = {
            (self.targets[number].client.base, self.targets[number].client.name.name, each): number
            for number in missing
            for each in self.targets[number].inner
        }
        run_all(
            [
                partial(_put_inner, self.targets[number].client, each)
                for (*_, each), number in inner.items()
            ],
            jobs,
            network,
        )
        tags = [
            (self.targets[number], reference.tag or "")
            for number in missing
            for reference in self.targets[number].references
        ]
        if len(tags) > 1:  # a single tag comes with its manifest, at once
            run_all(
                [
                    partial(_put, self.targets[number], digest_of(self.targets[number].manifest))
                    for number in missing
                ],
                jobs,
                network,
            )
        run_all([partial(_put, target, tag) for target, tag in tags], jobs, network)
        for target in self.targets:
            for reference in target.references:
                note_pushed(self.store, reference, digest_of(target.manifest))
        return [
            PushResult(
                target.references,
                digest_of(target.manifest),
                tally.get("sent", Tally()),
                tally.get("mounted", Tally()),
                tally.get("skipped", Tally()),
                network.requests - begun,
            )
            for target, tally in zip(self.targets, self.tallies, strict=True)
        ]

    def _skip(self, number: int) -> None:
        target = self.targets[number]
        for blob in (*target.layers, *target.configs):
            self._count(number, "skipped", blob.size)

    def _blob_tasks(self, missing: Sequence[int], *, layers: bool) -> list[Callable[[], None]]:
        """A task per registry and blob: into one repository first, then mounted into the others."""
        tasks: dict[tuple[str, Digest], list[tuple[int, Descriptor]]] = {}
        for number in missing:
            target = self.targets[number]
            for blob in target.layers if layers else target.configs:
                wanted = tasks.setdefault((target.client.base, blob.digest), [])
                wanted.append((number, blob))
        largest_first = sorted(tasks.values(), key=lambda wanted: -wanted[0][1].size)
        return [partial(self._place, wanted) for wanted in largest_first]

    def _place(self, wanted: Sequence[tuple[int, Descriptor]]) -> None:
        for number, blob in wanted:
            target = self.targets[number]
            client = target.client
            if client.has_blob(blob, client.push_scope):
                self._count(number, "skipped", blob.size)
            else:
                source = partial(self._source, target, blob)
                mount = self._mountable(client, blob)
                what = f"push {client.name.name} {blob.digest[7:19]}"
                with Moving(self.emit, what, blob.size) as moving:
                    sent = upload(client, blob, mount, source, moving.at)
                if sent.mounted:
                    self._count(number, "mounted", blob.size)
                else:
                    self._count(number, "sent", sent.bytes)
            note_seen(self.store, blob.digest, client.name.name)

    def _mountable(self, client: Client, blob: Descriptor) -> str | None:
        """Another repository of the same registry that had the blob."""
        home = client.name.registry + "/"
        for name in seen_at(self.store, blob.digest):
            if name.startswith(home) and name != client.name.name:
                return name.removeprefix(home)
        return None

    def _source(self, target: _Target, blob: Descriptor) -> Source:
        if blob in target.configs:
            return io.BytesIO(target.configs[blob])
        if not self.store.claim(blob):
            self._fetch(blob)
        return cast(Source, self.store.open(blob))

    def _fetch(self, blob: Descriptor) -> None:
        """A layer of a base that nothing here needed, and the target's registry cannot mount."""
        from builder.transport.registry.download import Download

        for name in seen_at(self.store, blob.digest):
            client = self.registry.client(parse_reference(name))
            if not client.has_blob(blob, client.pull_scope):
                continue
            what = f"pull {name} {blob.digest[7:19]}"
            with (
                Moving(self.emit, what, blob.size) as moving,
                closing(Download(client, blob, moving.at)) as download,
                self.store.incoming() as incoming,
            ):
                while data := download.read(1 << 20):
                    incoming.write(data)
                if incoming.digest != blob.digest:
                    raise TransportError(f"{name}@{blob.digest}: its bytes have another digest")
                incoming.publish(blob.media_type)
            return
        raise TransportError(
            f"layer {blob.digest} is neither in the store nor at a registry known to have it",
            "build or pull the image again",
        )

    def _count(self, number: int, what: str, size: int) -> None:
        with self.lock:
            tallies = self.tallies[number]
            tallies[what] = tallies.get(what, Tally()).plus(size)


def _targets(registry: Registry, store: Store, push: Push | PushIndex) -> list[_Target]:
    grouped: dict[str, list[Reference]] = {}
    for reference in push.references:
        if reference.digest is not None:
            raise UsageError(
                f"{str(reference)!r}: a push goes to a tag; the digest is the image's own",
                f"push to {reference._replace(digest=None, tag=reference.tag or 'latest')}",
            )
        grouped.setdefault(reference.name, []).append(reference)
    manifests: list[Document] = []
    configs: dict[Descriptor, bytes] = {}
    images = (push,) if isinstance(push, Push) else push.images
    for image, _, document in images:
        manifests.append(document or (media.MANIFEST, image.manifest_bytes()))
        config = image.config_bytes() if document is None else _config_of(store, document)
        configs[Descriptor(media.CONFIG, digest_of(config), len(config))] = config
    layers = {layer.blob.digest: layer.blob for each in images for layer in each.image.layers}
    top = manifests[0] if isinstance(push, Push) else push.document
    return [
        _Target(
            registry.client(references[0]),
            tuple(dict.fromkeys(references)),
            *top,
            configs,
            tuple(layers.values()),
            () if isinstance(push, Push) else tuple(manifests),
        )
        for references in grouped.values()
    ]


def _config_of(store: Store, document: Document) -> bytes:
    from builder.transport.documents import parse_manifest

    media_type, manifest = document
    return store.read(parse_manifest(manifest, "the image", media_type).config)


def _is_complete(target: _Target) -> bool:
    """Every tag is this very manifest already; a registry has a manifest's blobs."""
    wanted = Descriptor(target.media_type, digest_of(target.manifest), len(target.manifest))
    try:
        return all(
            target.client.head_manifest(reference.tag or "", target.client.push_scope) == wanted
            for reference in target.references
        )
    except Unreachable as error:
        first = target.references[0]
        hint = error.hint
        if first.registry == DOCKER_HUB:
            hint = f"a name without a registry is Docker Hub's: write REGISTRY/{first.familiar}"
        unreachable = Unreachable(f"{first.familiar} cannot be pushed: {error}", hint)
        unreachable.refused = error.refused
        raise unreachable from None


def _put(target: _Target, which: str) -> None:
    target.client.put_manifest(which, target.manifest, target.media_type)


def _put_inner(client: Client, document: Document) -> None:
    """A manifest that an index names, unless it is there."""
    media_type, manifest = document
    wanted = Descriptor(media_type, digest_of(manifest), len(manifest))
    if client.head_manifest(wanted.digest, client.push_scope) != wanted:
        client.put_manifest(wanted.digest, manifest, media_type)

"""Pushes and pulls against a real registry, with skopeo and docker-registry as the other side."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from builder.oci.digest import digest_of
from builder.oci.image import Image, Platform
from builder.oci.reference import parse_reference
from builder.store.store import Store
from builder.transport.registry.session import Registry
from builder.transport.registry.settings import Settings

AMD64 = Platform("linux", "amd64")
MakeImage = Callable[..., Image]
NewStore = Callable[[], Store]

pytestmark = pytest.mark.needs("docker-registry")


def test_what_was_pushed_is_pulled(
    registry: str, store: Store, make_image: MakeImage, new_store: NewStore
) -> None:
    image = make_image(store, (1, 3_000_000), (2, 10_000))
    reference = parse_reference(f"{registry}/a/b:c")
    with Registry(Settings()) as session:
        (result,) = session.push(image, store, [reference])
    assert result.digest == digest_of(image.manifest_bytes())
    assert (result.sent.blobs, result.mounted.blobs, result.skipped.blobs) == (3, 0, 0)
    assert result.sent.bytes == sum(layer.blob.size for layer in image.layers) + len(
        image.config_bytes()
    )

    other = new_store()
    with Registry(Settings()) as session:
        pulled = session.pull(reference, AMD64, other)
        assert session.digest(reference) == result.digest
    assert pulled.image.layers == image.layers
    assert other.read(pulled.manifest) == image.manifest_bytes()
    assert all(other.has(layer.blob) for layer in image.layers)


def test_an_unchanged_push_sends_no_byte_in_one_request(
    registry: str, store: Store, make_image: MakeImage
) -> None:
    image = make_image(store, (3, 100_000))
    reference = parse_reference(f"{registry}/unchanged:1")
    with Registry(Settings()) as session:
        session.push(image, store, [reference])
    with Registry(Settings()) as session:
        (result,) = session.push(image, store, [reference])
    assert (result.sent.blobs, result.skipped.blobs, result.requests) == (0, 2, 1)

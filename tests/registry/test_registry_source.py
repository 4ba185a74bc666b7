"""`from: REFERENCE`: resolved once, remembered, its layers brought only when they are needed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from builder.errors import SpecError, TransportError
from builder.oci.digest import digest_of
from builder.oci.image import Image, Platform
from builder.oci.reference import parse_reference
from builder.spec.model import BaseRef, Place
from builder.store.store import Store
from builder.transport.registry.push import Push, push_all
from builder.transport.registry.session import Registry
from builder.transport.registry.settings import Settings
from builder.transport.registry.source import RegistrySource

pytestmark = pytest.mark.needs("docker-registry")

AMD64 = Platform("linux", "amd64")
QUICK = Settings(backoff=0.02)
PLACE = Place("specs/x.yaml", 1, 7)
MakeImage = Callable[..., Image]
NewStore = Callable[[], Store]


def push(name: str, image: Image, store: Store) -> str:
    with Registry(QUICK) as session:
        (result,) = push_all(session, store, [Push(image, (parse_reference(name),))])
    return result.digest


def test_a_base_is_resolved_without_a_layer_and_fetched_when_needed(
    before: Callable[..., Any], store: Store, new_store: NewStore, make_image: MakeImage
) -> None:
    proxy = before()
    image = make_image(store, (50, 100_000), (51, 1_000))
    name = f"{proxy.name}/base:1"
    digest = push(name, image, store)
    proxy.seen.clear()

    mine = new_store()
    source = RegistrySource(mine, QUICK)
    base = source.resolve(BaseRef("registry", name, PLACE), AMD64, make=False, pull="missing")
    assert base is not None and base.provider is not None
    assert base.about == f"{name}@{digest}"
    assert base.image.annotations == {
        "org.opencontainers.image.base.name": name,
        "org.opencontainers.image.base.digest": digest,
    }
    assert base.image.layers == image.layers
    assert proxy.count("GET", "/blobs/") == 1  # the config
    assert not any(mine.has(layer.blob) for layer in image.layers)

    base.provider.bring(base.image.layers[1])
    assert [mine.has(layer.blob) for layer in image.layers] == [False, True]
    requests = len(proxy.seen)
    base.provider.bring(base.image.layers[1])
    assert len(proxy.seen) == requests
    source.close()


def test_a_known_base_asks_nobody(
    before: Callable[..., Any], store: Store, new_store: NewStore, make_image: MakeImage
) -> None:
    proxy = before()
    name = f"{proxy.name}/offline:1"
    push(name, make_image(store, (52, 1_000)), store)
    mine = new_store()
    ref = BaseRef("registry", name, PLACE)
    first = RegistrySource(mine, QUICK)
    base = first.resolve(ref, AMD64, make=True, pull="missing")
    assert base is not None and base.provider is not None
    base.provider.bring(base.image.layers[0])
    first.close()
    proxy.close()
    proxy.seen.clear()

    for pull in ("missing", "never"):
        again = RegistrySource(mine, QUICK).resolve(ref, AMD64, make=True, pull=pull)
        assert again is not None and again.provider is not None
        assert (again.image, again.about) == (base.image, base.about)
        again.provider.bring(again.image.layers[0])
    assert proxy.seen == []
    with pytest.raises(TransportError, match=r"specs/x.yaml:1:7: 127\.0\.0\.1:\d+: "):
        RegistrySource(mine, QUICK).resolve(ref, AMD64, make=True, pull="always")


def test_always_sees_that_a_tag_has_moved(
    registry: str, store: Store, new_store: NewStore, make_image: MakeImage
) -> None:
    name = f"{registry}/moved:1"
    mine, ref = new_store(), BaseRef("registry", name, PLACE)
    source = RegistrySource(mine, QUICK)
    digests = []
    for seed in (53, 54):
        digests.append(push(name, make_image(store, (seed, 1_000)), store))
        base = source.resolve(ref, AMD64, make=False, pull="always")
        assert base is not None and base.about == f"{name}@{digests[-1]}"
        kept = source.resolve(ref, AMD64, make=False, pull="missing")
        assert kept is not None and kept.about == base.about
    assert digests[0] != digests[1]
    pinned = BaseRef("registry", f"{registry}/moved@{digests[0]}", PLACE)
    base = source.resolve(pinned, AMD64, make=False, pull="always")
    assert base is not None and base.about == f"{registry}/moved@{digests[0]}"
    source.close()


def test_never_does_not_ask_for_what_is_unknown(registry: str, store: Store) -> None:
    ref = BaseRef("registry", f"{registry}/unknown:1", PLACE)
    with pytest.raises(TransportError, match="was never pulled for linux/amd64") as caught:
        RegistrySource(store, QUICK).resolve(ref, AMD64, make=True, pull="never")
    assert caught.value.message.startswith("specs/x.yaml:1:7: ")
    assert caught.value.hint is not None and "builder pull" in caught.value.hint


def test_a_bad_reference_is_the_specs_fault(store: Store) -> None:
    ref = BaseRef("registry", "UPPER", PLACE)
    with pytest.raises(SpecError, match=r"specs/x.yaml:1:7: 'UPPER' is not an image reference"):
        RegistrySource(store, QUICK).resolve(ref, AMD64, make=True, pull="missing")


def test_another_platform_is_another_base(
    registry: str, store: Store, make_image: MakeImage
) -> None:
    name = f"{registry}/amd:1"
    push(name, make_image(store, (55, 10)), store)
    source = RegistrySource(store, QUICK)
    ref = BaseRef("registry", name, PLACE)
    assert source.resolve(ref, AMD64, make=False, pull="missing") is not None
    with pytest.raises(TransportError, match="the image is for linux/amd64, expected linux/arm64"):
        source.resolve(ref, Platform("linux", "arm64"), make=False, pull="missing")
    source.close()


def test_a_built_image_mounts_the_layers_of_its_base(
    registry: str, store: Store, new_store: NewStore, make_image: MakeImage
) -> None:
    name = f"{registry}/mounted/base:1"
    push(name, make_image(store, (56, 200_000)), store)
    mine = new_store()
    source = RegistrySource(mine, QUICK)
    base = source.resolve(BaseRef("registry", name, PLACE), AMD64, make=False, pull="missing")
    assert base is not None
    source.close()
    image = base.image.append(make_image(mine, (57, 100)).layers[0], {"created_by": "mine"})
    with Registry(QUICK) as session:
        (result,) = push_all(
            session, mine, [Push(image, (parse_reference(f"{registry}/mounted/site:1"),))]
        )
    assert (result.mounted.blobs, result.sent.blobs) == (1, 2)
    assert result.digest == digest_of(image.manifest_bytes())
    assert not mine.has(base.image.layers[0].blob)

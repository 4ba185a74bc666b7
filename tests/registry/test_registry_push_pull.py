"""Pushes and pulls at a real registry, with skopeo as the other side."""

from __future__ import annotations

import json
import os
import pickle
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from builder.errors import TransportError, UsageError
from builder.events import Event, Transfer
from builder.oci import media
from builder.oci.digest import digest_of
from builder.oci.image import Image, Platform, encode
from builder.oci.reference import Reference, parse_reference
from builder.store.names import ImageName
from builder.store.store import Store
from builder.transport.registry.push import Push, Tally, push_all
from builder.transport.registry.seen import note_seen
from builder.transport.registry.session import Registry
from builder.transport.registry.settings import Settings

AMD64 = Platform("linux", "amd64")
QUICK = Settings(backoff=0.02)
MakeImage = Callable[..., Image]
NewStore = Callable[[], Store]

pytestmark = pytest.mark.needs("docker-registry")


RANDOM = random.Random()


def builder(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "builder", *arguments],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
    )


def sizes(image: Image) -> int:
    return sum(layer.blob.size for layer in image.layers) + len(image.config_bytes())


def test_what_was_pushed_is_pulled(
    registry: str, store: Store, make_image: MakeImage, new_store: NewStore
) -> None:
    image = make_image(store, (1, 3_000_000), (2, 10_000))
    reference = parse_reference(f"{registry}/a/b:c")
    with Registry(QUICK) as session:
        (result,) = push_all(session, store, [Push(image, (reference,))])
    assert result.digest == digest_of(image.manifest_bytes())
    assert (result.sent, result.mounted, result.skipped) == (
        Tally(3, sizes(image)),
        Tally(),
        Tally(),
    )

    other = new_store()
    with Registry(QUICK) as session:
        pulled = session.pull(reference, AMD64, other)
        assert session.digest(reference) == result.digest
        by_digest = session.pull(parse_reference(f"{registry}/a/b@{result.digest}"), AMD64, other)
    assert pulled.image.layers == image.layers == by_digest.image.layers
    assert other.read(pulled.manifest) == image.manifest_bytes()
    assert all(other.has(layer.blob) for layer in image.layers)


def test_an_unchanged_push_sends_no_byte_in_one_request(
    registry: str, store: Store, make_image: MakeImage
) -> None:
    image = make_image(store, (3, 100_000))
    reference = parse_reference(f"{registry}/unchanged:1")
    with Registry(QUICK) as session:
        push_all(session, store, [Push(image, (reference,))])
    with Registry(QUICK) as session:
        (result,) = push_all(session, store, [Push(image, (reference,))])
    assert (result.sent, result.skipped, result.requests) == (Tally(), Tally(2, sizes(image)), 1)
    assert json.loads(json.dumps(result.document()))["skipped"]["blobs"] == 2


def test_only_the_changed_layer_is_sent(registry: str, store: Store, make_image: MakeImage) -> None:
    reference = parse_reference(f"{registry}/changed:1")
    with Registry(QUICK) as session:
        push_all(session, store, [Push(make_image(store, (4, 100_000), (5, 1_000)), (reference,))])
        changed = make_image(store, (4, 100_000), (6, 1_000))
        (result,) = push_all(session, store, [Push(changed, (reference,))])
    assert (result.sent.blobs, result.skipped) == (2, Tally(1, changed.layers[0].blob.size))


def test_layers_known_from_another_repository_are_mounted(
    registry: str, store: Store, make_image: MakeImage
) -> None:
    image = make_image(store, (7, 100_000))
    with Registry(QUICK) as session:
        push_all(session, store, [Push(image, (parse_reference(f"{registry}/mount/from:1"),))])
        (result,) = push_all(
            session, store, [Push(image, (parse_reference(f"{registry}/mount/to:1"),))]
        )
    assert (result.sent, result.mounted) == (Tally(), Tally(2, sizes(image)))


def test_a_refused_mount_is_an_upload(
    before: Callable[..., Any],
    fault: Callable[..., Any],
    store: Store,
    make_image: MakeImage,
) -> None:
    proxy = before(fault("POST", "mount=", drop_query=True), fault("POST", "mount=", status=403))
    image = make_image(store, (8, 100_000))
    with Registry(QUICK) as session:
        push_all(session, store, [Push(image, (parse_reference(f"{proxy.name}/refused/from:1"),))])
        (result,) = push_all(
            session, store, [Push(image, (parse_reference(f"{proxy.name}/refused/to:1"),))]
        )
    assert (result.sent, result.mounted) == (Tally(2, sizes(image)), Tally())


def test_a_base_layer_that_was_never_pulled_is_mounted_or_fetched(
    start_registry: Callable[..., str],
    registry: str,
    store: Store,
    new_store: NewStore,
    make_image: MakeImage,
) -> None:
    base = make_image(store, (9, 100_000))
    reference = parse_reference(f"{registry}/never/base:1")
    other = new_store()
    on_top = make_image(other, (10, 1_000))
    with Registry(QUICK) as session:
        push_all(session, store, [Push(base, (reference,))])
        for layer in session.resolve(reference, AMD64).image.layers:
            note_seen(other, layer.blob.digest, reference.name)
    image = base.append(on_top.layers[0], {})
    with Registry(QUICK) as session:
        (near,) = push_all(
            session, other, [Push(image, (parse_reference(f"{registry}/never/built:1"),))]
        )
        assert near.mounted == Tally(1, base.layers[0].blob.size)
        assert not other.has(base.layers[0].blob)
        (far,) = push_all(
            session, other, [Push(image, (parse_reference(f"{start_registry()}/built:1"),))]
        )
    assert far.sent == Tally(3, sizes(image))


def test_a_layer_that_nobody_has_is_an_error(
    registry: str, store: Store, new_store: NewStore, make_image: MakeImage
) -> None:
    image = make_image(store, (11, 1_000))
    reference = parse_reference(f"{registry}/nobody/has:1")
    with (
        Registry(QUICK) as session,
        pytest.raises(TransportError, match="neither in the store nor at a registry"),
    ):
        push_all(session, new_store(), [Push(image, (reference,))])


def flip(path: Path, other: bytes) -> None:
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def flip_the_last(path: Path, other: bytes) -> None:
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.write_bytes(data)


def truncate(path: Path, other: bytes) -> None:
    os.truncate(path, path.stat().st_size - 1)


def empty(path: Path, other: bytes) -> None:
    os.truncate(path, 0)


def swap(path: Path, other: bytes) -> None:
    path.write_bytes(other)  # a whole blob, under the wrong name


def swap_for_one_of_its_size(path: Path, other: bytes) -> None:
    path.write_bytes(other[: path.stat().st_size].ljust(path.stat().st_size))


@pytest.mark.parametrize("what", ["large layer", "small layer", "config", "manifest"])
@pytest.mark.parametrize(
    "damage", [flip, flip_the_last, truncate, empty, swap, swap_for_one_of_its_size]
)
def test_a_corrupt_blob_is_never_pushed(
    registry: str,
    store: Store,
    make_image: MakeImage,
    what: str,
    damage: Callable[[Path, bytes], None],
) -> None:
    seed = 100 + RANDOM.randrange(10**6)  # blobs that no other test has pushed
    image = make_image(store, (seed, 2_000_000), (seed + 1, 1_000))
    config = store.put(image.config_bytes(), media.CONFIG)
    manifest = store.put(image.manifest_bytes(), media.MANIFEST)
    store.tag(ImageName("damaged", Platform()), manifest)
    blobs = {
        "large layer": image.layers[0].blob,
        "small layer": image.layers[1].blob,
        "config": config,
        "manifest": manifest,
    }
    other = make_image(store, (seed + 2, 3_000_000)).layers[0].blob
    path = Path(store.blob_path(blobs[what].digest))
    path.chmod(0o600)
    damage(path, Path(store.blob_path(other.digest)).read_bytes())
    corrupt = digest_of(path.read_bytes())

    reference = parse_reference(f"{registry}/corrupt/{damage.__name__}/{what[:5]}{seed}:1")
    pushed = builder("push", "--cache-dir", store.root, "damaged", str(reference))
    assert pushed.returncode == 1
    error = [line for line in pushed.stderr.splitlines() if line.startswith("error: ")]
    assert len(error) == 1 and blobs[what].digest in error[0], pushed.stderr
    assert "Traceback" not in pushed.stderr
    with Registry(QUICK) as session:
        client = session.client(reference)
        assert client.head_manifest("1", client.pull_scope) is None
        assert client.head_manifest(manifest.digest, client.pull_scope) is None
        for digest in {blobs[what].digest, corrupt}:
            assert not client.has_blob(blobs[what]._replace(digest=digest), client.pull_scope)
        with pytest.raises(TransportError, match="no such"):
            session.pull(reference, AMD64, store)


def test_a_truncated_layer_is_taken_from_where_it_was_pulled(
    start_registry: Callable[..., str], registry: str, store: Store, make_image: MakeImage
) -> None:
    image = make_image(store, (12, 1_000_000))
    with Registry(QUICK) as session:
        push_all(session, store, [Push(image, (parse_reference(f"{registry}/corrupt/source:1"),))])
    path = Path(store.blob_path(image.layers[0].blob.digest))
    path.chmod(0o600)
    truncate(path, b"")
    reference = parse_reference(f"{start_registry()}/corrupt/mended:1")
    with Registry(QUICK) as session:
        push_all(session, store, [Push(image, (reference,))])
        assert session.resolve(reference, AMD64).image.layers == image.layers
    assert len(store.read(image.layers[0].blob)) == image.layers[0].blob.size


def test_no_tag_is_written_before_all_blobs_and_manifests_are_there(
    before: Callable[..., Any], store: Store, make_image: MakeImage
) -> None:
    proxy = before()
    one, two = make_image(store, (13, 50_000)), make_image(store, (13, 50_000), (14, 50_000))
    name = f"{proxy.name}/all"
    with Registry(QUICK) as session:
        results = push_all(
            session,
            store,
            [
                Push(one, (parse_reference(f"{name}/one:1"), parse_reference(f"{name}/one:2"))),
                Push(two, (parse_reference(f"{name}/two:1"),)),
            ],
        )
    assert [len(result.references) for result in results] == [2, 1]
    assert sum(result.mounted.blobs for result in results) == 1  # the layer that they share
    puts = [one.path for one in proxy.seen if one.method == "PUT"]
    tags = [number for number, path in enumerate(puts) if path[-2:] in (":1", "/1", "/2")]
    assert tags == [len(puts) - 3, len(puts) - 2, len(puts) - 1]
    assert sum("manifests/sha256:" in path for path in puts[: tags[0]]) == 2


def test_a_failing_image_leaves_every_tag_of_all(
    before: Callable[..., Any], fault: Callable[..., Any], store: Store, make_image: MakeImage
) -> None:
    proxy = before(fault("POST", "/bad/", times=99, status=403))
    good, bad = make_image(store, (15, 50_000)), make_image(store, (16, 50_000))
    pushes = [
        Push(good, (parse_reference(f"{proxy.name}/good:1"),)),
        Push(bad, (parse_reference(f"{proxy.name}/bad/x:1"),)),
    ]
    with Registry(QUICK) as session, pytest.raises(TransportError, match="answered 403"):
        push_all(session, store, pushes)
    assert proxy.count("PUT", "/manifests/") == 0


def test_a_push_to_a_digest_is_refused(registry: str, store: Store, make_image: MakeImage) -> None:
    reference = parse_reference(f"{registry}/x@sha256:{'0' * 64}")
    with Registry(QUICK) as session, pytest.raises(UsageError, match="a push goes to a tag"):
        push_all(session, store, [Push(make_image(store, (1, 1)), (reference,))])


def test_tags_and_catalogue_are_listed_over_pages(
    start_registry: Callable[..., str], store: Store, make_image: MakeImage
) -> None:
    registry = start_registry()
    image = make_image(store, (1, 10))
    references = tuple(parse_reference(f"{registry}/listed:t{number}") for number in range(5))
    with Registry(QUICK) as session:
        push_all(session, store, [Push(image, tuple(references))])
        push_all(session, store, [Push(image, (parse_reference(f"{registry}/an/other:1"),))])
        assert sorted(session.tags(references[0])) == ["t0", "t1", "t2", "t3", "t4"]
        assert session.catalog(registry) == ["an/other", "listed"]
        client = session.client(references[0])
        paged = client._names(  # pages smaller than anybody wants
            client.url("tags/list?n=2"), "tags", "x", client.pull_scope, 100
        )
        assert sorted(paged) == ["t0", "t1", "t2", "t3", "t4"]


# -- the other side ------------------------------------------------------------------------------


def skopeo(*words: str) -> str:
    done = subprocess.run(["skopeo", *words], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.needs("skopeo")
def test_skopeo_pulls_what_we_push(
    registry: str, store: Store, make_image: MakeImage, tmp_path: Path
) -> None:
    image = make_image(store, (20, 500_000), (21, 100))
    with Registry(QUICK) as session:
        (result,) = push_all(
            session, store, [Push(image, (parse_reference(f"{registry}/for/skopeo:1"),))]
        )
    skopeo(
        *("copy", "-q", "--src-tls-verify=false"),
        *(f"docker://{registry}/for/skopeo:1", f"oci:{tmp_path}/layout:x"),
    )
    (entry,) = json.loads((tmp_path / "layout" / "index.json").read_text())["manifests"]
    assert entry["digest"] == result.digest


@pytest.mark.needs("skopeo")
@pytest.mark.parametrize("form", ["v2s2", "oci"])
def test_we_pull_what_skopeo_pushes(
    registry: str,
    store: Store,
    make_image: MakeImage,
    new_store: NewStore,
    form: str,
) -> None:
    image = make_image(store, (22, 500_000), (23, 100))
    manifest = store.put(image.manifest_bytes(), "application/vnd.oci.image.manifest.v1+json")
    store.put(image.config_bytes(), "application/vnd.oci.image.config.v1+json")
    store.tag(ImageName("x", Platform()), manifest)
    name = f"{registry}/from/skopeo:{form}"
    skopeo(
        *("copy", "-q", "--format", form, "--dest-tls-verify=false"),
        *(f"oci:{store.root}:x", f"docker://{name}"),
    )
    other = new_store()
    with Registry(QUICK) as session:
        pulled = session.pull(parse_reference(name), AMD64, other)
    said = json.loads(skopeo("inspect", "--tls-verify=false", f"docker://{name}"))
    assert pulled.digest == said["Digest"]
    assert [layer.diff_id for layer in pulled.image.layers] == [
        layer.diff_id for layer in image.layers
    ]


def test_a_pulled_image_is_pushed_on_to_the_byte(
    registry: str, store: Store, make_image: MakeImage, new_store: NewStore
) -> None:
    image = make_image(store, (24, 1000))
    document = json.loads(image.manifest_bytes())
    odd_config = json.dumps(json.loads(image.config_bytes()), indent=3).encode()
    document["config"].update(digest=digest_of(odd_config), size=len(odd_config))
    odd = json.dumps(document, indent=3).encode()
    kind = "application/vnd.oci.image.manifest.v1+json"
    store.put(odd_config, document["config"]["mediaType"])
    first, second = (parse_reference(f"{registry}/odd/{name}:1") for name in ("a", "b"))
    other = new_store()
    with Registry(QUICK) as session:
        push_all(session, store, [Push(image, (first,), (kind, odd))])
        pulled = session.pull(first, AMD64, other)
        served = (pulled.manifest.media_type, other.read(pulled.manifest))
        (result,) = push_all(session, other, [Push(pulled.image, (second,), served)])
        assert session.digest(second) == result.digest == digest_of(odd) == pulled.digest


def index_of(session: Registry, reference: Reference, images: dict[Platform, Image]) -> str:
    """Put an index over images that are already pushed to the reference's repository."""
    entries: list[dict[str, object]] = []
    for platform, image in images.items():
        data = image.manifest_bytes()
        said = {"os": platform.os, "architecture": platform.architecture}
        if platform.variant:
            said["variant"] = platform.variant
        entries.append(
            {
                "mediaType": "application/vnd.oci.image.manifest.v1+json",
                "digest": digest_of(data),
                "size": len(data),
                "platform": said,
            }
        )
    kind = "application/vnd.oci.image.index.v1+json"
    data = encode({"schemaVersion": 2, "mediaType": kind, "manifests": entries})
    session.client(reference).put_manifest(reference.tag or "", data, kind)
    return digest_of(data)


def test_the_platform_is_chosen_from_an_index(
    registry: str, store: Store, make_image: MakeImage, new_store: NewStore
) -> None:
    reference = parse_reference(f"{registry}/index:all")
    arm = Platform("linux", "arm64")
    image = make_image(store, (25, 1000))
    other = make_image(store, (26, 1000))
    other = other._replace(platform=arm, config={**other.config, "architecture": "arm64"})
    with Registry(QUICK) as session:
        push_all(
            session,
            store,
            [
                Push(each, (reference._replace(tag=tag),))
                for tag, each in (("a", image), ("b", other))
            ],
        )
        digest = index_of(session, reference, {AMD64: image, arm: other})
        target = new_store()
        for platform, expected in ((AMD64, image), (arm, other)):
            pulled = session.pull(reference, platform, target)
            assert pulled.digest == digest
            assert pulled.image.layers == expected.layers
        with pytest.raises(TransportError, match="no image for linux/s390x; there is linux/amd64"):
            session.pull(reference, Platform("linux", "s390x"), target)


# -- kill -9 ---------------------------------------------------------------------------------------

PUSHER = """
import pickle, sys
from builder.oci.reference import parse_reference
from builder.store.names import ImageName
from builder.store.store import Store
from builder.transport.registry.push import Push, push_all
from builder.transport.registry.session import Registry
from builder.transport.registry.settings import Settings
root, name, jobs = sys.argv[1:]
image = pickle.loads(sys.stdin.buffer.read())
with Registry(Settings(jobs=int(jobs))) as session:
    push_all(session, Store(root), [Push(image, (parse_reference(name),))])
"""


def test_kill_9_in_mid_push_leaves_the_tag_and_the_next_push_sends_the_rest(
    before: Callable[..., Any],
    fault: Callable[..., Any],
    registry: str,
    store: Store,
    make_image: MakeImage,
) -> None:
    reference = parse_reference(f"{registry}/killed:1")
    old = make_image(store, (30, 1_000))
    image = make_image(store, (31, 900_000), (32, 800_000), (33, 700_000))
    with Registry(QUICK) as session:
        push_all(session, store, [Push(old, (reference,))])
    proxy = before(fault("PUT", "/uploads/", after=2, hang=60))  # the third layer hangs
    name = str(reference._replace(registry=proxy.name))
    pusher = subprocess.Popen(
        [sys.executable, "-c", PUSHER, store.root, name, "1"],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdin=subprocess.PIPE,
    )
    assert pusher.stdin is not None
    with pusher.stdin:
        pusher.stdin.write(pickle.dumps(image))
    try:
        for _ in range(400):
            if proxy.count("PUT", "/uploads/") == 3:
                break
            time.sleep(0.02)
    finally:
        pusher.send_signal(signal.SIGKILL)
        pusher.wait()
    with Registry(QUICK) as session:
        assert session.digest(reference) == digest_of(old.manifest_bytes())
        (result,) = push_all(session, store, [Push(image, (reference,))])
        assert session.digest(reference) == digest_of(image.manifest_bytes())
    assert result.skipped.blobs == 2
    assert result.sent.bytes == image.layers[2].blob.size + len(image.config_bytes())


def test_an_interrupted_push_ends_soon(
    before: Callable[..., Any], fault: Callable[..., Any], store: Store, make_image: MakeImage
) -> None:
    image = make_image(store, (34, 900_000), (35, 800_000), (36, 700_000))
    proxy = before(fault("PUT", "/uploads/", times=9, hang=60))
    pusher = subprocess.Popen(
        [sys.executable, "-c", PUSHER, store.root, f"{proxy.name}/interrupted:1", "3"],
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
        stdin=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert pusher.stdin is not None
    with pusher.stdin:
        pusher.stdin.write(pickle.dumps(image))
    for _ in range(400):
        if proxy.count("PUT", "/uploads/") == 3:
            break
        time.sleep(0.02)
    began = time.monotonic()
    pusher.send_signal(signal.SIGINT)
    assert pusher.wait(30) != 0
    assert time.monotonic() - began < 5


def test_two_pushers_of_one_tag_leave_one_whole_image(
    registry: str, store: Store, make_image: MakeImage, new_store: NewStore
) -> None:
    reference = parse_reference(f"{registry}/both:1")
    images = [make_image(store, (37, 300_000), (seed, 300_000)) for seed in (38, 39)]

    def push(image: Image) -> str:
        with Registry(QUICK) as session:
            return push_all(session, store, [Push(image, (reference,))])[0].digest

    with ThreadPoolExecutor(2) as pool:
        digests = list(pool.map(push, images))
    with Registry(QUICK) as session:
        pulled = session.pull(reference, AMD64, new_store())
    assert pulled.digest in digests


def test_progress_is_told(registry: str, store: Store, make_image: MakeImage) -> None:
    said: list[Event] = []
    with Registry(QUICK, said.append) as session:
        image = make_image(store, (40, 1000))
        push_all(session, store, [Push(image, (parse_reference(f"{registry}/told:1"),))])
    transfers = [event for event in said if isinstance(event, Transfer)]
    for blob in (layer.blob for layer in image.layers):
        told = [event for event in transfers if blob.digest[7:19] in event.what]
        assert told[0].done == 0 and not told[0].ended
        assert told[-1] == (told[-1].what, blob.size, blob.size, True)

"""Each fault of docs/registry-faults.md, on pushes and on pulls through the fault proxy."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from builder.errors import TransportError
from builder.events import Event
from builder.oci.digest import digest_of
from builder.oci.image import Image, Platform
from builder.oci.reference import parse_reference
from builder.store.store import Store
from builder.transport.registry.push import Push, push_all
from builder.transport.registry.session import Registry
from builder.transport.registry.settings import Settings

pytestmark = pytest.mark.needs("docker-registry")

AMD64 = Platform("linux", "amd64")
QUICK = Settings(backoff=0.05, idle_timeout=2.0, commit_timeout=3.0, jobs=2)
MakeImage = Callable[..., Image]
NewStore = Callable[[], Store]
SIZE = 4_000_000
DOC = Path(__file__).parents[2] / "docs" / "registry-faults.md"
LIE = "sha256:" + "0" * 64
UPLOADS, BLOB, MANIFEST = r"/blobs/uploads/\?|/blobs/uploads/$", r"/blobs/sha256", r"/manifests/"
SESSION = r"/blobs/uploads/[0-9a-f]"

# name, fault, what must happen: "ok" or a part of the message; text for the table
PUSH = [
    ("503 on POST upload", {"method": "POST", "path": UPLOADS, "status": 503}, "ok"),
    ("503 on HEAD blob", {"method": "HEAD", "path": BLOB, "status": 503, "times": 2}, "ok"),
    (
        "429 with Retry-After: 1 on POST upload",
        {"method": "POST", "path": UPLOADS, "status": 429, "headers": {"Retry-After": "1"}},
        "ok",
    ),
    (
        "429 with Retry-After: 900 on POST upload",
        {"method": "POST", "path": UPLOADS, "status": 429, "headers": {"Retry-After": "900"}},
        "rate limit, it ends in 900 s",
    ),
    ("503 on PUT blob", {"method": "PUT", "path": SESSION, "status": 503}, "ok"),
    ("429 on PUT blob", {"method": "PUT", "path": SESSION, "status": 429}, "ok"),
    (
        "reset in mid PUT blob",
        {"method": "PUT", "path": SESSION, "cut_request": SIZE // 2},
        "ok",
    ),
    (
        "reset in mid PUT blob, three times",
        {"method": "PUT", "path": SESSION, "cut_request": SIZE // 2, "times": 3},
        "ok",
    ),
    (
        "reset in mid PUT blob, the registry keeps what it got",
        {"method": "PUT", "path": SESSION, "cut_request": SIZE // 2, "keep": True},
        "ok",
    ),
    (
        "reset in mid PUT blob, always",
        {"method": "PUT", "path": SESSION, "cut_request": SIZE // 2, "times": 99},
        "the connection broke",
    ),
    ("answer to PUT blob lost", {"method": "PUT", "path": SESSION, "cut_answer": 0}, "ok"),
    ("401 on PUT blob (token expired)", {"method": "PUT", "path": SESSION, "status": 401}, "ok"),
    ("404 on PUT blob (session lost)", {"method": "PUT", "path": SESSION, "status": 404}, "ok"),
    ("416 on PUT blob", {"method": "PUT", "path": SESSION, "status": 416}, "ok"),
    (
        "404 on PUT blob, always",
        {"method": "PUT", "path": SESSION, "status": 404, "times": 99},
        "the registry answered 404",
    ),
    (
        "503 on PUT blob, always",
        {"method": "PUT", "path": SESSION, "status": 503, "times": 99},
        "the registry answered 503",
    ),
    ("403 on PUT blob", {"method": "PUT", "path": SESSION, "status": 403}, "answered 403"),
    ("503 on PUT manifest", {"method": "PUT", "path": MANIFEST, "status": 503}, "ok"),
    ("reset on PUT manifest", {"method": "PUT", "path": MANIFEST, "cut_request": 10}, "ok"),
    (
        "lying digest on PUT manifest",
        {"method": "PUT", "path": MANIFEST, "headers": {"Docker-Content-Digest": LIE}},
        f"the registry stored {LIE}",
    ),
    (
        "lying digest on PUT blob",
        {"method": "PUT", "path": SESSION, "headers": {"Docker-Content-Digest": LIE}},
        "the registry stored",
    ),
    (
        "lying digest on HEAD blob",
        {
            "method": "HEAD",
            "path": BLOB,
            "status": 200,
            "headers": {"Docker-Content-Digest": LIE},
        },
        f"the registry answers for {LIE}",
    ),
    ("no answer to POST upload for 3 s", {"method": "POST", "path": UPLOADS, "hang": 3.0}, "ok"),
    ("no Location for the upload", {"method": "POST", "path": UPLOADS, "status": 202}, "where"),
]
PULL = [
    ("503 on GET manifest", {"method": "GET", "path": MANIFEST, "status": 503}, "ok"),
    ("503 on GET blob", {"method": "GET", "path": BLOB, "status": 503, "times": 2}, "ok"),
    (
        "429 with Retry-After: 1 on GET manifest",
        {"method": "GET", "path": MANIFEST, "status": 429, "headers": {"Retry-After": "1"}},
        "ok",
    ),
    (
        "429 with Retry-After: 900 on GET manifest",
        {"method": "GET", "path": MANIFEST, "status": 429, "headers": {"Retry-After": "900"}},
        "rate limit, it ends in 900 s",
    ),
    ("blob truncated", {"method": "GET", "path": BLOB, "cut_answer": SIZE // 2, "after": 1}, "ok"),
    (
        "blob truncated, six times with progress",
        {"method": "GET", "path": BLOB, "cut_answer": 1_200_000, "after": 1, "times": 6},
        "ok",
    ),
    (
        "blob truncated at once, always",
        {"method": "GET", "path": BLOB, "cut_answer": 0, "after": 1, "times": 99},
        "the connection broke",
    ),
    ("manifest truncated", {"method": "GET", "path": MANIFEST, "cut_answer": 100}, "ok"),
    ("blob byte flipped", {"method": "GET", "path": BLOB, "flip": SIZE // 2, "after": 1}, "ok"),
    (
        "blob byte flipped, always",
        {"method": "GET", "path": BLOB, "flip": SIZE // 2, "after": 1, "times": 99},
        "the bytes have sha256:",
    ),
    ("manifest byte flipped", {"method": "GET", "path": MANIFEST, "flip": 60}, "ok"),
    (
        "manifest byte flipped, always",
        {"method": "GET", "path": MANIFEST, "flip": 60, "times": 99},
        "the registry says sha256:",
    ),
    ("config byte flipped", {"method": "GET", "path": BLOB, "flip": 20}, "ok"),
    (
        "lying digest on GET manifest",
        {
            "method": "GET",
            "path": MANIFEST,
            "headers": {"Docker-Content-Digest": LIE},
            "times": 99,
        },
        f"the registry says {LIE}",
    ),
    (
        "lying media type on GET manifest",
        {"method": "GET", "path": MANIFEST, "headers": {"Content-Type": "text/html"}},
        "media type is 'text/html'",
    ),
    (
        "the other media type on GET manifest",
        {
            "method": "GET",
            "path": MANIFEST,
            "headers": {"Content-Type": "application/vnd.docker.distribution.manifest.v2+json"},
        },
        "the manifest says it is",
    ),
    (
        "blob longer than it should be",
        {"method": "GET", "path": BLOB, "add_body": b"x", "after": 1, "times": 99},
        "bytes to come, expected",
    ),
    (
        "slow body, 20 x 0.1 s",
        {"method": "GET", "path": BLOB, "pause": 0.1, "block": SIZE // 20, "after": 1},
        "ok",
    ),
    ("silent for 3 s", {"method": "GET", "path": BLOB, "hang": 3.0, "after": 1}, "ok"),
    ("404 on GET blob", {"method": "GET", "path": BLOB, "status": 404, "after": 1}, "answered 404"),
]


@pytest.mark.parametrize(("name", "fields", "outcome"), PUSH, ids=[row[0] for row in PUSH])
def test_push(
    name: str,
    fields: dict[str, Any],
    outcome: str,
    before: Callable[..., Any],
    fault: Callable[..., Any],
    registry: str,
    store: Store,
    make_image: MakeImage,
) -> None:
    proxy = before(fault(**fields))
    number = next(i for i, row in enumerate(PUSH) if row[0] == name)
    image = make_image(store, (1000 + number, SIZE))
    reference = parse_reference(f"{proxy.name}/faults/push{number}:1")
    direct = reference._replace(registry=registry)
    with Registry(QUICK) as session:
        if outcome == "ok":
            push_all(session, store, [Push(image, (reference,))])
        else:
            with pytest.raises(TransportError) as caught:
                push_all(session, store, [Push(image, (reference,))])
            assert outcome in caught.value.message
            assert "\n" not in caught.value.message
    if "lying digest on PUT manifest" in name:
        return  # the registry did take it; only its answer was a lie
    with Registry(QUICK) as session:
        client = session.client(direct)
        there = client.head_manifest("1", client.pull_scope)
        if outcome == "ok":
            assert there is not None and there.digest == digest_of(image.manifest_bytes())
            for layer in image.layers:
                assert client.has_blob(layer.blob, client.pull_scope)
        else:
            assert there is None


@pytest.mark.parametrize(("name", "fields", "outcome"), PULL, ids=[row[0] for row in PULL])
def test_pull(
    name: str,
    fields: dict[str, Any],
    outcome: str,
    before: Callable[..., Any],
    fault: Callable[..., Any],
    registry: str,
    store: Store,
    make_image: MakeImage,
    new_store: NewStore,
) -> None:
    image = make_image(store, (2000, SIZE))
    direct = parse_reference(f"{registry}/faults/pull:1")
    proxy = before(fault(**fields))
    with Registry(QUICK) as session:
        push_all(session, store, [Push(image, (direct,))])
    other = new_store()
    with Registry(QUICK) as session:
        reference = direct._replace(registry=proxy.name)
        if outcome == "ok":
            pulled = session.pull(reference, AMD64, other)
            assert pulled.digest == digest_of(image.manifest_bytes())
            assert other.read(pulled.manifest) == image.manifest_bytes()
            for layer in image.layers:
                with other.open(layer.blob) as blob:
                    assert digest_of(blob.read()) == layer.blob.digest
        else:
            with pytest.raises(TransportError) as caught:
                session.pull(reference, AMD64, other)
            assert outcome in caught.value.message
            assert "\n" not in caught.value.message
            assert not any(other.has(layer.blob) for layer in image.layers)


def test_a_resumed_push_sends_the_rest_only(
    before: Callable[..., Any],
    fault: Callable[..., Any],
    store: Store,
    make_image: MakeImage,
) -> None:
    proxy = before(fault("PUT", SESSION, cut_request=SIZE // 2, keep=True))
    image = make_image(store, (3000, SIZE))
    with Registry(QUICK) as session:
        push_all(
            session, store, [Push(image, (parse_reference(f"{proxy.name}/faults/resumed:1"),))]
        )
    (rest,) = [one.body for one in proxy.seen if one.method == "PATCH"]
    assert rest == image.layers[0].blob.size - SIZE // 2


def test_a_resumed_pull_asks_for_the_rest_only(
    before: Callable[..., Any],
    fault: Callable[..., Any],
    registry: str,
    store: Store,
    make_image: MakeImage,
    new_store: NewStore,
) -> None:
    image = make_image(store, (3001, SIZE))
    direct = parse_reference(f"{registry}/faults/resumed-pull:1")
    proxy = before(fault("GET", BLOB, cut_answer=SIZE // 2, after=1))
    other = new_store()
    with Registry(QUICK) as session:
        push_all(session, store, [Push(image, (direct,))])
        session.pull(direct._replace(registry=proxy.name), AMD64, other)
    assert proxy.count("GET", BLOB) == 3  # config, half a layer, the rest of it


def test_a_wait_that_was_asked_for_is_kept_and_said_once(
    before: Callable[..., Any], fault: Callable[..., Any], store: Store, make_image: MakeImage
) -> None:
    proxy = before(
        fault("POST", UPLOADS, status=429, headers={"Retry-After": "1"}, times=2),
    )
    said: list[Event] = []
    began = time.monotonic()
    with Registry(QUICK._replace(jobs=1), said.append) as session:
        image = make_image(store, (3002, 1000))
        push_all(session, store, [Push(image, (parse_reference(f"{proxy.name}/faults/waits:1"),))])
    assert time.monotonic() - began >= 2
    assert [event.text for event in said if "asks to wait" in str(event)] == [
        f"{proxy.name} asks to wait 1 s (HTTP 429)"
    ]


def test_a_body_below_the_least_rate_is_given_up(
    before: Callable[..., Any],
    fault: Callable[..., Any],
    registry: str,
    store: Store,
    make_image: MakeImage,
    new_store: NewStore,
) -> None:
    image = make_image(store, (3003, 100_000))
    direct = parse_reference(f"{registry}/faults/drip:1")
    proxy = before(fault("GET", BLOB, pause=0.1, block=10, after=1, times=99))
    other = new_store()
    with Registry(QUICK) as session:
        push_all(session, store, [Push(image, (direct,))])
    impatient = QUICK._replace(rate_window=0.5, rate_bytes=10_000, tries=2)
    with Registry(impatient) as session, pytest.raises(TransportError, match="bytes in 1 s"):
        session.pull(direct._replace(registry=proxy.name), AMD64, other)


def test_the_table_in_the_documentation_is_this_one() -> None:
    row = re.compile(r"^\| (push|pull) \| ([^|]+?) \| ([^|]+?) \|", re.MULTILINE)
    tested = [("push", *each) for each in PUSH] + [("pull", *each) for each in PULL]
    assert [
        (side, name, text.startswith("ok")) for side, name, text in row.findall(DOC.read_text())
    ] == [(side, name, outcome == "ok") for side, name, _, outcome in tested]

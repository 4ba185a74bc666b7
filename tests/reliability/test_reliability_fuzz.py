"""Whatever the bytes: a value or a BuilderError, in bounded time; at full count 10^5 cases."""

from __future__ import annotations

import io
import json
import os
import tarfile
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builder.errors import BuilderError
from builder.layer.archive import read_archive
from builder.layer.decompress import open_layer
from builder.layer.read import read_layer
from builder.oci.image import host_platform
from builder.oci.reference import parse_reference
from builder.store.names import parse_index as parse_names
from builder.store.store import Store
from builder.transport.documents import parse_config, parse_document, parse_index

CASES = 100_000 // 7 if os.environ.get("RELIABILITY") == "full" else 250
fuzz = settings(
    max_examples=CASES,
    deadline=5000,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
)

LEAF = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**65), 2**65),
    st.floats(),
    st.text(max_size=20),
    st.sampled_from(
        [
            "sha256:" + "0" * 64,
            "sha256:x",
            "application/vnd.oci.image.manifest.v1+json",
            "application/vnd.oci.image.index.v1+json",
            "application/vnd.oci.image.config.v1+json",
            "application/vnd.oci.image.layer.v1.tar+gzip",
            "linux",
            "amd64",
            "layers",
            2,
        ]
    ),
)
KEYS = st.sampled_from(
    [
        "schemaVersion",
        "mediaType",
        "digest",
        "size",
        "manifests",
        "layers",
        "config",
        "annotations",
        "platform",
        "os",
        "architecture",
        "variant",
        "rootfs",
        "diff_ids",
        "type",
        "history",
        "empty_layer",
        "created",
        "urls",
        "subject",
        "org.opencontainers.image.ref.name",
        "Env",
        "User",
        "Labels",
        "artifactType",
        "fsLayers",
        "data",
    ]
)
DOCUMENT = st.recursive(
    LEAF,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(KEYS, inner, max_size=6),
    max_leaves=25,
)


def total(call: Any) -> None:
    try:
        call()
    except BuilderError as error:
        assert error.message and "\n" not in error.message


@fuzz
@given(DOCUMENT)
def test_any_document(document: Any) -> None:
    data = json.dumps(document).encode()
    for kind in (None, "application/vnd.oci.image.index.v1+json"):
        total(lambda kind=kind: parse_document(data, "here", kind or ""))
    total(lambda: parse_index(data, "here"))
    total(lambda: parse_config(data, "here"))
    parse_names(data)


@fuzz
@given(st.binary(max_size=300))
def test_any_bytes_as_a_document(data: bytes) -> None:
    total(lambda: parse_document(data, "here", ""))
    total(lambda: parse_config(data, "here"))
    parse_names(data)


@fuzz
@given(st.text(max_size=60) | st.text("abc.:/@0-_AZsha256", max_size=90))
def test_any_reference(text: str) -> None:
    total(lambda: parse_reference(text))


def drained(entries: Any) -> None:
    for number, (_, content) in enumerate(entries):
        read = 0
        while chunk := content.read(1 << 16):
            read += len(chunk)
            assert read < 1 << 24
        assert number < 10_000


NAMES = st.text("ab./\\\0é", max_size=30) | st.sampled_from(
    ["../x", "/abs", "a/../../b", ".", "", ".wh.a", ".wh..wh..opq", "a/.wh.b", "x" * 300, "a/" * 80]
)


@st.composite
def tars(draw: st.DrawFn) -> bytes:
    """Members of every kind and name, with PAX records, and then some bytes changed."""
    out = io.BytesIO()
    form = draw(st.sampled_from([tarfile.PAX_FORMAT, tarfile.GNU_FORMAT]))
    with tarfile.open(fileobj=out, mode="w", format=form) as tar:
        for _ in range(draw(st.integers(0, 4))):
            member = tarfile.TarInfo(draw(NAMES))
            member.type = draw(st.sampled_from([bytes([each]) for each in b"01234567xgLKSDA"]))
            member.linkname = draw(NAMES)
            member.mode = draw(st.integers(0, 0o7777))
            member.uid = draw(st.sampled_from([0, 1000, 2**21, 2**31]))
            member.pax_headers = draw(
                st.dictionaries(
                    st.sampled_from(
                        [
                            "path",
                            "linkpath",
                            "size",
                            "uid",
                            "mtime",
                            "GNU.sparse.major",
                            "GNU.sparse.map",
                            "GNU.sparse.realsize",
                            "SCHILY.xattr.user.x",
                        ]
                    ),
                    st.text("0123456789-./a\n ", max_size=12),
                    max_size=3,
                )
            )
            data = draw(st.binary(max_size=40))
            member.size = len(data)
            try:
                tar.addfile(member, io.BytesIO(data))
            except (ValueError, UnicodeError):
                continue
    made = bytearray(out.getvalue())
    for _ in range(draw(st.integers(0, 6))):
        made[draw(st.integers(0, min(len(made), 4096) - 1))] = draw(st.integers(0, 255))
    return bytes(made[: draw(st.sampled_from([len(made), len(made), 512, 700, 1500]))])


@fuzz
@given(tars())
def test_any_tar_as_a_layer(data: bytes) -> None:
    total(lambda: drained(read_layer(io.BytesIO(data))))


@fuzz
@given(tars())
def test_any_tar_as_an_archive(data: bytes) -> None:
    total(lambda: drained(read_archive(io.BytesIO(data))))


@fuzz
@given(
    st.sampled_from(
        [b"", b"\x1f\x8b\x08\0", b"\x28\xb5\x2f\xfd", b"PK\3\4", b"BZh9", b"\xfd7zXZ\0"]
    ),
    st.binary(max_size=300),
)
def test_any_bytes_as_an_archive(magic: bytes, data: bytes) -> None:
    total(lambda: drained(read_archive(io.BytesIO(magic + data))))
    for codec in ("gzip", "zstd"):
        total(lambda codec=codec: open_layer(io.BytesIO(magic + data), codec).read(1 << 20))


@fuzz
@given(
    kind=st.sampled_from(["records", "layers", "documents", "builds"]),
    data=st.binary(max_size=200) | DOCUMENT,
)
def test_any_record(tmp_path_factory: Any, kind: str, data: Any) -> None:
    from builder.oci.digest import CacheKey, DiffID
    from builder.plan.last import load_last
    from builder.store.names import ImageName
    from builder.store.records import load_document, load_layer, load_record

    store = Store(str(tmp_path_factory.getbasetemp() / "store"))
    image = ImageName("x", host_platform())
    name = image.key
    store.save(kind, name, data if isinstance(data, bytes) else json.dumps(data).encode())
    if kind == "records":
        load_record(store, CacheKey(name))
    elif kind == "layers":
        load_layer(store, DiffID(f"sha256:{name}"))
    elif kind == "documents":
        load_document(store, CacheKey(name))
    else:
        load_last(store, image)

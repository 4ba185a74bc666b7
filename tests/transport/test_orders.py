"""Bases that lie beside honest ones in one store: each is taken or refused as a fresh store would.

Three layers, B below and L or X above it, which lead a path elsewhere; layouts, archives and a
registry that say the truth, or another diff_id, size or compression. BUILDER_ORDERS=all tries every
order of two and 480 of the worst four instead of some.
"""

from __future__ import annotations

import gzip
import hashlib
import http.client
import io
import itertools
import json
import os
import random
import shutil
import tarfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from builder.errors import BuilderError
from builder.oci import media
from builder.project import Options, Project
from builder.store.check import check
from builder.store.store import Store
from tests.registry.conftest import start_registry

__all__ = ["start_registry"]  # a fixture

ALL = os.environ.get("BUILDER_ORDERS") == "all"


def tar(**files: str) -> bytes:
    """`to=">x"` is a symlink to x."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, text in files.items():
            info = tarfile.TarInfo(name)
            if text.startswith(">"):
                info.type, info.linkname = tarfile.SYMTYPE, text[1:]
                archive.addfile(info)
            else:
                info.size = len(text)
                archive.addfile(info, io.BytesIO(text.encode()))
    return out.getvalue()


B, L, X = tar(base="b"), tar(f="l", way=">/l"), tar(f="x", way=">/x")


def zstd(data: bytes) -> bytes:
    try:
        from compression import zstd  # type: ignore[import-not-found,unused-ignore]
    except ImportError:
        from backports import zstd
    return bytes(zstd.compress(data))


def packed(data: bytes) -> bytes:
    return gzip.compress(data, mtime=0)


def digest(data: bytes) -> str:
    return "sha256:" + hashlib.sha256(data).hexdigest()


class Piece(NamedTuple):
    """A layer as a manifest and a config tell of it."""

    blob: bytes
    says: bytes  # the tar whose diff_id the config gives
    kind: str = media.LAYER_GZIP
    size: int = 0  # more than there are


BASE = Piece(packed(B), B)
IMAGES: dict[str, tuple[Piece, Piece]] = {
    "good": (BASE, Piece(packed(L), L)),
    "victim": (BASE, Piece(packed(X), X)),
    "liar": (BASE, Piece(packed(L), X)),
    "other liar": (BASE, Piece(packed(X), L)),
    "swapped": (Piece(packed(B), L), Piece(packed(L), B)),
    "twice": (BASE, Piece(packed(B), X)),
    "zstd": (BASE, Piece(zstd(X), X, media.LAYER_ZSTD)),
    "zstd as gzip": (BASE, Piece(zstd(X), X)),
    "zstd as gzip, liar": (BASE, Piece(zstd(L), X)),
    "gzip as zstd": (BASE, Piece(packed(X), X, media.LAYER_ZSTD)),
    "gzip as none": (BASE, Piece(packed(X), X, media.LAYER)),
    "none": (BASE, Piece(X, X, media.LAYER)),
    "none as gzip": (BASE, Piece(X, X)),
    "longer": (BASE, Piece(packed(L), L, size=1)),
}
HONEST = {"good", "victim", "zstd", "zstd as gzip", "gzip as zstd", "gzip as none"}
HONEST |= {"none", "none as gzip"}
WORST = ("good", "victim", "liar", "zstd as gzip, liar")


def config_of(pieces: Sequence[Piece]) -> bytes:
    rootfs = {"type": "layers", "diff_ids": [digest(piece.says) for piece in pieces]}
    return json.dumps({"os": "linux", "architecture": "amd64", "rootfs": rootfs}).encode()


def documents(pieces: Sequence[Piece]) -> tuple[bytes, bytes]:
    """Manifest and config."""
    config = config_of(pieces)

    def descriptor(kind: str, data: bytes, more: int = 0) -> dict[str, Any]:
        return {"mediaType": kind, "digest": digest(data), "size": len(data) + more}

    manifest = {
        "schemaVersion": 2,
        "mediaType": media.MANIFEST,
        "config": descriptor(media.CONFIG, config),
        "layers": [descriptor(each.kind, each.blob, each.size) for each in pieces],
    }
    return json.dumps(manifest).encode(), config


def write_layout(folder: Path, pieces: Sequence[Piece]) -> None:
    manifest, config = documents(pieces)
    (folder / "blobs/sha256").mkdir(parents=True)
    for data in (manifest, config, *(piece.blob for piece in pieces)):
        (folder / "blobs/sha256" / digest(data)[7:]).write_bytes(data)
    entry = {"mediaType": media.MANIFEST, "digest": digest(manifest), "size": len(manifest)}
    (folder / "index.json").write_text(json.dumps({"schemaVersion": 2, "manifests": [entry]}))
    (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')


def write_archive(path: Path, pieces: Sequence[Piece]) -> None:
    listed = [{"Config": "c.json", "RepoTags": ["a:1"], "Layers": ["0.tar", "1.tar"]}]
    members = {"c.json": config_of(pieces), "manifest.json": json.dumps(listed).encode()}
    for number, piece in enumerate(pieces):
        members[f"{number}.tar"] = piece.blob
    with tarfile.open(path, "w") as archive:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def serve(address: str, name: str, pieces: Sequence[Piece]) -> None:
    """Put an image into a registry as it is."""

    def send(method: str, path: str, body: bytes = b"", kind: str = "") -> str:
        connection = http.client.HTTPConnection(address)
        connection.request(method, path, body, {"Content-Type": kind} if kind else {})
        answer = connection.getresponse()
        assert answer.status in (201, 202), answer.read()
        where = answer.getheader("Location") or ""
        connection.close()
        return where.removeprefix(f"http://{address}")

    manifest, config = documents(pieces)
    for data in (config, *(piece.blob for piece in pieces)):
        where = send("POST", f"/v2/{name}/blobs/uploads/")
        plus = "&" if "?" in where else "?"
        send("PUT", f"{where}{plus}digest={digest(data)}", data, "application/octet-stream")
    send("PUT", f"/v2/{name}/manifests/1", manifest, media.MANIFEST)


class Scene:
    """A folder of bases, and a spec on each."""

    def __init__(self, folder: Path, registry: str) -> None:
        self.folder = folder
        (folder / "specs").mkdir()
        (folder / "page").write_text("page")
        self.names: dict[str, str] = {}  # of specs -> of images
        for number, (name, pieces) in enumerate(IMAGES.items()):
            write_layout(folder / f"layout{number}", pieces)
            self._spec(f"layout{number}", name, f"oci:layout{number}")
            if not any(piece.size for piece in pieces):
                write_archive(folder / f"archive{number}.tar", pieces)
                self._spec(f"archive{number}", name, f"docker-archive:archive{number}.tar")
                serve(registry, f"image{number}", pieces)
                self._spec(f"registry{number}", name, f"{registry}/image{number}:1")

    def _spec(self, spec: str, name: str, base: str) -> None:
        text = f"from: {base}\nsteps: [{{copy: page, dest: /way/page}}]\n"
        (self.folder / f"specs/{spec}.yaml").write_text(text)
        self.names[spec] = name

    def result(self, spec: str, store: Path) -> str:
        """What building comes to: the image's digest and the tree below it, or the error."""
        options = {"cache_dir": str(store), "specs": str(self.folder / "specs")}
        try:
            project = Project(Options(**options))
            built = project.build(project.load([spec])[0])[spec]
            layers = built.image.layers if os.geteuid() == 0 else ()
            with project.store.live():
                lowers = project.layers.lowers(layers, privileged=True)
                seen = [(Path(lower) / "f").read_bytes() for lower in lowers[1:2]]
            return f"{built.manifest.digest} {built.image.layers[1].blob.media_type!r} {seen}"
        except BuilderError as error:
            return f"{type(error).__name__}: {error.message}"


@pytest.fixture(scope="module")
def scene(tmp_path_factory: pytest.TempPathFactory, start_registry: Callable[..., str]) -> Scene:
    if shutil.which("docker-registry") is None:
        pytest.skip("needs docker-registry, which is not installed")
    return Scene(tmp_path_factory.mktemp("orders"), start_registry())


@pytest.fixture(scope="module")
def alone(scene: Scene, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """What each comes to in a fresh store."""
    folder = tmp_path_factory.mktemp("alone")
    return {spec: scene.result(spec, folder / spec) for spec in scene.names}


def test_a_fresh_store_takes_the_honest_and_refuses_the_lying(
    scene: Scene, alone: dict[str, str]
) -> None:
    for spec, name in scene.names.items():
        assert alone[spec].startswith("sha256:") == (name in HONEST), (spec, name, alone[spec])
        if name in HONEST:
            assert f"[b'{'l' if name == 'good' else 'x'}']" in alone[spec] or os.geteuid() != 0
            kind = name.partition(" ")[0] if name.startswith(("zstd", "none")) else "gzip"
            if kind == "none":  # of a manifest; layers of an archive are compressed
                kind = "gzip" if spec.startswith("archive") else "tar"
            assert f"+{kind}'" in alone[spec] or f".{kind}'" in alone[spec]


def orders(scene: Scene) -> Iterator[tuple[str, ...]]:
    everything = list(itertools.permutations(scene.names, 2))
    worst = [spec for spec, name in scene.names.items() if name in WORST]
    fours = [
        order
        for chosen in itertools.combinations(worst, 4)
        if len({scene.names[spec] for spec in chosen}) == 4
        for order in itertools.permutations(chosen)
    ]
    if ALL:
        yield from everything
        yield from random.Random(4).sample(fours, 480)
    else:
        pick = random.Random(8)
        yield from pick.sample(everything, 16)
        yield from pick.sample(fours, 8)


@pytest.mark.timeout(7200)
def test_in_one_store_each_is_as_in_a_fresh_one(
    scene: Scene, alone: dict[str, str], tmp_path: Path
) -> None:
    faults = []
    for number, order in enumerate(orders(scene)):
        store = tmp_path / str(number)
        for spec in order:
            found = scene.result(spec, store)
            if found != alone[spec]:
                faults.append((order, spec, found, alone[spec]))
        assert check(Store(str(store))) == []
        shutil.rmtree(store)
    assert not faults, f"{len(faults)} of {number + 1} orders, first {faults[0]}"


def test_all_in_one_store(scene: Scene, alone: dict[str, str], tmp_path: Path) -> None:
    order = list(scene.names)
    random.Random(5).shuffle(order)
    for spec in (*order, *order):
        assert scene.result(spec, tmp_path / "store") == alone[spec], spec

"""Limits: said early and clearly, in bounded time and memory."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import sys
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.root, pytest.mark.needs("bwrap", "busybox")]

MB = 1_000_000


def refused(done: Any, *texts: str, seconds: float = 20, rss: int = 300 * MB) -> None:
    done.said_clearly()
    assert done.status in (1, 2), done
    assert len([line for line in done.err.splitlines() if line.startswith("error: ")]) == 1
    for text in texts:
        assert text in done.err, done.err
    assert done.seconds < seconds
    assert done.rss < rss, done.rss


def test_more_than_127_layers_are_refused_before_anything_is_built(scene: Any) -> None:
    steps = "\n".join(f"- {{file: /f{number}, content: x}}" for number in range(128))
    scene.spec("many", f"from: scratch\nsteps:\n{steps}\n")
    refused(scene.run("plan", "many"), "127 layers")
    refused(scene.run("build", "many"), "127 layers")
    steps = "\n".join(f"- {{file: /f{number}, content: x}}" for number in range(127))
    scene.spec("many", f"from: scratch\nsteps:\n{steps}\n")
    assert scene.run("build", "many").status == 0


def test_a_command_runs_over_126_layers(scene: Any) -> None:
    steps = "\n".join(f"- {{file: /f/{number}, content: x}}" for number in range(125))
    scene.spec("deep", f"from: rootfs:base.tar\nsteps:\n{steps}\n- run: ls /f >/list\n")
    done = scene.run("build", "deep")
    assert done.status == 0, done.err


OVERLAY = """
import os, sys
from builder.executor.overlay import Overlay
folder = sys.argv[1]
lowers = []
for number in range(480):
    lower = f"{folder}/lower{number:04d}"
    os.mkdir(lower)
    open(f"{lower}/{number}", "w").close()
    lowers.append(lower)
os.mkdir(f"{folder}/work")
overlay = Overlay(f"{folder}/work", lowers)
below, etc = overlay.mount("none")
names = {os.fsdecode(name) for name in os.listdir(overlay.root)}
assert {str(number) for number in range(480)} <= names, len(names)
"""


def test_480_lower_directories_are_mounted(scene: Any) -> None:
    """Overlayfs takes 500 in all; an image has 127 layers at most."""
    argv = ["unshare", "--mount", "--propagation", "private", sys.executable, "-c", OVERLAY]
    done = subprocess.run(
        [*argv, scene.folder], env=scene.environ(), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr


def entries(number: int) -> Iterator[bytes]:
    """A tar of `number` entries in folders of 1,000, made fast."""
    for at in range(number):
        if at % 1000 == 0:
            member = tarfile.TarInfo(f"d{at // 1000}")
            member.type, member.mode = tarfile.DIRTYPE, 0o755
            yield member.tobuf(tarfile.USTAR_FORMAT)
        member = tarfile.TarInfo(f"d{at // 1000}/f{at}")
        member.mode = 0o644
        yield member.tobuf(tarfile.USTAR_FORMAT)
    yield bytes(1024)


@pytest.mark.parametrize("how", ["rootfs", "unpack"])
def test_many_entries_take_bounded_memory(
    scene: Any, rounds: Callable[[int, int], int], figures: Any, how: str
) -> None:
    count = rounds(50_000, 1_000_000)
    with gzip.open(scene.project / "many.tar.gz", "wb", compresslevel=1) as file:
        for block in entries(count):
            file.write(block)
    if how == "rootfs":
        scene.spec("many", "from: rootfs:many.tar.gz\n")
    else:
        scene.spec("many", "from: scratch\nsteps:\n- {unpack: many.tar.gz, dest: /}\n")
    done = scene.start("build", "many").wait(1200).said_clearly()
    assert done.status == 0, done.err
    figures(how=how, entries=count, rss=done.rss, seconds=round(done.seconds, 1))
    assert done.rss < (300 * MB if count <= 50_000 else 4000 * MB)


def test_a_path_of_4096_bytes_is_refused_and_one_of_4095_is_built(scene: Any) -> None:
    for length, status in ((4095, 0), (4096, 1)):
        name = ("d" * 99 + "/") * 40 + "f" * (length - 4000)
        with tarfile.open(scene.project / "long.tar", "w", format=tarfile.PAX_FORMAT) as tar:
            tar.addfile(tarfile.TarInfo(name[:length]))
        scene.spec("long", "from: scratch\nsteps:\n- {unpack: long.tar, dest: /}\n")
        done = scene.run("build", "long")
        if status:
            refused(done, "long")
        else:
            assert done.status == 0 or "255" in done.err, done.err


def bomb(path: Path, kind: str, size: int) -> None:
    """A tar with one file of `size` zeros."""
    member = tarfile.TarInfo("zeros")
    member.size = size
    header = member.tobuf(tarfile.GNU_FORMAT)
    block = bytes(1 << 24)
    if kind == "gz":
        with gzip.open(path, "wb", compresslevel=9) as file:
            file.write(header)
            for _ in range(size >> 24):
                file.write(block)
    else:
        argv = ["zstd", "-q", "-19", "--long=27", "-f", "-o", path]
        with subprocess.Popen(argv, stdin=subprocess.PIPE) as process:
            assert process.stdin is not None
            process.stdin.write(header)
            for _ in range(size >> 24):
                process.stdin.write(block)


@pytest.mark.parametrize("step", ["from: rootfs:bomb.tar.gz\n", None], ids=["base", "unpack"])
def test_a_gzip_bomb_takes_no_memory(scene: Any, step: str | None, figures: Any) -> None:
    """Half a gigabyte of zeros in half a megabyte: written to disk compressed, never held."""
    bomb(scene.project / "bomb.tar.gz", "gz", 1 << 29)
    scene.spec("bomb", step or "from: scratch\nsteps:\n- {unpack: bomb.tar.gz, dest: /}\n")
    done = scene.run("build", "bomb")
    assert done.rss < 300 * MB
    assert done.seconds < 60
    if done.status:
        refused(done, seconds=60)
    figures(rss=done.rss, seconds=round(done.seconds, 1), status=done.status)


def test_bombs_in_documents_are_refused(scene: Any) -> None:
    layout = scene.project / "layout"
    (layout / "blobs/sha256").mkdir(parents=True)
    (layout / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    for text in ("[" * 100_000, '{"a":' * 50_000, '{"schemaVersion":2,"manifests":' + "9" * 10_000):
        (layout / "index.json").write_text(text)
        scene.spec("hostile", "from: oci:layout\n")
        refused(scene.run("build", "hostile"), "oci:layout")
    (layout / "index.json").write_bytes(b" " * (5 << 20))
    refused(scene.run("build", "hostile"), "index.json")


def test_specs_without_end_are_refused(scene: Any) -> None:
    keys = "\n".join(f"  k{number}: v" for number in range(10_000))
    scene.spec("wide", f"from: scratch\nvars:\n{keys}\n")
    done = scene.run("build", "wide")
    assert done.status == 0 and done.rss < 300 * MB and done.seconds < 10, done.err
    scene.spec("wrong", "from: scratch\n" + keys.replace("  k", "k"))
    done = scene.run("build", "wrong").said_clearly()
    assert done.status == 2 and done.rss < 300 * MB and done.seconds < 20
    assert len(done.err) < 1_000_000
    for text in ("[" * 20_000, "a: " * 20_000, "- " * 20_000, "{" * 5_000 + "}" * 5_000):
        scene.spec("deep", f"from: scratch\nvars: {text}\n")
        refused(scene.run("build", "deep"), "deep.yaml")
    scene.spec("loop", "from: scratch\nsteps:\n- {file: /a, content: \"{{ 'a' * 10**10 }}\"}\n")
    refused(scene.run("build", "loop"), "loop.yaml")


def test_deep_archives_and_hostile_headers_are_bounded(scene: Any) -> None:
    with tarfile.open(scene.project / "deep.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(tarfile.TarInfo("a/" * 2000 + "f"))
    scene.spec("deep", "from: scratch\nsteps:\n- {unpack: deep.tar, dest: /}\n")
    done = scene.run("build", "deep")
    assert done.status == 0 and done.rss < 300 * MB, done.err
    member = tarfile.TarInfo("huge")
    member.size = 1 << 40
    (scene.project / "deep.tar").write_bytes(member.tobuf(tarfile.GNU_FORMAT) + bytes(10240))
    refused(scene.run("build", "deep"), "deep.yaml:3", "the archive is cut short")
    pax = tarfile.TarInfo("pax")
    pax.type, pax.size = tarfile.XHDTYPE, 1 << 33
    (scene.project / "deep.tar").write_bytes(pax.tobuf(tarfile.GNU_FORMAT) + bytes(10240))
    refused(scene.run("build", "deep"), "deep.yaml:3")


def test_a_layer_of_sparse_holes_is_bounded(scene: Any) -> None:
    """A GNU sparse file of 8 TiB in an archive of a kilobyte."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.PAX_FORMAT) as tar:
        member = tarfile.TarInfo("sparse")
        member.pax_headers = {
            "GNU.sparse.major": "1",
            "GNU.sparse.minor": "0",
            "GNU.sparse.name": "sparse",
            "GNU.sparse.realsize": str(8 << 40),
        }
        member.size = 512
        tar.addfile(member, io.BytesIO(b"0\n" + bytes(510)))
    (scene.project / "deep.tar").write_bytes(data.getvalue())
    scene.spec("deep", "from: scratch\nsteps:\n- {unpack: deep.tar, dest: /}\n")
    refused(scene.run("build", "deep"), "deep.yaml:3", "the archive's files are more than")
    assert json.loads(scene.run("images", "--json").out) == {"images": []}

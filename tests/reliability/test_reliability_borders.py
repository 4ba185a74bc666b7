"""What the environment holds stays there; what hostile archives say stays in the image."""

from __future__ import annotations

import gzip
import io
import os
import tarfile
import time
import zlib
from pathlib import Path
from typing import Any

import pytest

pytestmark = [pytest.mark.root, pytest.mark.needs("busybox")]

CANARY = "canary-7f3a9c1e5b"


def test_a_secret_of_the_environment_is_nowhere(scene: Any) -> None:
    """Not in the store (layers decompressed, documents too), output, log or a command line."""
    scene.spec(
        "site",
        "from: rootfs:base.tar\nsteps:\n"
        "- {name: tree, copy: tree/, dest: /srv/}\n"
        '- {name: see, run: "cat /proc/self/environ /proc/*/environ >/seen; sleep 0.3"}\n',
    )
    running = scene.start(
        *("build", "site", "--progress", "json", "--output", f"oci:{scene.folder / 'out'}"),
        AWS_SECRET_ACCESS_KEY=CANARY,
        BUILDER_SOMETHING=CANARY,
    )
    while not running.ended:
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                assert CANARY.encode() not in path.read_bytes()
            except OSError:
                continue
        time.sleep(0.01)
    done = running.wait().said_clearly()
    assert done.status == 0, done.err
    assert CANARY not in done.out + done.err
    looked = 0
    for path in [*scene.store.rglob("*"), *(scene.folder / "out").rglob("*")]:
        if not path.is_file() or path.is_symlink():
            continue
        data = path.read_bytes()
        if data[:2] == b"\x1f\x8b":
            data = gzip.decompress(data)
        elif path.parent.name == "documents" and data[65:66] != b"{":
            data = zlib.decompress(data[65:])
        assert CANARY.encode() not in data, path
        looked += 1
    assert looked > 20


def hostile(path: Path, outside: Path) -> None:
    """Every way out that tars know, each towards `outside`."""
    up = "../" * 12 + str(outside).lstrip("/")
    with tarfile.open(path, "w", format=tarfile.PAX_FORMAT) as tar:

        def add(name: str, kind: bytes = tarfile.REGTYPE, link: str = "", **pax: str) -> None:
            member = tarfile.TarInfo(name)
            member.type, member.linkname, member.pax_headers = kind, link, pax
            data = b"overwritten" if kind == tarfile.REGTYPE else b""
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))

        choice = path.name.partition(".")[0]
        if choice == "traversal":
            add(up)
        elif choice == "absolute":
            add(str(outside))
        elif choice == "symlink":
            add("out", tarfile.SYMTYPE, str(outside.parent))
            add(f"out/{outside.name}")
        elif choice == "relative":
            add("out", tarfile.SYMTYPE, "../" * 12 + str(outside.parent).lstrip("/"))
            add(f"out/{outside.name}")
        elif choice == "hardlink":
            add("hard", tarfile.LNKTYPE, str(outside))
            add("hard")
        elif choice == "hardlinkup":
            add("hard", tarfile.LNKTYPE, up)
            add("hard")
        elif choice == "pax":
            add("harmless", path=up)
        elif choice == "paxlink":
            add("hard", tarfile.LNKTYPE, "harmless", linkpath=str(outside))
            add("hard")
        elif choice == "twice":
            add("x", tarfile.SYMTYPE, str(outside))
            add("x")
        elif choice == "redirect":
            add(
                "d",
                tarfile.DIRTYPE,
                **{"SCHILY.xattr.trusted.overlay.redirect": str(outside.parent)},
            )
        elif choice == "device":
            add("disk", tarfile.BLKTYPE)


WAYS = [
    "traversal",
    "absolute",
    "symlink",
    "relative",
    "hardlink",
    "hardlinkup",
    "pax",
    "paxlink",
    "twice",
    "redirect",
    "device",
]


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("how", ["base", "unpack"])
def test_a_hostile_archive_touches_nothing_outside(scene: Any, way: str, how: str) -> None:
    outside = scene.folder / "outside" / "canary"
    outside.parent.mkdir()
    outside.write_text("untouched")
    before = outside.lstat()
    hostile(scene.project / f"{way}.tar", outside)
    if how == "base":  # with a step on it, so that it is unpacked
        scene.spec("evil", f"from: rootfs:{way}.tar\nsteps:\n- run: [/bin/none]\n")
    else:
        scene.spec(
            "evil",
            f"from: rootfs:base.tar\nsteps:\n- {{unpack: {way}.tar, dest: /in}}\n- run: ls /in\n",
        )
    done = scene.run("build", "evil")
    assert done.status in (0, 1, 2)
    if done.status:
        assert len([line for line in done.err.splitlines() if line.startswith("error: ")]) == 1
    after = outside.lstat()
    assert outside.read_text() == "untouched"
    assert (after.st_ino, after.st_mtime_ns, after.st_nlink) == (
        before.st_ino,
        before.st_mtime_ns,
        1,
    )
    assert os.listdir(outside.parent) == ["canary"]
    scene.check_at_rest()


def test_a_step_sees_no_process_and_no_handle_and_writes_nothing_outside(scene: Any) -> None:
    outside = scene.folder / "outside"
    outside.mkdir()
    scene.spec(
        "site",
        "from: rootfs:base.tar\nsteps:\n- run: |\n"
        "    ls /proc/self/fd >/handles\n    ps >/processes\n"
        f"    ls {scene.folder} && exit 1\n"
        f"    mkdir -p {outside} && echo x >{outside}/x\n"
        "    cat /handles /processes\n",
    )
    done = scene.run("build", "site")
    assert done.status == 0, done.err
    assert os.listdir(outside) == []
    assert "pytest" not in done.err and "builder build" not in done.err.partition("site  ")[0]
    layer = min((scene.store / "blobs/sha256").iterdir(), key=lambda path: path.stat().st_size)
    assert layer.stat().st_size

"""The logical clock: sources are older than what was made of them, newer than what was made before
they came."""

from __future__ import annotations

import gzip
import io
import tarfile
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from builder.layer.entry import Entry
from builder.oci.digest import hasher
from builder.plan.clock import EPOCH, command_time, content_time, file_time
from builder.project import Options, Project
from builder.spec.model import Place
from builder.steps.copy import Copy
from builder.steps.directory import Directory
from builder.steps.file import File
from builder.steps.remove import Remove
from builder.steps.run import Run
from builder.steps.symlink import Symlink

HERE = Place("specs/a.yaml", 1, 1)
START = 315532800  # 1980-01-01, the first day of zip
RUN = Run(HERE, None, "true")


@pytest.mark.parametrize("epoch", [0, 1, 86399, 86400, 86401, EPOCH, 1_700_000_000, 253402300799])
def test_times_rise_with_commands_and_stay_within_the_epoch(epoch: int) -> None:
    times = [time(epoch, count) for count in range(127) for time in (file_time, command_time)]
    assert times == sorted(set(times)) and times[0] >= 0
    assert times[-1] <= epoch or epoch < 86400  # nothing is before 1970
    assert {after - before for before, after in pairwise(times)} == {2}


def test_the_first_file_step_writes_the_first_second_of_zip() -> None:
    assert file_time(EPOCH, 0) == START


def test_a_time_by_content_is_the_first_28_bits_of_the_digest() -> None:
    for data in (b"", b"a", b"b" * 10_000):
        digest = hasher(data).digest()
        assert content_time(EPOCH, digest) == EPOCH + int(digest.hex()[:7], 16)


# Steps as they are planned: a command is planned last, as what is above it is not known before.


def test_all_that_a_file_step_writes_has_one_time(shop: Any) -> None:
    (shop.context / "tree" / "sub").mkdir(parents=True)
    (shop.context / "tree" / "sub" / "f").write_text("x")
    (shop.context / "tree" / "l").symlink_to("sub")
    for step in (
        Copy(HERE, None, ("tree",), "/new/parents/"),
        Copy(HERE, None, ("tree",), "/tmp/x/"),  # /tmp itself is written, as it is not plain
        File(HERE, None, "/a/b", "text"),
        Directory(HERE, None, "/a/b"),
        Symlink(HERE, None, "/a/b", "c"),
        Remove(HERE, None, ("/file",)),
    ):
        assert {each.mtime for each in shop.entries(step).values()} == {START}


@pytest.mark.parametrize("name", ["copy", "file"])
def test_times_by_content_are_those_of_files_alone(shop: Any, name: str) -> None:
    (shop.context / "tree").mkdir()
    (shop.context / "tree" / "f").write_text("hello")
    (shop.context / "tree" / "l").symlink_to("f")
    steps = {
        "copy": Copy(HERE, None, ("tree",), "/new/", times="content"),
        "file": File(HERE, None, "/new/f", "hello", times="content"),
    }
    entries: dict[str, Entry] = shop.entries(steps[name])
    expected = content_time(EPOCH, hasher(b"hello").digest())
    assert entries.pop("new/f").mtime == expected > EPOCH
    assert {each.mtime for each in entries.values()} == {START}


def test_the_time_by_content_of_files_that_no_plan_has_read(tmp_path: Path) -> None:
    """A first build reads files while their layer is made: not those whose times wait for it."""
    for number in range(600):
        path = tmp_path / "pages" / f"{number}"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"{number}")
    (tmp_path / "specs").mkdir()
    step = "  - {copy: pages/, dest: /www/, times: content}\n"
    (tmp_path / "specs" / "a.yaml").write_text("from: scratch\nsteps:\n" + step)
    project = Project(Options(str(tmp_path / "store"), str(tmp_path / "specs"), codec="none"))
    times = layers(project, "a")[0]
    for number in range(600):
        digest = hasher(f"{number}".encode()).digest()
        assert times[f"www/{number}"] == content_time(EPOCH, digest)


def layers(project: Project, name: str) -> list[dict[str, int]]:
    """Paths and times of each layer of a spec, built."""
    specs, _ = project.load([])
    image = project.build(specs)[name].image
    found = []
    for layer in image.layers:
        data = Path(project.store.blob_path(layer.blob.digest)).read_bytes()
        data = gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
        with tarfile.open(fileobj=io.BytesIO(data)) as tar:
            found.append({member.name: int(member.mtime) for member in tar})
    return found


BASE = """from: rootfs:root.tar
steps:
  - {file: /src/main.c, content: dummy}
  - run: [/bin/sh, -c, "cat /src/main.c > /src/main.o"]
  - run: [/bin/true]
  - {file: /src/main.c, content: real}
"""
CHILD = """from: image:base
steps:
  - {copy: main.c, dest: /src/}
  - run: [/bin/sh, -c, "cp -p /src/main.c /src/copy; cat /src/main.c > /src/main.o; rm /src/x"]
  - {file: /src/x, content: ""}
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    with tarfile.open(tmp_path / "root.tar", "w") as tar:
        busybox = tar.gettarinfo("/bin/busybox", "bin/busybox")
        busybox.mtime = 1_700_000_000
        with open("/bin/busybox", "rb") as file:
            tar.addfile(busybox, file)
        for name in ("sh", "cat", "true", "cp", "rm"):
            link = tarfile.TarInfo(f"bin/{name}")
            link.type, link.linkname = tarfile.SYMTYPE, "busybox"
            tar.addfile(link)
        tar.addfile(tarfile.TarInfo("src/x"))
    (tmp_path / "specs").mkdir()
    (tmp_path / "specs" / "base.yaml").write_text(BASE)
    (tmp_path / "specs" / "child.yaml").write_text(CHILD)
    (tmp_path / "main.c").write_text("other")
    return Project(Options(str(tmp_path / "store"), str(tmp_path / "specs")))


@pytest.mark.root
@pytest.mark.needs("busybox")
def test_the_clock_goes_on_above_an_image_of_the_project(project: Project) -> None:
    """The command that wrote nothing counts, what a command took over keeps its time, a foreign
    base keeps its own, and the plan says what the build does."""
    rootfs, *found = layers(project, "child")
    assert rootfs["bin/busybox"] == 1_700_000_000
    files = [{name: time - START for name, time in layer.items() if "/" in name} for layer in found]
    assert files == [
        {"src/main.c": 0},
        {"src/main.o": 2},
        {"src/main.c": 8},
        {"src/main.c": 8},
        {"src/.wh.x": 10, "src/copy": 8, "src/main.o": 10},
        {"src/x": 12},
    ]
    specs, _ = project.load([])
    for plan in project.plan(specs).values():
        assert {step.status for step in plan.steps} == {"hit"}


@pytest.mark.root
@pytest.mark.needs("busybox")
def test_another_command_moves_no_time_but_another_number_of_them_does(project: Project) -> None:
    before = layers(project, "child")
    specs = Path(project.options.specs)
    (specs / "base.yaml").write_text(BASE.replace("cat /src/main.c", "cat /src/main.c /src/main.c"))
    assert layers(project, "child")[3:] == before[3:]
    (specs / "base.yaml").write_text(BASE.replace("  - run: [/bin/true]\n", ""))
    after = layers(project, "child")
    assert [after[3]["src/main.c"] - START, after[6]["src/x"] - START] == [4, 8]

"""Limits: said early and clearly, in bounded time and memory."""

from __future__ import annotations

import bz2
import contextlib
import gzip
import hashlib
import io
import json
import lzma
import os
import shutil
import subprocess
import sys
import tarfile
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

pytestmark = [pytest.mark.root, pytest.mark.needs("busybox")]

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
from builder.errors import CannotRun
from builder.executor.base import Command
from builder.executor.overlay import Overlay
folder, count = sys.argv[1], int(sys.argv[2])
lowers = []
for number in range(count):
    lower = f"{folder}/lower{number:04d}"
    os.mkdir(lower)
    open(f"{lower}/{number}", "w").close()
    lowers.append(lower)
os.mkdir(f"{folder}/work")
try:
    overlay = Overlay(f"{folder}/work", lowers)
except CannotRun as error:
    sys.exit(error.message)
below, etc = overlay.mount(Command(("true",), {}, 0, 0, (0,), "/", "none"))
names = {os.fsdecode(name) for name in os.listdir(overlay.root)}
assert {str(number) for number in range(count)} <= names, len(names)
"""


@pytest.mark.parametrize("count", [480, 498, 499, 500, 1000])
def test_498_lower_directories_are_mounted_and_more_are_refused(scene: Any, count: int) -> None:
    """Overlayfs takes 500 in all, two of them are ours; an image has 127 layers at most."""
    argv = ["unshare", "--mount", "--propagation", "private", sys.executable, "-c", OVERLAY]
    done = subprocess.run(
        [*argv, scene.folder, str(count)],
        env=scene.environ(),
        capture_output=True,
        text=True,
        check=False,
    )
    if count <= 498:
        assert done.returncode == 0, done.stderr
    else:
        said = f"the image below the step has {count} layers, an overlay takes 498\n"
        assert (done.returncode, done.stderr) == (1, said)


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
    count = rounds(200_000, 1_000_000)
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
    assert done.rss < (120 * MB if count <= 200_000 else 300 * MB)


def test_a_copy_of_many_files_takes_bounded_memory(
    scene: Any, rounds: Callable[[int, int], int], figures: Any
) -> None:
    """Cold, unchanged, and with one file changed."""
    count = rounds(120_000, 1_000_000)
    for at in range(0, count, 1000):
        folder = scene.project / f"many/d{at // 1000}"
        folder.mkdir(parents=True)
        handle = os.open(folder, os.O_RDONLY)
        for number in range(1000):
            os.close(os.open(f"f{number}", os.O_WRONLY | os.O_CREAT, 0o644, dir_fd=handle))
        os.close(handle)
    scene.spec("many", "from: scratch\nsteps:\n- {copy: many/, dest: /srv/}\n")
    time.sleep(2.1)  # else no file is old enough to be known the next time
    # fewer than 200,000 have a document, in which `why` finds what changed
    for what, most in (("cold", 150), ("nothing changed", 80), ("one changed", 200)):
        if what == "one changed":
            (scene.project / "many/d7/f7").write_text("changed")
        done = scene.start("build", "many").wait(1200).said_clearly()
        assert done.status == 0, done.err
        figures(what=what, files=count, rss=done.rss, seconds=round(done.seconds, 1))
        assert done.rss < (most if count <= 120_000 else 300) * MB
    shutil.rmtree(scene.project / "many")


def path_of(length: int) -> str:
    """A relative path of `length` bytes in folders of 200."""
    folders = "/".join(["d" * 199] * ((length - 1) // 200))
    return folders + "/" + "f" * (length - 1 - len(folders))


def make_file(root: Path, path: str) -> None:
    """Make it and its folders, however long the path: step by step."""
    *folders, name = path.split("/")
    handle = os.open(root, os.O_RDONLY)
    for folder in folders:
        with contextlib.suppress(FileExistsError):
            os.mkdir(folder, dir_fd=handle)
        below = os.open(folder, os.O_RDONLY, dir_fd=handle)
        os.close(handle)
        handle = below
    os.close(os.open(name, os.O_WRONLY | os.O_CREAT, 0o644, dir_fd=handle))
    os.close(handle)


def tree_spec(scene: Any, how: str, path: str) -> str:
    """A spec whose image holds `path`, by way of `how`."""
    folders, _, name = path.rpartition("/")
    if how == "copy":
        (scene.project / "made").mkdir(exist_ok=True)
        make_file(scene.project / "made", path)
        return "from: scratch\nsteps:\n- {copy: made/, dest: /}\n"
    if how == "run":
        folder, count = folders.partition("/")[0], len(folders.split("/"))
        steps = f"n=0; while [ $n -lt {count} ]; do mkdir $d; cd $d; n=$((n+1)); done"
        text = f"    d={folder}\n    {steps}\n    echo x >{name}\n"
        return f"from: rootfs:base.tar\nsteps:\n- run: |\n{text}- run: 'true'\n"
    with tarfile.open(scene.project / "made.tar", "w", format=tarfile.PAX_FORMAT) as tar:
        tar.addfile(tarfile.TarInfo(path))
    if how == "base":
        return "from: rootfs:made.tar\nsteps:\n- {file: /x, content: x}\n"
    return "from: scratch\nsteps:\n- {unpack: made.tar, dest: /}\n"


@pytest.mark.parametrize("how", ["base", "unpack", "run"])
def test_a_path_of_4095_bytes_is_built_and_longer_ones_are_refused(scene: Any, how: str) -> None:
    for length in (4094, 4095, 4096, 4097):
        scene.spec("long", tree_spec(scene, how, path_of(length)))
        done = scene.run("build", "long")
        if length > 4095:
            refused(done, "4095")
        else:
            assert done.status == 0, done.err


def test_a_copied_path_is_as_long_as_the_host_and_an_image_can_have_it(scene: Any) -> None:
    text = tree_spec(scene, "copy", path_of(3800))
    for length, folder in (
        (4095, "e" * 147 + "/" + "e" * 146),
        (4096, "e" * 147 + "/" + "e" * 147),
    ):
        scene.spec("long", text.replace("dest: /", f"dest: /{folder}/"))
        assert len(folder) + 1 + 3800 == length
        done = scene.run("build", "long")
        if length > 4095:
            refused(done, "long.yaml:3", "longer than a path may be")
        else:
            assert done.status == 0, done.err
    # No call takes this together with where it lies: it is read all the same, component by
    # component, and refused for where it would stand in the image.
    tree_spec(scene, "copy", path_of(4095))
    refused(scene.run("build", "long"), "long.yaml:3", "longer than a path may be")
    shutil.rmtree(scene.project / "made")


@pytest.mark.parametrize("how", ["base", "unpack", "file"])
def test_a_name_of_255_bytes_is_built_and_one_of_256_refused(scene: Any, how: str) -> None:
    for length in (255, 256):
        name = "a/" + "n" * length
        if how == "file":
            scene.spec("long", f"from: scratch\nsteps:\n- {{file: /{name}, content: x}}\n")
        else:
            scene.spec("long", tree_spec(scene, how, name))
        done = scene.run("build", "long")
        if length == 255:
            assert done.status == 0, done.err
        else:
            refused(done, "long.yaml:", "255")


def test_a_command_makes_a_name_of_255_bytes(scene: Any) -> None:
    scene.spec("long", tree_spec(scene, "run", "d/" + "n" * 255))
    assert scene.run("build", "long").status == 0
    scene.spec("long", tree_spec(scene, "run", "d/" + "n" * 256))
    refused(scene.run("build", "long"), "long.yaml:3", "failed: exit status")  # the kernel does


@pytest.mark.parametrize("how", ["base", "unpack", "copy", "run"])
def test_a_tree_of_2000_levels_is_built_and_then_a_hit(scene: Any, how: str) -> None:
    scene.spec("deep", tree_spec(scene, how, "d/" * 2000 + "f"))
    done = scene.run("build", "deep")
    assert done.status == 0 and done.rss < 300 * MB and done.seconds < 60, done.err
    again = scene.run("build", "deep")
    assert again.status == 0 and "nothing to build" in again.err
    assert again.out.split()[-1] == done.out.split()[-1]
    (scene.project / "specs/deep.yaml").unlink()
    scene.run("rmi", "deep")
    done = scene.run("cache", "gc", "--max-size", "0", "--max-age", "0h")
    assert done.status == 0, done.err
    assert not any((scene.store / "unpacked").glob("*"))
    if how == "copy":
        subprocess.run(["rm", "-rf", scene.project / "made"], check=True)


def packer(kind: str) -> Any:
    """A compressor of the standard library or, for zstd, of what the builder reads it with."""
    if kind == "zst":
        return zstd.ZstdCompressor(level=3)
    if kind == "xz":
        return lzma.LZMACompressor(preset=0)
    return bz2.BZ2Compressor() if kind == "bz2" else zlib.compressobj(9, wbits=31)


def bomb(path: Path, kind: str, size: int) -> None:
    """A tar with one file of `size` zeros."""
    member = tarfile.TarInfo("zeros")
    member.size = size
    block, pack = bytes(1 << 24), packer(kind)
    with path.open("wb") as file:
        file.write(pack.compress(member.tobuf(tarfile.GNU_FORMAT)))
        for _ in range(size >> 24):
            file.write(pack.compress(block))
        file.write(pack.compress(bytes(1024)) + pack.flush())


@pytest.mark.parametrize("kind", ["gz", "zst", "xz", "bz2"])
@pytest.mark.parametrize("how", ["rootfs", "unpack"])
def test_a_bomb_takes_no_memory(
    scene: Any, kind: str, how: str, rounds: Callable[[int, int], int], figures: Any
) -> None:
    """Half a gigabyte of zeros in half a megabyte or less: written to disk compressed, never
    held."""
    size = 1 << 29 if kind == "gz" else rounds(1 << 26, 1 << 29)
    bomb(scene.project / "bomb.tar", kind, size)
    step = "from: scratch\nsteps:\n- {unpack: bomb.tar, dest: /}\n"
    scene.spec("bomb", "from: rootfs:bomb.tar\n" if how == "rootfs" else step)
    done = scene.run("build", "bomb")
    assert done.status == 0, done.err
    assert done.rss < 100 * MB
    assert done.seconds < 60
    figures(kind=kind, size=size, rss=done.rss, seconds=round(done.seconds, 1))


@pytest.mark.parametrize("kind", ["zst", "xz"])
def test_a_window_that_would_not_fit_in_memory_is_refused(scene: Any, kind: str) -> None:
    """A few bytes may ask for gigabytes to be decompressed in."""
    if kind == "zst":  # a frame's header alone: no single segment, a window of 2 GiB
        (scene.project / "bomb.tar").write_bytes(b"\x28\xb5\x2f\xfd\x00\xa8" + bytes(100))
    else:
        filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 16 << 20}]
        data = bytearray(lzma.compress(bytes(5000), filters=filters))
        assert data[12:18] == b"\x02\x00\x21\x01\x18\x00"  # block header: LZMA2, 16 MiB
        data[16] = 0x26  # 2 GiB
        data[20:24] = zlib.crc32(data[12:20]).to_bytes(4, "little")
        (scene.project / "bomb.tar").write_bytes(data)
    for text in (
        "from: rootfs:bomb.tar\n",
        "from: scratch\nsteps:\n- {unpack: bomb.tar, dest: /}\n",
    ):
        scene.spec("bomb", text)
        refused(scene.run("build", "bomb"), "bomb.yaml:", "needs more memory", rss=100 * MB)


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


@pytest.mark.parametrize("which", ["manifest", "config"])
def test_documents_nested_deep_are_refused(scene: Any, which: str) -> None:
    layout = scene.project / "layout"
    (layout / "blobs/sha256").mkdir(parents=True)
    (layout / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    scene.spec("hostile", "from: oci:layout\n")

    def blob(text: str, kind: str) -> dict[str, Any]:
        data = text.encode()
        digest = hashlib.sha256(data).hexdigest()
        (layout / "blobs/sha256" / digest).write_bytes(data)
        media = f"application/vnd.oci.image.{kind}.v1+json"
        return {"mediaType": media, "digest": f"sha256:{digest}", "size": len(data)}

    for depth in (2_000, 200_000):
        deep = '{"x":' * depth + "1" + "}" * depth
        config = '{"architecture":"amd64","os":"linux","rootfs":{"type":"layers","diff_ids":[]}'
        made = blob(f'{config},"x":{deep}}}' if which == "config" else config + "}", "config")
        text = json.dumps({"schemaVersion": 2, "config": made, "layers": []})
        if which == "manifest":
            text = f'{text[:-1]},"x":{deep}}}'
        manifest = blob(text, "manifest")
        (layout / "index.json").write_text(
            json.dumps({"schemaVersion": 2, "manifests": [manifest]})
        )
        done = scene.run("build", "hostile")
        if done.status:  # how deep is deep enough is the parser's to say
            refused(done, "hostile.yaml:1")
        assert done.status or depth == 2_000


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


def test_10_000_keys_and_steps_are_read_in_time(scene: Any) -> None:
    keys = "\n".join(f"    k{number}: v" for number in range(10_000))
    for place in ("config:\n  labels", "config:\n  env", "steps:\n- run: x\n  env"):
        scene.spec("wide", f"from: scratch\n{place}:\n{keys}\n")
        done = scene.run("plan", "wide")
        assert done.status == 0 and done.rss < 300 * MB and done.seconds < 20, done.err
    scene.spec("wide", f"from: scratch\nconfig:\n  labels:\n{keys}\n")
    assert scene.run("build", "wide").status == 0
    steps = [f"- {{file: /f{number}, content: x}}\n" for number in range(10_000)]
    scene.spec("wide", f"from: scratch\nsteps:\n{''.join(steps[:5000])}")
    refused(scene.run("build", "wide"), "wide.yaml:1:7", "127 layers")
    scene.spec("wide", f"from: scratch\nsteps:\n{''.join(steps)}")
    refused(scene.run("build", "wide"), "wide.yaml:5003:3", "more than 5000 steps")


def test_yaml_of_40_levels_is_read_and_of_41_refused(scene: Any) -> None:
    for depth, status in ((39, 0), (40, 2)):  # the spec itself is one, vars' mapping another
        text = "[" * (depth - 1) + "x" + "]" * (depth - 1)
        scene.spec("nested", f"from: scratch\nvars: {{a: {text}}}\n")
        done = scene.run("plan", "nested")
        assert done.status == status, done.err
        if status:
            refused(done, "nested.yaml:2", "nested deeper than 40 levels")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"x" * (4 << 20) + b"y", "is larger than 4194304 bytes"),
        (b"{% for i in range(100) %}" + b"x" * (1 << 20) + b"{% endfor %}", "67108864 characters"),
    ],
)
def test_a_template_too_large_is_said_where_the_spec_names_it(
    scene: Any, content: bytes, said: str
) -> None:
    (scene.project / "page.j2").write_bytes(content)
    scene.spec("page", "from: scratch\nsteps:\n- {template: page.j2, dest: /page}\n")
    for verb in ("plan", "build", "lint"):
        refused(scene.run(verb, "page"), "page.yaml:3:", "page.j2' ", said)


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

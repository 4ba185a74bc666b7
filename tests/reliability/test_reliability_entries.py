"""Any bytes in a store's entries, each with the checksum that it needs: a build neither crashes nor
takes the memory that they ask for, and never makes another image.

(What a writer of the store says deliberately is believed, such as the digest of another layer that
is there.) BUILDER_ENTRIES is the number of rounds.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import random
import resource
import shutil
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from builder import build, make_plan
from builder.errors import BuilderError
from builder.store.store import KINDS, Store
from builder.transport.outputs import parse_output

ROUNDS = int(os.environ.get("BUILDER_ENTRIES", "60"))
MEMORY = 1 << 30  # bytes of address space that a build may take more than at its start
SPECS = {
    "base": "from: rootfs:base.tar\nsteps:\n"
    '- {copy: tree, dest: /tree, exclude: ["*.o", "!keep.o"], owner: www}\n'
    "- {template: page.j2, dest: /page, vars: {who: you}}\n"
    "- {unpack: some.tar, dest: /opt}\n- {symlink: /a, to: b}\n- {remove: /gone}\n"
    "config: {env: {A: b}, labels: {c: d}, cmd: [x]}\n",
    "site": "from: image:base\nsteps:\n- {copy: many, dest: /many}\n- {directory: /d}\n",
    "layout": "from: oci:layout\nsteps: [{copy: tree/a, dest: /x/y}]\n",
    "saved": "from: docker-archive:saved.tar\nsteps: [{file: /f, content: text}]\n",
}


def tar(*files: tuple[str, str]) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as archive:
        for name, text in files:
            info = tarfile.TarInfo(name)
            info.size = len(text)
            archive.addfile(info, io.BytesIO(text.encode()))
    return out.getvalue()


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of specs on several kinds of bases, all built in `store`."""
    root = tmp_path_factory.mktemp("entries")
    (root / "specs").mkdir()
    for name, text in SPECS.items():
        (root / f"specs/{name}.yaml").write_text(text)
    accounts = ("etc/passwd", "root:x:0:0::/:/bin/sh\nwww:x:33:33::/:/bin/sh\n")
    (root / "base.tar").write_bytes(tar(accounts, ("gone", "1"), ("etc/group", "www:x:33:\n")))
    (root / "some.tar").write_bytes(tar(("one/two", "2"), ("three", "3")))
    (root / "page.j2").write_text("{{ who }} {{ env('HOME_PAGE', 'none') }}\n")
    (root / ".dockerignore").write_text("tree/secret\n**/*.tmp\n")
    for path in ("tree/a", "tree/b.o", "tree/keep.o", "tree/secret", "tree/s/t.tmp", "tree/s/u"):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(path)
    (root / "many").mkdir()
    for number in range(100):
        (root / f"many/{number}").write_text(str(number) * 100)
    for path in (*root.rglob("tree/**/*"), *root.rglob("many/*"), *root.glob("*.*")):
        os.utime(path, (1_700_000_000,) * 2)
    store = Store(str(root / "made"))
    image = build(["base"], cache_dir=store.root, specs=str(root / "specs"))["base"].image
    parse_output(f"oci:{root}/layout:v1")(store, "x").put([image])
    parse_output(f"docker-archive:{root}/saved.tar:a:1")(store, "x").put([image])
    os.utime(root / "saved.tar", (1_700_000_000,) * 2)
    return root


def built(project: Path, store: Path) -> dict[str, str]:
    options: dict[str, Any] = {"cache_dir": str(store), "specs": str(project / "specs")}
    make_plan([], **options)
    return {name: each.manifest.digest for name, each in build([], **options).items()}


def apart(work: Callable[[], str]) -> str:
    """What `work` says, done by a process of its own with bounded memory."""
    reading, writing = os.pipe()
    child = os.fork()
    if not child:
        said = "?"
        try:
            with open("/proc/self/statm") as statm:
                now = int(statm.read().split()[0]) * resource.getpagesize()
            resource.setrlimit(resource.RLIMIT_AS, (now + MEMORY, now + MEMORY))
            try:
                said = work()
            except BuilderError as error:
                said = f"error {type(error).__name__}: {error.message}"
            except BaseException as error:
                said = f"CRASH {type(error).__name__}: {error}"
        finally:
            os.write(writing, said.encode("utf-8", "replace")[:4000])
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as pipe:
        said = pipe.read().decode("utf-8", "replace")
    _, status = os.waitpid(child, 0)
    return said if status == 0 else f"CRASH: status {status}"


# -- what may stand in an entry --------------------------------------------------------------------

READ = [kind for kind in KINDS if kind != "logs"]  # logs are read by no build
BOMBS = (
    b"",
    b"[" * 1_000_000,
    b'{"a":' * 200_000,
    b"9" * 100_000,
    b"\xff" * 40,
    b"[" + b"0," * 200_000 + b"0]",
    b"\xdb\xff\xff\xff\x7f" * 2,  # marshal: a list of 2^31 items
    b"\xa9\x01\xdb\x00\x00\x00\x10r\x01\x00",
    b'{"diff_id":[],"blobs":{"gzip":[]},"size":1e999}',
    struct.pack("<I", 0xFFFFFFFF) * 64,
)


def changed(value: Any, pick: random.Random) -> Any:
    """The JSON value with one of its parts another."""
    if isinstance(value, dict) and value and pick.random() < 0.8:
        key = pick.choice(list(value))
        if pick.random() < 0.2:
            return {name: each for name, each in value.items() if name != key}
        return {**value, key: changed(value[key], pick)}
    if isinstance(value, list) and value and pick.random() < 0.8:
        at = pick.randrange(len(value))
        return [*value[:at], changed(value[at], pick), *value[at + 1 :]]
    if isinstance(value, str) and len(value) == 64 and pick.random() < 0.5:
        return pick.randbytes(32).hex()
    return pick.choice(
        [None, True, -1, 0, 1.5, 10**30, "", "\0", "../../x", "a" * 5000, [], {}, [[]], {"": None}]
    )


def mutated(data: bytes, pick: random.Random) -> bytes:
    kind = pick.randrange(6)
    if kind == 0:
        return pick.choice(BOMBS)
    if kind == 1:
        return pick.randbytes(pick.choice((1, 10, 32, 65, 1000)))
    if kind == 2:
        return data[: pick.randrange(len(data) + 1)]
    if kind == 3:
        at = pick.randrange(len(data) + 1)
        return data[:at] + pick.randbytes(pick.randrange(1, 9)) + data[at + pick.randrange(9) :]
    head = b""
    if data[64:65] == b"{" and data[:64] == hashlib.sha256(data[64:]).hexdigest().encode():
        data, head = data[64:], b"specs"
    try:
        document = json.loads(data)
    except ValueError:
        flipped = bytearray(data)
        for _ in range(pick.randrange(1, 4)):
            if flipped:
                flipped[pick.randrange(len(flipped))] ^= 1 << pick.randrange(8)
        return bytes(flipped)
    text = json.dumps(changed(document, pick)).encode()
    return hashlib.sha256(text).hexdigest().encode() + text if head else text


@pytest.mark.timeout(3600)
def test_no_entry_crashes_a_build_or_makes_another_image(project: Path, tmp_path: Path) -> None:
    good = tmp_path / "good"
    right = built(project, good)
    assert built(project, good) == right
    entries = [(kind, path.name) for kind in READ for path in sorted((good / kind).glob("*"))]
    assert {kind for kind, _ in entries} == set(READ)
    faults = []
    for number in range(ROUNDS):
        pick = random.Random(number)
        work = tmp_path / "store"
        shutil.copytree(good, work, symlinks=True)
        kind = pick.choice(READ)
        names = [name for each, name in entries if each == kind]
        name = pick.choice(names)
        data = mutated((good / kind / name).read_bytes()[65:], pick)
        if pick.random() < 0.5:  # what is kept of the sources counts again
            shutil.rmtree(work / "memos")
        Store(str(work)).save(kind, name, data)
        said = apart(lambda work=work: json.dumps(built(project, work)))  # type: ignore[misc]
        if said != json.dumps(right):
            again = apart(lambda work=work: json.dumps(built(project, work)))  # type: ignore[misc]
            # what was noted of a file was not what it held: it is forgotten
            once = "changed while it was read" in said and again == json.dumps(right)
            # another spec, and a step that changed nothing, are well said: that is believed
            believed = data[64:65] == b"{" or b'"diff_id": null' in data
            if not once and not (believed and "CRASH" not in said):
                faults.append((number, kind, name, data[:100], said, again))
        shutil.rmtree(work)
    for fault in faults[:20]:
        print(fault)
    assert not faults, f"{len(faults)} of {ROUNDS}, first {faults[0]}"

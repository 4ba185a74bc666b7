"""Random mounts over an image, and commands in and around them: `RUN --mount` of BuildKit and ours
leave the same tree, and the same entries in the layer. `RELIABILITY=full` tries 200."""

from __future__ import annotations

import io
import json
import os
import random
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from builder.oci.digest import hex_of
from tests.parity.conftest import Tree, flattened

pytestmark = [pytest.mark.root, pytest.mark.needs("busybox", "skopeo", "runc")]

COUNT = 200 if os.environ.get("RELIABILITY") == "full" else 6
SEED = int(os.environ.get("RELIABILITY_SEED", "1"))
BASE: dict[str, Any] = {
    "etc/passwd": "root:x:0:0::/root:/bin/sh\n",
    "srv/": ("", 0o750, (3, 4)),
    "srv/old": ("old\n", 0o640, (3, 4)),
    "srv/full/": ("", 0o755),
    "srv/full/x": "x\n",
    "opt/link": "-> ../srv",
    "opt/far": "-> /new/far",
    "one": ("one\n", 0o600, (5, 6)),
    "tmp/": ("", 0o1777),
}
CONTEXT = {"src/a": "a\n", "src/sub/b": "b\n", "src/run": ("run\n", 0o755), "plain": "plain\n"}
BASED = {"/".join(path.split("/")[:end]).rstrip("/") for path in BASE for end in range(1, 9)}
EMPTY = hex_of(b"")[:12]
FOLDERS = (
    *("/srv", "/srv/full", "/srv/new", "/srv/new/er", "/new", "/new/a/b", "/opt/link"),
    *("/opt/link/full", "/opt/link/x/y", "/opt/far", "/tmp", "rel", "./rel/b"),
)
FILES = ("/one", "/two", "/srv/old", "/srv/made/by", "/opt/link/old", "/etc/passwd", "rel-file")
COMMANDS = (
    "ls -la {t} >/dev/null",
    "cp -a {t} /saved{n}",
    "echo in > {t}/in || true",
    "mkdir -p {t}/in/deep || true",
    "echo beside > {p}/beside{n}",
    "mkdir {p}/dir{n}; rmdir {p}/dir{n}",
    "chmod 711 {p}",
    "touch {p}/gone{n}; rm {p}/gone{n}",
    "rm -rf /srv/full 2>/dev/null || true",
    "touch -d '2001-02-03 04:05:06' {p}",
    "mv {p}/old {p}/moved || true",
    "ln {t} {p}/hard{n} 2>/dev/null || true",
)


def choose(seeded: random.Random) -> tuple[list[tuple[str, dict[str, str]]], str]:
    """Docker's text and ours of some mounts, and a command."""
    mounts: list[tuple[str, dict[str, str]]] = []
    targets: list[str] = []
    for _ in range(seeded.randint(1, 3)):
        kind = seeded.choice(("bind", "bind", "file", "tmpfs", "cache"))
        target = seeded.choice(FILES if kind == "file" else FOLDERS)
        if any(nested(target, other) for other in targets):
            continue
        targets.append(target)
        if kind in ("bind", "file"):
            source = seeded.choice(("src", ".", "src/sub")) if kind == "bind" else "plain"
            text, ours = f"type=bind,source={source},target={target}", {"bind": source}
            mounts.append((text, {**ours, "target": target}))
        elif kind == "tmpfs":
            mounts.append((f"type=tmpfs,target={target}", {"tmpfs": target}))
        else:
            name = f"c{seeded.randrange(1 << 40)}"
            text = f"type=cache,id={name},target={target}"
            mounts.append((text, {"cache": name, "target": target}))
    lines = ["set +e"]
    for number in range(seeded.randint(1, 5)):
        target = seeded.choice(targets)
        line = seeded.choice(COMMANDS)
        lines.append(line.format(t=target, p=os.path.dirname(target) or ".", n=number))
    return mounts, "; ".join([*lines, "true"])


def real(path: str) -> str:
    """Where a target is in BASE, whose working directory is /work."""
    path = os.path.normpath(os.path.join("/work", path))
    return path.replace("/opt/link", "/srv").replace("/opt/far", "/new/far")


def nested(one: str, other: str) -> bool:
    first, second = real(one) + "/", real(other) + "/"
    return first.startswith(second) or second.startswith(first)


@pytest.fixture(scope="module")
def base(sides: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with the base's archive; the engine has it, too."""
    folder = tmp_path_factory.mktemp("mounts")
    sides.make_tree(folder / "tree", BASE)
    (folder / "tree/bin").mkdir()
    (folder / "tree/bin/busybox").write_bytes(Path("/bin/busybox").read_bytes())
    (folder / "tree/bin/busybox").chmod(0o755)
    for name in ("sh", "ls", "cp", "mkdir", "rmdir", "chmod", "touch", "rm", "mv", "ln", "true"):
        (folder / "tree/bin" / name).symlink_to("busybox")
    sides.make_tree(folder / "context", CONTEXT)
    archive = sides.tar_of(folder / "tree")
    (folder / "context.tar").write_bytes(archive)
    sides.out("import", "-", "mounts-base", input=archive)
    yield folder
    sides.out("rmi", "-f", "mounts-base")


def without_stubs(tree: Tree, targets: list[str]) -> set[str]:
    """Take out what was made to mount on, where nothing else is in it: BuildKit does so from 0.9
    on. The paths that went."""
    paths = {real(each).lstrip("/") for each in targets}
    paths |= {each[:at] for each in paths for at, char in enumerate(each) if char == "/"}
    gone = set()
    for path in sorted(paths - {"work"} - BASED, reverse=True):
        here = tree.get(path)
        full = any(each.startswith(path + "/") for each in tree)
        if here and not full and (here.type == "dir" or here.holds == EMPTY):
            del tree[path]
            gone.add(path)
    return gone


def entries(layer: bytes) -> set[str]:
    with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
        return {each.name.removeprefix("./").rstrip("/") for each in tar} - {""}


def dockers_layer(sides: Any, image: str) -> set[str]:
    """The paths in the last layer of an image of the engine."""
    saved = sides.out("save", image)
    with tarfile.open(fileobj=io.BytesIO(saved)) as tar:
        (manifest,) = json.load(tar.extractfile("manifest.json"))  # type: ignore[arg-type]
        layer = tar.extractfile(manifest["Layers"][-1])
        assert layer is not None
        return entries(layer.read())


OWN = {"dev", "proc", "sys", "etc/hosts", "etc/resolv.conf", "etc/hostname"}


@pytest.mark.timeout(3600)
def test_random_mounts_leave_what_buildkits_leave(sides: Any, base: Path, tmp_path: Path) -> None:
    for number in range(COUNT):
        seeded = random.Random(f"{SEED} {number}")
        mounts, command = choose(seeded)
        told = [
            "FROM mounts-base",
            "WORKDIR /work",
            "RUN " + " ".join(f"--mount={text}" for text, _ in mounts) + f" {command}",
        ]
        what = "\n".join([*told, f"# {SEED} {number}"])
        said = sides.build("\n".join(told), base / "context", "mounted", buildkit=True)
        assert not said, f"{what}\n{said}"
        theirs, their_layer = sides.tree("mounted"), dockers_layer(sides, "mounted")
        targets = [each.get("target") or each["tmpfs"] for _, each in mounts]
        gone = without_stubs(theirs, targets)
        their_layer -= gone
        spec = {
            "from": f"rootfs:{base}/context.tar",
            "config": {"working_dir": "/work"},
            "steps": [
                {"directory": "/work"},
                {"run": command, "mounts": [ours for _, ours in mounts], "network": "none"},
            ],
        }
        for executor in ("sandbox", "runc"):
            cache = tmp_path / f"{number}-{executor}"
            done = sides.ours(
                *(spec, base / "context", cache, "--executor", executor),
                *("--compression", "none", "-o", f"tar:{cache}.tar"),
            )
            assert done.returncode == 0, f"{what}\n{done.stderr}"
            layers, _ = sides.built(cache)
            ours = entries(layers[-1]) if len(layers) > 2 else set()
            found = flattened(Path(f"{cache}.tar").read_bytes())
            assert found == theirs, f"{executor}\n{what}"
            assert ours - their_layer == set(), f"{executor}\n{what}"
            more = their_layer - OWN - ours  # folders of which only the time was changed
            assert all(theirs[each].type == "dir" for each in more), f"{executor}\n{what}"

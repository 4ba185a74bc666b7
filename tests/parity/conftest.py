"""Both sides of a comparison: what an engine builds, and what ours is once an engine has it."""

from __future__ import annotations

import importlib.util
import io
import json
import os
import stat
import subprocess
import sys
import tarfile
from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import pytest

from builder.oci.digest import hex_of

CLIENT = "/usr/bin/docker"
OWN = {
    "dev",
    "proc",
    "sys",
    "etc/hosts",
    "etc/hostname",
    "etc/resolv.conf",
    "etc/mtab",
    ".dockerenv",
}


class Seen(NamedTuple):
    """One path of a flattened root file system; times are not compared."""

    type: str
    mode: str
    owner: str
    holds: str  # content, link target


Tree = dict[str, Seen]


class Sides:
    """An engine beside the builder; all methods that a comparison needs."""

    def __init__(self, socket: str) -> None:
        self.socket = socket

    def run(self, *args: str, input: bytes = b"", buildkit: bool = False) -> tuple[bytes, str]:
        """What the client prints, and what it complains of when it fails."""
        env = {
            "PATH": os.environ["PATH"],
            "HOME": "/nonexistent",
            "DOCKER_HOST": self.socket,
            "DOCKER_BUILDKIT": str(int(buildkit)),
        }
        done = subprocess.run(
            [CLIENT, *args], input=input, capture_output=True, env=env, timeout=300
        )
        return done.stdout, done.stderr.decode() if done.returncode else ""

    def out(self, *args: str, input: bytes = b"", buildkit: bool = False) -> bytes:
        printed, wrong = self.run(*args, input=input, buildkit=buildkit)
        assert not wrong, f"docker {' '.join(args)}: {wrong}"
        return printed

    def build(self, dockerfile: str, context: Path, tag: str, *, buildkit: bool) -> str:
        """What a failed build says; "" when it worked."""
        args = ("build", "--quiet", "--network", "none", "-t", tag, "-f", "-", str(context))
        return self.run(*args, input=dockerfile.encode(), buildkit=buildkit)[1]

    def tree(self, image: str) -> Tree:
        """The root file system of a container of an image, as `docker export` gives it."""
        container = self.out("create", "--network", "none", image, "x").decode().strip()
        try:
            return flattened(self.out("export", container))
        finally:
            self.out("rm", container)

    def config(self, image: str) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.out("image", "inspect", image))[0]["Config"]
        return found

    def load(self, layout: Path, name: str, tag: str, folder: Path) -> None:
        """Give the engine an image of an OCI layout, by skopeo."""
        folder.mkdir(exist_ok=True)
        archive = folder / "loaded.tar"
        archive.unlink(missing_ok=True)
        subprocess.run(
            ["skopeo", "--insecure-policy", "copy", "--quiet",
             f"oci:{layout}:{name}", f"docker-archive:{archive}:{tag}"],
            check=True, capture_output=True, timeout=300,
        )  # fmt: skip
        self.out("load", "--quiet", "-i", str(archive))
        archive.unlink()

    @staticmethod
    def ours(
        spec: Mapping[str, Any],
        context: Path,
        cache: Path,
        *args: str,
        environ: Mapping[str, str] | None = None,
    ) -> subprocess.CompletedProcess[str]:
        """`builder build` of one spec, as its own process."""
        specs = cache / "specs"
        specs.mkdir(parents=True, exist_ok=True)
        (specs / "ours.yaml").write_text(json.dumps(spec))
        return subprocess.run(
            [sys.executable, "-m", "builder", "build", "ours", "--specs", str(specs),
             "--context", str(context), "--cache-dir", str(cache / "store"),
             "--progress", "plain", *args],
            capture_output=True, text=True, timeout=300, env={**os.environ, **(environ or {})},
        )  # fmt: skip

    @staticmethod
    def built(cache: Path) -> tuple[list[bytes], dict[str, Any]]:
        """The layer blobs and the config document of the one image in the store."""
        store = cache / "store"
        (entry,) = json.loads((store / "index.json").read_text())["manifests"]

        def blob(descriptor: Mapping[str, Any]) -> bytes:
            name: str = descriptor["digest"][7:]
            return (store / "blobs" / "sha256" / name).read_bytes()

        manifest = json.loads(blob(entry))
        config: dict[str, Any] = json.loads(blob(manifest["config"]))
        return [blob(layer) for layer in manifest["layers"]], config

    @staticmethod
    def make_tree(root: Path, tree: Mapping[str, Any]) -> None:
        """Files of a mapping: `path/` a directory, text a file, `-> target` a symlink, `|` a FIFO;
        a pair adds the mode, a triple the owner. The umask does not count."""
        for path, value in tree.items():
            what, mode, owner = (
                (*value, None)[:3] if isinstance(value, tuple) else (value, None, None)
            )
            where = root / path
            where.parent.mkdir(parents=True, exist_ok=True)
            if path.endswith("/"):
                where.mkdir(exist_ok=True)
                where.chmod(mode or 0o755)
            elif what == "|":
                os.mkfifo(where)
            elif what.startswith("-> "):
                where.symlink_to(what[3:])
            else:
                where.write_text(what)
                where.chmod(mode or 0o644)
            if owner is not None:
                os.chown(where, *owner, follow_symlinks=False)
        for folder in (p for p in root.rglob("*") if p.is_dir() and not p.is_symlink()):
            if f"{folder.relative_to(root)}/" not in tree:
                folder.chmod(0o755)

    @staticmethod
    def tar_of(root: Path) -> bytes:
        out = io.BytesIO()
        with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
            for path in sorted(root.rglob("*")):
                info = tar.gettarinfo(str(path), str(path.relative_to(root)))
                info.uname = info.gname = ""
                if stat.S_ISREG(path.lstat().st_mode):
                    with open(path, "rb") as file:
                        tar.addfile(info, file)
                else:
                    tar.addfile(info)
        return out.getvalue()


def flattened(archive: bytes) -> Tree:
    found: Tree = {}
    with tarfile.open(fileobj=io.BytesIO(archive), errors="surrogateescape") as tar:
        for member in tar:
            path = member.name.removeprefix("./").rstrip("/")
            if path in OWN or path.split("/")[0] in OWN or not path:
                continue
            if member.islnk():
                found[path] = found[member.linkname]
                continue
            content = tar.extractfile(member) if member.isreg() else None
            holds = hex_of(content.read())[:12] if content else member.linkname
            kind = {
                tarfile.REGTYPE: "file", tarfile.DIRTYPE: "dir", tarfile.SYMTYPE: "symlink",
                tarfile.FIFOTYPE: "fifo",
            }.get(member.type, repr(member.type))  # fmt: skip
            mode = "" if kind == "symlink" else f"{member.mode & 0o7777:04o}"
            found[path] = Seen(kind, mode, f"{member.uid}:{member.gid}", holds)
    return found


def _plugin() -> ModuleType:
    path = Path(__file__).parents[1] / "dockerd.py"
    spec = importlib.util.spec_from_file_location("private_engine", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


engine = _plugin().engine


@pytest.fixture(scope="session")
def sides(engine: Any) -> Sides:
    return Sides(engine.socket)

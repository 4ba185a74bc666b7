"""A real Debian to install packages in, and a signed repository of packages that tests make up."""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from builder.oci.digest import Digest
from builder.store.store import Store
from tests.cli.conftest import Project, project

__all__ = ["project"]

BASE = """\
from:
  debootstrap: bookworm
  include: [libfaketime, ca-certificates, python3-pip, python3-venv, dnf, rpm]
steps:
  - file: /etc/apt/apt.conf.d/99days
    content: |
      Acquire::Check-Valid-Until "false";
      Acquire::Check-Date "false";
"""
LATER = {
    "LD_PRELOAD": "/usr/lib/x86_64-linux-gnu/faketime/libfaketime.so.1",
    "FAKETIME": "+437d",
}
"""Environment of a command in DEBIAN that is to see another day. It is in the key, too: what is the
same on both days was made twice."""
AGAIN = {"AGAIN": "1"}
"""Environment that changes a step's key and nothing else."""
FULL = os.environ.get("PACKAGES") == "full"
"""More packages of the mirrors, and a cold store where one is half of a test's time."""


@pytest.fixture(scope="session")
def debian(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `layout`, a Debian from the mirrors of this system with Python and dnf, and
    `store`, which has it; one for all test processes, or one that TEST_DEBIAN names, which was made
    before."""
    if made := os.environ.get("TEST_DEBIAN"):
        return Path(made)
    if shutil.which("mmdebstrap") is None or os.geteuid() != 0:
        pytest.skip("needs mmdebstrap and root")
    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    folder /= "debian-of-packages"
    (folder / "specs").mkdir(parents=True, exist_ok=True)
    with open(folder / "lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "layout/index.json").exists():
            (folder / "specs/debian.yaml").write_text(BASE)
            builder = [sys.executable, "-m", "builder", "build", "debian", "-o", "oci:made"]
            store = ["--cache-dir", folder / "store"]
            subprocess.run([*builder, *store], cwd=folder, check=True, capture_output=True)
            (folder / "made").rename(folder / "layout")
    return folder


@pytest.fixture
def on_debian(project: Project, debian: Path) -> Project:
    """A project with that Debian as `oci:debian`, and the store that has it."""
    shutil.copytree(debian / "layout", project.root / "debian", copy_function=os.link)
    project.store = debian / "store"
    return project


def elsewhere(project: Project) -> Project:
    """Another project with the same base and store, which has no downloads yet."""
    other = Project(project.root.parent / "elsewhere")
    shutil.copytree(project.root / "debian", other.root / "debian", copy_function=os.link)
    other.store = project.store
    return other


def _server(folder: Path, asked: list[str]) -> ThreadingHTTPServer:
    """A server of a folder; `asked` takes the paths of files that it gave."""

    def log(handler: SimpleHTTPRequestHandler, code: Any = "", size: Any = "") -> None:
        if str(getattr(code, "value", code)) == "200":
            asked.append(handler.path)

    silent = {"log_message": lambda *_: None, "log_request": log}
    handler = type("Handler", (SimpleHTTPRequestHandler,), silent)
    return ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder)))


class Repository:
    """A repository on loopback: `url`, with the suite `test` and the component `main`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.made: dict[str, str] = {}  # paths of packages to their stanzas
        self._home = tempfile.mkdtemp(prefix="gpg-")  # its sockets' paths have at most 107 bytes
        self._gpg("--quick-generate-key", "--passphrase", "", "test@example.com", "default")
        self.key = self._gpg("--armor", "--export").decode()
        self.asked: list[str] = []
        self.server = _server(folder, self.asked)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        subprocess.run(["gpgconf", "--homedir", self._home, "--kill", "all"], check=True)
        shutil.rmtree(self._home, ignore_errors=True)

    def _gpg(self, *arguments: str, text: bytes = b"") -> bytes:
        return subprocess.run(
            ["gpg", "--homedir", self._home, "--batch", "--pinentry-mode", "loopback", *arguments],
            input=text, capture_output=True, check=True,
        ).stdout  # fmt: skip

    def add(self, name: str, version: str = "1", script: str = "", **files: str) -> None:
        """A package with files by path (`__` for `/`) and this shell text as its postinst."""
        tree = self.folder.parent / f"tree-{name}-{version}"
        (tree / "DEBIAN").mkdir(parents=True)
        control = (
            f"Package: {name}\nVersion: {version}\nArchitecture: all\n"
            "Maintainer: t <t@example.com>\nDescription: of a test\n"
        )
        (tree / "DEBIAN/control").write_text(control)
        if script:
            (tree / "DEBIAN/postinst").write_text(f"#!/bin/sh\nset -e\n{script}\n")
            (tree / "DEBIAN/postinst").chmod(0o755)
        paths = [path.replace("__", "/") for path in files]
        for path, text in zip(paths, files.values(), strict=True):
            (tree / path).parent.mkdir(parents=True, exist_ok=True)
            (tree / path).write_text(text)
        conffiles = "".join(f"/{path}\n" for path in paths if path.startswith("etc/"))
        if conffiles:
            (tree / "DEBIAN/conffiles").write_text(conffiles)
        for each in (tree / "DEBIAN", *(one for one in tree.rglob("*") if one.is_dir())):
            each.chmod(0o755)
        deb = self.folder / f"{name}_{version}_all.deb"
        subprocess.run(
            ["dpkg-deb", "--root-owner-group", "-b", tree, deb], check=True, capture_output=True
        )
        shutil.rmtree(tree)
        data = deb.read_bytes()
        self.made[deb.name] = (
            f"{control}Filename: {deb.name}\nSize: {len(data)}\n"
            f"SHA256: {hashlib.sha256(data).hexdigest()}\n"
        )
        self.publish()

    def publish(self) -> None:
        """Signed lists of what there is."""
        suite = self.folder / "dists/test"
        (suite / "main/binary-amd64").mkdir(parents=True, exist_ok=True)
        packages = "\n".join(self.made.values()).encode()
        lines = []
        for name, data in (("Packages", packages), ("Packages.gz", gzip.compress(packages))):
            (suite / "main/binary-amd64" / name).write_bytes(data)
            digest = hashlib.sha256(data).hexdigest()
            lines.append(f" {digest} {len(data)} main/binary-amd64/{name}\n")
        release = (
            "Origin: test\nSuite: test\nCodename: test\nArchitectures: amd64\nComponents: main\n"
            f"Date: Thu, 01 Jan 2026 00:00:00 UTC\nSHA256:\n{''.join(lines)}"
        )
        (suite / "InRelease").write_bytes(self._gpg("--clearsign", text=release.encode()))

    @property
    def stanza(self) -> dict[str, str]:
        """As a spec writes it."""
        return {"uri": self.url, "suites": "test", "key": self.key}


@pytest.fixture
def repository(tmp_path: Path) -> Iterator[Repository]:
    folder = tmp_path / "repository"
    folder.mkdir()
    made = Repository(folder)
    yield made
    made.close()


def files_of(store: Path, layer: str) -> dict[str, bytes]:
    """What a layer holds: paths of files to their contents, of all others to their kind."""
    import tarfile

    found = {}
    with tarfile.open(Store(str(store)).blob_path(Digest(layer))) as tar:
        for member in tar:
            file = tar.extractfile(member) if member.isfile() else None
            found[member.name] = file.read() if file else member.type
    return found


class Index:
    """An index of Python packages on loopback: `url`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.asked: list[str] = []
        self.server = _server(folder, self.asked)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def add(self, name: str, version: str = "1.0", requires: str = "", code: str = "") -> None:
        """A wheel with one module and one program of its name."""
        info = f"{name}-{version}.dist-info"
        files = {
            f"{name}.py": f"{code}\ndef main():\n    print({version!r} in {{'a', {name!r}}})\n",
            f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
            + (f"Requires-Dist: {requires}\n" if requires else ""),
            f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
            f"{info}/entry_points.txt": f"[console_scripts]\n{name}={name}:main\n",
        }
        files[f"{info}/RECORD"] = "".join(f"{path},,\n" for path in (*files, f"{info}/RECORD"))
        (self.folder / name).mkdir(exist_ok=True)
        with zipfile.ZipFile(
            self.folder / name / f"{name}-{version}-py3-none-any.whl", "w"
        ) as file:
            for path, text in files.items():
                file.writestr(path, text)


@pytest.fixture
def index(tmp_path: Path) -> Iterator[Index]:
    folder = tmp_path / "index"
    folder.mkdir()
    made = Index(folder)
    yield made
    made.server.shutdown()
    made.server.server_close()

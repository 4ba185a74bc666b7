"""`npm` with the real npm, against a registry that the test makes: the same packages are the same
bytes, whatever registry they come from, and what is wrong is said."""

from __future__ import annotations

import base64
import gzip
import hashlib
import io
import json
import re
import shutil
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Project, project
from tests.packages.test_dnf import last_layer

__all__ = ["project"]

pytestmark = [pytest.mark.needs("node", "npm", "busybox"), pytest.mark.root]
APPLETS = (
    *("sh", "awk", "basename", "cat", "chmod", "cut", "date", "env", "find", "grep", "ln", "ls"),
    *("mkdir", "mv", "printf", "pwd", "rm", "sed", "sort", "touch", "tr", "uname"),
)


class Registry:
    """Packages on loopback, with what npm asks of a registry."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.packages: dict[str, dict[str, Any]] = {}
        registry = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                found = registry.answer(self.path)
                self.send_response(200 if found else 404)
                self.send_header("Content-Length", str(len(found or b"{}")))
                self.end_headers()
                self.wfile.write(found or b"{}")

            def log_message(self, *_: object) -> None:
                pass

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def answer(self, path: str) -> bytes | None:
        if path.startswith("/-/v1/search"):
            more = {"version": "1.0.0", "maintainers": [], "keywords": [], "date": "2026-01-01"}
            found = [{"package": {"name": name, **more}} for name in self.packages]
            return json.dumps({"objects": found, "total": len(found)}).encode()
        if path in self.files:
            return self.files[path]
        package = self.packages.get(path[1:].replace("%2f", "/"))
        return json.dumps(package).replace("HERE/", self.url).encode() if package else None

    def add(self, name: str, version: str, files: dict[str, str], **more: Any) -> None:
        manifest = {"name": name, "version": version, **more}
        made = io.BytesIO()
        with tarfile.open(fileobj=made, mode="w") as tar:
            for path, text in {**files, "package.json": json.dumps(manifest)}.items():
                info = tarfile.TarInfo(f"package/{path}")
                info.size = len(text)
                tar.addfile(info, io.BytesIO(text.encode()))
        data = gzip.compress(made.getvalue(), mtime=0)
        path = f"/files/{name.replace('/', '-')}-{version}.tgz"
        self.files[path] = data
        integrity = "sha512-" + base64.b64encode(hashlib.sha512(data).digest()).decode()
        dist = {"tarball": f"HERE{path}", "integrity": integrity}
        package = self.packages.setdefault(name, {"name": name, "versions": {}})
        package["versions"][version] = {**manifest, "dist": dist}
        package["dist-tags"] = {"latest": version}


NOISE = """\
const fs = require("fs"), path = require("path")
for (const place of ["/tmp/noise", "/var/tmp/noise", "/var/log/noise.log"]) {
  fs.mkdirSync(path.dirname(place), {recursive: true})
  fs.writeFileSync(place, new Date().toISOString() + Math.random())
}
fs.writeFileSync("made", "by a script")
"""


@pytest.fixture
def registry() -> Iterator[Registry]:
    made = Registry()
    made.add("helper", "1.0.0", {"index.js": "module.exports = 'helped'\n"})
    for version in ("1.0.0", "1.2.0", "2.0.0"):
        tool = f"#!/usr/bin/env node\nconsole.log(require('helper'), '{version}')\n"
        made.add(
            "greeter", version, {"tool.js": tool, "noise.js": NOISE}, bin={"greet": "tool.js"},
            dependencies={"helper": "^1.0.0"}, scripts={"postinstall": "node noise.js"},
        )  # fmt: skip
    made.add("@scope/pack", "3.1.0", {"a.js": "3\n"})
    made.add("tester", "1.0.0", {"a.js": "0\n"})
    yield made
    made.server.shutdown()
    made.server.server_close()


@pytest.fixture(scope="session")
def has_npm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root file system with this machine's node and npm, and busybox."""
    path = tmp_path_factory.mktemp("npm") / "node.tar"
    node = shutil.which("node") or ""
    real = Path(node).resolve()
    libraries = re.findall(r"(/\S+) \(0x", subprocess.run(
        ["ldd", real], capture_output=True, text=True, check=True
    ).stdout)  # fmt: skip
    npm = Path(shutil.which("npm") or "").resolve()
    debian = Path("/usr/share/nodejs")  # where Debian's has its modules
    modules = debian if npm.is_relative_to(debian) else npm.parents[1]
    with tarfile.open(path, "w", dereference=True) as tar:
        for name in (real, *map(Path, libraries)):
            tar.add(name, str(name)[1:] if name != real else "usr/bin/node")
        tar.add(modules, str(modules)[1:])
        tar.add("/bin/busybox", "bin/busybox")
        for place in ("tmp", "var/tmp", "root", "etc", "var/log", "app"):
            info = tarfile.TarInfo(place)
            info.type, info.mode = tarfile.DIRTYPE, 0o1777 if "tmp" in place else 0o755
            tar.addfile(info)
        links = {f"bin/{each}": "busybox" for each in APPLETS}
        links |= {
            "usr/bin/env": "/bin/busybox",
            "usr/bin/npm": "../lib/node_modules/npm/bin/npm-cli.js",
        }
        for place, to in links.items():
            info = tarfile.TarInfo(place)
            info.type, info.linkname = tarfile.SYMTYPE, to
            tar.addfile(info)
    return path


@pytest.fixture
def on_npm(project: Project, has_npm: Path) -> Project:
    (project.root / "node.tar").hardlink_to(has_npm)
    return project


def write(project: Project, registry: Registry, step: str, *before: str) -> None:
    given = f"env: {{npm_config_registry: '{registry.url}'}}"
    steps = "".join(f"  - {each}\n" for each in (*before, f"{{{step}, {given}}}"))
    project.spec("a", f"from: rootfs:node.tar\nsteps:\n{steps}")


def test_programs_for_the_whole_image(on_npm: Project, registry: Registry, tmp_path: Path) -> None:
    digests = set()
    for number in range(2):
        on_npm.store = tmp_path / f"store{number}"
        write(on_npm, registry, 'npm: [greeter@1, "@scope/pack"]')
        on_npm.build("a", "-o", f"oci:{tmp_path}/out{number}")
        digest, paths = last_layer(tmp_path / f"out{number}")
        digests.add(digest)
        registry.server.server_close()
        registry.server.shutdown()
        registry = renewed(registry)
    assert len(digests) == 1
    prefix = "usr/local" if "usr/local/bin/greet" in paths else "usr"  # Debian's npm has the first
    modules = f"{prefix}/lib/node_modules"
    assert {f"{prefix}/bin/greet", f"{modules}/greeter/made"} <= paths.keys()
    assert f"{modules}/@scope/pack/a.js" in paths
    assert not [path for path in paths if path.startswith(("root/", "tmp/", "var/tmp/"))]
    assert not [path for path in paths if "lock" in path]
    assert paths["var/log/noise.log"].size == 0
    assert "package lists of 20" in on_npm.run("plan", "a").stdout
    write(on_npm, registry, "npm: greeter@1")
    spec = (on_npm.root / "specs/a.yaml").read_text()
    on_npm.spec(
        "a", spec + "  - {run: greet >/told, env: {PATH: '/bin:/usr/bin:/usr/local/bin'}}\n"
    )
    on_npm.build("a", "-o", f"dir:{tmp_path}/tree")
    assert (tmp_path / "tree/told").read_text() == "helped 1.2.0\n"


def renewed(registry: Registry) -> Registry:
    """The same packages at another address."""
    other = Registry()
    other.files, other.packages = registry.files, registry.packages
    return other


def lock(registry: Registry, project: Project) -> None:
    """A project with a lock file, as npm makes it."""
    manifest = {
        "name": "mine", "version": "1.0.0",
        "dependencies": {"greeter": "^1.0.0"}, "devDependencies": {"tester": "*"},
    }  # fmt: skip
    folder = project.root / "web"
    folder.mkdir()
    (folder / "package.json").write_text(json.dumps(manifest))
    subprocess.run(
        ["npm", "install", "--package-lock-only", "--registry", registry.url, "--cache",
         project.root.parent / "cache"], cwd=folder, check=True, capture_output=True,
    )  # fmt: skip


COPY = "{copy: web/, dest: /app/}"


def test_what_a_lock_file_says(on_npm: Project, registry: Registry, tmp_path: Path) -> None:
    lock(registry, on_npm)
    registry.add("greeter", "1.9.0", {})  # it is locked at 1.2.0
    digests = set()
    for number in range(2):
        on_npm.store = tmp_path / f"store{number}"
        write(on_npm, registry, "npm: ci, dest: /app", COPY)
        on_npm.build("a", "-o", f"oci:{tmp_path}/out{number}")
        digest, paths = last_layer(tmp_path / f"out{number}")
        digests.add(digest)
    assert len(digests) == 1
    assert "app/node_modules/.bin/greet" in paths and "app/node_modules/tester" not in paths
    assert "app/node_modules/.package-lock.json" not in paths and "app/package.json" not in paths
    assert not [path for path in paths if path.startswith(("root/", "tmp/", "var/tmp/"))]
    assert on_npm.plan("a")["a"][-1] == ("hit", "unchanged")
    assert on_npm.plan("a", "--pull")["a"][-1] == ("hit", "unchanged")
    write(on_npm, registry, "npm: ci, dev: true", COPY)
    spec = (on_npm.root / "specs/a.yaml").read_text()
    on_npm.spec("a", f"{spec}config: {{working_dir: /app}}\n")
    on_npm.build("a", "-o", f"oci:{tmp_path}/more")
    assert "app/node_modules/tester/a.js" in last_layer(tmp_path / "more")[1]


@pytest.mark.parametrize(
    ("step", "place", "message", "hint"),
    [
        ("npm: [greeter, greter]", "4:21", "no package 'greter'", "did you mean greeter?"),
        ("npm: [greeter@7]", "4:12", "no version '7' of 'greeter'", "the latest is 2.0.0"),
        ('npm: ["@scope/pakc@3"]', "4:12", "no package '@scope/pakc'", "mean @scope/pack?"),
        ("npm: ci, dest: /app/none", "4:21", "'/app/none/package-lock.json' is not in", "`copy`"),
        ("npm: [greeter], dest: /app", "4:28", "'dest' is given, which belongs to", ""),
        ("npm: --help", "4:11", "is not a package", ""),
        ("npm: [./mine]", "4:12", "is not a package", ""),
        ("npm: ['a b']", "4:12", "is not a package", ""),
        ("npm: ['a;b']", "4:12", "is not a package", ""),
    ],
)
def test_what_is_wrong_is_said(
    on_npm: Project, registry: Registry, step: str, place: str, message: str, hint: str
) -> None:
    write(on_npm, registry, step, "{directory: /app}")
    status = 1 if message.startswith("no ") else 2
    told = on_npm.run("build", "a", status=status).stderr
    assert f"error: specs/a.yaml:{place}: " in told and message in told and hint in told


def test_a_base_without_it_is_told_before_anything_runs(project: Project) -> None:
    project.spec("a", "from: scratch\nsteps: [{npm: greeter}]\n")
    assert "npm is not in the image here" in project.run("build", "a", status=2).stderr

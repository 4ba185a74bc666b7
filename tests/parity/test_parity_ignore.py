"""`.dockerignore` beside the engine's and buildah's: which paths of a context reach an image.

What moby does with the file changed with the years. Ours are the rules of its matcher as it is now,
which the docker client uses from version 23 on: it decides what of a context the classic builder
gets, so an engine that only takes contexts is enough to see all of it. Docker 20.10's BuildKit and
buildah 1.28 use the matcher of their time; the lines that these read otherwise are in OLD.
"""

from __future__ import annotations

import functools
import http.server
import io
import os
import random
import re
import shutil
import socketserver
import subprocess
import tarfile
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from builder.errors import SpecError
from builder.store.store import Store
from tests.patterns import NAMES, files, ignore_file, kept, make, tree

FULL = os.environ.get("RELIABILITY") == "full"
SEED = int(os.environ.get("RELIABILITY_SEED", "1"))

TREE = (
    "a.txt", "b.md", "README.md", "readme.md", "Build/x", "dir/a.txt", "dir/b.md", "dir/sub/a.txt",
    "dir/sub/deep/b.md", "other/a.txt", "other/keep/a.txt", "other/keep/b.md", ".git/config",
    "node_modules/x/index.js", "dir/node_modules/y/index.js", "dir/.git/config", ".env", "dir/.env",
    "temp", "tempa", "temp1/x", "tmp/x", "dir/tmp/y", "empty/", "x.pyc", "dir/y.pyc", "!bang",
    "#hash", "a*b", "a-b", "axb", "ab", "a]b", "[x]", "^caret", "ä", "dir/äx", "new line",
    "back\\slash", "dist/p-1.0+g1.whl", "a(b)/c", "dollar$", "a.b", "a..b", "d/e/f/g", "d/e/x",
    "dd/e/x",
)  # fmt: skip

TABLE = (
    "", "# a.txt\n\n  \n#\nb.md", "#hash", " #hash", "\\#hash", "!bang", "\\!bang", "! bang",
    "\ufeffa.txt", "\ufeff# x\nb.md", "a.txt\r\nb.md\r\n", "a.txt\rb.md", "a.txt\fb.md",
    "   a.txt   \n\tb.md", "a.txt\xa0", "a.txt", "A.txt", "build", "BUILD", "readme.md", "**/a.txt",
    "/dir/a.txt", "//dir//a.txt", "dir/", "dir//", "/dir/", "./dir", "./dir/../other/", "dir/.",
    "dir/./sub", "../dir", "..", ".", "/", "./", "*/a.txt", "*/*/a.txt", "*/*", "*/", "*", "/*",
    "**", "**/", "/**", "**/*", "**/**", "***", "*/**", "**/*/**", "dir/**/b.md", "dir/**", "dir/*",
    "dir/**/", "dir**", "d**", "di**r", "**dir", "**/dir", "**/dir/**", "**/sub/**", "**/sub/*",
    "**/deep/b.md", "**/*.md", "**/b*", "*.md", "*.*", ".*", "**/.*", "**/.env", "**/.git",
    "**/.git/config", ".git", ".git/**", "**/node_modules", "node_modules", "**/node_modules/**",
    "**/tmp", "tmp", "temp?", "temp*", "t?mp", "??", "?", "?.md", "dir/?.txt", "dir?sub", "[ab].*",
    "[a-b].txt", "[!a].md", "[^a].md", "[^a]*", "[!a]*", "[a^]*", "[a-]", "[-a]", "[]a]", "[]", "[",
    "a[", "[a", "[^]", "[!]*", "[z-a]", "[\\]]*", "a[\\]]b", "a]b", "[[]x]", "\\[x]", "\\[x\\]",
    "[[:alpha:]]*", "[[:digit:]]*", "[[:^alpha:]]*", "[[:word:]]*", "[[:foo:]]", "[a-c]*",
    "[\\a-c]b", "[*]", "a[*]b", "a[?]b", "[.]env", ".[e]nv", "a[.]txt", "[ä]", "[ä-ö]", "?x", "ä",
    "dir/[^a]*", "a\\*b", "a\\?b", "\\*", "\\a.txt", "back\\\\slash", "back\\slash", "a.txt\\",
    "\\", "new line", "new\\ line", "\\d", "[\\d]*", "\\w*", "[\\w]*", "a\\.b", "a.b", "a..b",
    "d/e/*/g", "d/**/g", "d/e/f", "d/*/x", "**/e/x", "**/e", "*/e/x", "dd/../d", "x/../../d",
    "dist/*.whl", "dist/p-1.0+g1.whl", "*+*", "a(b)", "a(b)/*", "a(*", "dollar$", "dollar?", "*$",
    "^caret", "^*", "[\\^]caret", "{a,b}.txt", "a|b", "*\n!dir/sub/a.txt", "*\n!other/keep",
    "*\n!other", "*\n!*.md", "*\n!**/*.md", "**\n!**/*.md", "**/*.md\n!README.md",
    "!README.md\n**/*.md", "*.md\n! README.md", "*.md\n!/README.md", "*.md\n!./README.md",
    "other\n!other/keep\nother/keep/b.md", "dir\n!dir/sub", "dir\n!dir/sub/", "dir/\n!dir/sub/deep",
    "dir/*\n!dir/sub", "dir/**\n!dir/sub", "dir/**\n!dir/sub/deep/b.md", "dir\n!dir/*/a.txt",
    "dir\n!**/a.txt", "*\n!dir\ndir/sub", "*\n!dir\ndir/sub\n!dir/sub/deep", "**/tmp\n!nothing",
    "**/.env\n!nothing", "**/node_modules\n!nothing", "**/.git\n!dir/.git",
    "**/.git\n!dir/.git/config", "*/*\n!dir/a.txt", "!dir\n!a.txt", "*\n!.", "*\n!..", "*\n!/",
    "*\n!", "!", "! ", "!!bang", "*\n!!bang", "*\n!\\!bang", "/!bang", "*\n!dir/**", "*\n!dir/*",
    "*\n!d*", "*\n!**", "*\n!*", "*\n!**/", "**\n!dir", "**/*\n!dir", "a.txt\na.txt\n!a.txt",
    "*\n!a.txt\na.txt", ".dockerignore", "*\n!.dockerignore", "Dockerfile", "**.pyc", "**x", "**b",
    "**/**.pyc", "dir/**.pyc", "**y.pyc", "**.py?", "**.txt\n!a.txt", "dir\n!dir/a.txt\nd*",
    "**/a**b", "a**b", "a**/b", "a*/**/c", "**********b", "*********",
)  # fmt: skip

OLD = frozenset(
    each
    for each in TABLE
    # text was not quoted for the regular expression, stars at the front were no suffix
    if re.search(r"[+(){}|$]|(?<!\[)\^|^\*\*[^/*\n]", each)
) | {
    # what matches a folder further up was not seen, or seen where it is not now
    "dir\n!dir/a.txt\nd*",
}  # fmt: skip


@pytest.fixture(scope="module")
def sent() -> Iterator[Callable[[Path], set[str] | None]]:
    """What a docker client sends of a context to the classic builder; None when it refuses."""
    client = shutil.which("docker")
    said = subprocess.run([client or "true", "--version"], capture_output=True, text=True).stdout
    found = re.search(r"version (\d+)", said)
    if not found or int(found[1]) < 23:
        pytest.skip("needs a docker client of version 23 or newer")
    folder = tempfile.mkdtemp(prefix="takes-")
    received: list[bytes] = []
    handler = functools.partial(_Takes, received)
    with _Server(f"{folder}/socket", handler) as server:  # type: ignore[arg-type]  # it is called
        threading.Thread(target=server.serve_forever, daemon=True).start()
        environ = {"HOME": folder, "DOCKER_HOST": f"unix://{folder}/socket", "DOCKER_BUILDKIT": "0"}

        def send(context: Path) -> set[str] | None:
            received.clear()
            done = subprocess.run(
                [str(client), "build", "--quiet", str(context)], env=environ, capture_output=True
            )
            if done.returncode or not received:
                assert re.search(rb"syntax error|illegal exclusion", done.stderr), done.stderr
                return None
            with tarfile.open(fileobj=io.BytesIO(received[0])) as tar:
                return {name.rstrip("/") for name in tar.getnames()}

        yield send
        server.shutdown()
    shutil.rmtree(folder)


class _Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True


class _Takes(http.server.BaseHTTPRequestHandler):
    """As much of an engine as takes a context."""

    protocol_version = "HTTP/1.1"

    def __init__(self, received: list[bytes], *rest: Any) -> None:
        self.received = received
        super().__init__(*rest)

    def log_message(self, *args: object) -> None:
        pass

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        for name, value in (("Api-Version", "1.41"), ("Builder-Version", "1"), ("Ostype", "linux")):
            self.send_header(name, value)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self) -> None:
        self._answer(b'{"ApiVersion": "1.41", "Os": "linux", "Arch": "amd64", "Version": "20"}')

    do_HEAD = do_GET

    def do_POST(self) -> None:
        data = b""
        while size := int(self.rfile.readline(), 16):
            data += self.rfile.read(size)
            self.rfile.readline()
        self.rfile.readline()
        self.received.append(data)
        self._answer(b'{"stream": "Successfully built 0"}\n')


class Case:
    """A context with an ignore file, and what of it this builder keeps."""

    def __init__(self, root: Path, paths: tuple[str, ...] | list[str], text: str, store: Store):
        root.mkdir()
        make(root, paths)
        (root / "Dockerfile").write_text("FROM scratch\nCOPY . /\n")
        (root / ".dockerignore").write_text(text, newline="")
        self.root = root
        try:
            self.ours: set[str] | None = kept(root, store)
        except SpecError:
            self.ours = None

    def files(self, found: set[str]) -> set[str]:
        return files(found, self.root)

    def with_empty_folders(self, found: set[str]) -> set[str]:
        """Files, and folders that hold nothing. A folder that is left out but for something in it
        is not named by all."""
        return {
            path
            for path in found
            if path not in (".dockerignore", "Dockerfile")
            and not ((self.root / path).is_dir() and any((self.root / path).iterdir()))
        }


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(str(tmp_path / "store"))


@pytest.mark.parametrize("text", TABLE)
def test_the_table_is_what_a_docker_client_sends(
    sent: Any, tmp_path: Path, store: Store, text: str
) -> None:
    case = Case(tmp_path / "root", TREE, text, store)
    theirs = sent(case.root)
    assert (case.ours is None) == (theirs is None)
    if case.ours is not None:
        assert case.with_empty_folders(case.ours) == case.with_empty_folders(theirs)


def test_random_files_leave_out_what_a_docker_client_does(
    sent: Any, tmp_path: Path, store: Store
) -> None:
    rng = random.Random(SEED)
    refused = 0
    for number in range(5000 if FULL else 40):
        paths = tree(rng)
        text = ignore_file(rng, paths)
        case = Case(tmp_path / "root", paths, text, store)
        theirs = sent(case.root)
        if case.ours is None:
            # theirs may not have come to a line that is no pattern, or read `\b` as an edge
            refused += theirs is None
        else:
            assert theirs is not None, (number, text)
            ours = case.with_empty_folders(case.ours)
            assert ours == case.with_empty_folders(theirs), (number, paths, text)
        shutil.rmtree(case.root)
    assert refused


def _share(texts: tuple[str, ...]) -> list[str]:
    return [text for text in texts if text not in OLD][:: 1 if FULL else 6]


def _differences(
    root: Path, store: Store, known: frozenset[str], build: Callable[[Path], set[str] | None]
) -> list[Any]:
    """Each text of the table, but for those `known` to be read otherwise, with what only they and
    only we copy."""
    found = []
    for text in [text for text in TABLE if text not in known][:: 1 if FULL else 7]:
        case = Case(root, TREE, text, store)
        theirs = build(root)
        if case.ours is None or theirs is None:
            differs: Any = case.ours is not theirs and ("refused", case.ours is None)
        else:
            ours, theirs = case.files(case.ours), case.files(theirs)
            differs = ours != theirs and (sorted(theirs - ours), sorted(ours - theirs))
        if differs:
            found.append((text, differs))
        shutil.rmtree(root)
    return found


def _names(tar: bytes) -> set[str]:
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        return {name.rstrip("/") for name in archive.getnames()}


@pytest.mark.root
@pytest.mark.needs("dockerd")
def test_the_table_is_what_buildkit_copies(sides: Any, tmp_path: Path, store: Store) -> None:
    def build(root: Path) -> set[str] | None:
        tar, wrong = sides.run("build", "-q", "-o", "-", str(root), buildkit=True)
        return None if wrong else _names(tar)

    known = OLD | {"a.txt\rb.md", "a.txt\fb.md"}  # which its protocol does not carry
    found = _differences(tmp_path / "root", store, known, build)
    assert not found, "\n".join(map(repr, found))


@pytest.mark.root
@pytest.mark.needs("buildah")
def test_the_table_is_what_buildah_copies(tmp_path: Path, store: Store) -> None:
    out = tmp_path / "out.tar"
    folders = ["--root", f"{tmp_path}/images", "--runroot", f"{tmp_path}/run"]
    options = ["--isolation", "chroot", "--no-cache", "-o", f"type=tar,dest={out}"]

    def build(root: Path) -> set[str] | None:
        command = ["buildah", *folders, "--storage-driver", "vfs", "bud", "-q", *options, str(root)]
        done = subprocess.run(command, capture_output=True)
        return None if done.returncode else _names(out.read_bytes())

    known = OLD | {"*.md\n! README.md"}  # the blank is taken for a part of the name
    found = _differences(tmp_path / "root", store, known, build)
    assert not found, "\n".join(map(repr, found))


def test_the_table_is_long_enough() -> None:
    assert len(TABLE) == len(set(TABLE)) >= 200
    assert len(NAMES) == len(set(NAMES))

"""Commits of real git servers: what comes of them, and what does not."""

from __future__ import annotations

import io
import os
import random
import signal
import socket
import stat
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from builder.errors import BuilderError, TransportError
from builder.store.store import Store
from builder.transport.git import Files, Submodule, fetch, find
from builder.work.cancel import Cancel, Cancelled
from tests.transport.gitserver import GitServer, Repository

pytestmark = pytest.mark.needs("git")

ENVIRONMENT = {"PATH": os.environ["PATH"]}
TREES = int(os.environ.get("GIT_TREES", "6"))


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GitServer]:
    (tmp_path / "served").mkdir()
    running = GitServer(tmp_path / "served")
    yield running
    running.close()


@pytest.fixture
def repository(server: GitServer) -> Repository:
    return Repository(server.root / "it.git")


Get = Callable[..., Files]


@pytest.fixture
def get(store: Store, server: GitServer) -> Get:
    """get(commit, subdir="", url=the repository's, **more): fetch()."""

    def call(commit: str, subdir: str = "", url: str = "", **more: object) -> Files:
        options = {"environment": ENVIRONMENT, **more}
        address = url or f"{server.url}it.git/.git"
        try:
            return fetch(store, address, commit, subdir, **options)  # type: ignore[arg-type]
        finally:
            assert os.listdir(os.path.join(store.root, "tmp")) == []

    return call


Tree = dict[bytes, tuple[int, bytes]]


def held(store: Store, files: Files) -> Tree:
    """What a tar holds: path -> (type and mode, bytes or link)."""
    found: Tree = {}
    data = io.BytesIO(store.read(files.tar))
    with tarfile.open(fileobj=data, errors="surrogateescape") as tar:
        for member in tar:
            name = os.fsencode(member.name)
            assert (member.uid, member.gid, member.mtime) == (0, 0, 0) and name not in found
            if member.isdir():
                found[name] = (stat.S_IFDIR | member.mode, b"")
            elif member.issym():
                found[name] = (stat.S_IFLNK | member.mode, os.fsencode(member.linkname))
            else:
                content = tar.extractfile(member)
                assert content is not None
                found[name] = (stat.S_IFREG | member.mode, content.read())
    return found


def checked_out(repository: Repository, commit: str, folder: Path) -> Tree:
    """The same as git's own checkout has it."""
    folder.mkdir()
    repository.git(f"--work-tree={folder}", "checkout", "--force", commit, "--", ".")
    found: Tree = {}
    top = os.fsencode(folder)
    for at, folders, files in os.walk(top):
        for name in folders + files:
            path = os.path.join(at, name)
            mode = os.lstat(path).st_mode
            data = b""
            if stat.S_ISLNK(mode):
                data, mode = os.readlink(path), stat.S_IFLNK | 0o777
            elif stat.S_ISDIR(mode):
                mode = stat.S_IFDIR | 0o755
            else:
                data = Path(os.fsdecode(path)).read_bytes()
                mode = stat.S_IFREG | (0o755 if mode & 0o100 else 0o644)
            found[os.path.relpath(path, top)] = (mode, data)
    return found


def said(error: pytest.ExceptionInfo[BuilderError]) -> str:
    assert "\n" not in error.value.message, error.value.message
    return f"{error.value.message} | {error.value.hint}"


# -- what comes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["sha1", "sha256"])
@pytest.mark.parametrize("old", [False, True])
def test_random_trees_are_as_git_checks_them_out(
    store: Store, server: GitServer, get: Get, tmp_path: Path, kind: str, old: bool
) -> None:
    server.old = old
    repository = Repository(server.root / "random.git", kind)
    url = f"{server.url}random.git/.git"
    pick = random.Random(f"{kind} {old}")
    names = ["a", "b.c", "b", "x y", "\u00e4\u00f6", "-f", "n\nl", 'q"t', "w\\b", ".hid", "z" * 120]
    commits = []
    for _ in range(TREES):
        files: dict[str, bytes | str | None] = {}
        for _ in range(pick.randrange(1, 12)):
            depth = pick.randrange(3)
            parts = [pick.choice(names) + f"-{level}" for level in range(depth)]
            name = "/".join([*parts, pick.choice(names)])
            size = pick.choice([0, 1, 511, 512, 513, 100_000])
            kinds = [pick.randbytes(size), pick.randbytes(size), "../out/of/here", "/etc/passwd"]
            files[name] = pick.choice(kinds)
        repository.git("rm", "-r", "--quiet", "--ignore-unmatch", ".")
        commits.append(repository.commit(files))
        for path in repository.path.rglob("a"):
            if path.is_file() and not path.is_symlink() and ".git" not in path.parts:
                path.chmod(0o755)
        commits.append(repository.commit())
    for number, commit in enumerate(commits):
        files_ = get(commit, url=url)
        wanted = checked_out(repository, commit, tmp_path / f"{number}")
        assert held(store, files_) == wanted, (kind, old, number)


def test_no_attribute_alters_a_file(store: Store, repository: Repository, get: Get) -> None:
    attributes = b"""
*.txt text eol=crlf
*.sub export-subst
hidden export-ignore
*.fil filter=evil
*.enc working-tree-encoding=UTF-16
*.id ident
"""
    files: dict[str, bytes | str | None] = {
        "a.txt": b"one\ntwo\n",
        "b.sub": b"$Format:%H$",
        "hidden/c": b"here",
        "d.id": b"$Id$",
        "e.enc": b"plain",
    }
    repository.commit(files)
    (repository.path / ".gitattributes").write_bytes(attributes)
    repository.git("add", ".gitattributes")
    repository.git("commit", "--quiet", "-m", "it")
    commit = repository.git("rev-parse", "HEAD")
    found = held(store, get(commit))
    for name, data in files.items():
        assert found[name.encode()][1] == data


def test_the_history_stays_where_it_is(
    store: Store, server: GitServer, repository: Repository, get: Get
) -> None:
    """Also of a commit that is no branch's: what came before and after it does not come."""
    pick = random.Random(3)
    for number in range(20):
        repository.commit({"big": pick.randbytes(200_000), "n": b"%d" % number})
        if number == 10:
            wanted = repository.git("rev-parse", "HEAD")
    get(wanted)
    assert 200_000 < server.sent < 250_000
    requests = len(server.requests)
    get(wanted)
    assert len(server.requests) == requests


def test_an_old_server_gives_what_it_can(
    store: Store, server: GitServer, repository: Repository, get: Get
) -> None:
    first = repository.commit({"a": b"1"})
    repository.commit({"a": b"2"})
    repository.git("branch", "side")
    side = repository.commit({"a": b"3"})
    server.old = True
    assert held(store, get(first))[b"a"][1] == b"1"
    assert held(store, get(side))[b"a"][1] == b"3"
    gone = repository.commit({"a": b"4"})
    repository.git("reset", "--quiet", "--hard", "HEAD~1")
    with pytest.raises(TransportError, match="no branch or tag there has the commit") as caught:
        get(gone)
    assert "git ls-remote http://127.0.0.1" in said(caught)


def test_git_daemon_serves(store: Store, server: GitServer, repository: Repository) -> None:
    commit = repository.commit({"a": b"1"})
    repository.commit({"a": b"2"})
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["git", "daemon", f"--base-path={server.root}", "--export-all", "--listen=127.0.0.1"]
    daemon = subprocess.Popen([*words, f"--port={port}"], start_new_session=True)
    try:
        for _ in range(100):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.05)
        url = f"git://127.0.0.1:{port}/it.git/.git"
        files = fetch(store, url, commit, environment=ENVIRONMENT)
        assert held(store, files) == {b"a": (stat.S_IFREG | 0o644, b"1")}
    finally:
        os.killpg(daemon.pid, signal.SIGKILL)
        daemon.wait()


SSH = """#!/bin/sh
echo "$@" >> LOG
for last; do :; done
exec sh -c "$last"
"""


@pytest.mark.parametrize("form", ["ssh://me@host.example:22/PATH", "me@host.example:PATH"])
def test_ssh_asks_nobody_and_has_the_callers_keys(
    store: Store, repository: Repository, tmp_path: Path, form: str
) -> None:
    """By a program that stands for ssh. HOME is another one than the system knows of us, as it is
    in a user namespace."""
    commit = repository.commit({"a": b"1"})
    home = tmp_path / "the home"
    (home / ".ssh").mkdir(parents=True)
    for name in ("known_hosts", "id_ed25519"):
        (home / ".ssh" / name).write_text("")
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin/ssh"
    program.write_text(SSH.replace("LOG", str(tmp_path / "log")))
    program.chmod(0o755)
    path = f"{tmp_path / 'bin'}:{os.environ['PATH']}"
    url = form.replace("/PATH", f"{repository.path}").replace("PATH", f"{repository.path}")
    files = fetch(store, url, commit, environment={"PATH": path, "HOME": str(home)})
    assert held(store, files)[b"a"][1] == b"1"
    asked = (tmp_path / "log").read_text()
    assert "BatchMode=yes" in asked and "me@host.example" in asked
    assert f"UserKnownHostsFile={home}/.ssh/known_hosts" in asked
    assert f"IdentityFile={home}/.ssh/id_ed25519" in asked and "-F" not in asked


def test_a_folder_of_it(store: Store, repository: Repository, get: Get) -> None:
    commit = repository.commit({"docs/api/a": b"1", "docs/b": b"2", "c": b"3"})
    assert set(held(store, get(commit, "docs"))) == {b"api", b"api/a", b"b"}
    assert set(held(store, get(commit, "docs/api"))) == {b"a"}
    for wrong, near in (("doc", "'docs'"), ("c", ""), ("docs/apo", "'docs/api'"), ("-x", "")):
        with pytest.raises(TransportError, match="has no folder") as caught:
            get(commit, wrong)
        assert near in said(caught)


def test_submodules_are_told(server: GitServer, repository: Repository, get: Get) -> None:
    other = Repository(server.root / "other.git")
    inner = other.commit({"x": b"1"})
    repository.git("submodule", "--quiet", "add", str(other.path), "lib/other")
    commit = repository.commit({"lib/a": b"1"})
    assert get(commit).submodules == (Submodule("lib/other", inner),)
    assert get(commit, "lib").submodules == (Submodule("other", inner),)


def test_the_same_files_are_the_same_tar(
    store: Store, server: GitServer, repository: Repository, get: Get
) -> None:
    first, again = repository.commit({"a": b"1"}), repository.commit()
    assert first != again
    assert get(first).tar == get(again).tar
    url = f"{server.url}it.git/.git/"
    assert find(store, url, first, "") is None
    assert get(first, url=url).tar == get(first).tar


# -- what does not come -------------------------------------------------------------------------


def test_what_is_no_commit(repository: Repository, get: Get) -> None:
    commit = repository.commit({"a": b"1"})
    repository.git("tag", "-a", "-m", "it", "v1")
    tag, tree = repository.git("rev-parse", "v1"), repository.git("rev-parse", "HEAD^{tree}")
    with pytest.raises(TransportError, match="is a tag, expected a commit") as caught:
        get(tag)
    assert f"commit: {commit}" in said(caught)
    with pytest.raises(TransportError, match="is a tree, expected a commit"):
        get(tree)
    for text in ("main", commit[:12], "HEAD", "", "-x", commit + "0", "g" * 40):
        with pytest.raises(BuilderError, match="not the whole id of a commit"):
            get(text)


@pytest.mark.parametrize(
    "url",
    [
        "file:///etc", "/etc", "./x", "ext::sh -c x", "ext::https://h/x", "http://a:s3cret@h/x",
        "https://ann@h/x", "ssh://ann:s3cret@h/x", "-oProxyCommand=x", "ssh://-oProxyCommand=x/y",
        "git@-h:x", "ftp://h/x", "https://h/a b", "fd::17/x", "transport-helper::x", "",
    ],
)  # fmt: skip
def test_other_addresses_are_refused(get: Get, url: str) -> None:
    with pytest.raises(BuilderError) as caught:
        get("0" * 40, url=url or " ")
    assert "s3cret" not in said(caught)


def test_who_is_not_there(server: GitServer, repository: Repository, get: Get) -> None:
    commit = repository.commit({"a": b"1"})
    for url, word in (
        (f"{server.url}none.git", "is the address right"),
        ("http://127.0.0.1:1/x", "is the server there"),
        ("git://127.0.0.1:1/x", "is the server there"),
    ):
        with pytest.raises(TransportError, match="git failed") as caught:
            get(commit, url=url)
        assert word in said(caught)
    with pytest.raises(TransportError, match="has the commit"):
        get("1" * 40)
    with pytest.raises(TransportError, match="git is not installed") as caught:
        get(commit, environment={"PATH": "/nonexistent"})
    assert "apt-get install git" in said(caught)


def test_names_and_passwords(
    server: GitServer, repository: Repository, get: Get, tmp_path: Path
) -> None:
    commit = repository.commit({"a": b"1"})
    server.user = "YW5uOnMzY3JldA=="
    began = time.monotonic()
    with pytest.raises(TransportError, match="git failed") as caught:
        get(commit)
    assert "~/.netrc" in said(caught) and time.monotonic() - began < 5
    (tmp_path / ".netrc").write_text("machine 127.0.0.1 login ann password s3cret\n")
    get(commit, environment={**ENVIRONMENT, "HOME": str(tmp_path)})


def test_no_configuration_but_ours_counts(
    server: GitServer, repository: Repository, get: Get, tmp_path: Path
) -> None:
    commit = repository.commit({"a": b"1"})
    ran = tmp_path / "ran"
    (tmp_path / ".gitconfig").write_text(
        f'[credential]\n\thelper = "!touch {ran}"\n[core]\n\thooksPath = /nowhere\n'
        f'\tfsmonitor = "touch {ran}"\n[url "http://127.0.0.1:1/"]\n\tinsteadOf = {server.url}\n'
    )
    server.user = "YW5uOnMzY3JldA=="
    with pytest.raises(TransportError, match=r"~/.netrc|git failed"):
        get(commit, environment={**ENVIRONMENT, "HOME": str(tmp_path)})
    server.user = ""
    get(commit, environment={**ENVIRONMENT, "HOME": str(tmp_path), "GIT_SSL_NO_VERIFY": "1"})
    assert not ran.exists()


@pytest.mark.needs("openssl")
def test_tls_is_checked_and_never_left(
    store: Store, server: GitServer, repository: Repository, tmp_path: Path
) -> None:
    commit = repository.commit({"a": b"1"})
    tls = (str(tmp_path / "crt"), str(tmp_path / "key"))
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=us", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-out", tls[0], "-keyout", tls[1]),
        ],
        check=True,
        capture_output=True,
    )
    secure = GitServer(server.root, tls)
    try:
        url = f"{secure.url}it.git/.git"
        with pytest.raises(TransportError) as caught:
            fetch(store, url, commit, environment=ENVIRONMENT)
        assert "SSL_CERT_FILE" in said(caught)
        known = {**ENVIRONMENT, "SSL_CERT_FILE": tls[0]}
        secure.moved = server.url
        with pytest.raises(TransportError, match="git failed"):
            fetch(store, url, commit, environment=known)
        assert not server.requests
        secure.moved = ""
        fetch(store, url, commit, environment=known)
    finally:
        secure.close()


BAD_TREES = {
    "..": b"40000 ..\0",
    ".git": b"40000 .git\0",
    ".GIT": b"40000 .GIT\0",
    "slash": b"40000 a/b\0",
    "whiteout": b"40000 .wh.x\0",
}


@pytest.mark.parametrize("name", BAD_TREES)
def test_hostile_trees_are_refused(repository: Repository, get: Get, name: str) -> None:
    commit = repository.commit({"a": b"1"})
    tree = bytes.fromhex(repository.git("rev-parse", "HEAD^{tree}"))
    bad = repository.git(
        "hash-object", "-t", "tree", "-w", "--literally", "--stdin", data=BAD_TREES[name] + tree
    )
    hostile = repository.git("commit-tree", "-m", "x", bad)
    repository.git("update-ref", "refs/heads/hostile", hostile)
    with pytest.raises(TransportError) as caught:
        get(hostile)
    assert "cannot be a file of an image" in said(caught) or "git's own check" in said(caught)
    get(commit)


def test_old_ways_to_write_commits_are_taken(repository: Repository, get: Get) -> None:
    repository.commit({"a": b"1"})
    tree = repository.git("rev-parse", "HEAD^{tree}")
    text = f"tree {tree}\nauthor n<e@h> 10 +051800\ncommitter n <e> 010 +051800\n\nm\n"
    words = ("hash-object", "-t", "commit", "-w", "--literally", "--stdin")
    commit = repository.git(*words, data=text.encode())
    repository.git("update-ref", "refs/heads/old", commit)
    get(commit)


@pytest.mark.root
def test_a_disk_is_not_filled(server: GitServer, repository: Repository, tmp_path: Path) -> None:
    commit = repository.commit({"zeros": bytes(150_000_000)})
    code = f"""
import sys
from builder.store.store import Store
from builder.transport.git import fetch
store = Store("small/store")
try:
    fetch(store, sys.argv[1], {commit!r}, environment={ENVIRONMENT!r})
except Exception as error:
    print(type(error).__name__, error)
store.close()
"""
    (tmp_path / "small").mkdir()
    script = 'mount -t tmpfs -o size=120m tmpfs small && exec "$@"'
    url = f"{server.url}it.git/.git"
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", sys.executable, "-c", code, url],
        cwd=tmp_path, capture_output=True, text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert done.stdout.startswith("StoreError no room"), done


# -- how it ends --------------------------------------------------------------------------------


def gits() -> list[str]:
    """Living git processes that were told our settings."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes()
        except OSError:
            continue
        if b"git" in words and b"core.bigFileThreshold" in words:
            found.append(words.decode("utf-8", "replace"))
    return found


def test_cancel_ends_it(store: Store, server: GitServer, repository: Repository) -> None:
    commit = repository.commit({"a": b"1"})
    server.hang = True
    cancel, ended = Cancel(), []

    def work() -> None:
        try:
            url = f"{server.url}it.git/.git"
            fetch(store, url, commit, environment=ENVIRONMENT, cancel=cancel)
        except Cancelled:
            ended.append(time.monotonic())

    thread = threading.Thread(target=work)
    thread.start()
    while not server.requests:
        time.sleep(0.01)
    began = time.monotonic()
    cancel.set()
    thread.join(10)
    server.hang = False
    assert ended and ended[0] - began < 1.0
    assert os.listdir(os.path.join(store.root, "tmp")) == [] and not gits()


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_a_signal_leaves_no_process(
    store: Store, server: GitServer, repository: Repository, how: signal.Signals
) -> None:
    commit = repository.commit({"a": b"1"})
    server.hang = True
    code = f"""
import sys
from builder.store.store import Store
from builder.transport.git import fetch
store = Store({store.root!r})
try:
    fetch(store, sys.argv[1], {commit!r}, environment={ENVIRONMENT!r})
finally:
    store.close()
"""
    running = subprocess.Popen(
        [sys.executable, "-c", code, f"{server.url}it.git/.git"], stderr=subprocess.DEVNULL
    )
    while not server.requests:
        time.sleep(0.01)
    began = time.monotonic()
    running.send_signal(how)
    running.wait()
    while gits() and time.monotonic() - began < 5:
        time.sleep(0.02)
    assert time.monotonic() - began < 2, gits()
    store.sweep()
    assert os.listdir(os.path.join(store.root, "tmp")) == []
    server.hang = False
    fetch(store, f"{server.url}it.git/.git", commit, environment=ENVIRONMENT)


def test_two_who_want_one_commit_ask_once(
    store: Store, server: GitServer, repository: Repository
) -> None:
    commit = repository.commit({"a": b"1"})
    got: list[Files] = []

    def work() -> None:
        got.append(fetch(store, f"{server.url}it.git/.git", commit, environment=ENVIRONMENT))

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(got) == 4 and len(set(got)) == 1
    assert sum("info/refs" in each for each in server.requests) == 1

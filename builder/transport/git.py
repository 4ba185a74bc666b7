"""Git: the files of one commit into the store, as a tar.

The `git` program fetches and reads objects; nothing is checked out, so no hook, filter or attribute
of the repository, and no configuration but ours, has a say in what the files are. See
docs/decisions/0017-git.md.
"""

from __future__ import annotations

import contextlib
import os
import re
import select
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import IO, TYPE_CHECKING, NamedTuple

from builder.errors import StoreError, TransportError, masked, without_passwords
from builder.layer.entry import DIRECTORY, FILE, SYMLINK, WHITEOUT, Entry
from builder.layer.header import Headers, end_of_archive, padding
from builder.oci.digest import hex_of
from builder.oci.image import Descriptor, encode
from builder.spec.address import check_git, parse_commit
from builder.store.files import readable
from builder.store.names import parse_descriptor
from builder.store.records import parse_object
from builder.transport.base import Tell, quiet
from builder.work.cancel import Cancel

if TYPE_CHECKING:
    from builder.store.store import Store

_VERSION = 1
"""Raised when the same commit would give another tar."""
TAR = "application/x-tar"

_SILENCE = 300.0  # seconds after which git is taken to hang
_LEAVE = 64 << 20  # bytes that stay free on the disk
_CHUNK = 1 << 20
_SETTINGS = (
    *("core.hooksPath=/dev/null", "core.fsmonitor=false", "core.attributesFile=/dev/null"),
    *("core.askPass=", "credential.helper=", "gc.auto=0", "maintenance.auto=false"),
    *("fetch.recurseSubmodules=false", "fetch.writeCommitGraph=false", "transfer.bundleURI=false"),
    *("http.lowSpeedLimit=1000", "http.lowSpeedTime=60", "core.bigFileThreshold=64m"),
    *("transfer.fsckObjects=true", "fetch.fsckObjects=true", "protocol.ext.allow=never"),
    # faults of old commits and tags, and a way to write a mode: no file is another for them
    *(
        f"fetch.fsck.{each}=ignore"
        for each in (
            *("badDate", "badDateOverflow", "badEmail", "badName", "badTagName", "badTimezone"),
            *("missingEmail", "missingNameBeforeEmail", "missingSpaceBeforeDate"),
            *("missingSpaceBeforeEmail", "missingTaggerEntry", "multipleAuthors", "nulInCommit"),
            *("zeroPaddedDate", "zeroPaddedFilemode"),
        )
    ),
)
_PASSED_ON = (
    *("HOME", "PATH", "SSH_AUTH_SOCK", "GIT_SSH_COMMAND"),
    *("http_proxy", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"),
    *("no_proxy", "NO_PROXY"),
)
_SSH = "ssh -o BatchMode=yes -o ConnectTimeout=10 -o ServerAliveInterval=15"
_UNASKED = "unadvertised object|shallow capabilities|not support shallow|want .* not valid"
"""What a fetch of one commit says where the server gives its branches and tags only."""


class Submodule(NamedTuple):
    path: str  # from the folder that was asked for
    commit: str


class Files(NamedTuple):
    """The files of a commit. A submodule is an empty folder in the tar."""

    tar: Descriptor
    submodules: tuple[Submodule, ...]


def find(store: Store, url: str, commit: str, subdir: str) -> Files | None:
    """What was fetched before, if it is in the store."""
    known = parse_object(store.load("memos", _name(url, commit, subdir))) or {}
    blob, listed = parse_descriptor(known.get("tar")), known.get("submodules")
    if blob is None or not isinstance(listed, list):
        return None
    pairs = [each for each in listed if isinstance(each, list) and len(each) == 2]
    submodules = tuple(Submodule(str(path), str(id_)) for path, id_ in pairs)
    return Files(blob, submodules) if store.claim(blob) else None


def fetch(
    store: Store,
    url: str,
    commit: str,
    subdir: str = "",
    *,
    environment: Mapping[str, str],
    tell: Tell = quiet,
    cancel: Cancel | None = None,
) -> Files:
    """The files below `subdir` (no slash at its ends; "": all) as `commit`, a whole id, has them.
    They come if they are not here yet. Raises TransportError, StoreError."""
    check_git(url)
    commit = parse_commit(commit)
    name = _name(url, commit, subdir)
    with store.lock(name, f"{url} {commit[:12]}"):
        if found := find(store, url, commit, subdir):
            return found
        folder = store.temporary()
        try:
            git = _Git(folder, url, environment, tell, cancel or Cancel())
            git.bring(commit)
            files = git.write(store, git.tree(commit, subdir))
        finally:
            shutil.rmtree(folder, ignore_errors=True)
        known = {"tar": files.tar.document(), "submodules": [list(each) for each in files[1]]}
        store.save("memos", name, encode(known))
        return files


def _name(url: str, commit: str, subdir: str) -> str:
    return "git-" + hex_of(encode([_VERSION, url, commit, subdir]))


class _Git:
    """A repository of our own in `folder`, which is empty, and what is fetched into it."""

    def __init__(
        self, folder: str, url: str, environment: Mapping[str, str], tell: Tell, cancel: Cancel
    ) -> None:
        self._folder, self._url, self._tell, self._cancel = folder, url, tell, cancel
        passed = {name: environment[name] for name in _PASSED_ON if name in environment}
        scheme = url.partition("://")[0].lower() if "://" in url else "ssh"
        allowed = {"http": "http:https"}.get(scheme, scheme)  # nothing leads from TLS to without
        self._environment = {
            "GIT_SSH_COMMAND": _SSH,
            **passed,
            "GIT_ALLOW_PROTOCOL": allowed,
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_DIR": folder,
            "GIT_NO_LAZY_FETCH": "1",
            "GIT_NO_REPLACE_OBJECTS": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "LC_ALL": "C",
            "TMPDIR": folder,
        }
        if authorities := environment.get("SSL_CERT_FILE"):
            self._environment["GIT_SSL_CAINFO"] = authorities
        self._free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize - _LEAVE
        if self._free <= 0:
            raise self._no_room()

    # -- what comes -------------------------------------------------------------------------------

    def bring(self, commit: str) -> None:
        """The commit, its tree and its files, and no more where the server can do that."""
        kind = "sha256" if len(commit) == 64 else "sha1"
        self._run(["init", "--bare", "--quiet", "--template=", f"--object-format={kind}"])
        options = ("--progress", "--no-tags", "--no-recurse-submodules", "--no-write-fetch-head")
        status, said = self._ask(["fetch", "--depth=1", *options, "--", self._url, commit])
        if status and re.search(_UNASKED, said):
            refs = ("+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*")
            status, said = self._ask(["fetch", *options, "--", self._url, *refs])
        if status:
            raise self._failure(commit, status, said)
        status, said = self._ask(["cat-file", "-t", commit])
        if status:
            raise self._missing(commit)
        if said.strip() != "commit":
            hint = None
            if said.strip() == "tag":
                hint = f"write commit: {self._run(['rev-parse', f'{commit}^{{commit}}']).strip()}"
            raise TransportError(
                f"{self._shown}: {commit} is a {said.strip()[:20]}, expected a commit", hint
            )

    def tree(self, commit: str, subdir: str) -> str:
        """The id of a folder."""
        what = f"{commit}:{subdir}"
        status, said = self._ask(["rev-parse", "--verify", "--quiet", what])
        if not status and self._run(["cat-file", "-t", said.strip()]).strip() == "tree":
            return said.strip()
        import difflib

        listed = self._run(["ls-tree", "-r", "-d", "-z", "--name-only", commit]).split("\0")
        near = difflib.get_close_matches(subdir, listed, n=3, cutoff=0.5)
        raise TransportError(
            f"{self._shown}: commit {commit[:12]} has no folder {subdir!r}",
            f"did you mean {' or '.join(map(repr, near))}?" if near else None,
        )

    # -- what is read -----------------------------------------------------------------------------

    def write(self, store: Store, tree: str) -> Files:
        """The files below a folder as a tar: objects as they are, modes as git has them."""
        submodules = []
        headers = Headers()
        with (
            self._piped(["ls-tree", "-r", "-t", "-z", tree]) as (_, listed),
            self._piped(["cat-file", "--batch"]) as (asked, objects),
            store.incoming() as incoming,
        ):
            for mode, object_id, path in _entries(listed):
                _check_path(path, self._shown)
                if mode == b"160000":
                    submodules.append(Submodule(os.fsdecode(path), object_id.decode()))
                if mode in (b"040000", b"160000"):
                    incoming.write(headers.of(Entry(path, DIRECTORY, 0o755)))
                    continue
                asked.write(object_id + b"\n")
                asked.flush()
                kind, size = self._header(objects, object_id)
                if kind != b"blob" or mode not in _MODES:
                    shown = f"{os.fsdecode(path)!r} is a {mode.decode()} {kind.decode()}"
                    raise TransportError(f"{self._shown}: {shown}, which git has not")
                if incoming.size + size > self._free:
                    raise self._no_room(incoming.size + size)
                if mode == b"120000":
                    if size > 4095:
                        raise TransportError(f"{self._shown}: {os.fsdecode(path)!r}: a long link")
                    link = b"".join(self._pieces(objects, size))
                    incoming.write(headers.of(Entry(path, SYMLINK, 0o777, link=link)))
                else:
                    incoming.write(headers.of(Entry(path, FILE, _MODES[mode], size=size)))
                    for piece in self._pieces(objects, size):
                        incoming.write(piece)
                    incoming.write(bytes(padding(size)))
                objects.read(1)  # a newline
            incoming.write(end_of_archive())
            return Files(incoming.publish(TAR), tuple(submodules))

    def _header(self, objects: IO[bytes], object_id: bytes) -> tuple[bytes, int]:
        parts = objects.readline(300).split()
        if len(parts) != 3 or parts[0] != object_id:
            raise self._lost()
        return parts[1], int(parts[2])

    def _pieces(self, objects: IO[bytes], size: int) -> Iterator[bytes]:
        while size:
            piece = objects.read(min(size, _CHUNK))
            if not piece:
                raise self._lost()
            size -= len(piece)
            yield piece

    # -- the program ------------------------------------------------------------------------------

    def _run(self, words: Sequence[str]) -> str:
        status, said = self._ask(words)
        if status:
            raise self._failure("", status, said)
        return said

    def _ask(self, words: Sequence[str]) -> tuple[int, str]:
        """The status, and what was said: the output, or why it failed. Progress is told."""
        with self._running(words, stderr=subprocess.PIPE) as process:
            assert process.stdout and process.stderr  # they are pipes
            outputs = {process.stdout: bytearray(), process.stderr: bytearray()}
            waiting = dict(outputs)
            while waiting:
                ready, _, _ = select.select(list(waiting), [], [], _SILENCE)
                if not ready:
                    raise TransportError(
                        f"{self._shown}: git was silent for {_SILENCE:g} s, and was ended",
                        "try again later: perhaps the server is busy",
                    )
                for stream in ready:
                    chunk = os.read(stream.fileno(), 1 << 16)
                    if not chunk:
                        del waiting[stream]
                        continue
                    waiting[stream] += chunk
                    if stream is process.stderr:
                        self._tell(chunk)
                        del waiting[stream][: -(1 << 16)]
            status = process.wait()
        said = outputs[process.stderr if status else process.stdout]
        return status, bytes(said).decode("utf-8", "surrogateescape")

    @contextlib.contextmanager
    def _piped(self, words: Sequence[str]) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
        """Its input and output. Raises TransportError when it failed."""
        with self._running(words, stderr=subprocess.DEVNULL, stdin=subprocess.PIPE) as process:
            assert process.stdin and process.stdout  # they are pipes
            yield process.stdin, process.stdout
            process.stdin.close()
            if process.wait():
                raise self._lost()

    @contextlib.contextmanager
    def _running(
        self, words: Sequence[str], *, stderr: int, stdin: int = subprocess.DEVNULL
    ) -> Iterator[subprocess.Popen[bytes]]:
        """git in a process group of its own, which has ended when this ends, and when we do."""
        settings = [part for each in _SETTINGS for part in ("-c", each)]
        around = [
            *("prlimit", f"--fsize={self._free}", "--"),
            *("setpriv", "--pdeathsig", "KILL", "--"),
        ]
        if not all(shutil.which(each) for each in ("prlimit", "setpriv")):
            around = []  # both are of util-linux
        path = self._environment.get("PATH")
        if shutil.which("git", path=path) is None:
            raise TransportError(
                f"{self._shown}: git is not installed, which fetches it", "apt-get install git"
            )
        process = subprocess.Popen(
            [*around, "git", *settings, *words],
            env=self._environment,
            cwd=self._folder,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=stderr,
            start_new_session=True,  # a Ctrl-C comes through us
        )
        end = partial(_kill, process.pid)
        try:
            with self._cancel.ending(end):
                yield process
        finally:
            end()
            process.wait()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream:
                    with contextlib.suppress(OSError):
                        stream.close()

    # -- errors -----------------------------------------------------------------------------------

    @property
    def _shown(self) -> str:
        return masked(self._url) if "://" in self._url else self._url

    def _lost(self) -> TransportError:
        return TransportError(f"{self._shown}: git could not read what it had fetched")

    def _no_room(self, needed: int = 0) -> StoreError:
        what = f" for {readable(needed)}" if needed else ""
        return StoreError(
            f"no room{what} on the disk that holds {self._folder}",
            "`builder cache gc --max-age 7d` frees space; --cache-dir takes another disk",
        )

    def _missing(self, commit: str) -> TransportError:
        return TransportError(
            f"{self._shown}: no branch or tag there has the commit {commit}",
            f"see which there are: git ls-remote {self._shown}",
        )

    def _failure(self, commit: str, status: int, said: str) -> TransportError | StoreError:
        if "not our ref" in said or "no matching remote" in said:
            return self._missing(commit)
        if "signal 25" in said or status in (-signal.SIGXFSZ, 128 + signal.SIGXFSZ):
            return self._no_room(self._free)
        lines = [line.strip() for line in re.split("[\r\n]", said) if line.strip()]
        faults = [line for line in lines if re.match("(fatal|error|remote|ssh|ERROR)", line)]
        best = [line for line in faults if "Could not read from remote" not in line]
        text = "; ".join((best or faults or lines or [f"status {status}"])[-2:])
        text = "".join(c if c.isprintable() else " " for c in without_passwords(text))[:300]
        hint = next((hint for pattern, hint in _HINTS if re.search(pattern, said)), None)
        return TransportError(f"{self._shown}: git failed: {text}", hint)


_MODES = {b"100644": 0o644, b"100755": 0o755, b"100664": 0o644, b"120000": 0o777}
"""100664 is what very old versions wrote."""
_HINTS = (
    ("fsck error", "the repository holds objects that git's own check refuses"),
    ("Host key verification", "check its key, and put it into ~/.ssh/known_hosts: ssh-keyscan"),
    ("Permission denied", "ssh takes keys of ~/.ssh and of an agent: ssh-add -l lists those"),
    (
        "prompts disabled|could not read (Username|Password)|Authentication failed|error: 40[13]",
        "is the address right? A private one needs a line in ~/.netrc: machine HOST login NAME"
        " password SECRET",
    ),
    ("not found|not appear to be a git|does not exist|not exported", "is the address right?"),
    ("resolve host|[Nn]ame or service", "check the spelling, the network and its DNS"),
    ("refused|timed out|Couldn't connect", "is the server there, and is a proxy needed?"),
    ("certificate", "name its CA with SSL_CERT_FILE"),
)


def _entries(listed: IO[bytes]) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Mode, id and path of what `ls-tree -z` lists."""
    rest = b""
    while chunk := listed.read(1 << 16):
        *lines, rest = (rest + chunk).split(b"\0")
        for line in lines:
            told, _, path = line.partition(b"\t")
            mode, _, object_id = told.split(b" ")
            yield mode, object_id, path


def _check_path(path: bytes, where: str) -> None:
    for part in path.split(b"/"):
        if part.lower() in (b"", b".", b"..", b".git") or part.startswith(WHITEOUT):
            raise TransportError(f"{where}: {os.fsdecode(path)!r} cannot be a file of an image")


def _kill(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)

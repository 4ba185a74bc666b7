"""The git program: how it is run for us, and what its failures mean.

No configuration but ours counts, nothing is asked of anybody, and it ends with us.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import selectors
import shlex
import shutil
import signal
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import IO

from builder.errors import StoreError, TransportError, masked, without_passwords
from builder.store.files import readable
from builder.transport.base import Tell
from builder.work.cancel import Cancel

_SILENCE = 300.0  # seconds after which git is taken to hang
_LEAVE = 64 << 20  # bytes that stay free on the disk
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
_SSH_FILES = (
    ("-F ", "config"),
    ("-o UserKnownHostsFile=", "known_hosts"),
    *(("-o IdentityFile=", name) for name in ("id_ed25519", "id_ecdsa", "id_rsa")),
)


class Git:
    """Runs git on the repository in `folder`, which may fetch from `url`. `free`: bytes that what
    comes may take."""

    def __init__(
        self, folder: str, url: str, environment: Mapping[str, str], tell: Tell, cancel: Cancel
    ) -> None:
        self.folder, self.url, self._tell, self._cancel = folder, url, tell, cancel
        passed = {name: environment[name] for name in _PASSED_ON if name in environment}
        scheme = url.partition("://")[0].lower() if "://" in url else "ssh"
        allowed = {"http": "http:https"}.get(scheme, scheme)  # nothing leads from TLS to without
        self._environment = {
            "GIT_SSH_COMMAND": _ssh(environment),
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
        self.free = os.statvfs(folder).f_bavail * os.statvfs(folder).f_frsize - _LEAVE
        if self.free <= 0:
            raise self.no_room()

    # -- the program ------------------------------------------------------------------------------

    def run(self, words: Sequence[str]) -> str:
        status, said = self.ask(words)
        if status:
            raise self.failure("", status, said)
        return said

    def ask(self, words: Sequence[str]) -> tuple[int, str]:
        """The status, and what was said: the output, or why it failed. Progress is told."""
        running = self._running(words, stderr=subprocess.PIPE)
        with running as process, selectors.DefaultSelector() as waiting:
            assert process.stdout and process.stderr  # they are pipes
            outputs = {process.stdout: bytearray(), process.stderr: bytearray()}
            for stream in outputs:
                waiting.register(stream, selectors.EVENT_READ)
            while waiting.get_map():
                ready = waiting.select(_SILENCE)
                if not ready:
                    raise TransportError(
                        f"{self.shown}: git was silent for {_SILENCE:g} s, and was ended",
                        "try again later: perhaps the server is busy",
                    )
                for stream in (process.stdout, process.stderr):
                    if not any(key.fileobj is stream for key, _ in ready):
                        continue
                    chunk = os.read(stream.fileno(), 1 << 16)
                    if not chunk:
                        waiting.unregister(stream)
                        continue
                    outputs[stream] += chunk
                    if stream is process.stderr:
                        self._tell(chunk)
                        del outputs[stream][: -(1 << 16)]
            status = process.wait()
        said = outputs[process.stderr if status else process.stdout]
        return status, bytes(said).decode("utf-8", "surrogateescape")

    @contextlib.contextmanager
    def piped(self, words: Sequence[str]) -> Iterator[tuple[IO[bytes], IO[bytes]]]:
        """Its input and output. Raises TransportError when it failed."""
        with self._running(words, stderr=subprocess.DEVNULL, stdin=subprocess.PIPE) as process:
            assert process.stdin and process.stdout  # they are pipes
            yield process.stdin, process.stdout
            process.stdin.close()
            if process.wait():
                raise self.lost()

    @contextlib.contextmanager
    def _running(
        self, words: Sequence[str], *, stderr: int, stdin: int = subprocess.DEVNULL
    ) -> Iterator[subprocess.Popen[bytes]]:
        """git in a process group of its own, which has ended when this ends, and when we do."""
        settings = [part for each in _SETTINGS for part in ("-c", each)]
        around = [
            *("prlimit", f"--fsize={self.free}", "--"),
            *("setpriv", "--pdeathsig", "KILL", "--"),
        ]
        if not all(shutil.which(each) for each in ("prlimit", "setpriv")):
            around = []  # both are of util-linux
        path = self._environment.get("PATH")
        if shutil.which("git", path=path) is None:
            raise TransportError(
                f"{self.shown}: git is not installed, which fetches it", "apt-get install git"
            )
        process = subprocess.Popen(
            [*around, "git", *settings, *words],
            env=self._environment,
            cwd=self.folder,
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
    def shown(self) -> str:
        return masked(self.url) if "://" in self.url else self.url

    def lost(self) -> TransportError:
        return TransportError(f"{self.shown}: git could not read what it had fetched")

    def no_room(self, needed: int = 0) -> StoreError:
        what = f" for {readable(needed)}" if needed else ""
        return StoreError(
            f"no room{what} on the disk that holds {self.folder}",
            "`builder cache gc` frees space; --cache-dir takes another disk",
        )

    def missing(self, commit: str) -> TransportError:
        return TransportError(
            f"{self.shown}: no branch or tag there has the commit {commit}",
            f"see which there are: git ls-remote {self.shown}",
        )

    def failure(self, commit: str, status: int, said: str) -> TransportError | StoreError:
        if "not our ref" in said or "no matching remote" in said:
            return self.missing(commit)
        if "signal 25" in said or status in (-signal.SIGXFSZ, 128 + signal.SIGXFSZ):
            return self.no_room(self.free)
        lines = [line.strip() for line in re.split("[\r\n]", said) if line.strip()]
        faults = [line for line in lines if re.match("(fatal|error|remote|ssh|ERROR)", line)]
        best = [line for line in faults if "Could not read from remote" not in line]
        text = "; ".join((best or faults or lines or [f"status {status}"])[-2:])
        text = "".join(c if c.isprintable() else " " for c in without_passwords(text))[:300]
        hint = next((hint for pattern, hint in _HINTS if re.search(pattern, said)), None)
        return TransportError(f"{self.shown}: git failed: {text}", hint)


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


def _kill(group: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(group, signal.SIGKILL)


def _ssh(environment: Mapping[str, str]) -> str:
    """ssh, which asks nobody. In a user namespace it takes itself for root, and would look for the
    user's keys in root's home."""
    words, home = [_SSH], environment.get("HOME", "")
    try:
        same = pwd.getpwuid(os.geteuid()).pw_dir == home
    except KeyError:
        same = False
    if not home or same:
        return _SSH
    for option, name in _SSH_FILES:
        if os.path.isfile(path := os.path.join(home, ".ssh", name)):
            words += [option + shlex.quote(path)]
    return " ".join(words)

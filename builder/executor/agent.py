"""ssh agents for steps: the user's own, or one of ours that holds the keys of files.

A step gets a socket of its own, at which it may ask for the keys there are and for signatures;
adding, removing and locking keys is refused. Whatever answers behind it is out of the step's sight.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import stat
import struct
import subprocess
import threading
from _thread import allocate_lock
from collections.abc import Callable, Iterator, Mapping

from builder.errors import BuilderError
from builder.executor.overlay import remove_tree

REQUEST_IDENTITIES, SIGN_REQUEST, EXTENSION = 11, 13, 27  # RFC draft-miller-ssh-agent
FAILURE, IDENTITIES_ANSWER = 5, 12
_BIND = b"session-bind@openssh.com"  # it only narrows what keys may be used for
_MOST = 256 << 10  # bytes of a message, as OpenSSH has it
_PATIENCE = 5.0  # seconds in which an agent answers, and one of ours is there
_AT_ONCE = 32  # connections of a step


class Agents:
    """Agents by name, as `given` says (Options.ssh): `default` is $SSH_AUTH_SOCK's unless it is.
    `temporary` makes an empty folder, which is removed by `close`, as the agents are ended."""

    def __init__(
        self, given: Mapping[str, str], environ: Mapping[str, str], temporary: Callable[[], str]
    ) -> None:
        self._given, self._environ, self._temporary = given, environ, temporary
        self._lock = allocate_lock()
        self._paths: dict[str, str] = {}
        self._own: list[_Own] = []

    def known(self, name: str) -> bool:
        """Whether there is one of this name, whatever comes of it."""
        return name in self._given or (
            name == "default" and bool(self._environ.get("SSH_AUTH_SOCK"))
        )

    def path(self, name: str) -> str:
        """The socket of an agent that answers. Raises BuilderError."""
        with self._lock:
            if name not in self._paths:
                path = self._find(name)
                _ask(name, path)
                self._paths[name] = path
            return self._paths[name]

    def close(self) -> None:
        with self._lock:
            self._paths.clear()
            while self._own:
                self._own.pop().end()

    def _find(self, name: str) -> str:
        where = self._given.get(name, "" if name == "default" else None)
        how = f"--ssh {name}=SOCKET, or --ssh {name}=KEYFILE"
        if where is None:
            raise BuilderError(f"ssh agent {name!r} is not given", how)
        if not where:
            own = self._environ.get("SSH_AUTH_SOCK")
            if not own:
                raise BuilderError(
                    f"ssh agent {name!r}: there is none, SSH_AUTH_SOCK is not set",
                    f"eval $(ssh-agent) and ssh-add, or --ssh {name}=KEYFILE",
                )
            return own
        paths = [os.path.expanduser(each) for each in where.split(",")]
        try:
            if len(paths) == 1 and stat.S_ISSOCK(os.stat(paths[0]).st_mode):
                return paths[0]
            keys = [_key(path) for path in paths]
        except OSError as error:
            raise BuilderError(
                f"ssh agent {name!r}: {os.fsdecode(error.filename)!r}: {error.strerror}", how
            ) from None
        own_one = _Own(name, self._temporary(), self._environ.get("PATH", os.defpath))
        self._own.append(own_one)
        for path, key in zip(paths, keys, strict=True):
            own_one.add(path, key)
        return own_one.path

    @contextlib.contextmanager
    def forwarded(self, name: str, uid: int, gid: int) -> Iterator[str]:
        """A socket for one step, which runs as that user. Raises BuilderError."""
        path = self.path(name)
        folder = self._temporary()
        try:
            with _Door(os.path.join(folder, "agent"), path, uid, gid) as door:
                yield door.path
        finally:
            remove_tree(folder)


def _key(path: str) -> bytes:
    from builder.spec.named import open_named

    with open_named(path) as file:
        return file.read(_MOST)


class _Own:
    """An ssh-agent of ours. It ends with the program it was started with, which ends when a pipe
    does: with the builder, however that ends."""

    def __init__(self, name: str, folder: str, path: str) -> None:
        """`path`: where programs are. Nothing else of the caller's environment is handed on."""
        self._name, self._folder = name, folder
        self._environment = {"PATH": path}
        self.path = os.path.join(folder, "agent")
        self._pid = 0
        try:
            self._process = subprocess.Popen(
                ["ssh-agent", "-a", "agent", "sh", "-c", "echo $SSH_AGENT_PID; exec cat"],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                cwd=folder,
                env=self._environment,
            )
        except OSError as error:
            remove_tree(folder)
            raise BuilderError(
                f"ssh agent {name!r}: ssh-agent, which holds keys of files: {error.strerror}",
                "apt-get install openssh-client",
            ) from None
        assert self._process.stdout is not None
        word = self._process.stdout.readline().strip()  # it is told when the socket is there
        if not word.isdigit():
            self.end()
            raise BuilderError(f"ssh agent {name!r}: ssh-agent could not be started")
        self._pid = int(word)

    def add(self, path: str, key: bytes) -> None:
        """Raises BuilderError."""
        done = subprocess.run(
            ["ssh-add", "-q", "-"],
            input=key,
            capture_output=True,
            cwd=self._folder,
            env={
                **self._environment,
                "SSH_AUTH_SOCK": "agent",
                "SSH_ASKPASS_REQUIRE": "never",
            },
            start_new_session=True,  # without a terminal nobody is asked for a passphrase
        )
        if done.returncode:
            said = done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
            raise BuilderError(
                f"ssh agent {self._name!r}: {path!r} is no key that can be used: {said[:200]}",
                "a key with a passphrase is added to your own agent: ssh-add KEYFILE, --ssh"
                f" {self._name}",
            )

    def end(self) -> None:
        with contextlib.suppress(OSError):
            if self._pid:
                os.kill(self._pid, signal.SIGTERM)
        self._process.communicate()
        remove_tree(self._folder)


class _Door:
    """A socket at which a step talks to an agent."""

    def __init__(self, path: str, agent: str, uid: int, gid: int) -> None:
        self.path, self._agent = path, agent
        self._lock = allocate_lock()
        self._open: set[socket.socket] | None = set()  # None: closed
        self._listener = socket.socket(socket.AF_UNIX)
        folder = os.open(os.path.dirname(path), os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:  # an address has room for 107 bytes
            self._listener.bind(f"/proc/self/fd/{folder}/{os.path.basename(path)}")
            os.chmod(path, 0o600)
            os.chown(path, uid, gid)
            self._listener.listen(4 * _AT_ONCE)
        except BaseException:
            self._listener.close()
            raise
        finally:
            os.close(folder)

    def __enter__(self) -> _Door:
        self._serving: list[threading.Thread] = []
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()
        return self

    def __exit__(self, *error: object) -> None:
        with self._lock:
            found, self._open = self._open or set(), None
        for each in (self._listener, *found):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        self._accepting.join()
        for thread in self._serving:
            thread.join()
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                peer, _ = self._listener.accept()
            except OSError:
                return  # it was shut
            thread = threading.Thread(target=self._serve, args=(peer,), daemon=True)
            with self._lock:
                full = self._open is None or len(self._open) >= 2 * _AT_ONCE
            if full:
                peer.close()
                continue
            self._serving = [each for each in self._serving if each.is_alive()] + [thread]
            thread.start()

    def _serve(self, peer: socket.socket) -> None:
        with contextlib.suppress(OSError), self._held(peer):
            agent = _connected(self._agent)
            with self._held(agent):
                agent.settimeout(None)  # it may ask its owner
                while message := _receive(peer):
                    answer = b""
                    if _allowed(message):
                        _send(agent, message)
                        answer = _receive(agent)
                    _send(peer, answer or bytes((FAILURE,)))

    @contextlib.contextmanager
    def _held(self, peer: socket.socket) -> Iterator[None]:
        """A connection that ends with the step."""
        with peer:
            with self._lock:
                if self._open is None:
                    raise ConnectionAbortedError
                self._open.add(peer)
            try:
                yield
            finally:
                with self._lock:
                    if self._open is not None:
                        self._open.discard(peer)


def _allowed(message: bytes) -> bool:
    if message[0] == EXTENSION:
        return message[1:].startswith(struct.pack(">I", len(_BIND)) + _BIND)
    return message[0] in (REQUEST_IDENTITIES, SIGN_REQUEST)


def _ask(name: str, path: str) -> None:
    """Let an agent tell its keys. Raises BuilderError when it does not."""
    hint = f"ssh-add -l tells whether it works; --ssh {name}=KEYFILE needs none"
    try:
        with _connected(path) as agent:
            _send(agent, bytes((REQUEST_IDENTITIES,)))
            answer = _receive(agent)
    except OSError as error:
        reason = "it does not answer" if isinstance(error, TimeoutError) else error.strerror
        raise BuilderError(f"ssh agent {name!r} at {path!r}: {reason or error}", hint) from None
    if not answer or answer[0] != IDENTITIES_ANSWER or len(answer) < 5:
        raise BuilderError(f"ssh agent {name!r} at {path!r} does not speak as an agent", hint)
    if not struct.unpack_from(">I", answer, 1)[0]:
        raise BuilderError(f"ssh agent {name!r} at {path!r} holds no key", "ssh-add KEYFILE")


def _connected(path: str) -> socket.socket:
    agent = socket.socket(socket.AF_UNIX)
    try:
        agent.settimeout(_PATIENCE)
        folder = os.open(os.path.dirname(path) or ".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:  # an address has room for 107 bytes
            agent.connect(f"/proc/self/fd/{folder}/{os.path.basename(path)}")
        finally:
            os.close(folder)
    except BaseException:
        agent.close()
        raise
    return agent


def _send(peer: socket.socket, message: bytes) -> None:
    peer.sendall(struct.pack(">I", len(message)) + message)


def _receive(peer: socket.socket) -> bytes:
    """A message; b"" at the end. Raises OSError, for one that is too long too."""
    head = _exactly(peer, 4)
    if not head:
        return b""
    size = struct.unpack(">I", head)[0]
    if not 0 < size <= _MOST:
        raise OSError("a message that is none of an agent's")
    return _exactly(peer, size)


def _exactly(peer: socket.socket, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        chunk = peer.recv(size - len(data))
        if not chunk:
            return b""
        data += chunk
    return bytes(data)

"""Files in the memory of an engine's machine: what a step's container sees of secrets.

An engine writes all that it is told of a container to its disk, its environment too, and what is
copied into one. So values go into a volume that is a tmpfs. It lives as long as a container that
holds it runs; the step's container has its files mounted, each where it belongs. Variables are read
from such a file by a program that becomes the command.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from builder.errors import ExecutorError, TransportError
from builder.executor.base import Command, Value
from builder.executor.docker_program import Assembler
from builder.executor.starting import candidates
from builder.layer.entry import FILE, Entry
from builder.layer.header import Headers, end_of_archive, padding

if TYPE_CHECKING:
    from builder.transport.engine import Engine

_PROGRAM = "/.builder-holds"
_FOLDER = "/.builder-held"
_STARTER, _VARIABLES = "/.builder-starts", "/.builder-variables"
_BUFFER = 0x40000000
_READ_WRITE, _PRIVATE_FIXED_ANONYMOUS = 3, 0x32
_AT_FDCWD, _READ_ONLY, _FIRST_FREE = -100, 0, 3


def remove(engine: Engine, holder: str, volume: str) -> None:
    """A container and the volume that it held, as far as there are any; "" for none."""
    from docker.errors import APIError

    api = engine.api
    if holder:
        with contextlib.suppress(APIError, TransportError), engine.asking():
            api.remove_container(holder, force=True, v=True)
    if volume:
        with contextlib.suppress(APIError, TransportError), engine.asking():
            api.remove_volume(volume)


class Held(NamedTuple):
    data: bytes
    mode: int
    uid: int
    gid: int


class Vault:
    """`image` is one that the engine has, `labels` say whose all of it is, `machine` is the
    engine's as uname says it. Raises ExecutorError, TransportError."""

    def __init__(
        self,
        engine: Engine,
        image: str,
        labels: Mapping[str, str],
        machine: str,
        files: Sequence[Held],
    ) -> None:
        self._engine, self._volume, self._holder = engine, "", ""
        try:
            self._open(image, dict(labels), machine, files)
        except BaseException:
            self.close()
            raise

    def _open(
        self, image: str, labels: dict[str, str], machine: str, files: Sequence[Held]
    ) -> None:
        from docker.errors import APIError
        from docker.types import Mount

        api = self._engine.api
        size = sum(len(each.data) + 8192 for each in files) + (1 << 16)
        options = {"type": "tmpfs", "device": "tmpfs", "o": f"mode=0711,size={size}"}
        program = Assembler(machine, 2)
        program.call("ppoll", 0, 0, 0, 0)
        with self._engine.asking():
            try:
                made = api.create_volume(driver="local", driver_opts=options, labels=labels)
                self._volume = str(made["Name"])
                config = api.create_host_config(
                    network_mode="none",
                    mounts=[Mount(_FOLDER, self._volume, type="volume")],
                    log_config={"Type": "none"},
                )
                holder = api.create_container(
                    image, [_PROGRAM], labels=labels, host_config=config, use_config_proxy=False
                )
                self._holder = str(holder["Id"])
                start = Held(program.elf(), 0o755, 0, 0)
                api.put_archive(self._holder, "/", _tar({_PROGRAM.strip("/"): start}))
                api.start(self._holder)
                named = {str(number): each for number, each in enumerate(files)}
                api.put_archive(self._holder, _FOLDER, _tar(named))
                self._place = str(api.inspect_volume(self._volume)["Mountpoint"])
            except APIError as error:
                said = " ".join(str(error.explanation or error).split())[:300]
                raise ExecutorError(
                    f"docker: the engine keeps no secrets in memory: {said}",
                    "`--executor sandbox` or runc does",
                ) from error

    def place(self, number: int) -> str:
        """Where the file is on the engine's machine."""
        return os.path.join(self._place, str(number))

    def close(self) -> None:
        remove(self._engine, self._holder, self._volume)


class Shown(NamedTuple):
    command: Command  # as the engine may know it; its mounts are all that is shown
    places: dict[str, str]  # where they are on the engine's machine, by target
    vault: Vault


def show(
    engine: Engine, image: str, labels: Mapping[str, str], machine: str, command: Command
) -> Shown:
    """Put what a command sees of secrets into a vault. Raises ExecutorError, TransportError."""
    values = [each for each in command.mounts if isinstance(each, Value)]
    argv, env = command.argv, command.env
    if command.hidden:
        env = {name: value for name, value in env.items() if name not in command.hidden}
        program = starter(
            machine,
            [os.fsencode(each) for each in argv],
            [os.fsencode(f"{name}={value}") for name, value in env.items()],
            candidates(command),
            command.hidden,
        )
        values += [
            Value(_STARTER, program, 0o755),
            Value(_VARIABLES, variables(command.hidden), 0o400, command.uid, command.gid),
        ]
        argv = (_STARTER,)
    held = [Held(each.content, each.mode, each.uid, each.gid) for each in values]
    vault = Vault(engine, image, labels, machine, held)
    places = {each.target: vault.place(number) for number, each in enumerate(values)}
    known = command._replace(argv=argv, env=env, mounts=tuple(values), hidden={})
    return Shown(known, places, vault)


def _tar(files: Mapping[str, Held]) -> bytes:
    headers, parts = Headers(), []
    for name, file in files.items():
        entry = Entry(name.encode(), FILE, file.mode, file.uid, file.gid, size=len(file.data))
        parts += [headers.of(entry), file.data, bytes(padding(len(file.data)))]
    return b"".join([*parts, end_of_archive()])


def variables(values: Mapping[str, bytes]) -> bytes:
    """The content of the file that `starter` reads."""
    return b"".join(os.fsencode(name) + b"=" + value + b"\0" for name, value in values.items())


def starter(
    machine: str,
    argv: Sequence[bytes],
    env: Sequence[bytes],
    candidates: Sequence[bytes],
    values: Mapping[str, bytes],
) -> bytes:
    """A program that becomes the first of `candidates` that there is, with the variables of the
    file _VARIABLES beside those of `env`. It holds no value: only how long they are."""
    program = Assembler(machine, 2)
    size = len(variables(values))
    addresses, place = [program.text(each) for each in env], _BUFFER
    for name, value in values.items():
        addresses.append(place)
        place += len(os.fsencode(name)) + 1 + len(value) + 1
    pointers = program.data(struct.pack(f"<{len(addresses) + 1}Q", *addresses, 0))
    words = program.pointers(argv)
    call = program.call
    call("mmap", _BUFFER, size, _READ_WRITE, _PRIVATE_FIXED_ANONYMOUS, -1, 0)
    call("openat", _AT_FDCWD, program.text(os.fsencode(_VARIABLES)), _READ_ONLY, 0)
    call("read", _FIRST_FREE, _BUFFER, size)
    call("close", _FIRST_FREE)
    for each in candidates:
        call("execve", program.text(each), words, pointers)
    return program.elf(status=127)

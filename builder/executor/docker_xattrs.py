"""Extended attributes of what a container changed: an engine's archives leave out `user.*`.

A program made for the purpose runs in a container that has the changes mounted, and tells the
attributes of the paths that the archive named: first their names, then the values of the few that a
layer keeps.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, NamedTuple

from builder.errors import ExecutorError
from builder.executor.changes import Xattrs, kept_xattr
from builder.executor.docker_program import RECORD, Assembler
from builder.layer.entry import FILE, Entry
from builder.layer.header import Headers, end_of_archive, padding

if TYPE_CHECKING:
    from builder.transport.engine import Engine

PROGRAM = "/.builder-xattrs"
_BUFFER, _SIZE = 0x40000000, 1 << 16  # the kernel gives at most 64 KiB at once
_READ_WRITE, _PRIVATE_FIXED_ANONYMOUS = 3, 0x32
_MOST = 50_000  # questions to one program, which are some 10 MB of it
_NO_ATTRIBUTES = -errno.EOPNOTSUPP


class Reader(NamedTuple):
    """A container that was made to run PROGRAM and was not yet started."""

    engine: Engine
    container: str
    machine: str  # of the engine, as uname says it
    folder: str  # where the changes are mounted


def read_xattrs(reader: Reader, paths: Iterable[bytes]) -> dict[bytes, Xattrs]:
    """What a layer keeps of these files and directories, by path; those without are left out.
    Raises ExecutorError, TransportError."""
    asked = [(path, b"") for path in paths]
    listed = _ask(reader, asked)
    wanted = [
        (path, name)
        for (path, _), names in zip(asked, listed, strict=True)
        for name in sorted(names.split(b"\0"))
        if name and kept_xattr(os.fsdecode(name))
    ]
    found: dict[bytes, Xattrs] = {}
    for (path, name), value in zip(wanted, _ask(reader, wanted), strict=True):
        found[path] = (*found.get(path, ()), (name, value))
    return found


def _ask(reader: Reader, questions: Sequence[tuple[bytes, bytes]]) -> list[bytes]:
    """For each path and name the value, without a name the list of names."""
    answers: list[bytes] = []
    for start in range(0, len(questions), _MOST):
        answers += _answers(reader, questions[start : start + _MOST])
    return answers


def _answers(reader: Reader, questions: Sequence[tuple[bytes, bytes]]) -> list[bytes]:
    engine, api = reader.engine, reader.engine.api
    program = _program(reader.machine, reader.folder, questions)
    entry = Entry(PROGRAM.strip("/").encode(), FILE, 0o755, size=len(program))
    tar = Headers().of(entry) + program + bytes(padding(len(program))) + end_of_archive()
    with engine.asking():
        api.put_archive(reader.container, "/", tar)
        stream = api.attach(reader.container, stdout=True, stream=True, logs=False)
        api.start(reader.container)
        said = memoryview(b"".join(stream))
        api.wait(reader.container, timeout=None)
    answers: list[bytes] = []
    for number, (path, _) in enumerate(questions):
        if len(said) < RECORD.size:
            raise ExecutorError("docker: the extended attributes of a step could not be read")
        result, stage = RECORD.unpack_from(said)
        if stage != number or (result < 0 and result != _NO_ATTRIBUTES):
            why = os.strerror(-result) if result < 0 else "the engine mixed up what was said"
            raise ExecutorError(f"docker: extended attributes of /{os.fsdecode(path)}: {why}")
        end = RECORD.size + max(result, 0)
        answers.append(bytes(said[RECORD.size : end]))
        said = said[end:]
    return answers


def _program(machine: str, folder: str, questions: Sequence[tuple[bytes, bytes]]) -> bytes:
    """Answers each question on stdout: a record, then as many bytes as its result says."""
    program = Assembler(machine, 1)
    call = program.call
    call("mmap", _BUFFER, _SIZE, _READ_WRITE, _PRIVATE_FIXED_ANONYMOUS, -1, 0)
    # from there on by relative paths: the longest would not fit behind the folder's name
    call("chdir", program.text(os.fsencode(folder)))
    for number, (path, name) in enumerate(questions):
        if name:
            call("lgetxattr", program.text(path), program.text(name), _BUFFER, _SIZE)
        else:
            call("llistxattr", program.text(path), _BUFFER, _SIZE)
        program.answer(number, _BUFFER)
    return program.elf(status=0)

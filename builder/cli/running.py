"""Options of `builder run`, read as `docker run` reads them."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Iterator

from builder.containers.command import Settings
from builder.errors import UsageError
from builder.executor.base import File, Folder, Memory, Mounted, Streams


def settings_of(arguments: argparse.Namespace) -> Settings:
    entrypoint = arguments.entrypoint
    if arguments.working_dir and not arguments.working_dir.startswith("/"):
        raise UsageError(f"-w {arguments.working_dir!r}: expected an absolute path in the image")
    return Settings(
        tuple(arguments.argv),
        None if entrypoint is None else (entrypoint,) if entrypoint else (),
        dict(_environment(arguments)),
        arguments.user or "",
        arguments.working_dir or "",
        (*map(volume, arguments.volumes), *map(memory, arguments.tmpfs)),
        arguments.network or "",
        arguments.read_only,
        _seconds(arguments.timeout),
    )


def streams_of(arguments: argparse.Namespace) -> Streams:
    """Where all three are terminals, the command gets one, unless -i or -t say otherwise."""
    interactive, terminal = arguments.interactive, arguments.tty
    stdin, stdout, stderr = (os.isatty(handle) for handle in (0, 1, 2))
    if not (interactive or terminal):
        interactive = terminal = stdin and stdout and stderr
    if terminal and not stdout:
        raise UsageError("-t: stdout is no terminal", "leave out -t")
    if terminal and interactive and not stdin:
        raise UsageError("-t: stdin is no terminal", "leave out -t; -i passes on what is piped")
    sys.stdout.flush()
    return Streams(0 if interactive else None, 1, 2, terminal)


def _seconds(text: str | None) -> float | None:
    if text is None:
        return None
    from builder.spec.syntax import Malformed, parse_duration

    try:
        return parse_duration(text) / 10**9 or None
    except Malformed as error:
        raise UsageError(f"--timeout {text!r} {error.what}", error.hint) from None


def _environment(arguments: argparse.Namespace) -> Iterator[tuple[str, str | None]]:
    for path in arguments.env_file:
        yield from env_file(path)
    for text in arguments.env:
        yield variable(text, "-e")


def variable(text: str, where: str) -> tuple[str, str | None]:
    """NAME=VALUE; a name alone has the value that it has here, or is taken away."""
    name, equals, value = text.partition("=")
    if not name or "\0" in text:
        raise UsageError(f"{where} {text!r}: expected NAME=VALUE, or NAME")
    return (name, value) if equals else (name, os.environ.get(name))


def env_file(path: str) -> Iterator[tuple[str, str | None]]:
    """A line a variable, taken as it is: nothing is quoted. Empty lines and those that begin with #
    do not count."""
    try:
        with open(path, "rb") as file:
            data = file.read(16 << 20).removeprefix(b"\xef\xbb\xbf")
    except OSError as error:
        raise UsageError(f"--env-file {path!r}: {error.strerror}") from error
    for number, line in enumerate(data.split(b"\n"), 1):
        text = os.fsdecode(line.removesuffix(b"\r")).lstrip(" \t\v\f\r")
        if not text or text.startswith("#"):
            continue
        where = f"{path}:{number}:"
        if any(char.isspace() for char in text.partition("=")[0]):
            raise UsageError(
                f"{where} {text.partition('=')[0]!r} has a space, which no name of a variable has"
            )
        yield variable(text, where)


def volume(text: str) -> Mounted:
    """HOST:PATH[:ro]. The path on this machine is resolved once, here."""
    host, *rest = text.split(":")
    path, *options = rest or [""]
    expected = "expected HOST:PATH or HOST:PATH:ro, both paths, PATH an absolute one"
    if not host or not path.startswith("/") or len(options) > 1:
        raise UsageError(f"-v {text!r}: {expected}")
    words = set(filter(None, ",".join(options).split(",")))
    # labels of SELinux, propagation and consistency change nothing here
    if unknown := words - {"ro", "rw", "z", "Z", "cached", "delegated", "consistent", "rprivate"}:
        raise UsageError(f"-v {text!r}: {min(unknown)!r} is not known, {expected}")
    source = os.path.realpath(os.path.expanduser(host))
    if not os.path.lexists(source):
        raise UsageError(
            f"-v {text!r}: {host!r} is not there",
            f"mkdir -p {host}" if "/" in host else f"a folder of this machine, such as ./{host}",
        )
    kind = Folder if os.path.isdir(source) else File
    return kind(os.path.normpath(path), source, "ro" not in words)


def memory(text: str) -> Mounted:
    """PATH[:size=SIZE]."""
    path, _, options = text.partition(":")
    size = None
    if not path.startswith("/"):
        raise UsageError(f"--tmpfs {text!r}: expected an absolute path in the image")
    for option in filter(None, options.split(",")):
        name, _, value = option.partition("=")
        if name == "size":
            size = _size(value, text)
        elif option not in ("rw", "nosuid", "nodev"):  # as it is in any case
            raise UsageError(f"--tmpfs {text!r}: {option!r} is not known, expected size=64m")
    return Memory(os.path.normpath(path), size)


def _size(value: str, text: str) -> int:
    """As mount(8) has it."""
    number, unit = value.rstrip("kKmMgG"), value[len(value.rstrip("kKmMgG")) :].lower()
    if not (number.isascii() and number.isdigit()) or len(number) > 15 or len(unit) > 1:
        raise UsageError(f"--tmpfs {text!r}: {value!r} is no size, expected one such as 64m")
    return int(number) << {"": 0, "k": 10, "m": 20, "g": 30}[unit]

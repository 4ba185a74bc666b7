"""Secrets: names and who gives their values: the command line, the project file, the Python API.

A value is read once, when the first that needs it asks, and is in memory only.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from builder.errors import BuilderError, SpecError, UsageError
from builder.spec.files import error_at
from builder.spec.model import Place
from builder.spec.named import open_named
from builder.spec.syntax import NAME

MOST = 500 << 10  # bytes of a value, as Docker has it
_MOST_ENV = 120 << 10  # bytes: the kernel takes 128 KiB with the name
ENV = "env:"

Given = str | bytes
"""Who gives a value: a path; `env:NAME`, a variable of the environment; or the value, as bytes."""


class Need(NamedTuple):
    """A step's use of a secret or, with `ssh`, of an agent."""

    name: str
    place: Place
    step: Place  # where the step is
    env: bool = False  # as a variable of its environment
    required: bool = True
    ssh: bool = False


class Secrets:
    """`given` by the caller, over those of the `project` file, whose paths are below `folder`."""

    def __init__(
        self,
        given: Mapping[str, Given],
        environ: Mapping[str, str],
        project: Mapping[str, Mapping[str, str]] = {},
        folder: str = ".",
    ) -> None:
        self._given, self._project, self._environ = given, project, environ
        self._folder = folder
        self._values: dict[str, bytes] = {}

    def known(self, name: str) -> bool:
        return name in self._given or name in self._project

    def value(self, name: str) -> bytes:
        """Raises BuilderError: nobody gives it, or who is said to does not."""
        if name not in self._values:
            if not self.known(name):
                raise self._unknown(name)
            value = self._read(name)
            if len(value) > MOST:
                raise BuilderError(
                    f"secret {name!r} holds more than {MOST} bytes",
                    "what is larger is taken from a server by the step itself",
                )
            self._values[name] = value
        return self._values[name]

    def read(self, needs: Iterable[Need]) -> tuple[dict[str, bytes], dict[Need, SpecError]]:
        """The values of the secrets that are needed, by name, and what is wrong with others."""
        values: dict[str, bytes] = {}
        errors: dict[Need, SpecError] = {}
        for need in needs:
            if need.ssh or not (need.required or self.known(need.name)):
                continue
            try:
                value = self.value(need.name)
                if need.env and b"\0" in value:
                    raise BuilderError(
                        f"secret {need.name!r} holds a NUL byte, which no variable can",
                        f"{{secret: {need.name}, target: FILE}} gives it as a file",
                    )
                if need.env and len(value) > _MOST_ENV:
                    raise BuilderError(
                        f"secret {need.name!r} holds more than {_MOST_ENV} bytes, which no variable"
                        " can",
                        f"{{secret: {need.name}, target: FILE}} gives it as a file",
                    )
                values[need.name] = value
            except BuilderError as error:
                errors[need] = error_at(need.place, error.what, error.hint)
        return values, errors

    def _unknown(self, name: str) -> BuilderError:
        from builder.spec.source import did_you_mean

        near = did_you_mean(name, [*self._given, *self._project])
        return BuilderError(
            f"secret {name!r} is not given{near}",
            f"--secret {name}=FILE or --secret {name}=env:VARIABLE,"
            " or under 'secrets' in builder.yaml",
        )

    def _read(self, name: str) -> bytes:
        given = self._given.get(name)
        if isinstance(given, bytes):
            return given
        if given is not None:
            if given.startswith(ENV):
                return self._variable(name, given.removeprefix(ENV))
            # the path is not said: people write the value in its place
            path = os.path.expanduser(given)
            hint = f"--secret {name}=FILE or --secret {name}=env:VARIABLE, never the value itself"
            return _file(name, path, "the file that --secret names", hint)
        said = self._project[name]
        if "env" in said:
            return self._variable(name, said["env"])
        path = os.path.realpath(os.path.join(self._folder, said["file"]))
        folder = os.path.realpath(self._folder)
        if os.path.commonpath((folder, path)) != folder:
            raise BuilderError(
                f"secret {name!r}: builder.yaml names the file {said['file']!r}, which lies outside"
                " the project",
                f"give it yourself: --secret {name}={said['file']}",
            )
        return _file(name, path, f"the file {said['file']!r} of builder.yaml")

    def _variable(self, name: str, variable: str) -> bytes:
        if variable not in self._environ:
            raise BuilderError(
                f"secret {name!r}: the environment has no variable {variable!r}",
                f"export {variable}, or --secret {name}=FILE",
            )
        return self._environ[variable].encode("utf-8", "surrogateescape")


def _file(name: str, path: str, what: str, hint: str | None = None) -> bytes:
    try:
        with open_named(path) as file:
            return file.read(MOST + 1)
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no path"
        raise BuilderError(f"secret {name!r}: {what} cannot be read: {reason}", hint) from None


def parse_secrets(texts: Iterable[str], environ: Mapping[str, str]) -> dict[str, Given]:
    """What --secret says, the last of a name counts. Raises UsageError, which says no value."""
    found: dict[str, Given] = {}
    for text in texts:
        name, given = _parse_secret(text, environ)
        found[name] = given
    return found


_HOW = "--secret NAME=FILE or --secret NAME=env:VARIABLE; Docker's id=NAME,src=FILE does as well"


def _parse_secret(text: str, environ: Mapping[str, str]) -> tuple[str, Given]:
    import csv

    name, equals, given = text.partition("=")
    if name in ("id", "type", "src", "source", "env") and equals:
        fields = {}
        try:
            parts = next(csv.reader([text]), [])
        except csv.Error:
            raise UsageError(
                "--secret: Docker's form is fields with commas between", _HOW
            ) from None
        for part in parts:
            key, equals, value = part.partition("=")
            key = {"source": "src"}.get(key.lower(), key.lower())
            if key not in ("id", "type", "src", "env") or not equals or key in fields:
                raise UsageError("--secret: Docker's form takes id, src, env and type, once", _HOW)
            fields[key] = value
        name, kind = fields.get("id", ""), fields.get("type")
        if kind not in (None, "file", "env"):
            raise UsageError("--secret: the type is file or env", _HOW)
        path, variable = fields.get("src"), fields.get("env")
        if kind == "env" and variable is None:
            path, variable = None, path
        if path is None and variable is None:  # as Docker: the variable, else the file
            variable = name if name in environ and kind != "file" else None
            path = name
        given = ENV + variable if variable is not None else _path(path or "")
    elif not equals:
        raise UsageError("--secret: expected NAME and what gives its value", _HOW)
    if not re.fullmatch(NAME, name):
        raise UsageError(
            f"--secret: {name[:40]!r} is no name, expected letters, digits and . _ - in it", _HOW
        )
    if given in ("", ENV):
        raise UsageError(f"--secret {name}: nothing is said that gives its value", _HOW)
    return name, given


def _path(text: str) -> str:
    return f"./{text}" if text.startswith(ENV) else text


def parse_ssh(texts: Iterable[str]) -> dict[str, str]:
    """What --ssh says, NAME[=SOCKET|KEY[,KEY...]], by name; "": the agent of the environment."""
    found = {}
    for text in texts:
        name, _, path = text.partition("=")
        if not re.fullmatch(NAME, name):
            raise UsageError(
                f"--ssh {text[:60]!r}: expected NAME, or NAME=SOCKET, or NAME=KEYFILE",
                f"--ssh default={text}"
                if "/" in name
                else "--ssh default is your agent, as `ssh` in 'mounts' asks for it",
            )
        found[name] = path
    return found

"""ImageSpec: a spec after rendering and checking, as frozen values.

Values on the path of every build are NamedTuples, not dataclasses: importing `dataclasses` costs
20 ms and each slotted class 0.5 ms, more than the rest of a build in which nothing changed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from builder import errors
from builder.oci.image import Platform

Place = errors.Place
MAX_PATH = 4095  # bytes of a path


class FromEnv(str):
    """A text that env() had a part in. `shown` is what may be said of it and kept: digests in the
    places of what templates put out."""

    shown: str

    def __new__(cls, text: str, shown: str) -> FromEnv:
        made = super().__new__(cls, text)
        made.shown = shown
        return made


def shown(text: str) -> str:
    return text.shown if isinstance(text, FromEnv) else text


def holds_env(base: Mapping[str, Any]) -> bool:
    """Whether env() had a part in what a base says."""
    groups = (each.values() if isinstance(each, dict) else (each,) for each in base.values())
    return any(isinstance(value, FromEnv) for group in groups for value in group)


def without_values(message: str, step: Step) -> str:
    """A message about a step, with what may be shown in the places of its texts."""
    for field in step[1:]:
        for text in field if isinstance(field, tuple) else (field,):
            if isinstance(text, FromEnv) and text:
                message = message.replace(text, text.shown)
    return message


class BaseRef(NamedTuple):
    """`from:` parsed. `kind` is scratch, image, oci, docker-archive, rootfs, debootstrap,
    docker-daemon or registry; `value` is what follows the colon (a registry reference whole).
    Paths are as written: relative to the context."""

    kind: str
    value: str
    place: Place
    options: Mapping[str, Any] = {}  # debootstrap: variant, include (list), mirror

    def __str__(self) -> str:
        if self.kind in ("registry", "scratch"):
            return self.value or self.kind
        return f"{self.kind}:{self.value}"


class Copy(NamedTuple):
    """Docker's COPY rules. `sources` are relative to the context, globs allowed."""

    place: Place
    name: str | None
    sources: tuple[str, ...]
    dest: str
    exclude: tuple[str, ...] = ()  # .gitignore rules
    owner: str | None = None  # user[:group], names or numbers; None: 0:0 (or preserved)
    mode: str | None = None  # octal text or symbolic text; None: 0644 / 0755
    preserve: tuple[str, ...] = ()  # of mode, owner, mtime, xattrs
    times: str | None = None  # content: told by what a file holds; None: the clock's


class File(NamedTuple):
    """A file with the given text, or a rendered template (`template` steps become this too)."""

    place: Place
    name: str | None
    dest: str
    content: str | None  # `file` steps: the text
    template: str | None = None  # `template` steps: path below the context, rendered at plan time
    variables: Mapping[str, Any] = {}  # template steps: the spec's vars and the step's over them
    owner: str | None = None
    mode: str | None = None
    times: str | None = None  # as of Copy


class Directory(NamedTuple):
    place: Place
    name: str | None
    dest: str
    owner: str | None = None  # None: kept where the directory exists
    mode: str | None = None


class Symlink(NamedTuple):
    place: Place
    name: str | None
    dest: str
    to: str
    owner: str | None = None


class Remove(NamedTuple):
    place: Place
    name: str | None
    paths: tuple[str, ...]


class Unpack(NamedTuple):
    place: Place
    name: str | None
    source: str  # archive below the context
    dest: str
    strip_components: int = 0
    owner: str | None = None  # None: the archive's numbers


class Run(NamedTuple):
    """A command step. None fields chain to the spec's config, then to the base's."""

    place: Place
    name: str | None
    command: str | tuple[str, ...]  # text runs under the shell, a tuple is an argv
    env: Mapping[str, str] = {}
    user: str | None = None
    working_dir: str | None = None
    shell: tuple[str, ...] | None = None
    network: str = "host"  # host | none
    timeout: int = 0  # nanoseconds; 0: none


Step = Copy | File | Directory | Symlink | Remove | Unpack | Run


class Healthcheck(NamedTuple):
    test: tuple[str, ...]
    interval: int = 0  # nanoseconds, as in the config document; 0: inherit
    timeout: int = 0
    start_period: int = 0
    retries: int = 0
    start_interval: int = 0


class ConfigChange(NamedTuple):
    """What the spec says of the image's config; None: what the base says stays."""

    env: Mapping[str, str] = {}
    user: str | None = None
    working_dir: str | None = None
    entrypoint: str | tuple[str, ...] | None = None  # text: for the shell; clears an inherited cmd
    cmd: str | tuple[str, ...] | None = None
    shell: tuple[str, ...] | None = None
    exposed_ports: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    labels: Mapping[str, str] = {}
    stop_signal: str | None = None
    healthcheck: Healthcheck | None = None
    path: tuple[str, ...] = ()  # folders in front of the PATH there is


class ImageSpec(NamedTuple):
    name: str
    file: str  # the spec's path as the user would name it
    base: BaseRef
    steps: tuple[Step, ...]
    config: ConfigChange = ConfigChange()
    tags: tuple[str, ...] = ()
    platform: Platform | None = None  # None: the host's, or --platform
    variables: Mapping[str, Any] = {}  # after --set; for `why`
    environment: Mapping[str, str | None] = {}  # what env('NAME') was asked for; part of the keys
    waits: bool = False  # for its base, which templates name; what they stand in is not yet right

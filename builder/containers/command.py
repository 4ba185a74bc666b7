"""The command of a container: what the image's config says, with what the command line says over
it, as `docker run` joins the two."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from builder.errors import UsageError
from builder.executor.base import HOSTNAME, Command, Mounted

if TYPE_CHECKING:
    from builder.oci.image import Document
    from builder.rootfs.accounts import AccountFiles


class Settings(NamedTuple):
    """What is asked for beside the image. None and "" leave what the image says, or what a kept
    container had."""

    argv: tuple[str, ...] = ()  # the image's Cmd
    entrypoint: tuple[str, ...] | None = None  # (): none
    env: Mapping[str, str | None] = {}  # None: without that variable
    user: str = ""
    working_dir: str = ""  # absolute
    mounts: tuple[Mounted, ...] = ()
    network: str = ""  # host | none | private; "": host
    read_only: bool = False
    timeout: float | None = None  # seconds


class Above:
    """The account files of a kept container: what its own layer has, over those of its image."""

    def __init__(self, upper: str, below: AccountFiles) -> None:
        self._upper, self._below = upper, below

    def read_small(self, path: bytes) -> bytes | None:
        from builder.executor.syscalls import open_within
        from builder.rootfs.accounts import ACCOUNT_FILE

        folder = os.open(self._upper, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            found = open_within(folder, os.fsdecode(path))
        except OSError:
            return self._below.read_small(path)
        finally:
            os.close(folder)
        try:
            status = os.stat(found)
            if not stat.S_ISREG(status.st_mode) or status.st_size > ACCOUNT_FILE:
                return None  # a device 0:0 where it was removed
            with open(f"/proc/self/fd/{found}", "rb") as file:
                return file.read(ACCOUNT_FILE)
        finally:
            os.close(found)


def command_of(
    config: Document,
    view: AccountFiles,
    settings: Settings,
    *,
    terminal: bool,
    before: Command | None,
) -> Command:
    """The command; `view` is asked for accounts, `before` is what a kept container ran last. Raises
    UsageError where there is nothing to run, BuilderError for a user that is not there."""
    from builder.rootfs.accounts import resolve_user

    of_image = config.get("config") or {}
    name = settings.user or of_image.get("User") or "0"
    if before is not None and not settings.user:
        uid, gid, groups, home = before.uid, before.gid, before.groups, before.env.get("HOME", "/")
    else:
        user = resolve_user(name, view)
        uid, gid, home = user.uid, user.gid, user.home
        groups = tuple(dict.fromkeys((user.gid, *user.groups)))
    given = before.env if before is not None else _environment(of_image)
    env = {**given, **({"TERM": "xterm"} if terminal and "TERM" not in given else {})}
    for variable, value in settings.env.items():
        if value is None:
            env.pop(variable, None)
        else:
            env[variable] = value
    env.setdefault("HOME", home)
    return Command(
        _argv(of_image, settings, before),
        env,
        uid,
        gid,
        groups,
        settings.working_dir or (before.working_dir if before else _working_dir(config)),
        settings.network or (before.network if before else "host"),
        settings.timeout,
        (0, 0),
        _mounts(settings.mounts, before.mounts if before else ()),
    )


def _argv(
    of_image: Mapping[str, Any], settings: Settings, before: Command | None
) -> tuple[str, ...]:
    if before is not None and not settings.argv and settings.entrypoint is None:
        return before.argv
    entrypoint, argv = settings.entrypoint, settings.argv
    if entrypoint is None:
        entrypoint = tuple(of_image.get("Entrypoint") or ())
        argv = argv or tuple(of_image.get("Cmd") or ())
    found = (*entrypoint, *argv)
    if not found or not found[0]:
        raise UsageError(
            "the image says no command, and none is given",
            "name one behind IMAGE: builder run IMAGE COMMAND...",
        )
    return found


def _environment(of_image: Mapping[str, Any]) -> dict[str, str]:
    from builder.plan.config import DEFAULT_PATH, variable

    env = {"PATH": DEFAULT_PATH, "HOSTNAME": HOSTNAME}
    env.update(map(variable, of_image.get("Env") or ()))
    return env


def _working_dir(config: Document) -> str:
    from builder.plan.config import working_dir_of

    return working_dir_of(config)


def _mounts(given: tuple[Mounted, ...], before: tuple[Mounted, ...]) -> tuple[Mounted, ...]:
    targets = {each.target for each in given}
    return (*(each for each in before if each.target not in targets), *given)

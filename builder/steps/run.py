"""`run`: a command in the image. What it leaves out comes from config, else from the base."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from builder.errors import BuilderError, SpecError
from builder.spec.model import ImageSpec, Place, shown
from builder.steps.mounting import MountingStep

if TYPE_CHECKING:
    from builder.executor.base import Command
    from builder.oci.image import Document
    from builder.plan.context import Context
    from builder.rootfs.view import View
    from builder.spec.fields import Reader, Table
    from builder.spec.mounts import Mount
    from builder.spec.node import Node

_SHELLS = ("sh", "bash", "dash", "ash", "ksh", "zsh")


class _Run(NamedTuple):
    place: Place
    name: str | None
    command: str | tuple[str, ...]  # text runs under the shell, a tuple is an argv
    env: Mapping[str, str] = {}
    user: str | None = None
    working_dir: str | None = None
    shell: tuple[str, ...] | None = None
    network: str = "host"  # host | none | private
    timeout: int = 0  # nanoseconds; 0: none
    given: tuple[Mount, ...] = ()  # its mounts
    errexit: bool = True  # where no shell is named, it stops at what fails


class Run(_Run, MountingStep):
    __slots__ = ()
    verb = "run"
    doc = "Run a command in the image."

    @classmethod
    def fields(cls) -> Table:
        from builder.spec import syntax
        from builder.spec.fields import Field, Kind, boolean, choice, text
        from builder.spec.kinds import ARGV, DURATION, ENV, NAME_FIELD, OWNER, SCRIPT, SHELL
        from builder.spec.mounting import MOUNTS

        def command(reader: Reader, node: Node) -> Any:
            """Text for the shell, or an argv."""
            if reader.is_list(node):
                return ARGV.read(reader, node)
            return SCRIPT.read(reader, node)

        def working_dir(value: str) -> str:
            syntax.parse_target(value)
            return value

        return {
            "run": Field(
                Kind(command, {"anyOf": [SCRIPT.schema, ARGV.schema]}),
                "Text for the shell, or a list as argv.",
                required=True,
            ),
            "name": NAME_FIELD,
            "env": Field(ENV, "Environment of this command, over the config's."),
            "user": Field(OWNER, "Who runs it; else the config's user."),
            "working_dir": Field(
                text(working_dir), "Where it runs; made when missing. Relative: below config's."
            ),
            "shell": Field(SHELL, "The shell for text, else the config's, else [/bin/sh, -e, -c]."),
            "network": Field(
                choice("host", "none", "private"),
                "host (default), none, or private: outward only, by pasta or slirp4netns.",
            ),
            "timeout": Field(DURATION, "How long it may take, such as 10m; else as it likes."),
            "mounts": Field(MOUNTS, "What it sees beside the image; nothing of it is kept."),
            "errexit": Field(
                boolean(),
                "false: the shell, where none is named, goes on after what fails, as RUN's does.",
            ),
        }

    @classmethod
    def read(cls, reader: Reader, node: Node, given: Mapping[str, Any]) -> Run:
        from builder.spec.kinds import place

        command = given["run"]
        if isinstance(command, str) and re.match("--(mount|network|security|device)=", command):
            from builder.spec.words import of_run

            at = next((key for key, _ in node.pairs if key.text == "run"), node)
            raise at.fault("the command begins with a flag of RUN", of_run(command))
        if "shell" in given and not isinstance(command, str):
            at = node.get("shell") or node
            raise at.fault("'shell' is given, but a list runs without a shell")
        return cls(
            place(reader, node.get("run") or node),
            given.get("name"),
            command,
            given.get("env", {}),
            given.get("user"),
            given.get("working_dir"),
            given.get("shell"),
            given.get("network", "host"),
            given.get("timeout", 0),
            given.get("mounts", ()),
            given.get("errexit", True),
        )

    def title(self) -> str:
        line = self._text().strip().partition("\n")[0]
        return "run " + (line if len(line) <= 50 else line[:49] + "…")

    def created_by(self) -> str:
        return "RUN " + self._text().strip()

    def _text(self) -> str:
        words = (self.command,) if isinstance(self.command, str) else self.command
        return " ".join(map(shown, words))

    def advice(self, spec: ImageSpec, context: Context) -> Iterator[SpecError]:
        """A shell that goes on after a line that failed: the step is judged by its last line."""
        from builder.spec.files import error_at
        from builder.spec.source import written

        shell = self.shell or spec.config.shell
        if shell is None or not isinstance(self.command, str):
            return
        lines = [line.strip() for line in self.command.splitlines()]
        lines = [line for line in lines if line and not line.startswith("#")]
        options = [word for word in shell[1:] if word.startswith("-") and not word.startswith("--")]
        stops = any("e" in word for word in options) or "errexit" in shell
        if len(lines) < 2 or shell[0].rpartition("/")[2] not in _SHELLS or stops:
            return
        if lines[0].startswith(("set -e", "set -o errexit")) or all(
            line.endswith(("&&", "\\", "|")) for line in lines[:-1]
        ):
            return
        words = ", ".join(map(written, (shell[0], "-e", *shell[1:])))
        yield error_at(
            self.place,
            f"a line that fails is passed over: the shell {' '.join(shell)!r} has no -e",
            f"write shell: [{words}]",
        )

    def command_on(self, config: Document, view: View, epoch: int) -> Command:
        from builder.executor.base import Command
        from builder.plan.config import settings_of, working_dir, working_dir_of
        from builder.rootfs.accounts import resolve_owner, resolve_user

        settings = settings_of(config)
        name = self.user or settings.get("User") or "0"
        try:
            user = resolve_user(name, view)
        except BuilderError as error:
            error.about("user" if self.user else "")
            if self.user is None:
                error.hint = (
                    f"{error.hint}; the image's user runs this step, too: `user: root` here, "
                    "or `set` that user after the step that makes it"
                )
            raise
        folder = working_dir(working_dir_of(config), self.working_dir)
        its_own = self.working_dir is None and makes_it(self.command, folder)
        if its_own and view.missing(os.fsencode(folder)):
            folder = "/"
        if isinstance(self.command, str):
            own = ("/bin/sh", "-e", "-c") if self.errexit else ("/bin/sh", "-c")
            shell = self.shell or tuple(settings.get("Shell") or ()) or own
            argv = (*shell, self.command)
        else:
            argv = self.command
        return Command(
            argv,
            environment(settings, self.env, user.home, epoch),
            user.uid,
            user.gid,
            # as engines do: the own group too, so that giving it up takes no rights away
            tuple(dict.fromkeys((user.gid, *user.groups))),
            folder,
            self.network,
            self.timeout / 10**9 if self.timeout else None,
            resolve_owner(name, view),
        )


def environment(
    settings: Mapping[str, Any], own: Mapping[str, str], home: str, epoch: int
) -> dict[str, str]:
    """The whole environment of a command: PATH and HOME as Docker sets them, the config's, the
    step's; SOURCE_DATE_EPOCH so that tools that know it write the same bytes again."""
    from builder.plan.config import DEFAULT_PATH, variable

    env = {"PATH": DEFAULT_PATH, "HOME": home, "SOURCE_DATE_EPOCH": str(epoch)}
    env.update(map(variable, settings.get("Env") or ()))
    return {**env, **own}


def makes_it(command: str | tuple[str, ...], folder: str) -> bool:
    """Whether a command, by what it says, makes `folder` itself in a way that works only where it
    is not there yet: mkdir fails then, and a new account's home stays root's."""
    text = command if isinstance(command, str) else " ".join(command)
    parent, name = posixpath.split(folder)
    for part in re.split(r"[;&|\n()]+", text):
        program, *words = [word.strip("'\"") for word in part.split()] or [""]
        paths = {word.rpartition("=")[2].rstrip("/") for word in words}
        program = program.rpartition("/")[2]
        if program == "mkdir" and folder in paths:
            return not any(re.fullmatch("-[a-zA-Z]*p[a-zA-Z]*|--parents", word) for word in words)
        home = folder in paths or (parent == "/home" and name in words)
        if home and program in ("useradd", "adduser"):
            return True
    return False

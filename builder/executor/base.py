"""The plug point for command steps."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, NamedTuple, Protocol

from builder.layer.entry import Change
from builder.oci.image import Image

if TYPE_CHECKING:
    from builder.rootfs.layers import Layers


HOSTNAME = "localhost"
"""Of a command's machine: every hosts file resolves it, and it is the same everywhere."""


class Folder(NamedTuple):
    """A folder of this machine. The targets of all mounts are absolute, and no symlink of the image
    is on the way. What is executed of one gets no rights, and its devices are none."""

    target: str
    source: str
    writable: bool = False


class File(NamedTuple):
    """A file or a socket of this machine."""

    target: str
    source: str
    writable: bool = False


class Value(NamedTuple):
    """A file that is only in memory."""

    target: str
    content: bytes
    mode: int = 0o400
    uid: int = 0
    gid: int = 0


class Memory(NamedTuple):
    """An empty folder in memory, for everybody to write in."""

    target: str
    size: int | None = None  # bytes


Mounted = Folder | File | Value | Memory
"""What a command sees beside its image. None of it reaches a layer."""


class Command(NamedTuple):
    """A command with everything decided: nothing is looked up when it runs."""

    argv: tuple[str, ...]  # argv[0] is searched on env's PATH within the image, as execvp does
    env: Mapping[str, str]  # the whole environment: PATH, HOME, SOURCE_DATE_EPOCH included
    uid: int
    gid: int
    groups: tuple[int, ...]  # supplementary, `gid` among them
    working_dir: str  # absolute within the image; made when missing, 0755, its parents too
    network: str  # host | none | private
    timeout: float | None = None  # seconds, at most; not part of what it makes
    folder_owner: tuple[int, int] = (0, 0)  # of what is made of working_dir
    mounts: tuple[Mounted, ...] = ()
    hidden: Mapping[str, bytes] = {}  # more of the environment, which is written to no disk


class Standing(NamedTuple):
    """How a container stands, beside its command. Targets of its mounts and its volumes are as the
    user wrote them: symlinks of the image are followed when it starts."""

    upper: str  # folder: its own layer, with what earlier commands left
    read_only: bool = False  # but for its volumes
    volumes: tuple[str, ...] = ()  # made when missing, 0755 of root


class Streams(NamedTuple):
    """What a container's command reads and writes: handles, which stay the caller's."""

    stdin: int | None = None  # None: there is nothing to read
    stdout: int = 1
    stderr: int = 2
    terminal: bool = False
    """The command gets a terminal of its own, which looks as that on `stdout` does; what it shows
    goes to `stdout`, and what is typed on the one of `stdin` is passed on raw."""


class Parent(NamedTuple):
    """What a command runs on."""

    image: Image
    layers: Layers | None  # None: the image has none

    def lowers(self) -> tuple[str, ...]:
        """Unpack what is not yet unpacked and give the layers' folders as overlay lower dirs,
        bottom first. Whiteouts stand in them as overlayfs wants them (char device 0:0,
        `overlay.opaque` xattr: `trusted.` as root, `user.` in a user namespace). Never written to.
        """
        from builder.executor.syscalls import initial_user_namespace

        if self.layers is None:
            return ()
        return self.layers.lowers(self.image.layers, privileged=initial_user_namespace())


Keep = Callable[[str], None]
"""Takes the upper directory of an overlay that nothing writes to any more, and may move it away on
its file system; what it leaves is removed."""


class Executor(Protocol):
    """Runs a command over an image and tells what it changed."""

    name: str
    elsewhere: bool
    """Whether commands may run on another machine than this one."""

    def run(
        self,
        command: Command,
        parent: Parent,
        output: Callable[[bytes], None],
        epoch: int,
        keep: Keep | None = None,
    ) -> AbstractContextManager[Iterable[Change]]:
        """Run to the end; on entry the command has ended with status 0 and the changeset can be
        iterated once, sorted as a layer wants it; on exit everything made on the way is removed.

        `output` gets raw chunks of stdout and stderr as they come. No mtime is later than
        `epoch` (clock.command_time). Raises CommandFailed (a status other than 0) and
        ExecutorError (could not be started). KeyboardInterrupt ends the command and its
        descendants before it goes on. `keep` is given what a command left that failed, by those
        executors that write to an overlay.
        """
        ...

    def probe(self) -> str | None:
        """Try to run a trivial command; None when that works, else one line saying why not."""
        ...

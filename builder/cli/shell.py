"""`builder shell`: behind any step of an image, and where a step failed."""

from __future__ import annotations

import argparse
import contextlib
import os
import shutil
import stat
import sys
from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

from builder.cli import screen, wiring
from builder.cli.containers import of_command, start
from builder.containers import failed
from builder.containers.command import Above
from builder.containers.container import On, Streams
from builder.errors import BuilderError, CommandFailed, LayerError, UsageError
from builder.oci.image import host_platform
from builder.spec.files import is_dockerfile
from builder.spec.mounts import Secret

if TYPE_CHECKING:
    from builder.cli.wanted import Wanted
    from builder.containers.container import Container
    from builder.events import Event
    from builder.executor.base import Command
    from builder.oci.image import Image
    from builder.plan.step import CommandStep
    from builder.project import Project
    from builder.rootfs.accounts import AccountFiles
    from builder.rootfs.layers import Layers
    from builder.rootfs.view import View

_BASH = "/bin/bash"
_SH = "/bin/sh"


def shell(arguments: argparse.Namespace) -> int:
    """The status of the shell."""
    with of_command():
        if fault := wiring.become_root():  # before the first thread
            raise fault
        if arguments.failed:
            if arguments.at or arguments.keep:
                raise UsageError(
                    "--failed stands where a step failed, and what is changed there is kept",
                    "leave out --at and --keep",
                )
            return _failed(arguments)
        if arguments.image is None:
            raise UsageError("no IMAGE is named", "builder shell IMAGE, or --failed")
        return _behind(arguments)


# -- behind a step ---------------------------------------------------------------------------------


def _behind(arguments: argparse.Namespace) -> int:
    if arguments.at is None:
        layers, on, command, text = _whole(arguments)
    else:
        layers, on, command, text = _at(arguments)
    with layers.store.live():
        view = layers.view(on.image.layers)
        argv = _argv(arguments, on.image.config, lambda path: _is_there(view, path))
        command = _as_asked(arguments, command._replace(argv=argv), view)
        _say(text)
        with _without_shell(arguments):
            return start(arguments, layers, on, command, _streams(), arguments.keep or "")


_Stand = tuple["Layers", On, "Command", str]


def _whole(arguments: argparse.Namespace) -> _Stand:
    """On all of an image."""
    from builder.cli import wanted

    def stand(found: Wanted) -> _Stand:
        part = found.one()
        view, epoch = found.layers.view(part.image.layers), _epoch(arguments)
        command, note = _command(view, part.image, None, epoch)
        on = On(arguments.image, part.manifest.digest, part.image)
        return found.layers, on, command, f"{arguments.image}: behind its last step{note}"

    return wanted.use(arguments, stand, host_platform)


def _epoch(arguments: argparse.Namespace) -> int:
    from builder.project import Project

    return Project(wiring.options(arguments)).epoch


def _at(arguments: argparse.Namespace) -> _Stand:
    """Behind one step of a spec's image, built as far as that."""
    from builder.cli.wanted import fitting
    from builder.plan.step import CommandStep, own_steps, step_name
    from builder.plan.until import number_of
    from builder.project import Project

    early: list[Event] = []
    project = Project(wiring.options(arguments), early.append)
    specs, names = project.load([arguments.image])
    parts = project.images[project.only(arguments.image, names)]
    platforms = {specs[part].target or host_platform(): part for part in parts}
    task = platforms[fitting(list(platforms), host_platform())]
    if not specs[task].waits:
        number_of(specs[task], arguments.at)
    with screen.telling(screen.renderer(arguments.progress)) as emit:
        project.tell(emit)
        for event in early:
            emit(event)
        built = project.build(specs, until=(task, arguments.at))[task]
    project.tell(screen.renderer("plain"))
    steps, number = own_steps(built.spec), number_of(built.spec, arguments.at)
    step = steps[number] if number < len(steps) else None
    of = step if isinstance(step, CommandStep) else None
    view = project.layers.view(built.image.layers)
    command, note = _command(view, built.image, of, project.epoch)
    behind = f"step {number}, {step_name(steps[number - 1])!r}" if number else "its base"
    text = f"{built.spec.label}: behind {behind}"
    if of:
        text += f"; step {number + 1} is run as: {_line(of.created_by().removeprefix('RUN '))}"
    on = On(built.spec.label, built.manifest.digest, built.image)
    return project.layers, on, command, text + note


def _command(view: View, image: Image, step: CommandStep | None, epoch: int) -> tuple[Command, str]:
    """The next step's command, else one that has what the config says; where its user is not there
    yet, root's, with a note."""
    from builder.errors import Place
    from builder.steps.run import Run

    plain = Run(Place("", 0, 0), None, (_SH,))
    try:
        return (step or plain).command_on(image.config, view, epoch), ""
    except BuilderError as error:
        root = plain._replace(user="0:0")
        return root.command_on(image.config, view, epoch), f"\nas root: {error.what}"


# -- where a step failed ---------------------------------------------------------------------------


def _failed(arguments: argparse.Namespace) -> int:
    from builder.project import Project

    project = Project(wiring.options(arguments), screen.renderer("plain"))
    image = arguments.image
    if image and (
        "/" in image or arguments.target or is_dockerfile(image)
    ):  # a spec file, as of build
        specs, names = project.load([image])
        image = specs[project.images[project.only(image, names)][0]].label
    state = failed.find(project.store, project.name, image)
    return _stand_in(arguments, project, state)


def after_failure(arguments: argparse.Namespace, project: Project) -> None:
    """A shell where the first of a build's steps failed whose state is kept."""
    settings: dict[str, Any] = {"argv": [], "shell": None, "user": None, "volumes": []}
    own = argparse.Namespace(**{**vars(arguments), **settings})
    project.tell(screen.renderer("plain"))
    for each in project.failures:
        try:
            state = failed.find(project.store, project.name, each.label)
        except UsageError:
            continue  # its error says why
        try:
            _stand_in(own, project, state)
        except BuilderError as error:
            screen.show_error(error, arguments.progress)
        return


def _stand_in(arguments: argparse.Namespace, project: Project, state: failed.State) -> int:
    """A shell where a step failed. What is changed there stays in its state."""
    container = state.container
    command, unset = container.command, state.unset
    for failure in project.failures:  # of this run: all is known
        if failure.label == state.image:
            command, unset = failure.command, ()
    said = (
        f"{state.image}: where step {container.failed!r} failed; it ran: {_line(_run_of(command))}"
    )
    for name in unset:
        said += f"\n${name} is not set: env() gave it, and that is not kept"
    with project.store.live(), contextlib.ExitStack() as held:
        view = project.layers.view(container.layers)
        what = f"{state.image}: a shell"
        platform = container.stands_on().platform
        command = project.mounted(command, state.mounts, platform, what, held)
        for name in _lacking(project, state):
            said += f"\nthe secret {name!r} is not given, and not there: --secret {name}=WHERE"
        argv = _argv(arguments, container.config, lambda path: _is_there(view, path, container))
        command = _as_asked(arguments, command._replace(argv=argv), Above(container.upper, view))
        _say(said)
        try:
            with _without_shell(arguments):
                return start(arguments, project.layers, container, command, _streams())
        finally:
            _warn_of_secrets(project, state)


def _warn_of_secrets(project: Project, state: failed.State) -> None:
    """What was given to the shell may have been copied by hand."""
    from builder.make.guard import Guard

    try:
        given = [each.mount.name for each in state.mounts if isinstance(each.mount, Secret)]
        values = {
            name: project.secrets.value(name) for name in given if project.secrets.known(name)
        }
        Guard(values, project.secrets, project.agents).check_folder(state.container.upper)
    except LayerError as error:
        said = error.what.replace("would hold", "holds", 1)
        hint = f"`builder rm {state.container.name}` removes what is kept there"
        screen.show_warning(BuilderError(f"{state.container.name}: {said}", hint))
    except OSError:
        pass  # what cannot be read there can be in no layer


def _lacking(project: Project, state: failed.State) -> Iterator[str]:
    for each in state.mounts:
        if isinstance(each.mount, Secret) and not project.secrets.known(each.mount.name):
            yield each.mount.name


def _run_of(command: Command) -> str:
    """What a step's command says; of a shell with its options the text alone."""
    if len(command.argv) > 1 and command.argv[-2].endswith("c"):
        return command.argv[-1]
    return " ".join(command.argv)


def _is_there(view: View, path: str, container: Container | None = None) -> bool:
    """Whether a program is there: in the container's own layer, else below."""
    place = view.resolve(os.fsencode(path.strip("/")), follow_last=True)
    own = os.fsencode(container.upper) if container else b""
    for part in place.split(b"/") if container else ():
        own += b"/" + part
        try:
            mode = os.lstat(own).st_mode
        except FileNotFoundError:
            break
        if not stat.S_ISDIR(mode):
            return not stat.S_ISCHR(mode)  # else a deletion
    return view.lookup(place) is not None


# -- the shell -------------------------------------------------------------------------------------


def _as_asked(arguments: argparse.Namespace, command: Command, accounts: AccountFiles) -> Command:
    """The command with the user and the mounts of the command line."""
    from builder.cli.running import volume
    from builder.rootfs.accounts import resolve_user

    env = dict(command.env)
    if sys.stdin.isatty():
        env.setdefault("TERM", os.environ.get("TERM", "xterm"))
    if arguments.user:
        user = resolve_user(arguments.user, accounts)
        env["HOME"] = user.home
        groups = tuple(dict.fromkeys((user.gid, *user.groups)))
        command = command._replace(uid=user.uid, gid=user.gid, groups=groups)
    mounts = (*command.mounts, *map(volume, arguments.volumes))
    return command._replace(env=env, mounts=mounts, timeout=None)


def _argv(
    arguments: argparse.Namespace, config: Mapping[str, Any], there: Callable[[str], bool]
) -> tuple[str, ...]:
    """What was asked for, else bash where there is one, else the image's shell."""
    if arguments.argv:
        return tuple(arguments.argv)
    if arguments.shell:
        return (arguments.shell,)
    if there(_BASH):
        return (_BASH,)
    own = (config.get("config") or {}).get("Shell")
    return (own[0] if own else _SH,)


@contextlib.contextmanager
def _without_shell(arguments: argparse.Namespace) -> Iterator[None]:
    """Of an image that has no shell, say what to do."""
    try:
        yield
    except CommandFailed as error:
        if error.exit_status == 127 and not arguments.argv:
            busybox = shutil.which("busybox")
            bring = "bring a static busybox, of Debian's busybox-static: -v /bin/busybox"
            if busybox:
                bring = f"bring this machine's busybox, if it is a static one: -v {busybox}"
            error.hint = f"{bring}:/busybox -- /busybox sh"
        raise


def _streams() -> Streams:
    """A terminal where all three are one; else what is piped is read."""
    terminal = all(os.isatty(handle) for handle in (0, 1, 2))
    return Streams(0, 1, 2, terminal)


def _say(text: str) -> None:
    """Where the shell stands."""
    from builder.ui.text import harmless

    if sys.stderr.isatty():
        sys.stderr.write("".join(harmless(line) + "\n" for line in text.split("\n")))
    sys.stderr.flush()
    sys.stdout.flush()


def _line(text: str) -> str:
    """The first line of a text, not too long."""
    head, *more = text.strip().split("\n")
    return head[:77] + "..." if len(head) > 80 else head + (" ..." if more else "")

"""The overlay a command writes to: layers below, a sheet of the sandbox's own files over them, an
upper directory above.

The sheet is a lower layer of its own, so that nothing is mounted over files of the image and no
mount point is left in the upper directory: it holds proc, sys, dev, etc/resolv.conf and etc/hosts.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Iterable, Sequence

from builder.errors import CannotRun
from builder.executor import syscalls
from builder.executor.base import Command, Folder, Memory, Mounted
from builder.executor.changes import Lower, Tree
from builder.executor.mounting import Point, ancestors, points_of, working_dirs

# A rename of a lower directory then fails with EXDEV, as on Docker: a redirect is nothing a tar can
# say. `volatile`: no syncing of a tree that is read once and thrown away.
_PRIVILEGED = b"redirect_dir=off,metacopy=off,index=off,xino=off"
_ORDINARY = b"userxattr,index=off,xino=off"  # which allows no redirects, and not to say so either
_MOST = 498  # lower layers: overlayfs takes 500 in all, and the sheet or the empty ones are two
NOWHERE = b"etc/."  # no path of a change is so: for images in which nothing is the sandbox's own
_OWN = (b"proc", b"sys", b"dev")  # what the sandbox mounts
HOSTS_ALONE = b"127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"


class Overlay:
    """Directories for one command below `folder`, which is on a file system that overlayfs can
    write to."""

    def __init__(self, folder: str, lowers: Sequence[str], upper: str | None = None) -> None:
        """`upper`: a folder on the same file system, with what earlier commands left."""
        if len(lowers) > _MOST:
            raise CannotRun(
                f"the image below the step has {len(lowers)} layers, an overlay takes {_MOST}",
                "join steps: several lines in one `run`, several sources in one `copy`",
            )
        self.folder = os.fsencode(folder)
        self._lowers = [os.fsencode(lower) for lower in lowers]
        if upper is not None:
            os.symlink(os.path.abspath(upper), os.path.join(folder, "upper"))
        names = (b"work", b"root", b"below", b"sheet", b"empty", b"nothing")
        for name in names if upper is not None else (b"upper", *names):
            os.mkdir(self.folder + b"/" + name, 0o755)
        os.chmod(self.folder + b"/upper", 0o755)
        # mount(2) takes 4096 bytes of options: short names, relative to the thread's own directory.
        for index, lower in enumerate(self._lowers):
            os.symlink(lower, self.folder + b"/%d" % index)

    @property
    def root(self) -> bytes:
        """Where the command's tree is mounted."""
        return self.folder + b"/root"

    def mount(self, command: Command) -> tuple[Tree, bytes | None]:
        """In a thread with mounts of its own: mount the command's tree, with what is missing there
        for its mounts. Gives the tree below it, to compare with, and where the sandbox's own files
        are in it (see own_folder)."""
        os.chdir(self.folder)
        names = [b"%d" % index for index in reversed(range(len(self._lowers)))]
        # overlayfs wants two lower layers where there is no upper one.
        self._overlay(b"below", b"lowerdir=" + b":".join([*names, b"empty", b"nothing"]))
        below = Tree(self.folder + b"/below")
        try:
            upper = self.folder + b"/upper"
            copy_modes(below, b"", upper)
            os.chmod(upper, stat.S_IMODE(os.stat(upper).st_mode) | 0o755)  # users may enter `/`
            etc = own_folder(below)
            points = points_of(command.mounts)
            make_sheet(below, etc, self.folder + b"/sheet", command.network, points)
            if points:
                folders = working_dirs(command, lambda path: resolve_directory(below, path))
                make_folders(below, folders, upper, command.folder_owner)
            lower = b"lowerdir=" + b":".join([b"sheet", *names])
            self._overlay(b"root", lower + b",upperdir=upper,workdir=work")
        except BaseException:
            below.close()
            raise
        return below, etc

    def bare(self) -> None:
        """As `mount`, with nothing of the sandbox's own: to look into, and to copy to and from."""
        os.chdir(self.folder)
        names = [b"%d" % index for index in reversed(range(len(self._lowers)))]
        lower = b"lowerdir=" + b":".join([*names, b"empty"])
        self._overlay(b"root", lower + b",upperdir=upper,workdir=work")

    def stand(self, command: Command, volumes: Sequence[str]) -> tuple[Command, tuple[str, ...]]:
        """As `mount`, of a container whose upper directory may hold anything by now. Gives the
        command and the volumes with the symlinks followed that are on the way to where something
        is mounted. Raises CannotRun where it cannot be."""
        os.chdir(self.folder)
        names = [b"%d" % index for index in reversed(range(len(self._lowers)))]
        for name in _OWN:
            _check_own(b"upper/" + name)
        self._overlay(b"below", b"lowerdir=" + b":".join([b"upper", *names, b"empty", b"nothing"]))
        below = Tree(self.folder + b"/below")
        try:
            upper = self.folder + b"/upper"
            if not os.listdir(upper):
                copy_modes(below, b"", upper)
                os.chmod(upper, stat.S_IMODE(os.stat(upper).st_mode) | 0o755)  # users may enter `/`
            mounts = tuple(
                each._replace(target=_place(below, each.target, isinstance(each, Folder | Memory)))
                for each in command.mounts
            )
            _check_once(mounts)
            places = tuple(_place(below, each, True) for each in volumes)
            sheet = self.folder + b"/sheet"
            make_sheet(below, own_folder(below), sheet, command.network, points_of(mounts))
            lower = b"lowerdir=" + b":".join([b"sheet", *names])
            self._overlay(b"root", lower + b",upperdir=upper,workdir=work")
        finally:
            below.close()
        return command._replace(mounts=mounts), places

    def _overlay(self, target: bytes, layers: bytes) -> None:
        privileged = syscalls.initial_user_namespace()
        options = (_PRIVILEGED if privileged else _ORDINARY) + b"," + layers
        attempts = [options + b",volatile", options] if b"upperdir" in layers else [options]
        for attempt in attempts:
            try:
                syscalls.mount(b"overlay", target, b"overlay", 0, attempt)
                return
            except OSError as error:
                if error.errno != errno.EINVAL or attempt is attempts[-1]:
                    raise CannotRun(
                        f"cannot mount an overlay in {os.fsdecode(self.folder)}: {error.strerror}",
                        "the cache folder must lie on ext4, xfs, btrfs or tmpfs, not on an overlay",
                    ) from error


def _check_own(path: bytes) -> None:
    """What is mounted in the upper directory's own `proc`, `sys` or `dev` is mounted there."""
    with contextlib.suppress(FileNotFoundError):
        if not stat.S_ISDIR(os.lstat(path).st_mode):
            name = os.fsdecode(os.path.basename(path))
            raise CannotRun(f"/{name} is no folder in the container any more")


def _place(tree: Tree, target: str, directory: bool) -> str:
    """Where a target is, with every symlink followed; what is there already fits. Raises
    CannotRun."""
    path = resolve_directory(tree, os.fsencode(target))
    if path is None:
        raise CannotRun(f"{target!r} leads through symlinks in a circle")
    whole = "/" + os.fsdecode(path)
    for own in ("/", *("/" + os.fsdecode(name) for name in _OWN)):
        if whole == own or (own != "/" and whole.startswith(own + "/")):
            said = f"{target!r} is {whole!r}, which" if whole != target else repr(target)
            raise CannotRun(f"nothing can be mounted at {said} is the container's own")
    status = tree.lstat(path)
    if status is not None and stat.S_ISDIR(status.st_mode) != directory:
        kinds = ("folder", "file") if directory else ("file", "folder")
        raise CannotRun(
            f"a {kinds[0]} cannot be mounted at {target!r}, which is a {kinds[1]} in the image"
        )
    for parent in ancestors(path):
        status = tree.lstat(parent or b".")
        if status is not None and not stat.S_ISDIR(status.st_mode):
            raise CannotRun(f"nothing can be mounted at {target!r}: a file is on the way")
    return whole


def _check_once(mounts: Iterable[Mounted]) -> None:
    seen = set()
    for each in mounts:
        if each.target in seen:
            raise CannotRun(f"two mounts are at {each.target!r}, expected one")
        seen.add(each.target)


def own_folder(tree: Lower) -> bytes | None:
    """Where resolv.conf and hosts go: where /etc leads, which is made if only that is missing;
    nowhere (None) if it is the root, in what the sandbox mounts, or no directory."""
    etc = resolve_directory(tree, b"etc")
    if etc is None or etc.split(b"/")[0] in (b"", *_OWN):
        return None
    made = b""
    for part in etc.split(b"/"):
        made = made + b"/" + part if made else part
        status = tree.lstat(made)
        if status is None:
            return etc if made == etc else None
        if not stat.S_ISDIR(status.st_mode):
            return None
    return etc


def make_sheet(
    below: Tree, etc: bytes | None, sheet: bytes, network: str, points: Iterable[Point] = ()
) -> None:
    """Fill `sheet` with what the sandbox puts over the image; its directories look as those
    below."""
    for name in _OWN:
        os.mkdir(sheet + b"/" + name, 0o755)
    folders = {b""}
    if etc is not None:
        os.makedirs(sheet + b"/" + etc, 0o755)
        write_host_files(sheet + b"/" + etc, network)
        folders |= {etc, *ancestors(etc)}
    for point in points:
        path = sheet + b"/" + point.path
        if below.lstat(point.path) is not None or os.path.lexists(path):
            continue
        folders |= set(ancestors(point.path))
        os.makedirs(os.path.dirname(path), 0o755, exist_ok=True)
        if point.directory:
            os.mkdir(path)
            os.chmod(path, point.mode)
        else:
            with open(path, "xb"):
                pass
    for folder in folders:
        copy_modes(below, folder, sheet + b"/" + folder)


def write_host_files(folder: bytes, network: str) -> None:
    for name, content in host_files(network).items():
        path = folder + b"/" + name
        try:
            os.unlink(path)  # it may be a symlink
        except FileNotFoundError:
            pass
        except (IsADirectoryError, PermissionError):
            continue  # in a chroot a directory of the image stays
        with open(path, "xb") as file:
            file.write(content)
        os.chmod(path, 0o644)


def host_files(network: str) -> dict[bytes, bytes]:
    """resolv.conf and hosts as the command sees them."""
    files = {b"resolv.conf": b"", b"hosts": HOSTS_ALONE}
    if network == "private":
        from builder.executor import outward

        files[b"resolv.conf"] = outward.resolv_conf()
    if network == "host":
        for name in files:
            with contextlib.suppress(OSError), open(b"/etc/" + name, "rb") as file:
                files[name] = file.read()
    return files


def make_folders(
    below: Tree, folders: Iterable[bytes], upper: bytes, owner: tuple[int, int]
) -> None:
    """Have folders of the command's own in its layer, before something is mounted in them. They
    come with their parents first."""
    for path in folders:
        status = below.lstat(path)
        if status is not None and not stat.S_ISDIR(status.st_mode):
            return  # entering it says what is wrong
        os.mkdir(upper + b"/" + path, 0o755)
        if status is None:
            os.chown(upper + b"/" + path, *owner)
        else:
            copy_modes(below, path, upper + b"/" + path)


def copy_modes(below: Tree, path: bytes, target: bytes) -> None:
    """Let the directory `target` look like `path` below: owner, mode, kept xattrs, mtime. Where
    there is none, 0755 of root."""
    status = below.lstat(path or b".")
    if status is None or not stat.S_ISDIR(status.st_mode):
        os.chmod(target, 0o755)
        return
    os.chown(target, status.st_uid, status.st_gid)
    os.chmod(target, stat.S_IMODE(status.st_mode))
    for name, value in below.xattrs(path or b"."):
        os.setxattr(target, name, value)
    os.utime(target, ns=(status.st_mtime_ns, status.st_mtime_ns))


def resolve_directory(tree: Lower, path: bytes, hops: int = 40) -> bytes | None:
    """`path` with every symlink followed within `tree`; parts that do not exist stay as they are.
    None: a loop of links."""
    done: list[bytes] = []
    waiting = path.split(b"/")[::-1]
    while waiting:
        part = waiting.pop()
        if part in (b"", b"."):
            continue
        if part == b"..":
            done = done[:-1]
            continue
        status = tree.lstat(b"/".join([*done, part]))
        if status is None or not stat.S_ISLNK(status.st_mode):
            done.append(part)
            continue
        hops -= 1
        if hops < 0:
            return None
        target = tree.readlink(b"/".join([*done, part]))
        if target.startswith(b"/"):
            done = []
        waiting += target.split(b"/")[::-1]
    return b"/".join(done)


def remove_tree(folder: str) -> None:
    """Remove what a command left, however deep."""
    import shutil

    try:
        shutil.rmtree(folder)
    except (OSError, RecursionError):
        import subprocess

        subprocess.run(["rm", "-rf", "--", folder], check=False, stderr=subprocess.DEVNULL)

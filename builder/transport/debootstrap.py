"""A Debian or Ubuntu base made by mmdebstrap: `debootstrap:SUITE` with variant, include, mirror.

Without `mirror`, the system's apt sources are used, with the suite's name where the system follows
another one, and mmdebstrap's own default for suites of other distributions. apt's keyrings, proxies
and credentials of the system count. What differs between machines or runs (logs, apt's lists,
resolv.conf, hostname, device nodes) is left out, so the same packages from the same mirror give the
same layer.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import signal
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import IO, TYPE_CHECKING, Any, BinaryIO, cast

from builder.errors import LayerError, TransportError, without_passwords
from builder.oci.digest import hex_of
from builder.oci.image import Platform, empty_image, encode
from builder.spec.model import BaseRef
from builder.transport.base import Base, Tell, quiet
from builder.transport.kept import CREATED, MadeBase, load_base, save_base
from builder.work.cancel import Cancel

if TYPE_CHECKING:
    import subprocess

    from builder.store.store import Store
    from builder.transport.apt import Apt

KEY_VERSION = 1
"""Raised when the same options would give another layer."""
EPOCH = 315532800  # 1980-01-01, as the first file steps of a spec
DEFAULT_VARIANT = "minbase"
VARIANTS = (
    *("extract", "custom", "essential", "apt", "required", "minbase"),
    *("buildd", "important", "debootstrap", "standard"),
)
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_SUITE = re.compile(r"[a-z0-9][a-z0-9._/-]{0,63}")
_MIRROR = re.compile(r"(deb (\[[^\]\n]*\] )?)?[a-z+]+:[!-~]+( [!-~]+)*")
_PACKAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9+.:=~/_-]{0,127}")
_ARCHITECTURES = {
    "386": "i386", "amd64": "amd64", "arm64": "arm64", "arm/v6": "armel", "arm": "armhf",
    "mips64le": "mips64el", "ppc64le": "ppc64el", "riscv64": "riscv64", "s390x": "s390x",
}  # fmt: skip
_SETTINGS = "etc/apt/apt.conf.d/00builder"
_LEFT_OUT = (
    *(b"etc/hostname", b"etc/resolv.conf", _SETTINGS.encode()),
    # apt makes these again; whose they are depends on whether its own user could enter our folder
    *(b"var/cache/apt/archives/partial", b"var/lib/apt/lists/partial"),
)
_GRACE = 10  # seconds mmdebstrap has to clean up
_OWN_MOUNTS = 'unshare -m true 2> /dev/null && exec unshare -m "$0" "$@"; exec "$0" "$@"'
"""As root mmdebstrap mounts the machine's /dev/shm and others in its tree. In a mount namespace of
its own they end with it, however it is killed, and nobody who removes the tree finds them. Who may
make no namespace may not mount either."""


class DebootstrapSource:
    """`environment` is handed to mmdebstrap (proxies)."""

    def __init__(
        self,
        store: Store,
        environment: Mapping[str, str] = {},  # read only
        *,
        apt: Apt | None = None,  # None: the system's
        clock: Callable[[], float] = time.time,
        cancel: Cancel | None = None,
    ) -> None:
        self._store, self._environment = store, environment
        self._apt, self._clock = apt, clock
        self._cancel = cancel or Cancel()

    def resolve(
        self, ref: BaseRef, platform: Platform, *, make: bool, pull: str, tell: Tell = quiet
    ) -> Base | None:
        where = str(ref)
        wanted = _check(ref, platform, where)
        name = "debootstrap-" + hex_of(encode(wanted))
        kept = load_base(self._store, name)
        if pull == "never" and kept is None:
            raise TransportError(f"{where}: it was not made yet", "build without --pull never")
        if kept is None or pull == "always":
            if not make:
                return None
            started = self._clock()
            with self._store.lock(name):
                kept = load_base(self._store, name)
                if kept is None or (pull == "always" and kept.made < started):
                    kept = self._make(wanted, platform, where, tell)
                    save_base(self._store, name, kept)
        return Base(kept.image, f"{ref}, made {_ago(self._clock() - kept.made)}")

    def _make(
        self, wanted: Mapping[str, Any], platform: Platform, where: str, tell: Tell
    ) -> MadeBase:
        from builder.executor.emulator import emulation, hint_for
        from builder.transport.apt import Apt
        from builder.transport.canonical import canonical_layer

        found = emulation(platform.architecture, self._store.temporary)
        if not found.works and wanted["variant"] != "extract":  # packages' scripts run
            hint = hint_for(platform)
            raise TransportError(f"{where}: no emulator for {platform}: {found.why}", hint)
        made = self._clock()
        apt = self._apt or Apt()
        with _temporary(self._store) as folder:
            environment = {
                "LANG": "C.UTF-8",
                "PATH": PATH,
                "SOURCE_DATE_EPOCH": str(EPOCH),
                "TMPDIR": folder,
                **self._environment,
            }
            environment["BUILDER_APT"] = apt.settings(_apt_config(environment))
            sources = wanted["mirror"] or apt.sources(wanted["suite"])
            if any(without_passwords(each) != each for each in sources):
                raise TransportError(
                    f"{where}: a mirror of this system's apt has a user, the image would keep it",
                    "write user and password into /etc/apt/auth.conf: they are used and not kept",
                )
            mirrors = wanted["mirror"] or _in_files(sources, folder)
            with (
                _running(_arguments(wanted, mirrors), environment, where) as process,
                self._cancel.ending(partial(os.killpg, process.pid, signal.SIGTERM)),
            ):
                assert process.stdout and process.stderr  # they are pipes
                tar = cast(BinaryIO, process.stdout)
                reader = _Printed(process.stderr, tell)
                fault: LayerError | None = None
                try:
                    layer = canonical_layer(self._store, tar, _keep)
                except LayerError as error:  # most likely it ended early: its own words say why
                    fault = error
                    while tar.read(1 << 20):
                        pass
                status = process.wait()
                lines = reader.last_lines()
        if status:
            raise _failure(where, status, lines)
        if fault:
            raise TransportError(f"{where}: {fault.message}", fault.hint) from fault
        config = {"Cmd": ["bash"], "Env": [f"PATH={PATH}"]}
        by = f"mmdebstrap --variant={wanted['variant']} {wanted['suite']}"
        image = empty_image(platform)
        image = image._replace(config={**image.config, "config": config, "created": CREATED})
        return MadeBase(image.append(layer, {"created": CREATED, "created_by": by}), made)


def _in_files(sources: Sequence[str], folder: str) -> list[str]:
    """The sources as mmdebstrap takes them: a `deb` line as it stands, stanzas in a file, whose
    name and content the image keeps."""
    stanzas = [each for each in sources if "\n" in each]
    mirrors = [each for each in sources if each not in stanzas]
    if stanzas:
        mirrors.append(os.path.join(folder, "builder.sources"))
        with open(mirrors[-1], "x", encoding="utf-8") as file:
            file.write("\n".join(stanzas))
    return mirrors


def _arguments(wanted: Mapping[str, Any], mirrors: Sequence[str]) -> list[str]:
    argv = [
        "mmdebstrap",
        f"--variant={wanted['variant']}",
        f"--architectures={wanted['architecture']}",
        "--format=tar",
        "--skip=check/qemu",  # it was tried here
        *(f"--include={package}" for package in wanted["include"]),
    ]
    # For this run only: they are the host's settings, so _keep leaves them out again. By the
    # environment, since others can read an argv and a proxy's address may hold a password.
    argv.append(f'--setup-hook=printf %s "$BUILDER_APT" > "$1"/{_SETTINGS}')
    return [*argv, "--", wanted["suite"], "-", *mirrors]


def _apt_config(environment: Mapping[str, str]) -> str:
    """What apt on this system is set to; "" where there is no apt (mmdebstrap will say so)."""
    import subprocess

    try:
        found = subprocess.run(
            ["apt-config", "dump", "--no-empty"], env=environment, capture_output=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return found.stdout.decode("utf-8", "replace")


def _check(ref: BaseRef, platform: Platform, where: str) -> dict[str, Any]:
    """The options, checked: what the base's key is made of."""
    options = ref.options
    include, mirror = options.get("include", ()), options.get("mirror", ())
    variant = options.get("variant", DEFAULT_VARIANT)
    mirrors = [mirror] if isinstance(mirror, str) else list(mirror or ())
    if not _SUITE.fullmatch(ref.value):
        raise TransportError(f"{where}: {ref.value!r} is not a suite, such as bookworm or noble")
    if variant not in VARIANTS:
        raise TransportError(
            f"{where}: variant {variant!r} is not one of mmdebstrap's: {', '.join(VARIANTS)}"
        )
    for package in include:
        if not isinstance(package, str) or not _PACKAGE.fullmatch(package):
            raise TransportError(f"{where}: include: {package!r} is not a package's name")
    for each in mirrors:
        if not isinstance(each, str) or not _MIRROR.fullmatch(each):
            raise TransportError(
                f"{where}: mirror {each!r} is not a URL or a `deb URL SUITE COMPONENT...` line"
            )
    name = f"{platform.architecture}/{platform.variant}".rstrip("/")
    architecture = _ARCHITECTURES.get(name) or _ARCHITECTURES.get(platform.architecture)
    if platform.os != "linux" or not architecture:
        raise TransportError(f"{where}: Debian has no architecture for {platform}")
    return {
        "KEY_VERSION": KEY_VERSION,
        "architecture": architecture,
        "include": sorted(set(include)),
        "mirror": mirrors,
        "suite": ref.value,
        "variant": variant,
    }


def _keep(path: bytes) -> bool:
    return path not in _LEFT_OUT and not path.startswith(b"dev/")


@contextlib.contextmanager
def _temporary(store: Store) -> Iterator[str]:
    """Where the tree is put together. An ordinary user's mmdebstrap works as other users that may
    not enter the store: theirs is the system's place for temporary files."""
    import shutil
    import tempfile

    root = os.geteuid() == 0
    folder = store.temporary() if root else tempfile.mkdtemp(prefix="builder-")
    try:
        if root:
            os.chmod(folder, 0o711)
        else:
            os.chmod(folder, 0o1777)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def _running(
    argv: list[str], environment: Mapping[str, str], where: str
) -> Iterator[subprocess.Popen[bytes]]:
    """mmdebstrap in a process group of its own, which has ended when this ends."""
    import shutil
    import subprocess

    if shutil.which(argv[0], path=environment["PATH"]) is None:
        raise TransportError(f"{where}: mmdebstrap is not installed", "apt-get install mmdebstrap")
    process = subprocess.Popen(
        ["/bin/sh", "-c", _OWN_MOUNTS, *argv],
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,  # a Ctrl-C comes through us: once, and in order
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            _end(process)
        for stream in (process.stdout, process.stderr):
            if stream:
                stream.close()


def _end(process: subprocess.Popen[bytes]) -> None:
    """Ask it to clean up, then end what is left of its group. The whole group is asked: mmdebstrap
    looks at its signals only when what it waits for (apt, dpkg, tar) has ended."""
    import subprocess

    os.killpg(process.pid, signal.SIGTERM)
    try:
        process.wait(_GRACE)
    except subprocess.TimeoutExpired:
        pass
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


class _Printed:
    """Hands on what a stream says, from a thread, and keeps its last lines."""

    def __init__(self, stream: IO[bytes], output: Callable[[bytes], object]) -> None:
        self._stream, self._output = stream, output
        self._lines: deque[str] = deque(maxlen=8)
        from threading import Thread

        self._thread = Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        with contextlib.suppress(ValueError, OSError):  # closed on the way out
            while line := self._stream.readline(8192):
                self._output(line)
                text = line.decode("utf-8", "replace").rstrip()
                if text and text.isprintable():
                    self._lines.append(text)

    def last_lines(self) -> tuple[str, ...]:
        self._thread.join(_GRACE)
        return tuple(self._lines)


_FULL = os.strerror(errno.ENOSPC)


def _failure(where: str, status: int, lines: tuple[str, ...]) -> TransportError:
    text = "\n".join(lines)
    if re.search(
        "Temporary failure resolving|Could not resolve|Could not connect|Unable to connect", text
    ):
        hint = "the mirror cannot be reached: is there a network, a proxy in apt's settings?"
    elif re.search("does not have a Release file|404", text):
        hint = "the mirror has no such suite: is it spelt right, or at another `mirror`?"
    elif "Unable to locate package" in text:
        hint = "the suite has no such package"
    elif _FULL in text:
        hint = "`builder cache gc` frees space; --cache-dir takes another disk"
    else:
        hint = "its last lines:"
    errors = [line for line in lines if line.startswith("E: ")]
    said = next((line for line in errors if _FULL in line), (*errors, *lines[-1:], "")[0])
    hint += "".join(f"\n  {line}" for line in lines)
    return TransportError(
        f"{where}: mmdebstrap failed ({status}): {said.removeprefix('E: ')}", hint
    )


def _ago(seconds: float) -> str:
    for size, unit in ((86400, "day"), (3600, "hour"), (60, "minute")):
        count = int(seconds // size)
        if count > 0:
            return f"{count} {unit}{'s' if count > 1 else ''} ago"
    return "just now"

"""Every file call of a whole build fails once; full disks; stores that cannot be written."""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from builder.errors import BuilderError
from builder.events import Event, Warned
from builder.project import Options, Project
from builder.store.files import Files

pytestmark = [pytest.mark.root, pytest.mark.needs("busybox")]

FAULTS = ("ENOSPC", "EIO", "EDQUOT", "EROFS", "EMFILE", "EINTR", "KeyboardInterrupt")


class Faulty(Files):
    """Call number `at`, counted from 1, fails; `calls` are the names of those that were made."""

    def __init__(self, at: int, fault: str) -> None:
        self.at, self.fault = at, fault
        self.calls: list[str] = []

    def error(self) -> BaseException:
        if self.fault == "KeyboardInterrupt":
            return KeyboardInterrupt()
        code = getattr(errno, self.fault)
        return OSError(code, os.strerror(code))


def _failing(name: str) -> Callable[..., Any]:
    real = getattr(Files, name)

    def call(self: Faulty, *arguments: Any) -> Any:
        self.calls.append(name)
        if len(self.calls) == self.at:
            if name == "close":
                real(self, *arguments)  # as the kernel's: closed all the same
            raise self.error()
        return real(self, *arguments)

    return call


for _name in [name for name in vars(Files) if not name.startswith("_")]:
    setattr(Faulty, _name, _failing(_name))


def attempt(scene: Any, files: Files | None, events: list[Event]) -> str:
    project = Project(Options(str(scene.store), str(scene.project / "specs")), events.append, files)
    specs, _ = project.load(["site"])
    return str(project.build(specs)["site"].manifest.digest)


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("cached", [False, True], ids=["cold", "cached"])
def test_any_file_call_of_a_build_may_fail_once(
    scene: Any, rounds: Callable[[int, int], int], figures: Any, fault: str, cached: bool
) -> None:
    reference = attempt(scene, None, [])
    kept = scene.folder / "kept"
    counted = Faulty(0, fault)
    if not cached:
        shutil.rmtree(scene.store)
    else:
        subprocess.run(["cp", "-a", scene.store, kept], check=True)
    assert attempt(scene, counted, []) == reference
    total = len(counted.calls)
    # each call in the full count; else every so many, others for each fault
    step = max(1, total // rounds(7, total))
    outcomes: Counter[str] = Counter()
    for at in range(1 + FAULTS.index(fault) % step, total + 1, step):
        shutil.rmtree(scene.store, ignore_errors=True)
        if cached:
            subprocess.run(["cp", "-a", kept, scene.store], check=True)
        files = Faulty(at, fault)
        where = f"call {at} ({counted.calls[at - 1]})"
        try:
            assert attempt(scene, files, []) == reference, where
            outcomes["built all the same"] += 1
        except KeyboardInterrupt:
            assert fault == "KeyboardInterrupt"
            outcomes["interrupted"] += 1
        except BuilderError as error:
            assert re.search(f"{scene.store}|/proc/sys", error.message), f"{where}: {error.message}"
            assert "\n" not in error.message
            if fault in ("ENOSPC", "EDQUOT"):
                assert error.hint and "--cache-dir" in error.hint, where
            outcomes["refused"] += 1
        events: list[Event] = []
        assert attempt(scene, None, events) == reference, where
        assert not [each for each in events if isinstance(each, Warned)], where
        scene.check_published()
        scene.check_at_rest()
    figures(calls=total, **outcomes)


PRIVATE = ("unshare", "--mount", "--propagation", "private")
TMPFS = """
set -e
mount -t tmpfs -o size="$1",mode=755 tmpfs "$BUILDER_CACHE_DIR"
shift
"$@" build small && echo "SMALL $?" || echo "SMALL $?"
"$@" build site && echo "LARGE $?" || echo "LARGE $?"
"$@" build small && echo "SMALL $?" || echo "SMALL $?"
mount -o remount,size=200m "$BUILDER_CACHE_DIR"
"$@" build site && echo "LARGE $?" || echo "LARGE $?"
ls "$BUILDER_CACHE_DIR/tmp" "$BUILDER_CACHE_DIR/live"
"""


def test_a_full_disk_is_said_in_a_line_and_what_is_cached_still_builds(
    scene: Any, rounds: Callable[[int, int], int], figures: Any
) -> None:
    """On tmpfs of 15 sizes, from too small for an empty store to nearly enough."""
    scene.spec("small", "from: scratch\nsteps:\n- {file: /hello, content: hello}\n")
    reference = scene.build("site")
    scene.build("small")
    used = sum(path.lstat().st_blocks * 512 for path in scene.store.rglob("*"))
    shutil.rmtree(scene.store)
    scene.store.mkdir()
    refused = Counter[str]()
    count = rounds(6, 15)
    for number in range(count):
        size = 16384 + int((used - 16384) * (number / count) ** 2)
        done = _in_tmpfs(scene, size)
        assert "Traceback" not in done and "itself failed" not in done, done
        statuses = re.findall(r"^(SMALL|LARGE) (\d+)$", done, re.MULTILINE)
        assert len(statuses) == 4, done
        (_, first), (_, large), (_, second), (_, last) = statuses
        assert first == second, (size, done)
        assert large == "1" and last == "0", (size, done)
        errors = re.findall(r"^error: .*", done, re.MULTILINE)
        assert errors and len(errors) == (first == "1") * 2 + 1, done
        for error in errors:
            assert "no space left on the device" in error and str(scene.store) in error, done
        assert reference in done
        refused["store" if first == "1" else "image"] += 1
    figures(sizes=count, **refused)


def _in_tmpfs(scene: Any, size: int) -> str:
    done = subprocess.run(
        [*PRIVATE, "sh", "-c", TMPFS, "sh", str(size), *scene.command],
        cwd=scene.project,
        env=scene.environ(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=120,
        check=False,
    )
    return done.stdout


READ_ONLY = """
set -e
mount --bind "$BUILDER_CACHE_DIR" "$BUILDER_CACHE_DIR"
mount -o remount,bind,ro "$BUILDER_CACHE_DIR"
exec "$@"
"""


def test_a_read_only_store_builds_what_it_has_and_refuses_the_rest(scene: Any) -> None:
    reference = scene.build("site")
    before = sorted(str(path) for path in scene.store.rglob("*"))
    inside = (*PRIVATE, "sh", "-c", READ_ONLY, "sh")
    done = scene.run("build", "site", prefix=inside)
    assert done.status == 0 and done.out.split()[-1] == reference, done.err
    planned = scene.run("plan", "site", prefix=inside)
    assert planned.status == 0 and "to build" in planned.out
    out = scene.folder / "out"
    done = scene.run("build", "site", "--output", f"oci:{out}", prefix=inside)
    assert done.status == 0 and (out / "index.json").exists(), done.err
    done = scene.run("build", "site", "--set", "text=other", prefix=inside)
    assert done.status == 1
    errors = [line for line in done.err.splitlines() if line.startswith("error: ")]
    assert len(errors) == 1 and "the file system is read-only" in errors[0], done.err
    assert str(scene.store) in errors[0] and "hint: --cache-dir" in done.err
    assert before == sorted(str(path) for path in scene.store.rglob("*"))


@pytest.mark.parametrize("code", ["ENOLCK", "EOPNOTSUPP"])
def test_a_file_system_without_locks_is_named(scene: Any, code: str) -> None:
    class NoLocks(Files):
        def flock(self, handle: int, operation: int) -> None:
            raise OSError(getattr(errno, code), os.strerror(getattr(errno, code)))

    with pytest.raises(BuilderError) as caught:
        attempt(scene, NoLocks(), [])
    assert "the file system has no locks (NFS without lockd?)" in caught.value.message
    assert str(scene.store) in caught.value.message
    assert caught.value.hint == "--cache-dir names a folder on a local disk"
    assert Path(scene.store).is_dir()

"""A step, and the image that it runs in, try to reach the host."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from builder.errors import CannotRun, CommandFailed
from tests.executor.conftest import Runner, copy_program, make_rootfs
from tests.login import PYTHON, Login

pytestmark = [pytest.mark.root, pytest.mark.needs("busybox", "runc")]

CONFINED = pytest.mark.parametrize("kind", ["sandbox", "runc"])
PROGRAMS = {
    "sandbox": os.path.realpath(sys.executable),
    "runc": os.path.realpath(
        shutil.which("runc", path=f"{os.environ['PATH']}:/usr/sbin") or "runc"
    ),
}

CHANGES = """
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

__attribute__((constructor)) static void change(void)
{
    const char *program = "/proc/self/exe";
    char name[200] = "";
    readlink(program, name, sizeof name - 1);
    struct stat status;
    stat(program, &status);
    printf("runs %s\\n", name);
    if (!chmod(program, status.st_mode & 07777)) puts("CHMOD");
    if (!chown(program, status.st_uid, status.st_gid)) puts("CHOWN");
    if (!utimensat(AT_FDCWD, program, NULL, 0)) puts("UTIMES");
    if (!setxattr(program, "user.x", "x", 1, 0) || errno != EROFS) puts("SETXATTR");
    if (open(program, O_WRONLY) >= 0 || (errno != EROFS && errno != ETXTBSY)) puts("OPEN");
    if (!linkat(AT_FDCWD, program, AT_FDCWD, "/linked", AT_SYMLINK_FOLLOW)) puts("LINK");
    fflush(stdout);
    _exit(0);
}
"""


@pytest.fixture(scope="module")
def preloaded(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A library that changes, as it is loaded, the program that loads it (with what it is)."""
    folder = tmp_path_factory.mktemp("preloaded")
    (folder / "c.c").write_text(CHANGES)
    argv = ["gcc", "-shared", "-fPIC", "-w", "-o", folder / "lib.so", folder / "c.c"]
    if shutil.which("gcc") is None or subprocess.run(argv).returncode:
        pytest.skip("needs gcc and libc6-dev")
    return folder / "lib.so"


@CONFINED
@pytest.mark.parametrize("way", ["named", "interpreter", "link"])
def test_the_hosts_program_that_becomes_the_step_cannot_be_changed(
    kind: str, way: str, preloaded: Path, tmp_path: Path
) -> None:
    """An image executes /proc/self/exe while that is Python's or runc's, with its own libraries."""
    base, program = make_rootfs(tmp_path / "base"), PROGRAMS[kind]
    copy_program(program, base)
    shutil.copy(preloaded, base / "lib.so")
    (base / "script").write_text("#!/proc/self/exe\n")
    (base / "script").chmod(0o755)
    (base / "link").unlink(missing_ok=True)
    (base / "link").symlink_to("/proc/self/exe")
    before = os.stat(program)
    (tmp_path / "steps").mkdir()
    step = Runner(kind, (base,), tmp_path / "steps")
    argv = {"named": "/proc/self/exe", "interpreter": "/script", "link": "/link"}[way]
    step.run((argv,), env={"LD_PRELOAD": "/lib.so"})
    assert re.fullmatch(rb"runs .*\n", step.output), step.output
    assert kind == "runc" or os.fsencode(program) in step.output  # runc's has no name
    after = os.stat(program)
    assert (after.st_mtime_ns, after.st_ctime_ns) == (before.st_mtime_ns, before.st_ctime_ns)


@CONFINED
def test_nothing_is_imported_from_the_image(kind: str, tmp_path: Path) -> None:
    """Every module of Python is in the image, where Python would look for it, and tells."""
    base = make_rootfs(tmp_path / "base")
    names = sorted(set(sys.stdlib_module_names) | {"enter", "encodings.idna", "encodings.utf_16"})
    import builder.executor

    for folder in {*sys.path, *builder.executor.__path__, os.path.dirname(os.__file__)}:
        for name in names:
            if folder.startswith("/"):
                path = base / folder.lstrip("/") / (name.replace(".", "/") + ".py")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text("import posix; posix.mkdir('/imported', 0o755)\n")
    (tmp_path / "steps").mkdir()
    step = Runner(kind, (base,), tmp_path / "steps")
    wrong: tuple[dict[str, object], ...] = (
        {"working_dir": "/etc/passwd"},
        {"working_dir": "/x\0y"},
        {"uid": 1 << 40},
        {"groups": tuple(range(100000))},
        {"env": {"A": "x\0y"}},
    )
    step.run("test ! -e /imported")
    for changes in wrong:
        found: dict[bytes, Any] = {}
        try:
            found = step.run("test ! -e /imported", **changes)
        except (CommandFailed, CannotRun):
            continue
        except ValueError:  # what no spec can say
            assert kind == "runc"
            shutil.rmtree(tmp_path / "steps")
            (tmp_path / "steps").mkdir()
        assert b"imported" not in found


TRIES = r"""
for each in /proc/[0-9]*; do
  case $(readlink $each/exe) in /bin/busybox) ;; *) echo SEEN $(readlink $each/exe);; esac
done
for each in 0 1 2 3 4 5 6 7 8 9 10 11 12 20 30 60; do
  test ! -e /proc/$$/fd/$each || case $(readlink /proc/$$/fd/$each) in
    /dev/null|pipe:*) ;; *) echo OPEN $(readlink /proc/$$/fd/$each);; esac
done
w() { test -e "$2" && (echo "$1" > "$2") 2>/dev/null && echo "WRITTEN $2"; }
w '|/bin/x' /proc/sys/kernel/core_pattern; w h /proc/sysrq-trigger; w 1 /proc/sys/vm/drop_caches
w /x /proc/sys/kernel/modprobe; w 0 /proc/sys/kernel/randomize_va_space
w /x /proc/sys/kernel/hotplug; w x /proc/sys/kernel/hostname; w 1 /proc/irq/default_smp_affinity
w -1000 /proc/self/oom_score_adj; w x /proc/self/uid_map; w x /proc/timer_stats
w x /sys/kernel/uevent_helper; w 1 /sys/power/state; w 1 /sys/module/vt/parameters/cur_default
w x /sys/fs/cgroup/release_agent; w x /dev/mem; w x /dev/kmsg; w x /dev/kcore; w x /dev/port
for each in 'mount -o remount,rw /sys' 'mount -o remount,rw /proc/sys' \
    'mount -o remount,dev /' 'mount -o remount,dev /dev' 'mount -t cgroup -o memory x /tmp' \
    'mount -t cgroup2 x /tmp' 'mount -t proc x /tmp' 'mount -t sysfs x /tmp' \
    'mount -t devtmpfs x /tmp' 'mount -t debugfs x /tmp' 'mount -t overlay x /tmp' \
    'mount --bind /proc /tmp' 'umount /proc/sys' 'umount /dev' 'umount /dev/null' \
    'umount /proc/keys' 'unshare -Urm true' 'unshare -m true' 'unshare -n true' \
    'unshare -p true' 'nsenter -t 1 -m true' 'pivot_root . .' 'hostname x' \
    'losetup /dev/loop0 /bin/busybox' 'swapon /bin/busybox' 'insmod /x' 'rmmod x' 'dmesg' \
    'hwclock -w' 'renice -n -5 1' 'chrt -f 1 true' 'ionice -c 1 true' 'reboot -f' \
    'ip link add x type dummy' 'ip addr add 10.9.9.9/8 dev lo' 'arp -s 10.9.9.9 1:2:3:4:5:6' \
    'brctl addbr x' 'tunctl' 'iptables -F' 'chroot /proc/1/root/.. test -e /tmp/canary' \
    'test -e /proc/1/root/tmp/canary' 'test -e /proc/1/cwd/../../../tmp/canary' \
    'test -e /dev/shm/canary' 'test -e /dev/mqueue/canary' 'test -e /dev/pts/0' 'cat /dev/tty' \
    'setconsole' 'chvt 2' 'openvt true' 'conspy' 'fgconsole' 'kill -0 2147483647'; do
  $each </dev/null >/dev/null 2>&1 && echo "DONE $each"
done
test "$(wc -c < /proc/keys)" = 0 || echo KEYS
test -z "$(ls /proc/acpi /proc/scsi /sys/firmware 2>/dev/null | grep -v :)" || echo UNMASKED
cp /bin/busybox /tmp/more; setcap cap_sys_admin+ep /tmp/more 2>/dev/null &&
  /tmp/more true 2>/dev/null && echo MORE CAPABILITIES
cp /bin/busybox /tmp/suid; chmod 4755 /tmp/suid
grep CapBnd /proc/self/status | grep -v -e 00000000a80425fb -e 00000000a80405fb
ls -d /proc/[0-9]* | wc -l | grep -v -e '^[1-5]$'
true
"""


@CONFINED
@pytest.mark.parametrize("network", ["none", "host"])
@pytest.mark.parametrize("uid", [0, 1000])
def test_nothing_that_a_step_tries_is_done(
    kind: str, network: str, uid: int, tmp_path: Path, canaries: None
) -> None:
    base = make_rootfs(tmp_path / "base")
    (tmp_path / "steps").mkdir()
    step = Runner(kind, (base,), tmp_path / "steps")
    step.run(("sh", "-c", TRIES), network=network, uid=uid, gid=uid)
    assert step.output.decode() == ""


@pytest.fixture
def canaries() -> Iterator[None]:
    """Where a step must not see them: shared memory, and an abstract socket."""
    places = [Path("/dev/shm/canary"), Path("/tmp/canary")]
    for place in places:
        place.touch()
    yield
    for place in places:
        place.unlink(missing_ok=True)


def test_an_ordinary_users_step_does_nothing_either(
    login: Login, preloaded: Path, tmp_path: Path, canaries: None
) -> None:
    own = login.home / "own"
    base = make_rootfs(tmp_path / "base")
    copy_program(os.path.realpath(PYTHON), base)
    shutil.copy(preloaded, base / "lib.so")
    (base / "tries").write_text(TRIES)
    subprocess.run(["tar", "-C", base, "-cf", own / "base.tar", "."], check=True)
    # a Python that belongs to the user, as those that users install
    python = shutil.copy(os.path.realpath(PYTHON), own / "python")
    os.chown(python, login.user.pw_uid, login.user.pw_gid)
    before = os.stat(python)
    (own / "specs").mkdir()
    for kind in ("sandbox", "runc"):
        for network in ("none", "host"):
            for user in ("0:0", "1000:1000"):
                spec = f"""
from: rootfs:base.tar
steps:
- run: said=$(sh -c "$(cat /tries)" 2>&1) || true; echo "$said"; test -z "$said"
  user: '{user}'
  network: {network}
"""
                (own / "specs/x.yaml").write_text(spec)
                login.run("build", "--executor", kind, "--cache-dir", f"c-{kind}")
    (own / "specs/x.yaml").write_text("""
from: rootfs:base.tar
steps:
- run: [/proc/self/exe]
  env: {LD_PRELOAD: /lib.so}
""")
    said = login.run("build", "--executor", "sandbox", python=str(python))
    assert f"runs {python}" in said
    for each in ("CHMOD", "CHOWN", "UTIMES", "SETXATTR", "OPEN", "LINK"):
        assert each not in said, said
    after = os.stat(python)
    assert (after.st_mtime_ns, after.st_ctime_ns) == (before.st_mtime_ns, before.st_ctime_ns)


@CONFINED
def test_abstract_sockets_of_the_host_are_out_of_reach(kind: str, tmp_path: Path) -> None:
    base = make_rootfs(tmp_path / "base")
    (tmp_path / "steps").mkdir()
    step = Runner(kind, (base,), tmp_path / "steps")
    name = f"builder-canary-{os.getpid()}"
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("\0" + name)
        step.run("grep -c builder-canary /proc/net/unix || true", network="none")
        assert step.output == b"0\n"


SWAPS = [
    f"rm -rf {place}; ln -s {target} {place}"
    for place in ("/etc", "/etc/resolv.conf", "/etc/hosts", "/a", "/a/etc", "/srv")
    for target in ("/proc/1/root/tmp", "/", "/dev", "../../../../tmp", "/proc/self/fd")
] + [
    f"rm -rf {place}; {command} {place}"
    for place in ("/etc", "/etc/resolv.conf", "/etc/hosts")
    for command in ("mkfifo", "mkdir -p", "mknod -m 666 /dev/stdin p || mkfifo", "touch")
]  # fmt: skip


@CONFINED
def test_what_a_step_puts_in_place_of_own_files_leads_nowhere(kind: str, tmp_path: Path) -> None:
    """Then the next step stands on it."""
    chosen = SWAPS if os.environ.get("SECURITY") == "full" else SWAPS[len(kind) % 8 :: 5]
    for number, swap in enumerate(chosen):
        base = make_rootfs(tmp_path / f"base-{number}")
        if number % 2:
            shutil.rmtree(base / "etc")
            (base / "a/etc").mkdir(parents=True)
            (base / "etc").symlink_to("a/etc")
        (tmp_path / f"steps-{number}").mkdir()
        before = host_files_now()
        step = Runner(kind, (base,), tmp_path / f"steps-{number}")
        step.run(("sh", "-c", f"({swap}) 2>/dev/null; true"))
        # the same as a layer below
        subprocess.run(["chroot", base, "/bin/busybox", "sh", "-c", f"({swap}) 2>/dev/null; true"])
        step.run(("/bin/busybox", "sh", "-c", "test -e /proc/1/stat && echo y > /dev/null"))
        assert host_files_now() == before


def host_files_now() -> list[object]:
    return [
        (place.lstat().st_mode, place.lstat().st_ino, place.is_file() and place.read_bytes())
        if os.path.lexists(place)
        else None
        for folder in ("/", "/etc", "/tmp", "/dev", "/srv")
        for place in (Path(folder), Path(folder, "hosts"), Path(folder, "resolv.conf"))
    ]

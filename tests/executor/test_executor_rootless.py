"""An ordinary user with subordinate ids runs steps as root would."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.root,
    pytest.mark.needs("busybox", "newuidmap", "newgidmap", "useradd", "setpriv"),
]

USER, RANGE = "builder-test-user", "500000-565535"


@pytest.fixture(scope="module")
def user() -> Iterator[pwd.struct_passwd]:
    with contextlib.suppress(KeyError):  # a run that was killed left it
        pwd.getpwnam(USER)
        subprocess.run(["userdel", USER], check=True)
    subprocess.run(["useradd", "--no-create-home", USER], check=True)
    try:
        ranges = Path("/etc/subuid").read_text()
        if USER not in ranges:
            subprocess.run(
                [
                    "usermod",
                    "--add-subuids",
                    "500000-565535",
                    "--add-subgids",
                    "500000-565535",
                    USER,
                ],
                check=True,
            )
        yield pwd.getpwnam(USER)
    finally:
        subprocess.run(["userdel", USER], check=True, stderr=subprocess.DEVNULL)


@pytest.fixture
def home(user: pwd.struct_passwd) -> Iterator[Path]:
    """A folder of the user, below folders that all may enter, with what the script needs."""
    folder = Path(tempfile.mkdtemp(prefix="rootless-"))
    folder.chmod(0o755)
    own = folder / "own"
    own.mkdir()
    os.chown(own, user.pw_uid, user.pw_gid)
    code = folder / "code"
    code.mkdir()
    import builder

    shutil.copytree(Path(builder.__file__).parent, code / "builder")
    shutil.copy(Path(__file__).with_name("conftest.py"), code / "parts.py")
    (code / "pytest.py").write_text(
        "def fixture(*a, **k):\n    return a[0] if a else lambda f: f\nclass TempPathFactory: ...\n"
    )
    yield folder
    shutil.rmtree(folder)


def run_as(user: pwd.struct_passwd, home: Path, script: str, interpreter: str) -> str:
    ids = (f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups")
    result = subprocess.run(
        ["setpriv", *ids, interpreter, "-I", "-c", textwrap.dedent(script), str(home)],
        capture_output=True,
        text=True,
        env={"PATH": os.environ["PATH"]},
        cwd="/",
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def interpreter_for_all() -> str:
    """A Python that an ordinary user may execute; the tests' own may lie in root's home."""
    for each in ("/usr/bin/python3", sys.executable):
        probe = [
            "setpriv",
            "--reuid=65534",
            "--clear-groups",
            each,
            "-c",
            "import sys; assert sys.version_info >= (3, 11)",
        ]
        if subprocess.run(probe, capture_output=True).returncode == 0:
            return each
    pytest.skip("needs a Python >= 3.11 that ordinary users may execute")


SCRIPT = """
    import sys, os
    from pathlib import Path
    home = Path(sys.argv[1])
    sys.path.insert(0, str(home / "code"))
    import parts
    from builder.executor.userns import become_root
    assert os.geteuid() != 0
    become_root()
    assert os.getuid() == 0 and os.getgid() == 0
    steps = home / "own/steps"
    steps.mkdir()
    kind = sys.argv[2] if len(sys.argv) > 2 else "sandbox"
    step = parts.Runner(kind, (home / "own/image",), steps)
    (home / "own").chmod(0o755)
    parts.make_rootfs(home / "own/image")
    found = step.run(
        "mkdir /home; mkdir -m 750 /home/app; chown 1000:42 /home/app;"
        "rm -r /srv/old; mkdir /srv/old;"
        "chown app:8 /srv/one; chmod 4755 /srv/one;"
        "cp /bin/busybox /p; setcap cap_net_raw+ep /p;"
        "id -u; su app -s /bin/sh -c 'id -u' ")
    for entry, _ in found.values():
        print(entry.path.decode(), entry.type, oct(entry.mode), entry.uid, entry.gid,
              *[(name.decode(), value.hex()) for name, value in entry.xattrs])
    print(step.output.decode(), end="")
    found = step.run("id -u; id -G; touch /tmp/x", uid=1000, gid=100, groups=(5, 6))
    print(*[(e.path.decode(), e.uid, e.gid) for e, _ in found.values()])
    print(step.output.decode(), end="")
    from builder.executor.overlay import remove_tree
    remove_tree(str(home / "own/image"))
    steps.rmdir()
"""

EXPECTED = """\
home 5 0o755 0 0
home/app 5 0o750 1000 42
p 0 0o755 0 0 ('security.capability', '0100000200200000000000000000000000000000')
srv 5 0o755 0 0
srv/old 5 0o755 0 0
srv/old/.wh.deep 0 0o600 0 0
srv/old/.wh.file 0 0o600 0 0
srv/one 0 0o4755 1000 8
0
1000
('tmp', 0, 0) ('tmp/x', 1000, 100)
1000
100 5 6
"""


def test_an_ordinary_users_step_has_the_right_owners(user: pwd.struct_passwd, home: Path) -> None:
    assert run_as(user, home, SCRIPT, interpreter_for_all()) == EXPECTED


VIEW = """
    import contextlib, os, sys
    from pathlib import Path
    home = Path(sys.argv[1])
    sys.path.insert(0, str(home / "code"))
    import parts
    from builder.executor.userns import become_root
    from builder.errors import CommandFailed
    become_root()
    steps = home / "own/steps"
    steps.mkdir()
    parts.make_rootfs(home / "own/image")
    (home / "own").chmod(0o755)
    names = ("null", "zero", "full", "random", "urandom", "tty")
    before = [tuple(os.stat(f"/dev/{name}"))[:6] for name in names]
    for kind in ("sandbox", "runc"):
        step = parts.Runner(kind, (home / "own/image",), steps)
        for network in ("host", "none"):
            step.run(
                "for each in fs/cgroup fs/bpf fs/pstore kernel/debug kernel/tracing firmware; do"
                " ls -A /sys/$each 2>/dev/null || true; done;"
                "mkdir /sys/fs/cgroup/x 2>/dev/null && echo MADE || true;"
                "find /sys -maxdepth 3 -type f -perm -200 2>/dev/null | head -100 |"
                " while read f; do"
                " (: >> $f) 2>/dev/null && echo WRITABLE $f || true; done;"
                "test -d /sys/kernel && echo there; cut -d: -f3 /proc/self/cgroup | sort -u;"
                "echo x > /dev/null; head -c 2 /dev/zero | wc -c;"
                "ls /sys/class/net | grep -v '^lo$' | wc -l",
                network=network)
            print(kind, network, step.output.decode().split())
        text = "".join(
            f"chmod 640 /dev/{name} && echo CHANGED; chown 33:33 /dev/{name} && echo CHANGED;"
            f" touch /dev/{name} && echo TOUCHED;" for name in names)
        text += "chmod 600 /proc/self/fd/0 && echo CHANGED; true"
        step.run(f"({text}) 2>/dev/null || true")
        assert kind == "runc" or step.output == b"", step.output
        assert [tuple(os.stat(f"/dev/{name}"))[:6] for name in names] == before
        step.run("echo one > /dev/stdout", uid=1000, gid=1000)
        assert step.output == b"one\\n"
        with contextlib.suppress(CommandFailed):
            step.run("mknod /n c 1 3")
            print("a node was made")
    from builder.executor.overlay import remove_tree
    remove_tree(str(home / "own/image"))
    steps.rmdir()
"""


@pytest.mark.needs("runc")
def test_an_ordinary_users_step_sees_and_changes_nothing_of_the_host(
    user: pwd.struct_passwd, home: Path
) -> None:
    said = run_as(user, home, VIEW, interpreter_for_all()).splitlines()
    assert [line.replace("'", "") for line in said if "none" in line] == [
        "sandbox none [there, /, 2, 0]",
        "runc none [there, /, 2, 0]",
    ]
    assert [line.replace("'", "").rpartition(",")[0] for line in said if "host" in line] == [
        "sandbox host [there, /, 2",
        "runc host [there, /, 2",
    ]
    assert len(said) == 4

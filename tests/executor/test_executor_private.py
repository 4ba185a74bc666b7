"""`network: private`: outward all, to the host's loopback and abstract sockets nothing."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.executor import topology
from tests.executor.topology import (
    ABSTRACT,
    CLOSED,
    FAR,
    HTTP,
    LOOPBACK_RESOLVER,
    NEAR,
)

pytestmark = [
    pytest.mark.root,
    pytest.mark.needs("busybox", "runc", "pasta", "slirp4netns", "ip", "unshare", "setpriv"),
]

PASSTS = ("/usr/bin/passt",)  # what pasta is a link to
WITHOUT_PASTA = {"/usr/bin/passt": ""}
WITHOUT_ANY = {"/usr/bin/passt": "", "/usr/bin/slirp4netns": ""}
TOOLS = {"pasta": {}, "slirp4netns": WITHOUT_PASTA}
NAMESPACES = ("--net", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child")


class Machine:
    """Runs builders on a machine of their own (topology.py)."""

    def __init__(self, folder: Path, prefix: tuple[str, ...] = (), python: str = "") -> None:
        self.folder, self._prefix = folder, prefix
        self.builder = [*prefix, python or sys.executable, "-P", "-m", "builder"]
        (folder / "specs").mkdir(exist_ok=True)
        shutil.copy("/bin/busybox", folder / "busybox")

    def write(self, *steps: dict[str, Any]) -> None:
        first = {"copy": "busybox", "dest": "/bin/"}
        links = {"run": ["/bin/busybox", "--install", "-s", "/bin"], "network": "none"}
        spec = {"from": "scratch", "steps": [first, links, *steps]}
        (self.folder / "specs/site.yaml").write_text(yaml.safe_dump(spec))

    def run(self, *command: str, status: int = 0, **asked: Any) -> str:
        """stdout and stderr in one."""
        topo = {"nameserver": LOOPBACK_RESOLVER, "tun": 0o666, **asked}
        made = subprocess.run(
            ["unshare", *NAMESPACES, sys.executable, topology.__file__, json.dumps(topo), *command],
            cwd=self.folder,
            env={"PATH": os.environ["PATH"], "HOME": str(self.folder)},
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
            text=True, timeout=60, check=False,
        )  # fmt: skip
        assert made.returncode == status, made.stdout
        return made.stdout

    def build(self, *arguments: str, **more: Any) -> str:
        return self.run(*self.builder, "build", "site", *arguments, **more)


def step(text: str, **more: Any) -> dict[str, Any]:
    return {"run": text, "network": "private", **more}


@pytest.fixture(params=["root", "user"])
def machine(request: pytest.FixtureRequest, tmp_path: Path) -> Machine:
    if request.param == "root":
        return Machine(tmp_path)
    login = request.getfixturevalue("login")
    ids = (f"--reuid={login.user.pw_uid}", f"--regid={login.user.pw_gid}", "--clear-groups")
    environ = ("env", f"PYTHONPATH={login.home}/code", f"HOME={login.home}/own")
    return Machine(login.home / "own", ("setpriv", *ids, *environ), "/usr/bin/python3")


OUTWARD = f"""
test "$(wget -q -O- http://{FAR}:{HTTP}/)" = far
test "$(wget -q -O- http://{NEAR}:{HTTP}/)" = near
test "$(wget -q -O- http://far.test:{HTTP}/)" = far
test "$(wget -q -O- http://far:{HTTP}/)" = far
nslookup far.test {FAR} | grep -q {FAR}  # by UDP
nslookup far.test | grep -q {FAR}
! nslookup nothing.test >/dev/null
"""

INWARD = f"""
for address in 127.0.0.1 10.213.87.2 10.213.87.3 {NEAR} {FAR}; do
    ! timeout 2 wget -q -O- http://$address:{CLOSED}/
done
! grep {ABSTRACT} /proc/net/unix
! ping -c 1 -W 1 {FAR}
ls /sys/class/net
ip address | grep -o 'inet [^ ]*'
grep Cap /proc/self/status
grep -c . /proc/net/tcp
"""


@pytest.mark.parametrize("executor", ["sandbox", "runc"])
@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("nameserver", [LOOPBACK_RESOLVER, FAR])
def test_a_step_reaches_outward_alone(
    machine: Machine, executor: str, tool: str, nameserver: str
) -> None:
    machine.write(step(OUTWARD), step(INWARD), step(OUTWARD, user="12:12"))
    options = {"nameserver": nameserver, "files": TOOLS[tool]}
    said = machine.build("--executor", executor, **options)
    assert "eth0" in said, said
    assert "inet 10.213.87.100/24" in said
    assert "00000000a80405fb" in said, said  # Docker's without NET_RAW


def test_the_machine_is_as_the_tests_take_it(tmp_path: Path) -> None:
    """On its network the same checks find what a private one hides."""
    machine = Machine(tmp_path)
    text = f"""
test "$(wget -q -O- http://127.0.0.1:{CLOSED}/)" = loopback
grep {ABSTRACT} /proc/net/unix
"""
    machine.write({"run": text, "network": "host"})
    machine.build("--executor", "runc")


def test_the_first_connection_of_every_step_is_made(tmp_path: Path) -> None:
    """It is up before the command starts."""
    machine = Machine(tmp_path)
    text = f'test "$(wget -q -O- http://{FAR}:{HTTP}/)" = far'
    for files in TOOLS.values():
        machine.write(*(step(text, env={"NUMBER": f"{number}{files}"}) for number in range(20)))
        machine.build("--executor", "sandbox", files=files)


LEAVES = """
import os, signal, subprocess, sys, time
how, *command = sys.argv[1:]
made = subprocess.Popen(command, start_new_session=True)
until = time.monotonic() + 20
def programs():
    found = []
    for each in filter(str.isdigit, os.listdir("/proc")):
        try:
            found.append(open(f"/proc/{each}/cmdline").read())
        except OSError:
            pass
    return found
while not any(" 4321" in each.replace("\\0", " ") and "sleep" in each for each in programs()):
    assert time.monotonic() < until and made.poll() is None, programs()
    time.sleep(0.02)
assert any("pasta" in each or "slirp4netns" in each for each in programs()), programs()
if how != "timeout":
    os.kill(made.pid, signal.SIGINT if how == "interrupt" else signal.SIGKILL)
print("ended with", made.wait(20))
"""


@pytest.mark.parametrize("executor", ["sandbox", "runc"])
@pytest.mark.parametrize("how", ["interrupt", "kill", "timeout"])
@pytest.mark.parametrize("tool", TOOLS)
def test_nothing_is_left(tmp_path: Path, tool: str, how: str, executor: str) -> None:
    """topology.py looks for processes after each command."""
    machine = Machine(tmp_path)
    machine.write(step("sleep 4321", **({"timeout": "3s"} if how == "timeout" else {})))
    build = (*machine.builder, "build", "site", "--executor", executor)
    said = machine.run(sys.executable, "-c", LEAVES, how, *build, files=TOOLS[tool])
    assert {"interrupt": "with -2", "kill": "with -9", "timeout": "with 1"}[how] in said


def test_what_is_missing_is_said_with_what_helps(machine: Machine) -> None:
    machine.write(step("true"))
    said = machine.build(files=WITHOUT_ANY, status=1)
    assert "specs/site.yaml:" in said
    assert "neither pasta nor slirp4netns is installed" in said
    assert "hint: apt-get install passt" in said
    said = machine.build(files={"/usr/bin/passt": "#!/bin/sh\necho no way >&2\nexit 3\n"}, status=1)
    assert "private network: /usr/bin/pasta: no way" in said
    said = machine.build("--executor", "chroot", status=1)
    assert "chroot: `network: private` needs namespaces" in said
    assert "hint: `--executor sandbox`" in said


@pytest.mark.parametrize("tun", [None, 0o600])
@pytest.mark.parametrize("tool", TOOLS)
@pytest.mark.parametrize("executor", ["sandbox", "runc"])
def test_root_needs_no_node_and_a_user_is_told(
    machine: Machine, tool: str, tun: int | None, executor: str
) -> None:
    machine.write(step(f"wget -q -O- http://{FAR}:{HTTP}/"))
    user = "setpriv" in machine.builder
    options = {"files": TOOLS[tool], "tun": tun}
    said = machine.build("--executor", executor, status=1 if user else 0, **options)
    if user:
        assert "private network: /dev/net/tun: " in said
        assert ("chmod 666 /dev/net/tun" if tun else "modprobe tun") in said
        assert len([line for line in said.splitlines() if line.startswith("error: ")]) == 1


def test_doctor_says_with_what_it_works(machine: Machine) -> None:
    doctor = (*machine.builder, "doctor")
    assert "`network: private` works by pasta\n" in machine.run(*doctor)
    assert "works by slirp4netns\n" in machine.run(*doctor, files=WITHOUT_PASTA)
    said = machine.run(*doctor, files=WITHOUT_ANY)
    assert "`network: private` does not work: neither pasta nor slirp4netns is installed" in said

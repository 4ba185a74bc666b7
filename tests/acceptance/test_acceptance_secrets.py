"""A canary: a secret comes in by every door, and is looked for in all that is said and kept."""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
import zlib
from pathlib import Path
from typing import Any

import pytest

CANARY = "Zq7canary91xK"
BROKEN = [CANARY.upper(), CANARY.lower(), CANARY[::-1], CANARY[:9]]  # what filters may make of it


def _found(data: bytes) -> bool:
    texts = [CANARY, *BROKEN]
    return any(text.encode() in data for text in texts)


def said(project: Any, *arguments: str, env: dict[str, str], status: tuple[int, ...]) -> str:
    made = subprocess.run(
        [sys.executable, "-m", "builder", *arguments],
        cwd=project.root,
        env={**os.environ, "BUILDER_CACHE_DIR": str(project.store), **env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=120,
    )
    both = made.stdout + made.stderr
    assert made.returncode in status, both
    assert "Traceback" not in both and "itself failed" not in both, both
    assert not _found(both.encode()), (arguments, both)
    return both


def kept(store: Path) -> list[str]:
    """Files of the store that hold it, in their names or bytes, layers unpacked."""
    found = []
    for folder, folders, names in os.walk(store):
        for name in (*folders, *names):
            path = Path(folder, name)
            data = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
            if data[:2] == b"\x1f\x8b":
                data += gzip.decompress(data)
            if data[:1] == b"\x78":
                data += zlib.decompress(data)
            if _found(name.encode() + data):
                found.append(str(path))
    return found


ENV = '{{ env("TOKEN") }}'
STEPS = {
    "in a command": "run: test -n 'Bearer @'",
    "changed by a filter": "run: test -n {{ env('TOKEN') | upper | quote }}",
    "cut": "run: test -n '{{ env('TOKEN')[:9] }}'",
    "by way of a variable": "run: \"{% set t = env('TOKEN') | lower %}test -n '{{ t }}'\"",
    "in words": "run: [test, -n, '@']",
    "in a step's environment": "run: test -n \"$T\"\n    env: {T: '@'}",
    "in a step's name": "run: test -n x\n    name: 'the @'",
    "in a name of many": "copy: base.tar\n    dest: /x\n    name: 'the @'",
    "where a command fails": "run: 'exit 3 # @'",
    "as a program": "run: ['@']",
    "in a condition": "run: \"{% if env('TOKEN') == 'x' %}a{% else %}true{% endif %}\"",
}


@pytest.mark.root
@pytest.mark.needs("busybox")
@pytest.mark.parametrize("case", STEPS)
def test_what_env_gave_is_neither_said_nor_kept(base: Any, case: str) -> None:
    base.spec("x", f"from: rootfs:base.tar\nsteps:\n  - {STEPS[case]}\n".replace("@", ENV))
    for value in (CANARY, CANARY + "2"):
        for command in ("plan --json", "build --json", "why x"):
            said(base, *command.split(), env={"TOKEN": value}, status=(0, 1, 2))
    for command in ("render x", "plan", "history x", "inspect x", "build --progress json"):
        said(base, *command.split(), env={"TOKEN": CANARY}, status=(0, 1, 2))
    assert kept(base.store) == []


CONFIG = {
    "a label": "labels: {a: b, t: 'the @'}",
    "its environment": "env: {A: b, T: '@'}",
    "its command": "cmd: [echo, '@']",
    "a healthcheck": "healthcheck: {test: [CMD, '@']}",
    "its shell": "shell: ['@', -c]",
}


@pytest.mark.parametrize("case", CONFIG)
def test_what_env_gave_for_the_config_is_in_the_image_only(project: Any, case: str) -> None:
    project.spec("x", f"from: scratch\nconfig:\n  {CONFIG[case].replace('@', ENV)}\n")
    project.spec("above", "from: image:x\nsteps: [{file: /a, content: b}]\n")
    for value in (CANARY, CANARY + "2"):
        for command in ("plan x", "build", "plan --json", "why x", "render x"):
            said(project, *command.split(), env={"TOKEN": value}, status=(0,))
    plan = said(project, "plan", "x", env={"TOKEN": CANARY}, status=(0,))
    assert "sha256:" in plan and " -> " in plan, plan
    assert {Path(path).parent.name for path in kept(project.store)} == {"sha256"}  # blobs


WRONG = {
    "a mode": "- {copy: a.txt, dest: /b, mode: '@'}",
    "an owner": "- {copy: a.txt, dest: /b, owner: 'a b @'}",
    "a source": "- {copy: '../@', dest: /b}",
    "a source that is not there": "- {copy: '@', dest: /b}",
    "a destination": "- {copy: [a.txt, b], dest: '/@'}",
    "a relative destination": "- {file: '../@', content: x}",
    "a long one": "- {copy: a.txt, dest: /b, mode: '" + "x" * 50 + "@'}",
    "a duration": "- {run: x}\nconfig: {healthcheck: {test: x, interval: '@'}}",
    "a list": "- {run: x}\nconfig: {shell: '@'}",
    "a port": "- {run: x}\nconfig: {exposed_ports: ['@']}",
    "a signal": "- {run: x}\nconfig: {stop_signal: '@'}",
    "a number": "- {unpack: a, dest: /b, strip_components: '@'}",
    "a choice": "- {run: x, network: '@'}",
    "a tag": "- {run: x}\ntags: ['@:@:@']",
    "a platform": "- {run: x}\nplatforms: ['@/@/@/@']",
    "a name": "- {run: x}\nname: '@'",
    "a working directory": "- {run: x}\nconfig: {working_dir: '@'}",
    "a template": "- {file: /a, content: \"{{ {}[env('TOKEN')] }}\"}",
    "a filter": "- {file: /a, content: \"{{ env('TOKEN') | int + 'x' }}\"}",
    "a template file": "- {template: t.j2, dest: /a}",
}


@pytest.mark.parametrize("case", WRONG)
def test_an_error_does_not_say_what_env_gave(project: Any, case: str) -> None:
    project.file("a.txt", "x")
    project.file("t.j2", "a\n{{ {}[env('TOKEN')] }}\n")
    project.spec("x", "from: scratch\nsteps:\n" + WRONG[case].replace("@", ENV) + "\n")
    for command in ("lint", "build --json"):
        said(project, *command.split(), env={"TOKEN": CANARY}, status=(1, 2))
    if project.store.exists():
        assert kept(project.store) == []


ADDRESSES = [
    f"http://user:{CANARY}@127.0.0.1:9",
    f"http:/user:{CANARY}@127.0.0.1:9",
    f"htp://user:{CANARY}@127.0.0.1:9",
    f"user:{CANARY}@127.0.0.1:9",
    f"http://us/er:{CANARY}@127.0.0.1:9",
    f"http://user:{CANARY} x@127.0.0.1:9",
    f"http://{CANARY}@127.0.0.1:9",
    f"http://user:{CANARY}@127.0.0.1:nine",
    f"http://user:{CANARY}@[127.0.0.1:9",
]


@pytest.mark.parametrize("address", ADDRESSES)
def test_no_address_says_its_password(project: Any, address: str) -> None:
    everywhere = {
        **dict.fromkeys(("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy"), address),
        "NO_PROXY": "", "no_proxy": "",
    }  # fmt: skip
    docker = address.replace("http:", "tcp:")
    quoted = json.dumps(address)
    specs = {
        "by proxy": ("from: registry.invalid/a/b:1\n", everywhere),
        "by DOCKER_HOST": ("from: docker-daemon:a:1\n", {"DOCKER_HOST": docker}),
        "by from:": (f"from: {quoted}\n", {}),
        "by docker-daemon:": (f"from: {json.dumps('docker-daemon:' + address)}\n", {}),
        "by a mirror": (f"from: {{debootstrap: bookworm, mirror: {quoted}}}\n", {}),
        "by a deb line": (
            f"from: {{debootstrap: a, mirror: {json.dumps(f'deb {address}/d a main')}}}\n", {}),
        "by a tag": (f"from: scratch\ntags: [{quoted}]\n", {}),
    }  # fmt: skip
    if "://" in address:  # else it is a path
        specs["by a source"] = (f"from: scratch\nsteps: [{{copy: {quoted}, dest: /x}}]\n", {})
    for case, (text, env) in specs.items():
        project.spec("x", text)
        for command in ("lint", "build --json"):
            shown = said(project, *command.split(), env=env, status=(0, 1, 2))
            if case == "by a mirror" and ":/" in address:
                assert "auth.conf" in shown or "is not a mirror" in shown, shown
    for command in ("pull", "push", "tag x"):
        said(project, *command.split(), address, env={}, status=(1, 2))
    if project.store.exists():
        assert kept(project.store) == []

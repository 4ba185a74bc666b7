"""The projects of docs/examples beside their Dockerfiles: whole trees and configs of each image,
and what they do when an engine runs them."""

from __future__ import annotations

import fnmatch
import json
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import pytest

from tests.cli.conftest import Project
from tests.examples.conftest import BASE, COMMIT, SUITE, archive, examples

__all__ = ["examples"]
pytestmark = [pytest.mark.root, pytest.mark.needs("dockerd", "mmdebstrap")]

PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


class Image(NamedTuple):
    """An image of `example`, and its Dockerfile's folder and arguments."""

    example: str
    folder: str = "."
    arguments: tuple[str, ...] = ()
    differs: tuple[str, ...] = ()  # of DIFFERS, those that it has


DIFFERS = {
    "etc/shadow": "the day an account was made; a step of ours has SOURCE_DATE_EPOCH",
    "usr/*/python3*.pyc": "for the same reason they hold hashes of their sources, not times",
}
"""Paths whose contents differ, and why; type, mode and owner are the other's."""
SCRATCH = {"Env": [PATH], "WorkingDir": "/"}
"""What BuildKit writes into an image from scratch that says nothing of it, and engines take for
granted; ours has neither."""
IMAGES = {
    "hello": Image("static-program"),
    "app": Image("python-app", differs=("usr/*/python3*.pyc",)),
    "site": Image("node-site"),
    "tools-plain": Image("variants"),
    "tools-tls": Image("variants", arguments=("FLAVOUR=tls",)),
    "tools-tls-debug": Image("variants", arguments=("FLAVOUR=tls", "DEBUG=true")),
    "lib": Image("monorepo", "lib"),
    "clock": Image("monorepo", "services/clock", (), ("etc/shadow",)),
    "echo": Image("monorepo", "services/echo", (), ("etc/shadow",)),
    "counter": Image("service", ".", (f"CI_COMMIT={COMMIT}",), ("etc/shadow",)),
}


def theirs(name: str) -> str:
    return name if name == "lib" else f"{name}:theirs"  # others copy from `lib`


@pytest.fixture(scope="module")
def engine_with_all(sides: Any, examples: dict[str, Project]) -> Any:
    """The engine with each image twice: of the Dockerfile as theirs(NAME), of the spec as
    NAME:ours."""
    sides.out("load", "--quiet", "-i", str(archive(examples, BASE)))
    assert SUITE in sides.out("images", "--format", "{{.Repository}}:{{.Tag}}").decode()

    def build(name: str) -> None:
        image = IMAGES[name]
        root = examples[image.example].root
        arguments = [word for each in image.arguments for word in ("--build-arg", each)]
        said = sides.run(
            *("build", "--quiet", "--network", "host", "--tag", theirs(name), *arguments),
            str(root / image.folder),
            buildkit=True,
        )[1]
        assert not said, said

    build("lib")
    with ThreadPoolExecutor(2) as pool:
        for done in [pool.submit(build, name) for name in IMAGES if name != "lib"]:
            done.result()
    for name in IMAGES:
        sides.out("load", "--quiet", "-i", str(archive(examples, name)))
    return sides


@pytest.mark.parametrize("name", IMAGES)
def test_the_trees_are_equal(engine_with_all: Any, name: str) -> None:
    one, other = (engine_with_all.tree(tag) for tag in (theirs(name), f"{name}:ours"))
    differing = {path for path in {*one, *other} if one.get(path) != other.get(path)}
    known = {
        pattern: [
            path
            for path in fnmatch.filter(differing, pattern)
            if path in one and path in other and one[path][:3] == other[path][:3]
        ]
        for pattern in IMAGES[name].differs
    }
    assert all(known.values()), "a difference is gone"
    unknown = differing.difference(*known.values())
    assert not unknown, {path: (one.get(path), other.get(path)) for path in unknown}


@pytest.mark.parametrize("name", IMAGES)
def test_the_configs_are_equal(engine_with_all: Any, name: str) -> None:
    one, other = (said(engine_with_all.config(tag)) for tag in (theirs(name), f"{name}:ours"))
    if name in ("hello", "lib"):
        assert not other.keys() & SCRATCH.keys()
        other |= SCRATCH
    assert one == other


def said(config: dict[str, Any] | None) -> dict[str, Any]:
    """What a config says, without the engine's own note and BuildKit's on Windows."""
    config = {key: value for key, value in (config or {}).items() if value}
    for key in ("Image", "ArgsEscaped"):
        config.pop(key, None)
    if "Env" in config:
        config["Env"] = sorted(config["Env"])
    return config


@pytest.mark.parametrize("name", [name for name in IMAGES if "etc/shadow" in IMAGES[name].differs])
def test_accounts_differ_in_their_day_alone(engine_with_all: Any, name: str) -> None:
    def accounts(tag: str) -> tuple[list[bytes], list[list[bytes]]]:
        """The days, and the other fields of each line."""
        run = ("run", "--rm", "--network", "none", "--user", "0", tag, "cat", "/etc/shadow")
        lines = [line.split(b":") for line in engine_with_all.out(*run).splitlines()]
        return [line.pop(2) for line in lines], lines

    (days, one), (ours, other) = accounts(theirs(name)), accounts(f"{name}:ours")
    assert one == other
    assert days[:-1] == ours[:-1] and ours[-1] == b"3653"  # 1980-01-02


CLIENT = """
use IO::Socket::INET;
my $socket = IO::Socket::INET->new(PeerAddr => "127.0.0.1", PeerPort => $ARGV[0]) or exit 1;
print $socket "$ARGV[1]"; $socket->shutdown(1); print while <$socket>;
"""


def answer(sides: Any, image: str, port: int, text: str, *options: str) -> str:
    """What the program of an image answers on a port of the container's own loopback."""
    run = ("run", "--detach", "--rm", "--network", "none", *options, image)
    container = sides.out(*run).decode().strip()
    try:
        until = time.monotonic() + 30
        while time.monotonic() < until:
            said, wrong = sides.run("exec", container, "perl", "-e", CLIENT, str(port), text)
            if not wrong:
                return str(said.decode())
            time.sleep(0.2)
        pytest.fail(f"{image} does not answer: {wrong}")
    finally:
        sides.run("kill", container)


def test_the_programs_run(engine_with_all: Any) -> None:
    def prints(*words: str) -> str:
        run = ("run", "--rm", "--network", "none", *words)
        return str(engine_with_all.out(*run).decode())

    assert prints("hello:ours", "Ada") == "Hello, Ada! (1.0)\n"
    assert prints("app:ours", "Ada") == "Hello, Ada!\n"
    assert prints("tools-tls-debug:ours") == "tls for debugging\n"
    assert prints("tools-tls-debug:ours", "strace", "-V").startswith("strace")


def test_the_servers_answer(engine_with_all: Any) -> None:
    page = answer(engine_with_all, "site:ours", 8080, "GET / HTTP/1.0\r\n\r\n")
    assert page.startswith("HTTP/1.1 200") and "assets/main-" in page
    assert answer(engine_with_all, "echo:ours", 7002, "hello\n") == "> hello\n"
    assert answer(engine_with_all, "clock:ours", 7001, "nowhere\n") == "unknown\n"
    assert answer(engine_with_all, "counter:ours", 7000, "") == "1\n"


def test_the_service_becomes_healthy(engine_with_all: Any) -> None:
    run = ("run", "--detach", "--network", "none", "--health-interval", "300ms", "counter:ours")
    container = engine_with_all.out(*run).decode().strip()
    try:
        until = time.monotonic() + 30
        while time.monotonic() < until:
            found = json.loads(engine_with_all.out("inspect", container))[0]
            if found["State"]["Health"]["Status"] == "healthy":
                break
            time.sleep(0.2)
        assert found["State"]["Health"]["Status"] == "healthy", found["State"]
        assert f"COMMIT={COMMIT}" in found["Config"]["Env"]
    finally:
        engine_with_all.run("rm", "--force", "--volumes", container)

"""What package steps see beside the image: secrets for a server that wants to know who asks, in the
ways that each package manager has; and a server that never answers."""

from __future__ import annotations

import base64
import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from builder.api import load_spec
from builder.errors import SpecErrors
from tests.cli.conftest import Project
from tests.packages.conftest import Index, Repository, files_of

pytestmark = [pytest.mark.needs("mmdebstrap", "dpkg-deb", "gpg"), pytest.mark.root]
TOKEN = "canary-c7Xq81Lm"
NETRC = f"machine 127.0.0.1\nlogin me\npassword {TOKEN}\n"


def guarded(server: Any) -> None:
    """Have a server ask for Basic authentication."""
    right = "Basic " + base64.b64encode(f"me:{TOKEN}".encode()).decode()
    handler = server.RequestHandlerClass
    served = handler.func.do_GET

    def do_GET(self: Any) -> None:
        if self.headers.get("Authorization") == right:
            served(self)
            return
        self.send_response(401)
        self.send_header("WWW-Authenticate", 'Basic realm="packages"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    handler.func.do_GET = do_GET


def spec(project: Project, step: dict[str, Any]) -> None:
    steps = [{"remove": "/etc/apt/sources.list"}, step]
    project.spec("x", json.dumps({"from": "oci:debian", "steps": steps}))


def built(project: Project, secret: bytes, before: float) -> dict[str, bytes]:
    """What the step's layer holds, which was made with a secret. Nothing that was written since
    `before` into the store holds its value."""
    (project.root.parent / "secret").write_bytes(secret)
    made = project.run("build", "--json", "--secret", f"it={project.root.parent}/secret")
    assert TOKEN not in made.stdout + made.stderr
    layers = json.loads(made.stdout)["images"][0]["layers"]
    held = []
    for folder, _, names in os.walk(project.store):  # rglob ends at what another builder removes
        for path in (Path(folder, name) for name in names):
            with contextlib.suppress(FileNotFoundError):
                if path.is_file() and path.lstat().st_mtime > before:
                    held += [path] if TOKEN.encode() in path.read_bytes() else []
    assert not held
    return files_of(project.store, layers[-1]["digest"])


WAYS = [
    ({"target": "/root/.netrc"}, {}, NETRC),
    ({"env": "PIP_INDEX_URL"}, {}, "http://me:{token}@{host}/"),
    ({"target": "/etc/pip.conf"}, {}, "[global]\nindex-url = http://me:{token}@{host}/\n"),
]


@pytest.mark.parametrize(("mount", "env", "text"), WAYS)
def test_a_private_index(
    on_debian: Project, index: Index, mount: dict[str, str], env: dict[str, str], text: str
) -> None:
    index.add("one")
    guarded(index.server)
    host = index.url.split("/")[2]
    if text == NETRC:
        env = {"PIP_INDEX_URL": index.url}
    step = {"pip": "one", "system": True, "env": env}
    began = time.time()
    spec(on_debian, {**step, "mounts": [{"secret": "it", **mount}]})
    assert "secret 'it' is not given" in on_debian.run("build", "x", status=2).stderr
    files = built(on_debian, text.format(token=TOKEN, host=host).encode(), began)
    assert "usr/local/lib/python3.11/dist-packages/one.py" in files
    assert not {"root/.netrc", "etc/pip.conf"} & files.keys()
    assert on_debian.plan()["x"][-1][0] == "hit"


def test_a_private_repository_of_debian(on_debian: Project, repository: Repository) -> None:
    repository.add("mine", usr__share__mine="mine")
    guarded(repository.server)
    step = {"apt": "mine", "repositories": {"mine": repository.stanza}}
    began = time.time()
    spec(on_debian, step)
    assert "401" in on_debian.run("build", "x", status=1).stderr
    mount = {"secret": "it", "target": "/etc/apt/auth.conf.d/mine.conf"}
    spec(on_debian, {**step, "mounts": [mount]})
    text = f"machine {repository.url[:-1]} login me password {TOKEN}\n"
    files = built(on_debian, text.encode(), began)
    assert files["usr/share/mine"] == b"mine"
    assert not [path for path in files if "auth.conf.d" in path]


def test_binds_of_other_images_and_caches(on_debian: Project, index: Index) -> None:
    """All kinds that `run` has; files of requirements beside them."""
    index.add("one")
    index.add("two")
    on_debian.write(more="one\n", limits="two<9\n")
    step = {
        "pip": {"requirements": "more"},
        "constraints": "limits",
        "system": True,
        "env": {"PIP_FIND_LINKS": "/wheels", "PIP_INDEX_URL": index.url},
        "mounts": [
            {"bind": "two", "from": "stage:wheels", "target": "/wheels"},
            {"cache": "mine", "target": "/root/.cache"},
            {"tmpfs": "/var/tmp"},
        ],
    }
    on_debian.file("two/two-2.0.whl", "")
    wheels = {"from": "scratch", "steps": [{"copy": "two", "dest": "/two/"}]}
    text = {"stages": {"wheels": wheels}, "from": "oci:debian", "steps": [step]}
    on_debian.spec("x", json.dumps(text))
    layers = on_debian.build()["x"]["layers"]
    files = files_of(on_debian.store, layers[-1]["digest"])
    assert "usr/local/lib/python3.11/dist-packages/one.py" in files
    assert not [path for path in files if path.startswith(("wheels/", "root/.cache/"))]
    assert on_debian.plan()["x"][-1][0] == "hit"
    on_debian.file("two/two-2.0.whl", "other")
    assert "two" in on_debian.plan()["x"][-1][1]
    on_debian.file("limits", "two<8\n")
    assert on_debian.plan()["x"][-1][0] != "hit"


VERBS = ("apt: aa", "apk: aa", "dnf: aa", "pip: aa", "npm: aa", "npm: ci")


@pytest.mark.parametrize("verb", VERBS)
def test_all_of_them_take_mounts(tmp_path: Path, verb: str) -> None:
    path = tmp_path / "x.yaml"
    for mounts, said in (
        ("[ssh, {secret: a, target: /root/.netrc}, {tmpfs: /tmp}]", None),
        ("[ssh, {cache: a, target: /tmp/cache}]", "3:"),
        ("[{cache: a, target: var/tmp/./x}]", "'/var/tmp/x' is in /var/tmp, which the step"),
        ("[{bind: a}]", "target"),
    ):
        path.write_text(f"from: scratch\nsteps:\n  - {verb}\n    mounts: {mounts}\n")
        if said is None:
            (step,) = load_spec(str(path), environ={}).steps
            assert len(step.given) == 3  # type: ignore[attr-defined]
            continue
        with pytest.raises(SpecErrors) as caught:
            load_spec(str(path), environ={})
        assert len(caught.value.errors) == 1
        if said != "3:":
            assert said in caught.value.errors[0].message


@pytest.fixture
def silent() -> Iterator[str]:
    """The address of a server that takes what it is sent and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        taken: list[socket.socket] = []

        def take() -> None:
            while True:
                try:
                    taken.append(listening.accept()[0])
                except OSError:
                    return

        threading.Thread(target=take, daemon=True).start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/"
        listening.shutdown(socket.SHUT_RDWR)
        for each in taken:
            each.close()


@pytest.mark.parametrize("verb", ["apt", "pip"])
def test_a_server_that_hangs_ends_with_the_timeout(
    on_debian: Project, repository: Repository, silent: str, verb: str
) -> None:
    own = {"mine": {**repository.stanza, "uri": silent}}
    how = {"apt": {"repositories": own}, "pip": {"env": {"PIP_INDEX_URL": silent}, "system": True}}
    spec(on_debian, {verb: "mine", **how[verb], "timeout": "3s"})
    began = time.monotonic()
    said = on_debian.run("build", "x", status=1).stderr
    assert time.monotonic() - began < 60  # three times 30 seconds of apt's, 6 times 15 of pip's
    assert "3 s" in said and "timeout" in said, said
    assert len(said[said.index("\nerror: ") + 1 :].splitlines()) <= 2
    steps = on_debian.plan()["x"]
    assert steps[-1][0] == "build"

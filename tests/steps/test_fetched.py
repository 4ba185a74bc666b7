"""`download` and `git` steps: what is built of what servers have, what is asked for and when."""

from __future__ import annotations

import hashlib
import io
import json
import os
import signal
import subprocess
import sys
import tarfile
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.transport.gitserver import GitServer, Repository
from tests.transport.web import Fault, Site

DATA = bytes(range(256)) * 4000
SHA = hashlib.sha256(DATA).hexdigest()


@pytest.fixture
def site() -> Iterator[Site]:
    running = Site(DATA)
    yield running
    running.close()


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GitServer]:
    (tmp_path / "served").mkdir()
    running = GitServer(tmp_path / "served")
    yield running
    running.close()


@pytest.fixture
def repository(server: GitServer) -> Repository:
    return Repository(server.root / "it.git")


@pytest.fixture
def url(server: GitServer) -> str:
    return f"{server.url}it.git/.git"


def spec(*steps: str, base: str = "scratch") -> str:
    return f"from: {base}\nsteps:\n" + "".join(f"  - {step}\n" for step in steps)


def download(url: str, rest: str = "dest: /a", sha: str = f"sha256: {SHA}") -> str:
    return f"{{download: '{url}', {sha}, {rest}}}"


Tree = dict[str, tuple[str, int, int, int, bytes]]


def files(project: Any, image: str = "x") -> Tree:
    """Path -> (type, mode, uid, gid, bytes or link) of all layers."""
    project.run("build", image, "-o", "docker-archive:../out.tar")
    found: Tree = {}
    with tarfile.open(project.root.parent / "out.tar") as outer:
        manifest = json.load(outer.extractfile("manifest.json"))  # type: ignore[arg-type]
        for name in manifest[0]["Layers"]:
            data = outer.extractfile(name).read()  # type: ignore[union-attr]
            with tarfile.open(fileobj=io.BytesIO(data)) as tar:
                for member in tar:
                    file = tar.extractfile(member) if member.isreg() else None
                    content = file.read() if file else member.linkname.encode()
                    kind = {b"0": "file", b"5": "dir", b"2": "link"}[member.type]
                    entry = (kind, member.mode, member.uid, member.gid, content)
                    found[member.name.rstrip("/")] = entry
    return found


def error(project: Any, *arguments: str, status: int = 2) -> str:
    said = json.loads(project.run(*arguments, "--json", status=status).stdout)["error"]
    assert "\n" not in said["message"]
    place = said.get("place") or {}
    where = f"{place.get('file')}:{place.get('line')}"
    return f"{where}: {said['message']} | {said.get('hint')}"


# -- download -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rest", "wanted"),
    [
        ("dest: /opt/", ("opt/file.bin", 0o644, 0)),
        ("dest: /opt/b", ("opt/b", 0o644, 0)),
        ("dest: /opt/b, mode: '0755', owner: '33:44'", ("opt/b", 0o755, 33)),
        ("dest: c", ("c", 0o644, 0)),
    ],
)
@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_a_file_is_as_the_step_says(
    project: Any, site: Site, rest: str, wanted: tuple[str, int, int], algorithm: str
) -> None:
    digest = hashlib.new(algorithm, DATA).hexdigest()
    project.spec("x", spec(download(site.url + "?a=b", rest, f"{algorithm}: {digest.upper()}")))
    path, mode, owner = wanted
    found = files(project)[path]
    assert found[:3] == ("file", mode, owner) and found[4] == DATA
    requests = len(site.seen)
    assert project.plan()["x"] == [("hit", "unchanged")] and requests == 1
    assert files(project)[path] == found and len(site.seen) == requests


def test_a_plan_asks_nobody(project: Any, site: Site) -> None:
    """A file's layer, and what stands on it, is told by the checksum alone."""
    project.spec("x", spec(download(site.url), "{file: /b, content: x}"))
    assert project.plan()["x"] == [("build", "first build")] * 2
    digest = hashlib.sha512(DATA).hexdigest()
    project.spec("x", spec(download(site.url, sha=f"sha512: {digest}"), "{file: /b, content: x}"))
    first, second = project.plan()["x"]
    assert first == ("build", "never fetched")
    assert second[0] == "unknown" and "decided after step 1" in second[1]
    assert not site.seen
    project.run("build")
    digest = "0" * 64
    project.spec("x", spec(download(site.url, sha=f"sha256: {digest}"), "{file: /b, content: x}"))
    first, second = project.plan()["x"]
    assert first == ("build", f"/a: content {SHA[:12]} -> {digest[:12]}")
    assert second == ("hit", "unchanged") and len(site.seen) == 1


def test_another_address_is_the_same_layer(project: Any, site: Site) -> None:
    project.spec("x", spec(download(site.url, "dest: /a")))
    before = project.build()["x"]
    project.spec("x", spec(download("https://gone.invalid/else", "dest: /a")))
    assert project.plan()["x"] == [("hit", "unchanged")]
    after = project.build()["x"]
    assert after["layers"][-1]["diff_id"] == before["layers"][-1]["diff_id"]
    assert len(site.seen) == 1


def test_a_layer_is_a_hit_without_the_file(project: Any, site: Site) -> None:
    project.spec("x", spec(download(site.url)))
    project.run("build")
    (project.store / "blobs/sha256" / SHA).unlink()
    site.close()
    assert project.plan()["x"] == [("hit", "unchanged")]
    project.spec("x", spec(download(site.url), "{file: /b, content: more}"))
    assert [each["status"] for each in project.build()["x"]["layers"]] == ["hit", "built"]
    project.spec("x", spec(download(site.url, "dest: /elsewhere")))
    assert "Connection refused" in error(project, "build", status=1)


def test_all_who_want_a_file_ask_once(project: Any, site: Site) -> None:
    site.faults = [Fault(pause=0.02)]
    for name in "abc":
        steps = [download(site.url, f"dest: /{name}"), download(site.url + "?2", "dest: /again")]
        project.spec(name, spec(*steps))
    project.run("build", "--jobs", "3")
    assert len(site.seen) == 1


def test_a_wrong_checksum_is_told(project: Any, site: Site) -> None:
    wrong = "1" * 64
    project.spec("x", spec(download(site.url, sha=f"sha256: {wrong}")))
    said = error(project, "build", status=1)
    assert f"{SHA} came" in said and f"expected {wrong}" in said
    place = json.loads(project.run("build", "--json", status=1).stdout)["error"]["place"]
    assert (place["line"], place["column"]) == (3, 16)
    assert os.listdir(project.store / "blobs/sha256") == []
    assert os.listdir(project.store / "partials") == []


def archive(kind: str) -> bytes:
    packed = io.BytesIO()
    if kind == "zip":
        with zipfile.ZipFile(packed, "w") as made:
            info = zipfile.ZipInfo("top/bin/run")
            info.create_system, info.external_attr = 3, 0o100755 << 16
            made.writestr(info, b"#!")
    else:
        with tarfile.open(fileobj=packed, mode=f"w:{kind}") as made:
            info = tarfile.TarInfo("top/bin/run")
            info.mode, info.size, info.uid, info.gid = 0o755, 2, 7, 8
            made.addfile(info, io.BytesIO(b"#!"))
    return packed.getvalue()


@pytest.mark.parametrize("kind", ["", "gz", "xz", "bz2", "zip"])
def test_an_archive_is_unpacked(project: Any, site: Site, kind: str) -> None:
    site.data = archive(kind)
    sha = f"sha256: {hashlib.sha256(site.data).hexdigest()}"
    rest = "dest: /opt/, unpack: true, strip_components: 1"
    project.spec("x", spec(download(site.url, rest, sha), "{file: /b, content: x}"))
    assert project.plan()["x"][0] == ("build", "never fetched")
    owner = (0, 0) if kind == "zip" else (7, 8)
    assert files(project)["opt/bin/run"] == ("file", 0o755, *owner, b"#!")
    project.spec("x", spec(download("https://gone.invalid/x", rest, sha)))
    assert project.plan()["x"] == [("hit", "unchanged")] and len(site.seen) == 1
    project.file("it", site.data)
    project.spec("y", spec("{unpack: it, dest: /opt, strip_components: 1}"))
    assert project.plan("y")["y"] == [("hit", "unchanged")] or project.plan("y")["y"][0][0] == "hit"


def test_what_is_no_archive_is_told(project: Any, site: Site) -> None:
    project.spec("x", spec(download(site.url, "dest: /opt, unpack: true")))
    assert "specs/x.yaml:3: tar" in error(project, "build", status=1)


def test_a_checksum_for_each_architecture(project: Any, site: Site) -> None:
    sums = f"sha256: {{amd64: {SHA}, arm/v7: {'0' * 64}}}"
    project.spec("x", spec(download(site.url, sha=sums)))
    project.run("build", "--platform", "linux/amd64")
    said = error(project, "plan", "--platform", "linux/arm64")
    assert "sha256 has no checksum for arm64, only for amd64, arm/v7" in said
    assert "0" * 64 in error(project, "build", "--platform", "linux/arm/v7", status=1)


def test_accounts_that_are_downloaded_name_owners(project: Any, site: Site) -> None:
    site.data = b"app:x:70:80::/:/bin/sh\n"
    sha = f"sha256: {hashlib.sha256(site.data).hexdigest()}"
    steps = [download(site.url, "dest: /etc/passwd", sha), "{file: /f, content: x, owner: app}"]
    project.spec("x", spec(*steps))
    assert project.plan()["x"][1][0] == "unknown"
    assert files(project)["f"][2:4] == (70, 80)
    assert [status for status, _ in project.plan()["x"]] == ["hit", "hit"]


def test_a_file_that_is_damaged_in_the_store_comes_again(project: Any, site: Site) -> None:
    project.spec("x", spec(download(site.url)))
    project.run("build")
    path = project.store / "blobs/sha256" / SHA
    path.chmod(0o600)
    path.write_bytes(b"x" * len(DATA))
    project.spec("x", spec(download(site.url, "dest: /other")))
    assert files(project)["other"][4] == DATA and len(site.seen) == 2


@pytest.mark.parametrize(
    ("step", "says"),
    [
        ("{download: 'https://h/a', dest: /a}", "curl -fsSL https://h/a | sha256sum"),
        ("{download: 'https://h/a b', dest: /a, sha256: x}", "%XX"),
        ("{download: 'https://me:pw@h/a', dest: /a}", "~/.netrc"),
        ("{download: 'file:///etc/passwd', dest: /a}", "is a `copy`"),
        ("{download: a.tar, dest: /a}", "is a `copy`"),
        (f"{{download: 'https://h/a', dest: /a, sha512: {SHA}}}", f"write sha256: {SHA}"),
        (f"{{download: 'https://h/a', dest: /a, sha256: {SHA[:63]}}}", "64 hex digits"),
        (f"{{download: 'https://h/a', dest: /a, sha256: {{x86_64: {SHA}}}}}", "write amd64"),
        ("{download: 'https://h/a', dest: /a, sha256: {}}", "no checksum"),
        (f"{{download: 'https://h/', dest: /a/, sha256: {SHA}}}", "names no file"),
        (f"{{download: 'https://h/a', dest: a/, sha256: {SHA}, strip_components: 1}}", "unpack"),
        (f"{{download: 'https://h/a', dest: a, sha256: {SHA}, unpack: yes}}", "true or false"),
        (
            f"{{download: 'https://h/a', dest: a, sha256: {SHA}, unpack: true, mode: '0600'}}",
            "'mode' is given",
        ),
        ("{git: 'https://h/a', commit: main, dest: /a}", "git ls-remote https://h/a main"),
        ("{git: 'https://h/a', commit: abc123, dest: /a}", "not the whole id"),
        ("{git: 'https://h/a', ref: main, dest: /a}", "did you mean 'commit'"),
        ("{git: /srv/x.git, commit: '1', dest: /a}", "`copy`"),
        ("{git: 'https://u:pw@h/a', commit: '1', dest: /a}", "~/.netrc"),
        (f"{{git: 'https://h/a', commit: {SHA}, dest: /a, subdir: ../x}}", "leaves the repository"),
    ],
)
def test_what_cannot_be_is_told_with_its_place(project: Any, step: str, says: str) -> None:
    project.spec("x", spec(step))
    said = error(project, "plan")
    assert says in said and "specs/x.yaml:3: " in said and "pw" not in said


def test_an_interrupt_ends_a_download_and_the_next_run_goes_on(project: Any, site: Site) -> None:
    site.faults = [Fault(pause=0.3)]
    project.spec("x", spec(download(site.url)))
    running = subprocess.Popen(
        [sys.executable, "-m", "builder", "build"], cwd=project.root, stderr=subprocess.PIPE,
        env={**os.environ, "BUILDER_CACHE_DIR": str(project.store)}, text=True,
    )  # fmt: skip
    while not site.seen or site.seen[0].sent < 200_000:
        time.sleep(0.02)
    began = time.monotonic()
    running.send_signal(signal.SIGINT)
    _, said = running.communicate()
    assert running.returncode == 130 and time.monotonic() - began < 2, said
    assert os.listdir(project.store / "tmp") == []
    project.run("build")
    assert site.seen[-1].sent < len(DATA)


def test_progress_is_told(project: Any, site: Site) -> None:
    project.spec("x", spec(download(site.url)))
    lines = project.run("build", "--progress", "json").stderr.splitlines()
    events = [json.loads(line) for line in lines]
    kinds = [each["event"] for each in events]
    assert kinds.count("step_started") == 1 and kinds.count("step_done") == 1
    progress = [each for each in events if each["event"] == "step_progress"]
    assert (progress[0]["done"], progress[0]["total"]) == (0, len(DATA))


def test_several_files_come_side_by_side(project: Any, site: Site) -> None:
    """In the first build of an image. One that does not come is told at its turn."""
    others = [Site(DATA[number:]) for number in range(1, 4)]
    steps = []
    for number, each in enumerate([site, *others]):
        each.faults = [Fault(hang=1.0)]
        sha = f"sha256: {hashlib.sha256(each.data).hexdigest()}"
        steps.append(download(each.url, f"dest: /{number}", sha))
    project.spec("x", spec(*steps))
    began = time.monotonic()
    project.run("build", "--jobs", "4")
    assert time.monotonic() - began < 2.5
    assert [len(each.seen) for each in [site, *others]] == [1, 1, 1, 1]
    last = others[-1]
    steps[-1] = download(last.url + "?404", "dest: /x", f"sha256: {'2' * 64}")
    last.faults = [Fault(404)] * 9
    project.spec("y", spec(*steps))
    assert "specs/y.yaml:6: " in error(project, "build", "y", status=1)
    for each in others:
        each.close()


# -- git -----------------------------------------------------------------------------------------


def test_a_commit_is_built(
    project: Any, server: GitServer, repository: Repository, url: str
) -> None:
    commit = repository.commit({"a": b"1", "d/b": b"2", "l": "../../etc/passwd", "run": b"#!"})
    (repository.path / "run").chmod(0o755)
    commit = repository.commit()
    repository.commit({"a": b"later"})
    step = f"{{git: '{url}', commit: {commit}, dest: /srv/it}}"
    project.spec("x", spec(step, "{file: /b, content: x}"))
    first, second = project.plan()["x"]
    assert first == ("build", "never fetched") and "decided after step 1" in second[1]
    assert not server.requests
    found = files(project)
    assert found["srv/it"] == ("dir", 0o755, 0, 0, b"")
    assert found["srv/it/a"] == ("file", 0o644, 0, 0, b"1")
    assert found["srv/it/run"][:2] == ("file", 0o755)
    assert found["srv/it/l"][::4] == ("link", b"../../etc/passwd")
    assert found["srv/it/d/b"][4] == b"2" and not any(".git" in path for path in found)
    requests = len(server.requests)
    assert project.plan()["x"] == [("hit", "unchanged")] * 2
    project.run("build")
    assert len(server.requests) == requests
    history = project.run("history", "x").stdout
    assert f"git {url} {commit[:12]}" in history


def test_the_same_files_of_another_commit_are_a_hit(
    project: Any, server: GitServer, repository: Repository, url: str
) -> None:
    first, second = repository.commit({"a": b"1"}), repository.commit()
    project.spec("x", spec(f"{{git: '{url}', commit: {first}, dest: /it}}"))
    project.run("build")
    project.spec("x", spec(f"{{git: '{url}', commit: {second}, dest: /it}}"))
    assert [each["status"] for each in project.build()["x"]["layers"]] == ["hit"]
    repository.commit({"a": b"2"})
    third = repository.git("rev-parse", "HEAD")
    project.spec("x", spec(f"{{git: '{url}', commit: {third}, dest: /it}}"))
    (step,) = project.build()["x"]["layers"]
    assert (step["status"], step["why"].startswith("/it/a: content")) == ("built", True)


def test_parts_of_a_commit(project: Any, repository: Repository, url: str) -> None:
    commit = repository.commit({"web/a.js": b"1", "web/a.map": b"2", "web/t/b": b"3", "c": b"4"})
    rest = "dest: /it, subdir: ./web/, exclude: ['*.map', t/], owner: '5:6'"
    project.spec("x", spec(f"{{git: '{url}', commit: {commit}, {rest}}}"))
    assert {path: entry[2:4] for path, entry in files(project).items()} == {
        "it": (5, 6), "it/a.js": (5, 6),
    }  # fmt: skip
    project.spec("x", spec(f"{{git: '{url}', commit: {commit}, dest: /it, subdir: wob}}"))
    assert "did you mean 'web'" in error(project, "build", status=1)


def test_a_submodule_is_told_and_can_be_left_out(
    project: Any, server: GitServer, repository: Repository, url: str
) -> None:
    other = Repository(server.root / "other.git")
    inner = other.commit({"x": b"1"})
    repository.git("submodule", "--quiet", "add", str(other.path), "lib/other")
    commit = repository.commit({"lib/a": b"1"})
    step = f"git: '{url}', commit: {commit}, dest: /it"
    project.spec("x", spec(f"{{{step}}}"))
    said = error(project, "build")
    assert "'lib/other' is a submodule" in said and inner in said
    exclude = said.partition("write ")[2].partition(",")[0]
    project.spec("x", spec(f"{{{step}, {exclude}}}"))
    found = files(project)
    assert "it/lib/a" in found and "it/lib/other" not in found
    project.spec("x", spec(f"{{{step}, subdir: lib, exclude: other}}"))
    assert "it/a" in files(project)


def test_images_that_want_one_commit_ask_once(
    project: Any, server: GitServer, repository: Repository, url: str
) -> None:
    commit = repository.commit({"a": b"1"})
    for name in "abc":
        project.spec(name, spec(f"{{git: '{url}', commit: {commit}, dest: /{name}}}"))
    project.run("build", "--jobs", "3")
    assert sum("info/refs" in each for each in server.requests) == 1


def test_an_interrupt_ends_git(
    project: Any, server: GitServer, repository: Repository, url: str
) -> None:
    commit = repository.commit({"a": b"1"})
    project.spec("x", spec(f"{{git: '{url}', commit: {commit}, dest: /a}}"))
    server.hang = True
    running = subprocess.Popen(
        [sys.executable, "-m", "builder", "build"], cwd=project.root, stderr=subprocess.PIPE,
        env={**os.environ, "BUILDER_CACHE_DIR": str(project.store)}, text=True,
    )  # fmt: skip
    while not server.requests:
        time.sleep(0.02)
    began = time.monotonic()
    running.send_signal(signal.SIGINT)
    _, said = running.communicate()
    server.hang = False
    assert running.returncode == 130 and time.monotonic() - began < 2, said
    assert os.listdir(project.store / "tmp") == []
    project.run("build")

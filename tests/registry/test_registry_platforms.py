"""Indexes at a registry and in an engine: pushed, pulled, chosen from, joined."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Project

pytestmark = [pytest.mark.needs("docker-registry", "skopeo")]
BOTH = ["linux/amd64", "linux/arm64"]
SITE = """\
from: scratch
steps:
  - {file: /all, content: all}
  - {file: /arch, content: "{{ target.platform }}"}
"""


@pytest.fixture
def project(tmp_path: Path) -> Project:
    (tmp_path / "project/specs").mkdir(parents=True)
    made = Project(tmp_path / "project")
    made.spec("site", SITE)
    return made


def raw(name: str) -> dict[str, Any]:
    command = ["skopeo", "inspect", "--tls-verify=false", "--raw", f"docker://{name}"]
    done = subprocess.run(command, capture_output=True)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def platforms(index: dict[str, Any]) -> list[str]:
    return [f"{e['platform']['os']}/{e['platform']['architecture']}" for e in index["manifests"]]


def test_an_index_is_pushed_once_and_read_by_platform(project: Project, registry: str) -> None:
    name = f"{registry}/site:1"
    both = ["--platform", ",".join(BOTH)]
    digest = json.loads(project.run("build", "--json", *both).stdout)["indexes"][0]["digest"]
    pushed = json.loads(
        project.run("push", "site", name, f"{registry}/site:2", "--json", *both).stdout
    )
    (result,) = pushed["pushed"]
    assert result["digest"] == digest
    # three layers of which one is of both platforms, and two configs
    assert result["sent"]["blobs"] == 5
    assert platforms(raw(name)) == BOTH and raw(name) == raw(f"{registry}/site:2")
    again = json.loads(project.run("push", "site", name, "--json", *both).stdout)["pushed"][0]
    assert (again["sent"]["blobs"], again["requests"]) == (0, 1)
    # another name in the same registry mounts
    third = json.loads(project.run("push", "site", f"{registry}/other:1", "--json", *both).stdout)
    assert third["pushed"][0]["mounted"]["blobs"] == 5
    # each platform is what `pull` and a base take
    for number, platform in enumerate(BOTH):
        project.run("pull", name, "--platform", platform)
        said = json.loads(project.run("inspect", name, "--platform", platform).stdout)
        assert said["digest"] == raw(name)["manifests"][number]["digest"]
    project.spec(
        "on", f"from: {name}\nsteps:\n  - {{copy: /arch, from: '{name}', dest: /copied}}\n"
    )
    project.run("build", "on", *both, "-o", "oci:out")
    for platform in BOTH:
        project.run("build", "on", "--platform", platform, "-o", f"dir:{platform[6:]}")
        for file in ("arch", "copied"):
            assert (project.root / platform[6:] / file).read_text() == platform
    error = project.run("build", "on", "--platform", "s390x", status=1).stderr
    assert "no image for linux/s390x" in error and "linux/amd64, linux/arm64" in error


def test_build_pushes_an_index(project: Project, registry: str) -> None:
    name = f"{registry}/built:1"
    project.run("build", "--platform", ",".join(BOTH), "--tag", name, "--push")
    assert platforms(raw(name)) == BOTH
    listed = json.loads(project.run("images", "--json").stdout)["images"]
    assert {each["name"]: each["platform"] for each in listed} == {"site": None, name: None}
    # what the store has by that name goes elsewhere to the byte
    project.run("push", name, f"{registry}/again:1")
    assert raw(f"{registry}/again:1") == raw(name)
    project.run("push", name, f"{registry}/one:1", "--platform", "arm64")
    assert raw(f"{registry}/one:1")["layers"]


@pytest.mark.root
@pytest.mark.needs("dockerd", "docker")
def test_an_engine_gets_its_own_platform(project: Project, registry: str, engine: str) -> None:
    def docker(*words: str) -> str:
        done = subprocess.run(["docker", "-H", engine, *words], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    both, env = ["--platform", ",".join(BOTH)], {"DOCKER_HOST": engine}
    arch = docker("version", "-f", "{{.Server.Arch}}")
    name = f"{registry}/engine:1"
    project.run("build", *both, "--tag", name, "--push")
    docker("pull", "-q", name)
    assert docker("image", "inspect", "-f", "{{.Architecture}}", name) == arch
    for command in (["load", "site", *both, "-t", "loaded:1"], ["load", name, "-t", "loaded:2"]):
        project.run(*command, env=env)
        tag = command[-1]
        assert docker("image", "inspect", "-f", "{{.Architecture}}", tag) == arch
        docker("rmi", tag)
    docker("rmi", name)
    project.spec("two", SITE + "platforms: [linux/amd64, linux/arm64]\n")
    fresh = ["--cache-dir", str(project.root / "fresh")]
    project.run("load", "two", *fresh, env=env)
    listed = json.loads(project.run("images", "--json", *fresh).stdout)["images"]
    assert [(each["name"], each["platform"]) for each in listed] == [("two", f"linux/{arch}")]
    docker("rmi", "two")
    only = ["load", "site", "--platform", "arm64,s390x", "-t", "loaded:3"]
    error = project.run(*only, env=env, status=2).stderr
    assert (
        "linux/arm64, linux/s390x" in error
        and f"linux/{arch} is wanted" in error
        and "--platform linux/arm64" in error
    )


def test_what_two_runners_built_is_joined(project: Project, registry: str, tmp_path: Path) -> None:
    """Each built with a store of its own; joined at the registry, in a store, and from layouts: the
    very index that one runner would have made."""
    wanted = json.loads(project.run("build", "--json", "--platform", ",".join(BOTH)).stdout)
    digest = wanted["indexes"][0]["digest"]
    names = []
    for platform in BOTH:
        name = f"{registry}/joined:1-{platform[6:]}"
        store = ["--cache-dir", str(tmp_path / platform[6:])]
        where = ["-o", f"oci:{platform[6:]}"]
        project.run("build", "--platform", platform, "--tag", name, "--push", *store, *where)
        names.append(name)
    fresh = ["--cache-dir", str(tmp_path / "fresh")]
    joined = f"{registry}/joined:1"
    made = project.run("index", "create", "-t", joined, "--push", *names, *fresh)
    assert made.stdout == f"{joined} {digest}\n"
    assert platforms(raw(joined)) == BOTH
    # no layer was brought here for that, and the store keeps no name
    assert json.loads(project.run("images", "--json", *fresh).stdout)["images"] == []
    for number, sources in enumerate(
        (names, names[::-1], ["oci:amd64", "oci:arm64"], [joined], [joined, names[0]])
    ):
        place = ["--cache-dir", str(tmp_path / f"store{number}")]
        said = project.run("index", "create", "--json", "-t", "team/site:1", *sources, *place)
        assert json.loads(said.stdout)["digest"] == digest, sources
        shown = json.loads(project.run("inspect", "team/site:1", *place).stdout)
        assert [each["platform"] for each in shown["manifests"]] == BOTH
        project.run("cache", "check", *place)
        project.run("push", "team/site:1", f"{registry}/store{number}:1", *place)
        assert raw(f"{registry}/store{number}:1") == raw(joined)
    # of the store: a name may be in several, a digest in none
    place = ["--cache-dir", str(tmp_path / "amd64")]
    one = f"{registry}/elsewhere:1"
    project.run("index", "create", "-t", one, names[0], "oci:arm64", *place)
    assert json.loads(project.run("inspect", one, *place).stdout)["digest"] == digest


def test_an_index_that_never_ends_is_refused(project: Project) -> None:
    """Each names the next a thousand times: eight documents, and 10^21 images."""
    folder = project.root / "deep"
    blobs = folder / "blobs/sha256"
    blobs.mkdir(parents=True)
    kind = "application/vnd.oci.image.index.v1+json"
    document: dict[str, Any] = {"schemaVersion": 2, "mediaType": kind, "manifests": []}
    for _ in range(8):
        data = json.dumps(document).encode()
        digest = hashlib.sha256(data).hexdigest()
        (blobs / digest).write_bytes(data)
        entry = {"mediaType": kind, "digest": f"sha256:{digest}", "size": len(data)}
        document = {**document, "manifests": [entry] * 1000}
    (folder / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (folder / "index.json").write_text(json.dumps(document))
    error = project.run("index", "create", "-t", "x", "oci:deep", status=1).stderr
    assert "indexes within indexes" in error


def test_two_images_for_one_platform_are_no_index(project: Project, tmp_path: Path) -> None:
    project.run("build", "-o", "oci:a")
    project.spec("site", SITE.replace("all}", "other}"))
    project.run("build", "-o", "oci:b")
    error = project.run("index", "create", "-t", "x", "oci:a", "oci:b", status=2).stderr
    assert "two images for linux/" in error and "oci:a and oci:b" in error
    assert project.run("index", "create", "-t", "x", "oci:a", "oci:a").stdout.startswith(
        "x:latest "
    )
    for words, said in (
        (["-t", "x@sha256:" + "0" * 64, "oci:a"], "holds a digest"),
        (["--push", "oci:a"], "--push needs a --tag"),
        (["-t", "x", "oci:nowhere"], "oci:nowhere"),
        (["-t", "X", "oci:a"], "'X'"),
    ):
        assert (
            said in project.run("index", "create", *words, status=2 if said[0] != "o" else 1).stderr
        )

"""`dnf` in a Debian that has it, on packages that the test builds: the same packages are the same
bytes, and what is wrong is said."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path

import pytest

from tests.cli.conftest import Project, project
from tests.packages.conftest import FULL, LATER

__all__ = ["project"]

pytestmark = [
    pytest.mark.needs("mmdebstrap", "rpmbuild", "createrepo_c", "rpm", "rpmsign", "gpg"),
    pytest.mark.root,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
]
SPEC = """\
Name: {name}
Version: {version}
Release: 1
Summary: of a test
License: none
BuildArch: noarch
{tags}
%description
Of a test.
%install
mkdir -p %{{buildroot}}/opt/{name}
echo {name} {version} > %{{buildroot}}/opt/{name}/file
%files
/opt/{name}
%post
date >> /var/log/{name}.log
date > /var/tmp/{name}
useradd --system {name}
"""
PACKAGES = (
    ("shell", "1", "Provides: /bin/sh"),
    ("hello", "1.0", "Requires: hello-data\nRecommends: hello-extra"),
    ("hello", "2.0", "Requires: hello-data\nRecommends: hello-extra"),
    ("hello-data", "1.0", ""),
    ("hello-extra", "1.0", ""),
)
STEPS = """\
  - {copy: repo, dest: /srv/repo}
  - file: /etc/yum.repos.d/test.repo
    content: "[test]\\nname=test\\nbaseurl=file:///srv/repo\\ngpgcheck=0\\n"
"""


@pytest.fixture(scope="session")
def has_dnf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `repo`, a repository."""
    folder = tmp_path_factory.mktemp("dnf")
    for name, version, tags in PACKAGES:
        spec = folder / f"{name}.spec"
        spec.write_text(SPEC.format(name=name, version=version, tags=tags))
        defined = [f"_topdir {folder}/made", f"_rpmdir {folder}/repo"]
        options = [word for each in defined for word in ("--define", each)]
        subprocess.run(["rpmbuild", "-bb", *options, spec], check=True, capture_output=True)
    subprocess.run(["createrepo_c", "-q", folder / "repo"], check=True, capture_output=True)
    sign(folder)
    return folder


def sign(folder: Path) -> None:
    """`signed`: the same packages with signatures; `mine.asc` and `other.asc`: whose key signed
    them, and another."""
    shutil.copytree(folder / "repo", folder / "signed")
    home = folder / "gpg"
    home.mkdir(mode=0o700)
    gpg = ["gpg", "--homedir", home, "--batch", "--pinentry-mode", "loopback"]
    for name in ("mine", "other"):
        make = ["--passphrase", "", "--quick-generate-key", f"{name}@example.com", "rsa2048"]
        subprocess.run([*gpg, *make], check=True, capture_output=True)
        key = subprocess.run([*gpg, "--armor", "--export", name], check=True, capture_output=True)
        (folder / f"{name}.asc").write_bytes(key.stdout)
    defined = ["_gpg_name mine@example.com", f"_gpg_path {home}", f"__gpg {shutil.which('gpg')}"]
    options = [word for each in defined for word in ("--define", each)]
    for rpm in (folder / "signed").rglob("*.rpm"):
        subprocess.run(["rpmsign", *options, "--addsign", rpm], check=True, capture_output=True)
    subprocess.run(["createrepo_c", "-q", folder / "signed"], check=True, capture_output=True)
    subprocess.run(["gpgconf", "--homedir", home, "--kill", "all"], check=True)


@pytest.fixture
def on_dnf(on_debian: Project, has_dnf: Path) -> Project:
    for name in ("repo", "signed"):
        shutil.copytree(has_dnf / name, on_debian.root / name, copy_function=os.link)
    return on_debian


def write(project: Project, step: str, name: str = "a") -> None:
    project.spec(name, f"from: oci:debian\nsteps:\n{STEPS}  - {step}\n")


def last_layer(layout: Path) -> tuple[str, dict[str, tarfile.TarInfo]]:
    """Its digest, and what it holds, by path."""
    index = json.loads((layout / "index.json").read_text())
    blobs = layout / "blobs/sha256"
    manifest = json.loads((blobs / index["manifests"][0]["digest"][7:]).read_text())
    digest = manifest["layers"][-1]["digest"]
    with tarfile.open(blobs / digest[7:]) as tar:
        return digest, {member.name: member for member in tar}


def test_the_same_packages_are_the_same_bytes(on_dnf: Project, tmp_path: Path) -> None:
    """On another day; with PACKAGES=full each time in a store of its own, and one day twice."""
    write(on_dnf, "dnf: hello", "a")
    write(on_dnf, f"{{dnf: hello, env: {json.dumps(LATER)}}}", "b")
    digests = set()
    for number, name in enumerate("aab" if FULL else "ab"):
        if FULL:
            on_dnf.store = tmp_path / f"store{number}"
        on_dnf.build(name, "-o", f"oci:{tmp_path}/out{number}")
        digest, paths = last_layer(tmp_path / f"out{number}")
        digests.add(digest)
    assert len(digests) == 1
    for path, member in paths.items():
        left = ("var/cache/dnf/", "var/lib/dnf/history", "var/log/dnf", "var/tmp/", "tmp/")
        assert not path.startswith(left), path
        assert not path.startswith("var/log/") or member.size == 0, path
    assert paths["opt/hello/file"].size == len("hello 2.0\n")
    assert "opt/hello-data/file" in paths and "opt/hello-extra" not in paths
    # and who may only read finds what is installed
    on_dnf.build("a", "-o", f"dir:{tmp_path}/tree")
    with tempfile.TemporaryDirectory() as folder:  # pytest's are root's alone
        os.chmod(folder, 0o755)
        database = f"{folder}/database"
        (inside,) = (tmp_path / "tree").rglob("rpmdb.sqlite")
        shutil.copytree(inside.parent, database)
        found = subprocess.run(
            ["setpriv", "--reuid=65534", "--clear-groups", "rpm", "--dbpath", database, "-qa"],
            capture_output=True, text=True, check=True,
        )  # fmt: skip
    assert "hello-2.0-1.noarch" in found.stdout.split()


@pytest.mark.parametrize(
    ("step", "there", "not_there"),
    [
        ("dnf: hello=1.*", "opt/hello", "opt/hello-extra"),
        ("{dnf: [hello], recommends: true}", "opt/hello-extra", "none"),
        ("dnf: ['/opt/hello-data']", "opt/hello-data", "opt/hello"),
    ],
)
def test_what_comes(on_dnf: Project, tmp_path: Path, step: str, there: str, not_there: str) -> None:
    write(on_dnf, step)
    on_dnf.build("a", "-o", f"oci:{tmp_path}/out")
    paths = last_layer(tmp_path / "out")[1]
    assert there in paths and not_there not in paths
    if "1.*" in step:
        assert paths["opt/hello/file"].size == len("hello 1.0\n")
    assert [status for status, _ in on_dnf.plan("a")["a"]] == ["hit"] * 3
    assert "package lists of 20" in on_dnf.run("plan", "a").stdout


def repository(**given: object) -> str:
    return json.dumps({"mine": {"uri": "file:///srv/signed", **given}})


def test_a_repository_of_its_own(on_dnf: Project, has_dnf: Path, tmp_path: Path) -> None:
    mine, other = ((has_dnf / f"{name}.asc").read_text() for name in ("mine", "other"))
    copied = "from: oci:debian\nsteps:\n  - {copy: signed, dest: /srv/signed}\n"
    on_dnf.file("mine.asc", mine)
    digests = []
    for later in ({}, LATER):
        step = f"{{dnf: hello, repositories: {repository(key=mine)}, env: {json.dumps(later)}}}"
        on_dnf.spec("a", f"{copied}  - {step}\n")
        on_dnf.build("a", "-o", f"oci:{tmp_path}/out{len(digests)}")
        digest, paths = last_layer(tmp_path / f"out{len(digests)}")
        digests.append(digest)
    assert digests[0] == digests[1]
    assert {"etc/yum.repos.d/mine.repo", "etc/pki/rpm-gpg/mine.asc"} <= paths.keys()
    on_dnf.spec("a", f"{copied}  - {{dnf: hello, repositories: {repository(key=other)}}}\n")
    assert "GPG" in on_dnf.run("build", "a", status=1).stderr
    on_dnf.spec("a", f"{copied}  - {{dnf: hello, repositories: {repository(trusted=True)}}}\n")
    on_dnf.build("a")
    signed_by = repository(signed_by="/etc/mine.asc")
    copied += "  - {copy: mine.asc, dest: /etc/mine.asc}\n"
    on_dnf.spec("a", f"{copied}  - {{dnf: hello, repositories: {signed_by}}}\n")
    on_dnf.build("a")
    on_dnf.spec("a", f"{copied}  - {{dnf: hello, repositories: {repository()}}}\n")
    told = on_dnf.run("build", "a", status=2).stderr
    assert "nothing says who signs the repository" in told and "signed_by: /etc/pki" in told


@pytest.mark.parametrize(
    ("step", "place", "message", "hint"),
    [
        ("dnf: [shell, helo]", "6:18", "no package 'helo'", "did you mean hello?"),
        ("dnf: [hello=7.*]", "6:11", "no version '7.*' of 'hello'", "there is 1.0-1 2.0-1"),
        ("dnf: zzz", "6:10", "no package 'zzz'", ""),
        ("dnf: ./hello.rpm", "6:10", "is a file, expected the name of a package", "copy"),
        ("dnf: [--all]", "6:11", "is not a package", ""),
        ("dnf: ['a b']", "6:11", "is not a package", ""),
        ("dnf: ['a;b']", "6:11", "is not a package", ""),
    ],
)
def test_what_is_wrong_is_said(
    on_dnf: Project, step: str, place: str, message: str, hint: str
) -> None:
    write(on_dnf, step)
    status = 2 if message.startswith("is ") else 1
    told = on_dnf.run("build", "a", status=status).stderr
    assert f"error: specs/a.yaml:{place}: " in told and message in told and hint in told


def test_a_base_without_it_is_told_before_anything_runs(project: Project) -> None:
    with tarfile.open(project.root / "apt.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("usr/bin/apt-get"))
    project.spec("a", "from: rootfs:apt.tar\nsteps: [{dnf: hello}]\n")
    told = project.run("build", "a", status=2).stderr
    assert "dnf needs /usr/bin/dnf, which the image does not have here" in told
    assert "write apt: [...]" in told

"""`apk` in a tree of busybox alone, as Alpine is one.

No apk is to be had where these tests run, so a script of a few lines stands for it: it takes what
apk takes and prints what apk prints. What is tested is all of the step but apk itself: that what it
runs needs no more than busybox, what it leaves, what it hands to apk and how it reads the answers.
"""

from __future__ import annotations

import json
import shutil
import tarfile
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from builder.api import load_spec
from builder.errors import SpecErrors
from tests.cli.conftest import Project, project
from tests.packages.test_dnf import last_layer

if TYPE_CHECKING:
    from tests.dockerd import Engine

__all__ = ["project"]

pytestmark = [pytest.mark.needs("busybox"), pytest.mark.root]
STAND_IN = r"""#!/bin/sh
verb=$1 quiet= exact= simulate= wanted=
shift
for each do
  case $each in
    -q) quiet=1 ;; -x) exact=1 ;; --simulate) simulate=1 ;; --*) ;;
    *) wanted="$wanted $each" ;;
  esac
done
if [ $verb = search ]; then
  while read -r name version; do
    [ -z "$exact" ] || [ " $name" = "$wanted" ] || continue
    [ -n "$quiet" ] && echo "$name" || echo "$name-$version"
  done < /srv/INDEX
  exit
fi
for each in $wanted; do
  name=${each%%[=~@]*}
  version=${each#"$name"}
  case $version in '=~'*) version="${version#=~}*" ;; =*) version=${version#=} ;; *) version='*' ;;
  esac
  found=
  while read -r one is; do
    [ "$one" = "$name" ] || continue
    case $is in $version) found=$is ;; esac
  done < /srv/INDEX
  [ -n "$found" ] || { echo "ERROR: unable to select packages:"; exit 1; }
  [ -z "$simulate" ] || continue
  echo "P:$name" >> /lib/apk/db/installed
  echo "$name-$found" > /opt/$name
  date >> /var/log/apk.log
  date > /var/cache/apk/APKINDEX.$$.tar.gz
  date > /tmp/of-$name
  date > /etc/machine-id
done
"""
APPLETS = (
    *("sh", "awk", "cat", "cut", "date", "find", "grep", "ls", "mkdir", "rm", "sed", "sort"),
    *("tr", "env"),
)


@pytest.fixture
def alpine(project: Project) -> Project:
    files = {
        "sbin/apk": STAND_IN,
        "srv/INDEX": "hello 1.0-r0\nhello 2.0-r0\nhello-doc 2.0-r0\nnginx 1.26.3-r0\n",
        "lib/apk/db/installed": "", "etc/apk/repositories": "https://a.example/main\n",
        "var/log/other": "kept", "opt/none": "", "var/cache/apk/none": "",
    }  # fmt: skip
    tree = project.root / "tree"
    for name, text in files.items():
        (tree / name).parent.mkdir(parents=True, exist_ok=True)
        (tree / name).write_text(text)
    (tree / "sbin/apk").chmod(0o755)
    (tree / "bin").mkdir()
    shutil.copy("/bin/busybox", tree / "bin/busybox")
    for name in APPLETS:
        (tree / "bin" / name).symlink_to("busybox")
    (tree / "tmp").mkdir()
    with tarfile.open(project.root / "alpine.tar", "w") as tar:
        tar.add(tree, "")
    return project


def write(project: Project, step: str) -> str:
    project.spec("a", f"from: rootfs:alpine.tar\nsteps:\n  - {step}\n")
    return str(project.root / "specs/a.yaml")


def test_the_same_packages_are_the_same_bytes(alpine: Project, tmp_path: Path) -> None:
    digests = set()
    for number in range(2):
        alpine.store = tmp_path / f"store{number}"
        write(alpine, "{apk: [hello=1.*, nginx], repositories: ['@edge https://b.example/x']}")
        alpine.build("a", "-o", f"oci:{tmp_path}/out{number}")
        digest, paths = last_layer(tmp_path / f"out{number}")
        digests.add(digest)
    assert len(digests) == 1
    files = {path for path, member in paths.items() if member.isfile()}
    whiteouts = {path for path in files if "/.wh." in path}
    assert files - whiteouts == {
        "etc/apk/repositories", "lib/apk/db/installed", "opt/hello", "opt/nginx",
    }  # fmt: skip
    assert whiteouts == {"var/cache/apk/.wh.none"}
    alpine.build("a", "-o", f"dir:{tmp_path}/tree")
    assert (tmp_path / "tree/opt/hello").read_text() == "hello-1.0-r0\n"
    lines = (tmp_path / "tree/etc/apk/repositories").read_text().splitlines()
    assert lines == ["https://a.example/main", "@edge https://b.example/x"]
    assert "package lists of 20" in alpine.run("plan", "a").stdout


@pytest.mark.needs("runc", "dockerd")
def test_other_executors_make_the_same(alpine: Project, engine: Engine, tmp_path: Path) -> None:
    write(alpine, "apk: [hello, nginx]")
    digests = set()
    for executor in ("sandbox", "runc", "chroot", "docker"):
        alpine.store = tmp_path / f"store-{executor}"
        out = f"oci:{tmp_path}/out-{executor}"
        env = {"DOCKER_HOST": engine.socket}
        alpine.run("build", "a", "-o", out, "--executor", executor, env=env)
        digests.add(last_layer(tmp_path / f"out-{executor}")[0])
    assert len(digests) == 1


def test_an_image_without_find(alpine: Project, tmp_path: Path) -> None:
    write(alpine, "remove: /bin/find\n  - apk: hello")
    alpine.build("a", "-o", f"dir:{tmp_path}/tree")
    assert (tmp_path / "tree/opt/hello").exists()
    assert not list((tmp_path / "tree/tmp").glob(".*"))


@pytest.mark.parametrize(
    ("step", "place", "message", "hint"),
    [
        ("apk: [nginx, helo]", "3:18", "no package 'helo'", "did you mean hello?"),
        ("apk: [hello=7.*]", "3:11", "no version '=~7' of 'hello'", "there is 1.0-r0 2.0-r0"),
        ("apk: zzz", "3:10", "no package 'zzz'", ""),
    ],
)
def test_what_is_missing_is_said(
    alpine: Project, step: str, place: str, message: str, hint: str
) -> None:
    write(alpine, step)
    told = alpine.run("build", "a", status=1).stderr
    assert f"error: specs/a.yaml:{place}: " in told and message in told and hint in told


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("./x.apk", "is a file"),
        ("--all", "is not a package"),
        ("a b", "is not a package"),
        ("a;b", "is not a package"),
        ("hel*", "is not a package"),
        ("!hello", "is not a package"),
    ],
)
def test_what_is_no_package_is_refused(alpine: Project, value: str, message: str) -> None:
    with pytest.raises(SpecErrors, match=message):
        load_spec(write(alpine, f"apk: [{json.dumps(value)}]"), environ={})


@pytest.mark.parametrize("value", ["a", "so:libc.so.6", "/bin/sh", "a@edge", "a=1.2-r3", "a~1",
                                   "a=~1.2", "a>=3", "a<4", "py3-x=1.*", "g++"])  # fmt: skip
def test_what_is_a_package(alpine: Project, value: str) -> None:
    load_spec(write(alpine, f"apk: [{json.dumps(value)}]"), environ={})


@pytest.mark.parametrize("value", ["x", "ftp://h/x", "@a", "https://h/a b", "https://h/a\\nb"])
def test_what_is_no_repository_is_refused(alpine: Project, value: str) -> None:
    with pytest.raises(SpecErrors):
        load_spec(write(alpine, f'{{apk: a, repositories: ["{value}"]}}'), environ={})

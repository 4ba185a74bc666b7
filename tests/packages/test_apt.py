"""`apt` in a real Debian: the same packages are the same bytes, and what is wrong is said."""

from __future__ import annotations

import json
import re
import time
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from builder.api import load_spec
from builder.errors import SpecErrors
from tests.cli.conftest import Project
from tests.packages.conftest import AGAIN, FULL, LATER, Repository, elsewhere, files_of

pytestmark = [pytest.mark.needs("mmdebstrap", "dpkg-deb", "gpg"), pytest.mark.root]
DOCS = Path(__file__).parents[2] / "docs/packages.md"

OF_THIS_RUN = """\
random() { head -c 16 /dev/urandom | od -An -tx1; date; date +%N; }
for path in /etc/machine-id /var/lib/dbus/machine-id /etc/ssh/ssh_host_rsa_key \\
    /etc/ssh/ssh_host_rsa_key.pub /etc/passwd- /etc/group- /etc/shadow- /etc/gshadow- \\
    /etc/subuid- /etc/subgid- /var/log/mine.log /var/log/mine/deeper.log /var/log/dpkg.log \\
    /var/log/apt/term.log /var/log/alternatives.log /var/log/fontconfig.log \\
    /var/cache/debconf/config.dat-old /var/lib/dpkg/status-old /var/cache/ldconfig/aux-cache \\
    /var/lib/systemd/random-seed /var/cache/man/cs/index.db /var/lib/apt/lists/more \\
    /var/cache/apt/archives/more.deb; do
  mkdir -p "${path%/*}"
  random > "$path"
done
random > "$(mktemp)"; random > "$(mktemp -d)/file"; random > "$(mktemp -p /var/tmp)"
useradd --system --create-home made
echo made:secret | chpasswd -e
chage -l made > /dev/null
echo built on "$(cat /proc/sys/kernel/hostname)" > /etc/where
if invoke-rc.d made start; then :; fi
"""
"""A script of a package that makes all that is not to be left, and more that may be."""


NO_MIRRORS = {"remove": "/etc/apt/sources.list"}


def install(project: Project, packages: Any, name: str = "x", **fields: Any) -> None:
    """A spec that installs from the repositories of the step alone."""
    steps = [NO_MIRRORS, {"apt": packages, **fields}]
    project.spec(name, json.dumps({"from": "oci:debian", "steps": steps}))


def layer(built: dict[str, Any], name: str = "x") -> dict[str, Any]:
    """The layer of the only `apt` step."""
    (found,) = (each for each in built[name]["layers"] if each["name"].startswith("apt "))
    return dict(found)


def test_what_is_of_this_run_is_not_left(on_debian: Project, repository: Repository) -> None:
    """Two builds in two stores, the second on another day: one layer."""
    repository.add("mine", script=OF_THIS_RUN, usr__share__mine="mine\n")
    own = {"mine": repository.stanza}
    install(on_debian, "mine", repositories=own)
    first = on_debian.build()
    layers = [files_of(on_debian.store, layer(first)["digest"])]
    on_debian.store = on_debian.root.parent / "other"
    install(on_debian, "mine", repositories=own, env=LATER)
    second = on_debian.build()
    layers += [files_of(on_debian.store, layer(second)["digest"])]
    assert {path for path in layers[0] if layers[0][path] != layers[1].get(path)} == set()
    assert layer(first)["diff_id"] == layer(second)["diff_id"]
    assert layers[0]["usr/share/mine"] == b"mine\n" and b"made:" in layers[0]["etc/shadow"]
    assert layers[0]["var/log/mine.log"] == layers[0]["var/log/mine/deeper.log"] == b""
    left = re.compile("tmp/.|machine-id|ssh_host|-old$|lists/|aux-cache|log/apt/.|archives/.")
    assert not [path for path in layers[0] if left.search(path) and "/.wh." not in path]


def test_real_packages_are_the_same_bytes(on_debian: Project) -> None:
    """From the mirrors of this system: with users and ids; with PACKAGES=full, which takes a minute
    more, also with keys, fonts and perl, and in a store of its own each time."""
    packages = ["dbus", "cron"]
    if FULL:
        packages += ["openssh-server", "fontconfig", "perl"]
    found = []
    for env in ({}, LATER):
        if FULL:
            on_debian.store = on_debian.root.parent / f"store{len(env)}"
        step = {"apt": packages, "env": env}
        on_debian.spec("x", json.dumps({"from": "oci:debian", "steps": [step]}))
        found.append(layer(on_debian.build())["digest"])
    assert found[0] == found[1]


def test_downloads_are_kept_by_their_checksum(on_debian: Project, repository: Repository) -> None:
    """They come once, also with other packages beside them; what was done to them counts not."""
    for name in ("mine", "more"):
        repository.add(name, **{f"usr__share__{name}": name})
    own = {"mine": repository.stanza}

    def downloads() -> list[str]:
        found = sorted(each for each in repository.asked if each.endswith(".deb"))
        repository.asked.clear()
        return found

    install(on_debian, "mine", repositories=own)
    first = on_debian.build()
    assert downloads() == ["/mine_1_all.deb"]
    install(on_debian, ["mine", "more"], repositories=own)
    both = on_debian.build()
    assert downloads() == ["/more_1_all.deb"]
    made = {sha256(each.read_bytes()).hexdigest() for each in repository.folder.glob("*.deb")}
    kept = [each for each in on_debian.store.glob("caches/*/*/data/*") if each.name in made]
    assert len(kept) == 2
    for number, path in enumerate(kept):
        data = path.read_bytes()
        path.unlink()
        if number:
            path.symlink_to("/etc/passwd")
        else:
            path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    time.sleep(1)  # what was made within the second of a run's start is of this run
    assert layer(on_debian.build("--pull=always"))["digest"] == layer(both)["digest"]
    assert downloads() == ["/mine_1_all.deb", "/more_1_all.deb"]
    other = elsewhere(on_debian)
    install(other, "mine", repositories=own, env=AGAIN)
    assert layer(other.build())["digest"] == layer(first)["digest"]


@pytest.mark.parametrize("executor", ["runc", "chroot", *(["docker"] if FULL else [])])
@pytest.mark.needs("runc")
def test_other_executors_make_the_same(
    on_debian: Project, repository: Repository, executor: str, request: pytest.FixtureRequest
) -> None:
    """With PACKAGES=full in an engine, too, which takes a minute for this base."""
    script = OF_THIS_RUN.replace("$(cat /proc/sys/kernel/hostname)", "x")  # a chroot's is ours
    repository.add("mine", script=script, usr__share__mine="mine")
    install(on_debian, "mine", repositories={"mine": repository.stanza})
    found = layer(on_debian.build())["diff_id"]
    install(on_debian, "mine", repositories={"mine": repository.stanza}, env=AGAIN)
    socket = request.getfixturevalue("engine").socket if executor == "docker" else ""
    made = on_debian.build("--executor", executor, env={"DOCKER_HOST": socket})
    assert layer(made)["diff_id"] == found


def test_the_docs_tell_what_is_left_out() -> None:
    told = DOCS.read_text()
    for path in re.findall(r"/(?:etc|var)/[a-z]\S+", OF_THIS_RUN):
        folder, _, name = path.rpartition("/")
        assert any(word in told for word in (name, folder, name.rpartition("-")[0])), path


def test_a_package_that_is_not_there(on_debian: Project, repository: Repository) -> None:
    for name in ("mine", "curl", "nginx", "openssh-client", "libssl3"):
        repository.add(name, version="1.2-3")
    own = json.dumps({"mine": repository.stanza})
    for packages, said, hint, line in (
        (["curl", "ngnix"], "no package 'ngnix'", "did you mean nginx?", 1),
        (["mine", "zzyzx-no"], "no package 'zzyzx-no'", None, 1),
        (["mine=2.*", "curl"], "no version '2.*' of 'mine'", "there is 1.2-3", 0),
        (["openssh"], "no package 'openssh'", "did you mean openssl, openssh-client?", 0),
        (["libssl"], "no package 'libssl'", "did you mean libssl3, lib", 0),
    ):
        entries = "".join(f"    - {each}\n" for each in packages)
        on_debian.spec(
            "x",
            "from: oci:debian\nsteps:\n  - remove: /etc/apt/sources.list\n"
            f"  - apt:\n{entries}    repositories: {own}\n",
        )
        failed = on_debian.run("build", "x", status=1).stderr
        error = failed[failed.index("\nerror: ") + 1 :]
        place = rf"error: specs/x\.yaml:{5 + line}:7: step .* failed: "
        assert re.match(f"{place}{re.escape(said)}\n", error)
        # and the way to where it failed
        assert len(error.splitlines()) == (3 if hint else 2), error
        assert hint is None or f"hint: {hint}" in error


def test_versions_and_what_is_there_already(on_debian: Project, repository: Repository) -> None:
    for version in ("1.1", "1.2", "2.0"):
        repository.add("mine", version, usr__share__mine=version)
    for wanted, there in (("mine=1.*", b"1.2"), ("mine=1.1", b"1.1"), ("mine/test", b"2.0")):
        install(on_debian, wanted, repositories={"mine": repository.stanza})
        built = on_debian.build()
        found = files_of(on_debian.store, layer(built)["digest"])
        assert found["usr/share/mine"] == there
        assert found["etc/apt/sources.list.d/mine.sources"].startswith(b"Types: deb\n")
        assert found["etc/apt/keyrings/mine.asc"].decode() == repository.key


def test_pull_asks_for_the_lists_again(on_debian: Project, repository: Repository) -> None:
    repository.add("mine", "1", usr__share__mine="1")
    install(on_debian, "mine", repositories={"mine": repository.stanza})
    install(on_debian, "mine", name="y", repositories={"mine": repository.stanza})
    first = on_debian.build()
    repository.add("mine", "2", usr__share__mine="2")
    _, (status, why) = on_debian.plan()["x"]
    assert status == "hit" and re.fullmatch(r"package lists of \d{4}-\d\d-\d\d", why)
    assert layer(on_debian.build())["status"] == "hit"
    _, (status, why) = on_debian.plan("--pull=always")["x"]
    assert status == "build" and why.startswith("--pull: the package lists are of 2")
    again = on_debian.build("--pull=always")
    assert sorted(layer(again, name)["status"] for name in again) == ["built", "hit"]
    digests = [layer(again)["digest"], layer(again, "y")["digest"], layer(first)["digest"]]
    assert digests[0] == digests[1] != digests[2]
    once_more = on_debian.build("--pull=always")
    assert once_more["x"]["digest"] == again["x"]["digest"]


def test_a_repository_of_another_key_is_refused(on_debian: Project, repository: Repository) -> None:
    repository.add("mine")
    debian = "/usr/share/keyrings/debian-archive-keyring.gpg"
    stanza = {**repository.stanza, "signed_by": debian}
    del stanza["key"]
    install(on_debian, "mine", repositories={"mine": stanza})
    assert "is not signed" in on_debian.run("build", "x", status=1).stderr
    (repository.folder / "dists/test/InRelease").write_text("Suite: test\n")
    install(on_debian, "mine", repositories={"mine": repository.stanza})
    on_debian.run("build", "x", status=1)
    repository.publish()
    stanza["trusted"] = True  # type: ignore[assignment]
    del stanza["signed_by"]
    install(on_debian, "mine", repositories={"mine": stanza})
    on_debian.run("build", "x")


def test_the_config_is_no_part_of_it_but_proxies(
    on_debian: Project, repository: Repository
) -> None:
    """Another user, folder, PATH and environment: the packages stay as they are."""
    repository.add("mine", script="(env; id -u; umask) > /usr/share/mine-env")
    step = {"apt": "mine", "repositories": {"mine": repository.stanza}, "env": {"OWN": "1"}}

    def build(**config: Any) -> tuple[str, dict[str, Any]]:
        spec = {"from": "oci:debian", "steps": [NO_MIRRORS, step], "config": config}
        on_debian.spec("x", json.dumps(spec))
        made = layer(on_debian.build())
        return made["status"], made

    _, made = build(user="www-data", working_dir="/nowhere", env={"PORT": "80", "PATH": "/x"})
    env = files_of(on_debian.store, made["digest"])["usr/share/mine-env"].decode()
    assert "OWN=1" in env and "PORT" not in env and "\n0\n0022\n" in env
    assert build()[0] == "hit"
    assert build(env={"NO_PROXY": "127.0.0.1"})[0] == "built"


def test_what_was_there_stays(on_debian: Project, repository: Repository) -> None:
    """A config file that an earlier step wrote, an own policy, a machine's id."""
    repository.add("mine", etc__mine_conf="theirs\n")
    before = {"/etc/mine_conf": "ours\n", "/usr/sbin/policy-rc.d": "#!/bin/sh\nexit 0\n",
              "/etc/machine-id": "0123456789abcdef0123456789abcdef\n"}  # fmt: skip
    steps: list[dict[str, Any]] = [{"file": path, "content": text} for path, text in before.items()]
    steps += [NO_MIRRORS, {"apt": "mine", "repositories": {"mine": repository.stanza}}]
    on_debian.spec("x", json.dumps({"from": "oci:debian", "steps": steps}))
    built = on_debian.build()
    found = files_of(on_debian.store, layer(built)["digest"])
    assert not {path for path in before if path[1:] in found}
    assert "etc/mine_conf.dpkg-dist" in found


def test_a_base_without_it(on_debian: Project) -> None:
    import tarfile

    with tarfile.open(on_debian.root / "other.tar", "w") as tar:
        tar.addfile(tarfile.TarInfo("sbin/apk"))
    for base, hint in (("scratch", "brings a package manager"), ("rootfs:other.tar", "write apk:")):
        on_debian.spec("x", json.dumps({"from": base, "steps": [{"apt": ["curl"]}]}))
        said = on_debian.run("build", "x", status=2).stderr
        assert "apt needs /usr/bin/apt-get, which the image does not have here" in said
        assert hint in said


OWN = "{apt: aa, repositories: {mine: {uri: http://h/d,"


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ("{apt: []}", "the list is empty, expected a list of packages"),
        ("{apt: [Curl]}", "'Curl' is not a package"),
        ("{apt: [./x.deb]}", "`copy` it"),
        ("{apt: [curl-]}", "with which apt would remove it"),
        ("{apt: [-y]}", "'-y' is not a package"),
        ("{apt: ['a; rm']}", "is not a package"),
        ("{apt: 'curl nginx'}", "write [curl, nginx]"),
        ("{apt: [-y, curl]}", "it is so without: leave it out"),
        ("{apt: apt-get install -y curl nginx=1.*}", 'write [curl, "nginx=1.*"]'),
        ("{apt: install curl}", "write curl"),
        ("{apt: -t bookworm-backports curl}", "None"),
        (f"{OWN} suites: x}}}}}}", "who signs the repository"),
        (f"{OWN} suites: x, trusted: true}}}}}}".replace("mine", "Mine"), "'Mine' is not"),
        (f"{OWN} suites: x, trusted: true}}}}}}".replace("h/d", "u:p@h/d"), "user"),
        (f"{OWN} suites: x, trusted: true}}}}}}".replace("http", "ftp"), "http"),
        (f"{OWN} suites: ./, components: x, trusted: true}}}}}}", "it has no components"),
        (f"{OWN} suites: 'x\\nTrusted: yes', trusted: true}}}}}}", "is not a suite"),
        (f'{OWN} suites: x, signed_by: "/a\\nTrusted: yes"}}}}}}', "is not an absolute path"),
        (f"{OWN} suites: x, key: keys/a.asc}}}}}}", "signed_by"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_when_it_is_read(tmp_path: Path, step: str, said: str) -> None:
    path = tmp_path / "x.yaml"
    path.write_text(f"from: scratch\nsteps:\n  - {step}\n")
    with pytest.raises(SpecErrors) as caught:
        load_spec(str(path), environ={})
    assert any(said in f"{each.message} {each.hint}" for each in caught.value.errors), [
        (each.message, each.hint) for each in caught.value.errors
    ]

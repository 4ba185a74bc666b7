"""debootstrap: real mmdebstrap runs on a tiny repository of our own, so no network is needed."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import subprocess
import sys
import tempfile
import textwrap
import time
from pathlib import Path
from typing import Any

import pytest

from builder.errors import TransportError
from builder.oci.image import Platform
from builder.rootfs.table import PathTable
from builder.spec.model import BaseRef, Place
from builder.store.store import Store
from builder.transport.apt import Apt
from builder.transport.base import Base, Tell, quiet
from builder.transport.debootstrap import DebootstrapSource, _failure

pytestmark = [pytest.mark.needs("mmdebstrap", "dpkg-deb"), pytest.mark.root]

ARCHITECTURE = Platform()


@pytest.fixture(scope="module")
def mirror(tmp_path_factory: pytest.TempPathFactory) -> str:
    """A `deb` line of a repository that holds one package, `tiny`."""
    folder = tmp_path_factory.mktemp("mirror")
    tree = folder / "tree"
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "usr/share/tiny").mkdir(parents=True)
    (tree / "usr/share/tiny/data").write_bytes(b"tiny\n")
    (tree / "etc").mkdir()
    (tree / "etc/passwd").write_bytes(b"root:x:0:0::/root:/bin/sh\n")
    control = "Package: tiny\nVersion: 1\nArchitecture: all\nMaintainer: t <t@example.com>\n"
    (tree / "DEBIAN/control").write_text(control + "Description: tiny\n")
    (tree / "DEBIAN").chmod(0o755)
    deb = folder / "tiny_1_all.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "-b", tree, deb], check=True)
    digest = hashlib.sha256(deb.read_bytes()).hexdigest()
    (folder / "Packages").write_text(
        control + f"Filename: ./tiny_1_all.deb\nSize: {deb.stat().st_size}\nSHA256: {digest}\n"
        "Description: tiny\n"
    )
    return f"deb [trusted=yes] copy:{folder} ./"


def tiny(repository: str, **options: Any) -> BaseRef:
    given = {"variant": "extract", "include": ["tiny"], "mirror": repository, **options}
    return BaseRef("debootstrap", "test", Place("specs/a.yaml", 1, 7), given)


def made(
    source: DebootstrapSource, ref: BaseRef, pull: str = "missing", tell: Tell = quiet
) -> Base:
    base = source.resolve(ref, ARCHITECTURE, make=True, pull=pull, tell=tell)
    assert base is not None
    return base


def test_two_runs_give_the_same_layer(mirror: str, tmp_path: Path) -> None:
    images = []
    for name in ("one", "two"):
        store = Store(str(tmp_path / name))
        images.append(made(DebootstrapSource(store), tiny(mirror)).image)
        assert os.listdir(tmp_path / name / "tmp") == []
    assert images[0] == images[1]
    table = PathTable.open(store.table_path(images[0].layers[0].diff_id))
    assert table.get(b"usr/share/tiny/data") is not None
    assert table.get(b"etc/resolv.conf") is None
    assert table.get(b"etc/hostname") is None
    assert table.get(b"etc/apt/apt.conf.d/00builder") is None
    assert list(table.children(b"dev")) == []
    assert table.files[b"etc/passwd"].startswith(b"root:")


def test_it_is_made_once_and_says_how_old_it_is(mirror: str, store: Store) -> None:
    now = [1e9]
    lines: list[bytes] = []
    source = DebootstrapSource(store, clock=lambda: now[0])
    ref = tiny(mirror)
    assert source.resolve(ref, ARCHITECTURE, make=False, pull="missing") is None
    assert made(source, ref, tell=lines.append).about == "debootstrap:test, made just now"
    assert any(b"success in" in line for line in lines)
    lines.clear()
    now[0] += 3 * 86400
    planned = source.resolve(ref, ARCHITECTURE, make=False, pull="missing")
    assert planned is not None
    assert planned.about == "debootstrap:test, made 3 days ago"
    assert made(source, ref, tell=lines.append).about == "debootstrap:test, made 3 days ago"
    assert lines == []
    assert source.resolve(ref, ARCHITECTURE, make=False, pull="always") is None
    assert made(source, ref, "always").about == "debootstrap:test, made just now"


def test_other_options_are_another_base(mirror: str, store: Store) -> None:
    source = DebootstrapSource(store)
    made(source, tiny(mirror))
    for change in ({"variant": "custom"}, {"include": ["tiny", "other"]}, {"mirror": None}):
        other = tiny(mirror, **change)
        assert source.resolve(other, ARCHITECTURE, make=False, pull="missing") is None
    arm = Platform("linux", "arm64")
    assert source.resolve(tiny(mirror), arm, make=False, pull="missing") is None


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"variant": "huge"}, "variant 'huge' is not one of"),
        ({"include": ["-oX=y"]}, "include: '-oX=y' is not a package"),
        ({"mirror": "-"}, "mirror '-' is not a URL"),
        ({"mirror": "/etc/shadow"}, "mirror '/etc/shadow' is not a URL"),
        ({"include": ["absent"]}, "mmdebstrap failed"),
    ],
)
def test_bad_options_are_told_at_the_spec_s_place(
    mirror: str, store: Store, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(TransportError, match=r"^debootstrap:test: ") as caught:
        made(DebootstrapSource(store), tiny(mirror, **options))
    assert said in caught.value.message
    assert "\n" not in caught.value.message
    if "absent" in options.get("include", ()):
        assert "has no such package" in (caught.value.hint or "")


def test_a_full_disk_is_what_is_told_first() -> None:
    lines = (
        "E: Some index files failed to download. They have been ignored, or old ones used instead.",
        "E: Write error - write (28: No space left on device)",
        "E: mmdebstrap failed to run",
    )
    error = _failure("debootstrap:test", 25, lines)
    assert error.what.endswith("(25): Write error - write (28: No space left on device)")
    assert (error.hint or "").startswith("`builder cache gc")
    assert _failure("debootstrap:test", 25, lines[2:]).what.endswith("mmdebstrap failed to run")
    assert _failure("debootstrap:test", 25, ()).what.endswith("mmdebstrap failed (25): ")


def test_never_and_not_made_is_an_error(mirror: str, store: Store) -> None:
    with pytest.raises(TransportError, match="it was not made yet"):
        made(DebootstrapSource(store), tiny(mirror), "never")


def test_an_interrupt_leaves_nothing(mirror: str, tmp_path: Path) -> None:
    script = tmp_path / "build.py"
    script.write_text(
        textwrap.dedent(f"""
        import signal
        from pathlib import Path
        signal.signal(signal.SIGINT, signal.default_int_handler)
        from builder.oci.image import Platform
        from builder.spec.model import BaseRef, Place
        from builder.store.store import Store
        from builder.transport.debootstrap import DebootstrapSource
        store = Store({str(tmp_path / "store")!r})
        def said(line):
            if b"running apt-get update" in line:
                Path({str(tmp_path / "begun")!r}).touch()
        options = {{"variant": "extract", "include": ["tiny"], "mirror": {mirror!r}}}
        ref = BaseRef("debootstrap", "test", Place("a", 1, 1), options)
        source = DebootstrapSource(store)
        source.resolve(ref, Platform(), make=True, pull="missing", tell=said)
        """)
    )
    process = subprocess.Popen([sys.executable, script], stderr=subprocess.DEVNULL)
    until = time.monotonic() + 30
    while not (tmp_path / "begun").exists() and time.monotonic() < until:
        time.sleep(0.01)
    at_work = [each for each, argv in _commands() if argv[1:2] == [b"/usr/bin/mmdebstrap"]]
    ours = [each for each in at_work if _parent(each) == process.pid]
    assert [os.readlink(f"/proc/{each}/ns/mnt") for each in ours] != [
        os.readlink("/proc/self/ns/mnt")
    ]
    assert len(ours) == 1
    process.send_signal(signal.SIGINT)
    process.wait(20)
    assert os.listdir(tmp_path / "store" / "tmp") == []
    assert str(tmp_path) not in Path("/proc/self/mounts").read_text()
    assert not [argv for _, argv in _commands() if mirror.encode() in argv]


def _commands() -> list[tuple[int, list[bytes]]]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            found.append((int(path.parent.name), path.read_bytes().split(b"\0")))
    return found


def _parent(process: int) -> int:
    with contextlib.suppress(OSError):  # one of another test, which has ended meanwhile
        return int(Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[1])
    return 0


def apt(folder: Path, files: dict[str, str]) -> Apt:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return Apt(str(folder), str(folder / "os-release"), str(folder / "distro-info"))


def test_sources_of_the_suite_are_the_system_s(tmp_path: Path) -> None:
    found = apt(
        tmp_path,
        {
            "sources.list": "deb [arch=amd64 signed-by=/k.gpg]"
            " http://one.test/debian bookworm main\n"
            "# deb http://off.test bookworm main\ndeb-src http://one.test/debian bookworm main\n",
            "sources.list.d/more.sources": "Types: deb\nURIs: http://two.test/debian\n"
            "# a comment\nSuites: bookworm-updates bookworm-security trixie\n"
            "Components: main\n contrib\nSigned-By: /two.gpg\n\n"
            "Enabled: no\nTypes: deb\nURIs: http://off.test\nSuites: bookworm\nComponents: main\n",
            "sources.list.d/other.list": "deb http://vendor.test bookworm stable\n",
            "sources.list.d/x.disabled": "deb http://off.test bookworm main\n",
        },
    )
    assert found.sources("bookworm") == (
        "deb [signed-by=/k.gpg] http://one.test/debian bookworm main",
        "deb [signed-by=/two.gpg] http://two.test/debian bookworm-updates main contrib",
        "deb [signed-by=/two.gpg] http://two.test/debian bookworm-security main contrib",
    )
    assert found.sources("trixie") == (
        "deb [signed-by=/two.gpg] http://two.test/debian trixie main contrib",
    )
    assert found.sources("noble") == ()


SYSTEM = {
    "os-release": 'ID=debian\nVERSION_CODENAME=bookworm\nPRETTY_NAME="Debian"\n',
    "distro-info/debian.csv": "version,codename,series,created\n12,Bookworm,bookworm,2021\n"
    "13,Trixie,trixie,2023\n",
    "distro-info/ubuntu.csv": "version,codename,series\n24.04 LTS,Noble Numbat,noble\n",
    "sources.list": "deb [signed-by=/k.gpg] http://one.test/debian bookworm main contrib\n"
    "deb http://one.test/debian bookworm-updates main contrib\n"
    "deb http://one.test/security bookworm-security main\n",
    "sources.list.d/vendor.list": "deb http://vendor.test bookworm main\n"
    "deb http://vendor.test stable main\n",
}


def test_a_suite_that_the_system_does_not_follow_comes_from_the_system_s_mirror(
    tmp_path: Path,
) -> None:
    found = apt(tmp_path, SYSTEM)
    assert found.sources("trixie") == (
        "deb [signed-by=/k.gpg] http://one.test/debian trixie main contrib",
        "deb http://one.test/debian trixie-updates main contrib",
        "deb http://one.test/security trixie-security main",
    )
    assert found.sources("not-yet-known")[0].endswith("/debian not-yet-known main contrib")
    rolling = ("deb [signed-by=/k.gpg] http://one.test/debian sid main contrib",)
    assert found.sources("sid") == rolling
    assert found.sources("noble") == ()  # of another distribution


def test_a_system_that_goes_by_an_alias_has_a_mirror_too(tmp_path: Path) -> None:
    files = {
        "os-release": "ID=debian\nVERSION_CODENAME=trixie\n",
        "sources.list": "deb http://one.test/debian unstable main\n",
    }
    assert apt(tmp_path, files).sources("bookworm") == ("deb http://one.test/debian bookworm main",)
    assert apt(tmp_path / "none", {}).sources("bookworm") == ()


KEY = "-----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mQ==\n -----END PGP PUBLIC KEY BLOCK-----"


@pytest.mark.parametrize("start", ["\n ", " "])
def test_a_key_within_the_sources_is_handed_on(tmp_path: Path, start: str) -> None:
    text = (
        "Types: deb\nURIs: http://one.test/debian\nSuites: bookworm\nComponents: main\n"
        f"Trusted: no\nSigned-By:{start}{KEY}\n"
    )
    (found,) = apt(tmp_path, {"sources.list.d/one.sources": text}).sources("bookworm")
    assert found == (
        "Types: deb\nURIs: http://one.test/debian\nSuites: bookworm\nComponents: main\n"
        f"Trusted: no\nSigned-By:\n {KEY}\n"
    )


def signed(folder: Path, suites: tuple[str, ...], deb: Path, packages: str) -> str:
    """A repository with these suites, signed; its public key."""
    # gpg's agent listens on a socket in it, whose path may have 107 bytes
    with tempfile.TemporaryDirectory(prefix="gpg-") as home:

        def gpg(*argv: str) -> str:
            tool = ["gpg", "--homedir", home, "--batch", "--passphrase", "", *argv]
            return subprocess.run(tool, check=True, capture_output=True, text=True).stdout

        gpg("--quick-generate-key", "tests <t@example.com>", "rsa2048", "sign", "never")
        for suite in suites:
            place = folder / "dists" / suite
            machine = ARCHITECTURE.architecture
            index = place / "main" / f"binary-{machine}" / "Packages"
            index.parent.mkdir(parents=True)
            index.write_text(packages.replace("./tiny", "pool/tiny"))
            data = index.read_bytes()
            (place / "Release").write_text(
                f"Suite: {suite}\nCodename: {suite}\nComponents: main\nArchitectures: {machine}\n"
                "Date: Thu, 01 Jan 2026 00:00:00 UTC\nSHA256:\n"
                f" {hashlib.sha256(data).hexdigest()} {len(data)} {index.relative_to(place)}\n"
            )
            gpg("--clearsign", "--output", str(place / "InRelease"), str(place / "Release"))
        key = gpg("--armor", "--export")
        subprocess.run(["gpgconf", "--homedir", home, "--kill", "all"], check=True)
    (folder / "pool").mkdir()
    (folder / "pool" / deb.name).write_bytes(deb.read_bytes())
    return key


@pytest.mark.needs("gpg")
def test_a_signed_mirror_whose_key_the_system_s_sources_hold(
    mirror: str, store: Store, tmp_path: Path
) -> None:
    tiny_at = Path(mirror.split(":", 1)[1].split(maxsplit=1)[0])
    repository = tmp_path / "repository"
    repository.mkdir()
    packages = (tiny_at / "Packages").read_text()
    key = signed(repository, ("test", "next"), tiny_at / "tiny_1_all.deb", packages)
    folded = "\n".join(f" {line or '.'}" for line in key.splitlines())
    stanza = f"Types: deb\nURIs: copy:{repository}\nSuites: test\nComponents: main\n"
    settings = apt(
        tmp_path / "apt",
        {
            "os-release": "ID=debian\nVERSION_CODENAME=test\n",
            "sources.list.d/own.sources": f"{stanza}Signed-By:\n{folded}\n",
        },
    )
    digests = set()
    for name in ("one", "two"):
        own = Store(str(tmp_path / name))
        for suite in ("test", "next"):
            ref = tiny("", mirror=None)._replace(value=suite)
            image = made(DebootstrapSource(own, apt=settings), ref).image
            digests.add((suite, image.layers[0].diff_id))
        table = PathTable.open(own.table_path(image.layers[0].diff_id))
        names = [entry.path for entry in table.children(b"etc/apt/sources.list.d")]
        assert names == [b"etc/apt/sources.list.d/0000builder.sources"]
        assert table.get(b"usr/share/tiny/data") is not None
    assert len(digests) == 2
    (tmp_path / "apt/sources.list.d/own.sources").write_text(stanza)
    with pytest.raises(TransportError, match="mmdebstrap failed"):
        made(DebootstrapSource(store, apt=settings), tiny("", mirror=None))


def test_only_what_leads_to_the_mirror_is_taken_from_apt_s_settings() -> None:
    dump = (
        'Acquire::http::Proxy "http://proxy.test:3128";\nAcquire::https::CaInfo "/ca.pem";\n'
        'APT::Update::Post-Invoke:: "rm -f x";\nAcquire::GzipIndexes "true";\n'
        'Acquire::Check-Valid-Until "false";\n'
    )
    assert Apt().settings(dump).splitlines()[:3] == [
        'Acquire::http::Proxy "http://proxy.test:3128";',
        'Acquire::https::CaInfo "/ca.pem";',
        'Acquire::Check-Valid-Until "false";',
    ]
    assert "Post-Invoke" not in Apt().settings(dump)


def test_a_missing_mmdebstrap_is_named(
    mirror: str, store: Store, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    source = DebootstrapSource(store, environment={"PATH": str(tmp_path)})
    with pytest.raises(TransportError, match="mmdebstrap is not installed") as caught:
        made(source, tiny(mirror))
    assert caught.value.hint == "apt-get install mmdebstrap"

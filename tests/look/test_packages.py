"""Packages, held against what the programs say that installed them."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import importlib.metadata
import json
import os
import random
import shutil
import sqlite3
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from builder.errors import LayerError
from builder.look import rpm_files
from builder.look.packages import Package, find_packages
from builder.look.rpm import parse
from builder.look.tree import Tree

TreeOf = Callable[..., Tree]
ROUNDS = int(os.environ.get("LOOK_ROUNDS", "120"))


def run(*argv: str | Path, cwd: Path | None = None, stdin: bytes | None = None) -> bytes:
    done = subprocess.run(list(map(str, argv)), cwd=cwd, input=stdin, capture_output=True)
    assert done.returncode == 0, (argv, done.stdout, done.stderr)
    return done.stdout


def write(path: Path, text: str | bytes = "") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def versions(found: tuple[Package, ...]) -> list[tuple[str, str]]:
    return sorted((each.name, each.version) for each in found)


# -- dpkg -----------------------------------------------------------------------------------------


def deb(folder: Path, name: str, version: str, files: dict[str, str], more: str = "") -> Path:
    root = folder / f"{name}_{version.replace(':', '%')}"
    for path, text in files.items():
        write(root / path, text)
    write(
        root / "DEBIAN/control",
        f"Package: {name}\nVersion: {version}\nArchitecture: all\nMaintainer: A <a@b.c>\n{more}"
        f"Description: {name}\n of several\n .\n lines: here\n",
    )
    run("dpkg-deb", "--root-owner-group", "-b", root, f"{root}.deb")
    return Path(f"{root}.deb")


@pytest.fixture
def debian(tmp_path: Path) -> Path:
    """A root with packages of dpkg's, one of them removed but for its configuration, another only
    unpacked; /bin links to /usr/bin."""
    root = tmp_path / "root"
    for each in ("info", "updates"):
        (root / "var/lib/dpkg" / each).mkdir(parents=True)
    write(root / "var/lib/dpkg/status")
    (root / "usr/bin").mkdir(parents=True)
    (root / "bin").symlink_to("usr/bin")
    debs = [
        deb(tmp_path, "tool", "1:2.0-1+b1", {"bin/tool": "tool" * 9, "usr/share/tool/a": "a"}),
        deb(tmp_path, "lib-x1.0", "0~rc1", {"usr/lib/x": "x"}),
        deb(
            tmp_path, "gone", "3",
            {"etc/gone.conf": "c", "usr/lib/gone": "g", "DEBIAN/conffiles": "/etc/gone.conf\n"},
        ),
        deb(tmp_path, "half", "4", {"usr/lib/half": "h"}),
    ]  # fmt: skip
    dpkg = ["dpkg", f"--root={root}", "--force-not-root,bad-path,script-chrootless"]
    run(*dpkg, "-i", *debs[:3])
    run(*dpkg, "-r", "gone")
    run(*dpkg, "--unpack", debs[3])
    return root


@pytest.mark.needs("dpkg-deb", "dpkg-query")
def test_what_dpkg_has_installed(debian: Path, tree_of: TreeOf) -> None:
    found = find_packages(tree_of(debian)).found
    query = run(
        "dpkg-query", f"--admindir={debian}/var/lib/dpkg", "-W",
        "-f", "${db:Status-Status} ${Package} ${Version}\n",
    ).decode()  # fmt: skip
    truth = [line.split()[1:] for line in query.splitlines() if "config-files" not in line]
    assert "config-files gone" in query
    assert versions(found) == sorted((name, version) for name, version in truth)
    owners = {each.name: (each.files, each.size) for each in found}
    assert owners["tool"] == ((b"usr/bin/tool", b"usr/share/tool/a"), 37)


@pytest.mark.needs("dpkg-deb")
def test_a_file_removed_above_is_no_longer_the_packages(
    debian: Path, tmp_path: Path, tree_of: TreeOf
) -> None:
    write(tmp_path / "above/usr/bin/.wh.tool")
    found = find_packages(tree_of(debian, tmp_path / "above"))
    assert b"usr/bin/tool" not in found.owners()
    assert found.owners()[b"usr/share/tool/a"].name == "tool"


def test_distroless_has_a_file_for_each_package(tmp_path: Path, tree_of: TreeOf) -> None:
    folder = tmp_path / "root/var/lib/dpkg/status.d"
    write(folder / "base", "Package: base-files\nVersion: 12.4\nArchitecture: amd64\n")
    write(folder / "base.md5sums", "d41d8cd98f00b204e9800998ecf8427e  etc/os release\n")
    write(tmp_path / "root/etc/os release", "x")
    [found] = find_packages(tree_of(tmp_path / "root")).found
    assert found == Package(
        "dpkg", "base-files", "12.4", b"var/lib/dpkg/status.d/base", "amd64", 1,
        (b"etc/os release",),
    )  # fmt: skip


# -- apk ------------------------------------------------------------------------------------------

APK = """\
C:Q1abc=
P:musl
V:1.2.4-r2
A:x86_64
S:1
I:634880
F:lib
R:libc.musl-x86_64.so.1
a:0:0:777
R:ld-musl-x86_64.so.1
Z:Q1def=
F:usr
F:usr/lib
R:x

P:meta
V:1
I:4096
"""


@pytest.mark.parametrize("place", ["lib/apk/db/installed", "usr/lib/apk/db/installed"])
def test_what_apk_has_installed(place: str, tmp_path: Path, tree_of: TreeOf) -> None:
    write(tmp_path / "root" / place, APK)
    write(tmp_path / "root/lib/ld-musl-x86_64.so.1", "elf")
    (tmp_path / "root/lib/libc.musl-x86_64.so.1").symlink_to("ld-musl-x86_64.so.1")
    found = find_packages(tree_of(tmp_path / "root")).found
    assert [(each.name, each.version, each.size, each.files) for each in found] == [
        ("meta", "1", 4096, ()),
        ("musl", "1.2.4-r2", 3, (b"lib/ld-musl-x86_64.so.1", b"lib/libc.musl-x86_64.so.1")),
    ]


# -- rpm ------------------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def rpms(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("rpms")
    found = []
    for name, version, epoch, files in (
        ("tool", "2.0", "Epoch: 3\n", ["/usr/bin/tool", "/usr/share/tool/ä b"]),
        ("lib-x", "1~rc1", "", [f"/usr/lib/x/{n}" for n in range(300)]),
        ("meta", "7", "", []),
    ):
        make = "".join(
            f"mkdir -p '%{{buildroot}}{os.path.dirname(f)}'; echo '{f}' > '%{{buildroot}}{f}'\n"
            for f in files
        )
        listed = "".join(f'"{each}"\n' for each in files)
        spec = write(
            folder / f"{name}.spec",
            f"Name: {name}\nVersion: {version}\nRelease: 1\n{epoch}Summary: s\nLicense: MIT\n"
            f"BuildArch: noarch\n%description\nd\n%install\n{make}\n%files\n{listed}",
        )  # fmt: skip
        run("rpmbuild", "-bb", "--quiet", "--define", f"_topdir {folder}", spec)
        found += (folder / "RPMS/noarch").glob(f"{name}-*.rpm")
    return found


def query(root: Path) -> dict[tuple[str, str], list[str]]:
    listed = run(
        "rpm", "--root", root, "--dbpath", "/usr/lib/sysimage/rpm", "-qa", "--qf",
        r"%{NAME} %|EPOCH?{%{EPOCH}:}|%{VERSION}-%{RELEASE}[\t%{FILENAMES}]\n",
    ).decode()  # fmt: skip
    found = {}
    for line in listed.splitlines():
        head, *files = line.split("\t")
        name, version = head.split()
        found[name, version] = sorted(files)
    return found


def install(root: Path, rpms: list[Path]) -> None:
    root.mkdir()
    run(
        "rpm", "--root", root, "--dbpath", "/usr/lib/sysimage/rpm", "-i", "--nodeps",
        "--noscripts", *rpms,
    )  # fmt: skip


def headers(root: Path) -> list[tuple[int, bytes]]:
    with contextlib.closing(sqlite3.connect(root / "usr/lib/sysimage/rpm/rpmdb.sqlite")) as opened:
        return opened.execute("SELECT hnum, blob FROM Packages").fetchall()


def listed(found: tuple[Package, ...]) -> dict[tuple[str, str], list[str]]:
    return {
        (each.name, each.version): sorted("/" + path.decode() for path in each.files or ())
        for each in found
    }


@pytest.mark.root
@pytest.mark.needs("rpm", "rpmbuild")
def test_what_rpm_has_installed(tmp_path: Path, rpms: list[Path], tree_of: TreeOf) -> None:
    root = tmp_path / "root"
    install(root, rpms)
    (root / "var/lib").mkdir(parents=True, exist_ok=True)
    (root / "var/lib/rpm").symlink_to("../../usr/lib/sysimage/rpm")
    found = find_packages(tree_of(root))
    assert found.unread == ()
    assert listed(found.found) == query(root)
    assert len(found.found) == 3


def berkeley(root: Path, target: Path) -> None:
    """rpm's database of a root, as older ones had it: what db_load makes of the same headers."""
    rows = [(0, (4).to_bytes(4, "little")), *headers(root)]
    lines = ["VERSION=3", "format=bytevalue", "type=hash", "db_pagesize=4096", "HEADER=END"]
    for number, blob in rows:
        lines += [" " + number.to_bytes(4, "little").hex(), " " + blob.hex()]
    target.parent.mkdir(parents=True)
    run("db5.3_load", target, stdin="\n".join([*lines, "DATA=END", ""]).encode())


def ndb(root: Path, target: Path) -> None:
    """The same as SUSE's rpm has it; nothing in Debian writes it, so this is by its description."""
    slots, blobs = [struct.pack("<4sIII", b"RpmP", 0, 1, 1) + bytes(16)], b""
    for number, blob in headers(root):
        data = struct.pack("<4sIII", b"BlbS", number, 1, len(blob)) + blob
        data += bytes(-(len(data) + 12) % 16) + struct.pack("<II4s", 0, len(blob), b"BlbE")
        at = (4096 + len(blobs)) // 16
        slots.append(struct.pack("<4sIII", b"Slot", number, at, len(data) // 16))
        blobs += data
    slots += [struct.pack("<4sIII", b"Slot", 0, 0, 0)] * (255 - len(slots))
    write(target, b"".join(slots) + blobs)


@pytest.mark.root
@pytest.mark.needs("rpm", "rpmbuild", "db5.3_load")
@pytest.mark.parametrize(("make", "name"), [(berkeley, "Packages"), (ndb, "Packages.db")])
def test_what_other_rpms_had_installed(
    make: Callable[[Path, Path], None],
    name: str,
    tmp_path: Path,
    rpms: list[Path],
    tree_of: TreeOf,
) -> None:
    install(tmp_path / "root", rpms)
    truth = query(tmp_path / "root")
    make(tmp_path / "root", tmp_path / "db/var/lib/rpm" / name)
    shutil.rmtree(tmp_path / "root/usr/lib/sysimage")
    found = find_packages(tree_of(tmp_path / "root", tmp_path / "db"))
    assert found.unread == ()
    assert listed(found.found) == truth


@pytest.mark.root
@pytest.mark.needs("rpm", "rpmbuild", "db5.3_load")
@pytest.mark.parametrize("kind", ["sqlite", "ndb", "bdb"])
def test_a_damaged_database_of_rpm_ends_with_a_line(
    kind: str, tmp_path: Path, rpms: list[Path]
) -> None:
    """Bits turned, numbers put in and the end cut: packages or a line that says so, and an end."""
    root, place = tmp_path / "root", tmp_path / "db/it"
    install(root, rpms)
    if kind == "sqlite":
        place = root / "usr/lib/sysimage/rpm/rpmdb.sqlite"
    else:
        (berkeley if kind == "bdb" else ndb)(root, place)
    data = place.read_bytes()
    read = {"sqlite": rpm_files.sqlite, "ndb": rpm_files.ndb, "bdb": rpm_files.bdb}[kind]
    for seed in range(ROUNDS):
        chosen = random.Random(seed)
        damaged = bytearray(data)
        for _ in range(chosen.choice((1, 3, 30, 1000))):
            at = chosen.randrange(len(damaged) if chosen.random() < 0.7 else 4096)
            match chosen.randrange(4):
                case 0:
                    damaged[at] ^= 1 << chosen.randrange(8)
                case 1:
                    damaged[at : at + 4] = chosen.choice((b"\0" * 4, b"\xff" * 4))
                case 2:
                    damaged[at : at + 4] = chosen.randrange(1 << 16).to_bytes(4, "little")
                case 3 if chosen.random() < 0.05:
                    del damaged[at:]
                    damaged += bytes(max(0, 4096 - len(damaged)))
        place = write(tmp_path / f"damaged-{seed}", bytes(damaged))
        try:
            for blob in read(str(place)):
                parse(blob)
        except LayerError as error:
            assert "\n" not in error.message
        place.unlink()


# -- pip ------------------------------------------------------------------------------------------


def wheel(folder: Path, name: str, version: str, files: dict[str, str]) -> Path:
    module = name.replace("-", "_")
    info = f"{module}-{version}.dist-info"
    inside = {
        **files,
        f"{info}/METADATA": f"Name: {name}\nVersion: {version}\n\nVersion: 9\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/entry_points.txt": f"[console_scripts]\n{name} = {module}:main\n",
    }
    path = folder / f"{module}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as out:
        record = ""
        for each, text in inside.items():
            out.writestr(each, text)
            sha = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=")
            quoted = f'"{each}"' if "," in each else each
            record += f"{quoted},sha256={sha.decode()},{len(text)}\n"
        out.writestr(f"{info}/RECORD", f"{record}{info}/RECORD,,\n")
    return path


def test_what_pip_has_installed(tmp_path: Path, tree_of: TreeOf) -> None:
    root = tmp_path / "root"
    wheels = [
        wheel(tmp_path, "one", "1.0", {"one/__init__.py": "x = 1\n", "one/a,b.txt": "ab"}),
        wheel(tmp_path, "two-parts", "2.0.post1", {"two_parts.py": "y = 2\n"}),
    ]
    run(
        sys.executable, "-m", "pip", "install", "--no-index", "--no-deps", "--root", root,
        "--prefix", "/usr", "--no-warn-script-location", *wheels,
    )  # fmt: skip
    [site] = root.glob("usr/**/site-packages")
    truth = [
        (each.metadata["Name"], each.version)
        for each in importlib.metadata.distributions(path=[str(site)])
    ]
    found = find_packages(tree_of(root)).found
    assert versions(found) == sorted(truth)
    names = {path.decode() for path in found[0].files or ()}
    lib = str(site.relative_to(root))
    assert {"usr/bin/one", f"{lib}/one/__init__.py", f"{lib}/one/a,b.txt"} <= names
    on_disk = {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}
    assert {path.decode() for each in found for path in each.files or ()} == on_disk


def test_eggs(tmp_path: Path, tree_of: TreeOf) -> None:
    site = tmp_path / "root/usr/lib/python3/dist-packages"
    write(site / "a.egg-info/PKG-INFO", "Name: a\nVersion: 1\n")
    write(site / "a.egg-info/installed-files.txt", "../a.py\nPKG-INFO\n../../../../../../etc/x\n")
    write(site / "a.py", "12345")
    write(site / "b-2.egg-info", "Metadata-Version: 1.1\nName: b\nVersion: 2\n")
    write(site / "c.dist-info/METADATA", "no metadata")
    found = find_packages(tree_of(tmp_path / "root")).found
    lib = b"usr/lib/python3/dist-packages/"
    assert [(each.name, each.version, each.files) for each in found] == [
        ("a", "1", (lib + b"a.egg-info/PKG-INFO", lib + b"a.py")),
        ("b", "2", None),
    ]


# -- npm ------------------------------------------------------------------------------------------


@pytest.mark.needs("npm")
def test_what_npm_has_installed(tmp_path: Path, tree_of: TreeOf) -> None:
    def package(name: str, version: str, needs: dict[str, str]) -> Path:
        folder = tmp_path / f"{name.replace('/', '_')}-{version}"
        about = {"name": name, "version": version, "dependencies": needs}
        write(folder / "package.json", json.dumps(about))
        write(folder / "lib/index.js", f"// {name}\n")
        return folder

    old = package("leaf", "1.0.0", {})
    scoped = package("@team/mid", "2.1.0", {"leaf": f"file:{old}"})
    new = package("leaf", "3.0.0-rc.1", {})
    app = tmp_path / "root/srv/app"
    needs = {"@team/mid": f"file:{scoped}", "leaf": f"file:{new}"}
    write(
        app / "package.json", json.dumps({"name": "app", "version": "1.0.0", "dependencies": needs})
    )
    run("npm", "install", "--offline", "--install-links", "--no-audit", "--no-fund", cwd=app)
    truth: list[tuple[str, str]] = []

    def collect(of: dict[str, dict[str, object]]) -> None:
        for name, each in of.items():
            truth.append((name, str(each["version"])))
            collect(each.get("dependencies", {}))  # type: ignore[arg-type]

    # it finds fault with `file:` and lists all the same
    told = subprocess.run(["npm", "ls", "--all", "--json"], cwd=app, capture_output=True).stdout
    collect(json.loads(told)["dependencies"])
    assert len(truth) == 3
    found = find_packages(tree_of(tmp_path / "root")).found
    assert versions(found) == sorted(set(truth))
    on_disk = {
        str(path.relative_to(tmp_path / "root"))
        for path in (app / "node_modules").rglob("*")
        if path.is_file() and ".package-lock" not in path.name
    }
    assert {path.decode() for each in found for path in each.files or ()} == on_disk


# -- hostile --------------------------------------------------------------------------------------


def test_hostile_records_are_no_packages(tmp_path: Path, tree_of: TreeOf) -> None:
    root = tmp_path / "root"
    (root / "var/lib/rpm").mkdir(parents=True)
    write(root / "var/lib/rpm/rpmdb.sqlite", b"SQLite format 3\0" + b"\xff" * 4096)
    write(root / "usr/lib/sysimage/rpm/Packages.db", b"RpmP" + b"\xff" * 8192)
    write(root / "usr/share/rpm/Packages", b"\0" * 8192)
    (root / "var/lib/dpkg").mkdir(parents=True)
    (root / "var/lib/dpkg/status").symlink_to("status")
    os.mkfifo(root / "var/lib/dpkg/fifo")
    (root / "lib/apk/db").mkdir(parents=True)
    (root / "lib/apk/db/installed").symlink_to("/var/lib/dpkg/fifo")
    write(root / "node_modules/deep/package.json", b"[" * 100_000)
    write(root / "node_modules/odd/package.json", b'{"name": 1, "version": {}}')
    write(root / "x.dist-info/METADATA", b"\xff\xfe\nName\n: x\n")
    found = find_packages(tree_of(root))
    assert found.found == ()
    assert [each.partition(" ")[0] for each in found.unread] == [
        "/var/lib/rpm/rpmdb.sqlite",
        "/usr/lib/sysimage/rpm/Packages.db",
        "/usr/share/rpm/Packages",
    ]
    assert not any("\n" in each for each in found.unread)


def test_a_record_too_large_is_said_and_not_read(tmp_path: Path, tree_of: TreeOf) -> None:
    place = write(tmp_path / "root/node_modules/big/package.json")
    os.truncate(place, 9 << 20)
    found = find_packages(tree_of(tmp_path / "root"))
    assert found.unread == ("/node_modules/big/package.json has more than 8 MiB and was not read",)


def test_a_view_in_place_of_the_table_is_not_run(tmp_path: Path, tree_of: TreeOf) -> None:
    place = tmp_path / "root/var/lib/rpm/rpmdb.sqlite"
    place.parent.mkdir(parents=True)
    database = sqlite3.connect(place)
    database.execute(
        "CREATE VIEW Packages AS WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n)"
        " SELECT x AS hnum, x AS blob FROM n"
    )
    database.commit()
    database.close()
    [line] = find_packages(tree_of(tmp_path / "root")).unread
    assert line.endswith("cannot be read: it has no table of packages")


def test_a_header_of_nothing_but_numbers_is_none() -> None:
    """Tags that all claim the same zeros, which take no room in a layer."""
    size = 32 << 20
    tags = [(1000, 6, 1), *((tag, 8, size - 1) for tag in (1117, 1118, 1027)), (1116, 4, size // 4)]
    head = struct.pack(">II", len(tags), size)
    for tag, kind, count in tags:
        head += struct.pack(">IIiI", tag, kind, 0, count)
    assert parse(head + bytes(size)) is None


def test_headers_that_a_database_computes_are_not_read(tmp_path: Path, tree_of: TreeOf) -> None:
    """A row of a few bytes would be any number of them."""
    place = tmp_path / "root/var/lib/rpm/rpmdb.sqlite"
    place.parent.mkdir(parents=True)
    database = sqlite3.connect(place)
    head = struct.pack(">IIIIiI", 1, 1_000_000, 1000, 6, 0, 1) + b"name\0"
    database.execute(
        "CREATE TABLE Packages (hnum INTEGER PRIMARY KEY, blob BLOB AS"
        f" (CAST(x'{head.hex()}' || zeroblob(1000000) AS BLOB)))"
    )
    database.executemany("INSERT INTO Packages (hnum) VALUES (?)", [(n,) for n in range(100)])
    database.commit()
    database.close()
    [line] = find_packages(tree_of(tmp_path / "root")).unread
    assert line.endswith("its headers have more bytes than it has")

"""What goes by times (make, configure, cargo, Python, a web server) beside the same in Docker.

For Docker a source is newer than what was built before only if it was written since: here each is
written after what stands before it was built.
"""

from __future__ import annotations

import http.client
import io
import os
import shutil
import socket
import subprocess
import tarfile
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import pytest

PYTHON = "/usr/bin/python3"  # Debian's: its libraries are where the loader looks

CC = """#!/bin/sh
echo "cc $*" >> /log
sleep 0.01
cat "$1" > "$2"
"""
CARGO = """#!/bin/sh
# As cargo: a source counts as changed when it is newer than the start of the last build.
stamp=target/fingerprint
if [ -e $stamp ] && [ -z "$(find src -type f -newer $stamp)" ]; then echo fresh >> /log; exit; fi
echo compiling >> /log
mkdir -p target
touch target/started
sleep 0.01
cat src/*.rs > target/app
touch -r target/started $stamp
"""
MAKEFILE = """main: main.o
\tcc main.o main
main.o: main.c
\tcc main.c main.o
install: main
\tcp main /out
"""
# What automake writes: each file is made again when it is older than what it is made of.
CONFIGURE = """#!/bin/sh
echo configure >> /log
cat > config.status <<'END'
#!/bin/sh
echo config.status >> /log
sed s/@greeting@/hello/ Makefile.in > Makefile
sed s/@greeting@/hello/ config.h.in > config.h
END
chmod +x config.status
./config.status
"""
MAKEFILE_IN = """all: main
Makefile: Makefile.in config.status
\t./config.status
config.status: configure
\t./config.status --recheck
configure: configure.ac aclocal.m4
\tautoconf-is-not-here
Makefile.in: Makefile.am
\tautomake-is-not-here
parser.c: parser.y
\tbison-is-not-here
main: parser.c config.h
\tcc parser.c main
install: all
\tcp main /out
\techo @greeting@ >> /out
"""
CONFIGURED = {
    "configure.ac": "", "aclocal.m4": "", "configure": CONFIGURE, "Makefile.am": "",
    "Makefile.in": MAKEFILE_IN, "config.h.in": "@greeting@\n", "parser.y": "y", "parser.c": "c\n",
}  # fmt: skip
VALUE = "value = {}\n"


class Case(NamedTuple):
    """`steps` are a pair, source and target of a copy, or a text for the shell."""

    files: Mapping[str, str]
    steps: tuple[tuple[str, str] | str, ...]
    out: str  # what /out holds at the end
    log: str  # what ran, with us


CASES: dict[str, Case] = {
    "make, the real source, make": Case(
        {"Makefile": MAKEFILE, "dummy": "dummy\n", "real": "real\n"},
        (
            ("Makefile", "/src/"), ("dummy", "/src/main.c"), "make -C /src",
            ("real", "/src/main.c"), "make -C /src", "make -C /src install",
        ),
        "real\n",
        "cc main.c main.o\ncc main.o main\n" * 2,
    ),
    "make and make install in two steps": Case(
        {"Makefile": MAKEFILE, "main.c": "main\n"},
        (("Makefile", "/src/"), ("main.c", "/src/"), "make -C /src", "make -C /src install"),
        "main\n",
        "cc main.c main.o\ncc main.o main\n",
    ),
    "configure, make, make install in three steps": Case(
        {f"pkg/{name}": text for name, text in CONFIGURED.items()},
        (
            ("pkg/", "/src/"), "cd /src && sh configure", "make -C /src", "make -C /src install",
        ),
        "c\nhello\n",
        "configure\nconfig.status\ncc parser.c main\n",
    ),
    "configure, then another Makefile.in": Case(
        {
            **{f"pkg/{name}": text for name, text in CONFIGURED.items()},
            "new.in": MAKEFILE_IN.replace("@greeting@", "bye"),
        },
        (
            ("pkg/", "/src/"), "cd /src && sh configure && make",
            ("new.in", "/src/Makefile.in"), "make -C /src install",
        ),
        "c\nbye\n",
        "configure\nconfig.status\ncc parser.c main\nconfig.status\ncc parser.c main\n",
    ),
    "cargo with a dummy for its dependencies": Case(
        {"dummy.rs": "dummy\n", "real.rs": "real\n"},
        (
            ("dummy.rs", "/src/src/main.rs"), "cd /src && cargo", "cd /src && cargo",
            ("real.rs", "/src/src/main.rs"), "cd /src && cargo", "cat /src/target/app > /out",
        ),
        "real\n",
        "compiling\nfresh\ncompiling\n",
    ),
    **{
        f"Python's pyc, {mode}": Case(
            {"old.py": VALUE.format(1), "new.py": VALUE.format(2)},
            (
                ("old.py", "/src/app.py"),
                f"cd /src && python3 -m compileall -q --invalidation-mode {mode} .",
                ("new.py", "/src/app.py"),
                "cd /src && python3 -B -c 'import app; print(app.value)' > /out",
            ),
            "2\n",
            "",
        )
        for mode in ("timestamp", "checked-hash")
    },
    "Python's pyc, as Python chooses": Case(
        {"old.py": VALUE.format(1), "new.py": VALUE.format(2)},
        (
            ("old.py", "/src/app.py"), "cd /src && python3 -m compileall -q .",
            ("new.py", "/src/app.py"),
            "cd /src && python3 -B -c 'import app; print(app.value)' > /out",
        ),
        "2\n",
        "",
    ),
}  # fmt: skip


def libraries(program: str) -> list[str]:
    """What the loader needs to start it, the loader too."""
    said = subprocess.run(["ldd", program], capture_output=True, text=True, check=True).stdout
    words = said.replace("=>", " ").split()
    return sorted({word for word in words if word.startswith("/")})


@pytest.fixture(scope="module")
def tools(sides: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """root.tar: busybox, make, Python, a compiler and a cargo that are shell scripts; and an image
    of it in the engine."""
    folder = tmp_path_factory.mktemp("tools")
    busybox = shutil.which("busybox")
    assert busybox
    names = subprocess.run([busybox, "--list"], capture_output=True, text=True, check=True).stdout
    python = Path(PYTHON).resolve()
    with tarfile.open(folder / "root.tar", "w") as tar:

        def add(path: str, data: bytes, mode: int = 0o755) -> None:
            member = tarfile.TarInfo(path.lstrip("/"))
            member.size, member.mode = len(data), mode
            tar.addfile(member, io.BytesIO(data))

        add("bin/busybox", Path(busybox).read_bytes())
        for name in names.split():
            if name not in ("busybox", "make"):
                link = tarfile.TarInfo(f"bin/{name}")
                link.type, link.linkname = tarfile.SYMTYPE, "busybox"
                tar.addfile(link)
        add("bin/cc", CC.encode())
        add("bin/cargo", CARGO.encode())
        add("bin/make", Path("/usr/bin/make").read_bytes())
        add("bin/python3", python.read_bytes())
        for path in {*libraries("/usr/bin/make"), *libraries(PYTHON)}:
            add(path, Path(path).read_bytes())
        library = Path("/usr/lib") / python.name
        for path in sorted(library.rglob("*.py")):
            inner = path.relative_to(library).parts
            if inner[0] not in ("test", "idlelib", "lib2to3", "tkinter", "dist-packages"):
                add(str(path), path.read_bytes(), 0o644)
    dockerfile = "FROM scratch\nADD root.tar /\n"
    assert not sides.build(dockerfile, folder, "parity:times-base", buildkit=True)
    return folder


def write(files: Mapping[str, str], folder: Path) -> None:
    """The files, all of one time."""
    now = time.time()
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        os.utime(path, (now, now))


def exported(sides: Any, image: str) -> bytes:
    """The whole file system of a container of an image, as tar."""
    container = sides.out("create", "--network", "none", image, "x").decode().strip()
    try:
        archive: bytes = sides.out("export", container)
        return archive
    finally:
        sides.out("rm", container)


def texts(archives: Iterable[bytes], *names: str) -> dict[str, str]:
    """Files of archives, the last of each name."""
    found: dict[str, str] = {}
    for archive in archives:
        with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
            for member in tar:
                content = tar.extractfile(member) if member.name in names else None
                if content is not None:
                    found[member.name] = content.read().decode()
    return found


def build_theirs(sides: Any, below: str, lines: list[str], context: Path) -> None:
    dockerfile = "\n".join([f"FROM {below}", *lines])
    assert not sides.build(dockerfile, context, "parity:theirs", buildkit=True)


@pytest.mark.root
@pytest.mark.needs("dockerd", "make")
@pytest.mark.parametrize("name", CASES)
def test_what_goes_by_times_does_as_in_docker(
    sides: Any, tools: Path, tmp_path: Path, name: str
) -> None:
    case = CASES[name]
    context = tmp_path / "context"
    context.mkdir()
    below, lines = "parity:times-base", list[str]()
    for step in case.steps:
        if isinstance(step, str):
            lines.append(f"RUN {step}")
            continue
        if lines and lines[-1].startswith("RUN"):
            build_theirs(sides, below, lines, context)
            below, lines = "parity:theirs", []
            time.sleep(1.1)  # busybox compares whole seconds
        name = step[0]
        write({k: v for k, v in case.files.items() if k.startswith(name)}, context)
        lines.append(f"COPY {' '.join(step)}")
    build_theirs(sides, below, lines, context)
    steps = [
        {"run": step} if isinstance(step, str) else {"copy": step[0], "dest": step[1]}
        for step in case.steps
    ]
    assert texts([exported(sides, "parity:theirs")], "out") == {"out": case.out}
    shutil.copy(tools / "root.tar", context)
    done = sides.ours({"from": "rootfs:root.tar", "steps": steps}, context, tmp_path)
    assert done.returncode == 0, done.stderr
    ours = texts(sides.built(tmp_path)[0], "out", "log")
    assert ours == {"out": case.out, **({"log": case.log} if case.log else {})}


# -- a web server --------------------------------------------------------------------------------

PAGE = "<p>page {}\n"


@contextmanager
def nginx(root: Path, folder: Path) -> Iterator[Path]:
    """A real one that serves `root` on a socket, whose path is given."""
    where = folder / "s"
    conf = folder / "nginx.conf"
    temporary = "".join(
        f"{name}_temp_path {folder}/{name};"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    conf.write_text(
        f"daemon off; master_process off; pid {folder}/pid; error_log {folder}/errors;"
        f" events {{}} http {{ access_log off; {temporary}"
        f" server {{ listen unix:{where}; root {root}; }} }}"
    )
    server = subprocess.Popen(["/usr/sbin/nginx", "-e", f"{folder}/errors", "-c", str(conf)])
    try:
        until = time.monotonic() + 20
        while not where.exists() and time.monotonic() < until:
            assert server.poll() is None, (folder / "errors").read_text()
            time.sleep(0.02)
        yield where
    finally:
        server.terminate()
        server.wait(20)
        where.unlink(missing_ok=True)


def etag(where: Path, path: str) -> str:
    connection = http.client.HTTPConnection("site", timeout=20)
    connection.sock = socket.socket(socket.AF_UNIX)
    connection.sock.connect(str(where))
    connection.request("GET", path)
    answer = connection.getresponse()
    assert answer.status == 200
    found = answer.getheader("ETag")
    connection.close()
    assert found is not None
    return found


@pytest.mark.root
@pytest.mark.needs("dockerd", "nginx")
def test_a_page_of_equal_size_has_another_etag(sides: Any, tmp_path: Path) -> None:
    """As it has where Docker copied a page that was written later; without `times: content` all of
    one size have one ETag, whatever they hold."""
    steps = {
        "content": [
            {"copy": "pages/", "dest": "/www/", "times": "content"},
            {"file": "/www/file.html", "content": "{{ page }}", "times": "content"},
            {"template": "page.j2", "dest": "/www/template.html", "times": "content"},
        ],
        "clock": [{"copy": "pages/", "dest": "/www/"}],
        "theirs": [],
    }
    found: dict[str, list[dict[str, str]]] = {name: [] for name in steps}
    for round, page in enumerate((1, 2, 1)):
        context = tmp_path / f"context{round}"
        text = PAGE.format(page)
        files = {"pages/index.html": text, "pages/sub/a.css": "same", "page.j2": "{{ page }}"}
        write(files, context)
        os.utime(context / "pages" / "index.html", (page * 1_000_000, page * 1_000_000))
        for name, made in steps.items():
            root = tmp_path / f"root{round}-{name}"
            root.mkdir()
            if made:
                cache = tmp_path / f"cache{round}-{name}"
                spec = {"from": "scratch", "vars": {"page": text}, "steps": made}
                done = sides.ours(spec, context, cache)
                assert done.returncode == 0, done.stderr
                archives = sides.built(cache)[0]
            else:
                lines = "FROM scratch\nCOPY pages/ /www/\n"
                assert not sides.build(lines, context, "parity:theirs", buildkit=True)
                archives = [exported(sides, "parity:theirs")]
            for archive in archives:
                with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
                    tar.extractall(root, filter="fully_trusted")
            with nginx(root / "www", tmp_path) as where:
                paths = sorted(path for path in (root / "www").rglob("*") if path.is_file())
                names = [str(path.relative_to(root / "www")) for path in paths]
                found[name].append({each: etag(where, f"/{each}") for each in names})
    first, second, third = found["content"]
    assert {name for name in first if first[name] == second[name]} == {"sub/a.css"}
    assert first == third
    assert found["theirs"][0]["index.html"] != found["theirs"][1]["index.html"]
    assert found["clock"][0] == found["clock"][1]

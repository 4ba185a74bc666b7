"""One Dockerfile built by ours, by BuildKit and by buildah, and what each has made of it."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from builder.oci.digest import hex_of
from tests.dockerfile.cases import Case

FIELDS = (
    *("Env", "User", "WorkingDir", "Entrypoint", "Cmd", "ExposedPorts", "Volumes", "Labels"),
    *("StopSignal", "Healthcheck", "Shell", "OnBuild", "Author"),
)
TIMES = range(1_000_000_000, 1_000_001_000)  # of files of the context
OWN = {"dev", "proc", "sys", "run", "etc/hostname", "etc/hosts", "etc/resolv.conf"}


class Made(NamedTuple):
    """What an image is: path -> (type, mode, owner, content or target, time of a context's file),
    and the fields of its config. `wrong`: what was said instead."""

    tree: dict[str, tuple[str, ...]]
    config: dict[str, Any]
    wrong: str = ""


def make_context(folder: Path) -> None:
    """The files that cases copy, all with times and modes of their own."""
    texts: dict[str, tuple[str, int]] = {
        "a.txt": ("a\n", 0o644), "b.sh": ("#!/bin/sh\n", 0o755), "priv": ("p\n", 0o600),
        "dir/one.txt": ("1\n", 0o644), "dir/two.conf": ("2\n", 0o664), "dir/.hidden": ("h\n", 0o644),
        "dir/sub/three.txt": ("3\n", 0o640), "over/dir/new": ("n\n", 0o644),
        "over/secret/new": ("n\n", 0o600), "conf/a.ini": ("a\n", 0o644), "conf/b.ini": ("b\n", 0o600),
        "conf/c.txt": ("c\n", 0o644), "pkg/a/package.json": ("{}\n", 0o644),
        "pkg/b/other": ("o\n", 0o644),
        "pkg/b/package.json": ("{}\n", 0o644), "deep/x/y/z.txt": ("z\n", 0o644),
        "deep/x/y/k": ("k\n", 0o644), "sp ace.txt": ("s\n", 0o644), "umlaut-ä.txt": ("u\n", 0o644),
        "empty": ("", 0o644), "hard/one": ("h\n", 0o644), "modes/setuid": ("s\n", 0o4755),
        "go.mod": ("m\n", 0o644), "cmd/app/main.go": ("g\n", 0o644), "package.json": ("{}\n", 0o644),
        "package-lock.json": ("{}\n", 0o644), "requirements.txt": ("r\n", 0o644),
        "src/app.py": ("p\n", 0o644), "pom.xml": ("x\n", 0o644),
        "docker-entrypoint.sh": ("#!/bin/sh\n", 0o664),
        "modes/none": ("n\n", 0o000), "modes/all": ("a\n", 0o777), "fake.tar": ("no tar\n", 0o644),
    }  # fmt: skip
    for name, (text, mode) in texts.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
    (folder / "modes/sticky").mkdir()
    links = {"link": "a.txt", "dirlink": "dir", "links/file": "../a.txt", "links/dir": "../dir"}
    for name, target in {**links, "links/dangling": "nowhere", "links/abs": "/etc/passwd"}.items():
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        path.symlink_to(target)
    os.link(folder / "hard/one", folder / "hard/two")
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:
        for name, kind, mode in (("in", "5", 0o750), ("in/f", "0", 0o640), ("in/l", "2", 0o777)):
            info = tarfile.TarInfo(name)
            info.type, info.mode = kind.encode(), mode
            info.uid, info.gid, info.mtime = 7, 8, TIMES[900]
            info.linkname = "f" if kind == "2" else ""
            info.size = 2 if kind == "0" else 0
            tar.addfile(info, io.BytesIO(b"f\n") if kind == "0" else None)
    (folder / "arch.tar").write_bytes(packed.getvalue())
    import bz2
    import gzip
    import lzma

    (folder / "arch.tar.gz").write_bytes(gzip.compress(packed.getvalue()))
    (folder / "rootfs.tar.gz").write_bytes(gzip.compress(packed.getvalue()))
    (folder / "arch.tar.bz2").write_bytes(bz2.compress(packed.getvalue()))
    (folder / "arch.tar.xz").write_bytes(lzma.compress(packed.getvalue()))
    (folder / "plain.gz").write_bytes(gzip.compress(b"plain\n"))
    paths = sorted(folder.rglob("*"), key=str)
    for path in paths:
        if path.is_dir() and not path.is_symlink():
            path.chmod({"sticky": 0o1777, "sub": 0o700, "hard": 0o775}.get(path.name, 0o755))
    for number, path in enumerate(reversed(paths)):
        os.utime(path, (TIMES[number], TIMES[number]), follow_symlinks=False)


def base_archive() -> bytes:
    """The root file system of the base."""
    busybox = Path("/bin/busybox").read_bytes()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as tar:

        def add(
            name: str,
            kind: bytes,
            mode: int,
            data: bytes = b"",
            link: str = "",
            uid: int = 0,
            gid: int = 0,
        ) -> None:
            info = tarfile.TarInfo(name)
            info.type, info.mode, info.linkname = kind, mode, link
            info.uid, info.gid, info.mtime, info.size = uid, gid, 900_000_000, len(data)
            tar.addfile(info, io.BytesIO(data) if data else None)

        for name, mode in (("bin", 0o755), ("etc", 0o755), ("root", 0o700), ("tmp", 0o1777)):
            add(name, b"5", mode)
        add("bin/busybox", b"0", 0o755, busybox)
        for name in [
            "sh",
            "ash",
            "cat",
            "echo",
            "id",
            "env",
            "ls",
            "ln",
            "mkdir",
            "rm",
            "chmod",
            "chown",
            "mkfifo",
            "grep",
            "sort",
            "true",
            "false",
            "pwd",
            "test",
        ]:
            add(f"bin/{name}", b"2", 0o777, link="busybox")
        passwd = "root:x:0:0::/root:/bin/sh\napp:x:1000:1001::/home/app:/bin/sh\n"
        add("etc/passwd", b"0", 0o644, passwd.encode())
        add("etc/group", b"0", 0o644, b"root:x:0:\napp:x:1001:\nstaff:x:50:app\n")
        for name in ("cp", "head", "tail"):
            add(f"bin/{name}", b"2", 0o777, link="busybox")
        add("bin/stub", b"0", 0o755, STUB.encode())
        for name in "apt-get go pip uv npm node mvn jlink adduser addgroup".split():  # noqa: SIM905
            add(f"bin/{name}", b"2", 0o777, link="stub")
        add("home", b"5", 0o755)
        add("dir", b"5", 0o755)
        add("dir/old", b"0", 0o644, b"old\n")
        add("open", b"5", 0o1777)
        add("secret", b"5", 0o700, uid=1000, gid=1001)
        add("real", b"5", 0o755)
        add("lnk", b"2", 0o777, link="real")
        add("file", b"0", 0o644, b"file\n")
        add("flink", b"2", 0o777, link="file")
        add("base", b"5", 0o755)
    return packed.getvalue()


STUB = """\
#!/bin/sh
echo "${0##*/} $* $GOOS$GOARCH" >> /log 2> /dev/null
name= id=0
while [ $# -gt 0 ]; do
  case "$1" in
    -u|-g) id=$2;;
    [a-z]*) name=$1;;
    -o) mkdir -p "${2%/*}"; echo made > "$2";;
    --output) mkdir -p "$2/bin"; echo made > "$2/bin/it";;
  esac
  shift
done
case "${0##*/}" in
  adduser) echo "$name:x:$id:$id::/home/$name:/bin/sh" >> /etc/passwd
    echo "$name:x:$id:" >> /etc/group;;
  addgroup) echo "$name:x:$id:" >> /etc/group;;
esac
"""

BASE = """\
FROM scratch
ADD base.tar /
ENV PATH=/usr/local/bin:/usr/bin:/bin BASEVAR=basevalue
WORKDIR /base
LABEL base=yes
CMD ["base-cmd"]
EXPOSE 1
"""


class Builders:
    """All three, with the base known to each. `docker`: a DOCKER_HOST."""

    def __init__(self, docker: str, work: Path) -> None:
        self._work = work
        self.context = work / "context"
        self.context.mkdir(parents=True)
        make_context(self.context)
        made = work / "base"
        made.mkdir()
        (made / "base.tar").write_bytes(base_archive())
        (made / "Dockerfile").write_text(BASE)
        self._docker_env = {
            "PATH": os.environ["PATH"], "HOME": "/nonexistent", "DOCKER_HOST": docker,
            "DOCKER_BUILDKIT": "1",
        }  # fmt: skip
        self._run(
            ["/usr/bin/docker", "build", "-q", "-t", "cmp-base:1", str(made)], self._docker_env
        )
        saved = work / "base.docker.tar"
        self._run(["/usr/bin/docker", "save", "-o", str(saved), "cmp-base:1"], self._docker_env)
        self._buildah = [
            *("buildah", "--root", f"{work}/images", "--runroot", f"{work}/run"),
            *("--storage-driver", "vfs"),
        ]
        self._run([*self._buildah, "pull", "-q", f"docker-archive:{saved}"])
        self._bases = {
            "buildkit": "cmp-base:1",
            "buildah": "localhost/cmp-base:1",
            "ours": f"docker-archive:{saved}",
        }

    def _run(self, command: list[str], env: Mapping[str, str] | None = None) -> str:
        """What it complains of; "": it worked."""
        done = subprocess.run(command, env=env, capture_output=True, timeout=300)
        return done.stderr.decode(errors="replace") if done.returncode else ""

    def build(self, who: str, case: Case) -> Made:
        text = (case.others if case.others and who != "ours" else case.text).replace(
            "{B}", self._bases[who]
        )
        path = self._work / f"{who}.Dockerfile"
        path.write_bytes(text.encode())
        out = self._work / f"{who}.out"
        shutil.rmtree(out, ignore_errors=True)
        out.unlink(missing_ok=True) if out.is_file() else None
        arguments = [f"--build-arg={name}={value}" for name, value in case.arguments.items()]
        if case.target:
            arguments.append(f"--target={case.target}")
        makers = {"ours": self._ours, "buildkit": self._buildkit, "buildah": self._buildah_build}
        wrong = makers[who](path, out, arguments)
        if wrong:
            return Made({}, {}, wrong)
        return docker_image(out) if who == "buildkit" else oci_image(out)

    def converted(self, case: Case) -> Made:
        """What the spec makes that `convert` writes."""
        path, specs = self._work / "converted.Dockerfile", self._work / "specs"
        path.write_bytes(case.text.replace("{B}", self._bases["ours"]).encode())
        out = self._work / "converted.out"
        shutil.rmtree(out, ignore_errors=True)
        builder = [sys.executable, "-m", "builder"]
        context = ["--context", str(self.context)]
        convert = ["convert", str(path), "-o", f"{specs}/ours.yaml", "--force", *context]
        wrong = self._run(
            [*builder, *convert, *([f"--target={case.target}"] if case.target else [])]
        )
        build = ["build", "ours", "--specs", str(specs), "-o", f"oci:{out}"]
        sets = [f"--set={name}={value}" for name, value in case.arguments.items()]
        store = ["--cache-dir", f"{self._work}/store", "--progress", "plain"]
        wrong = wrong or self._run([*builder, *build, *store, *sets])
        return Made({}, {}, wrong) if wrong else oci_image(out)

    def _ours(self, path: Path, out: Path, arguments: list[str]) -> str:
        command = [
            *(sys.executable, "-m", "builder", "build", "-f", str(path), str(self.context)),
            *("-o", f"oci:{out}", "--cache-dir", f"{self._work}/store", "--progress", "plain"),
        ]
        return self._run([*command, *arguments])

    def _buildkit(self, path: Path, out: Path, arguments: list[str]) -> str:
        build = ["/usr/bin/docker", "build", "-q", "--network=none", "-t", "cmp:1", "-f", str(path)]
        save = ["/usr/bin/docker", "save", "-o", str(out), "cmp:1"]
        env = self._docker_env
        return self._run([*build, *arguments, str(self.context)], env) or self._run(save, env)

    def _buildah_out(self, out: Path) -> list[str]:
        return [*self._buildah, "push", "-q", "localhost/cmp:1", f"oci:{out}:1"]

    def _buildah_build(self, path: Path, out: Path, arguments: list[str]) -> str:
        build = [
            *self._buildah,
            "bud",
            "-q",
            "--isolation",
            "chroot",
            "-t",
            "cmp:1",
            "-f",
            str(path),
        ]
        wrong = self._run([*build, *arguments, str(self.context)])
        return wrong or self._run(self._buildah_out(out))


def oci_image(layout: Path) -> Made:
    def blob(digest: str) -> bytes:
        return (layout / "blobs/sha256" / digest.removeprefix("sha256:")).read_bytes()

    (entry,) = json.loads((layout / "index.json").read_text())["manifests"]
    manifest = json.loads(blob(entry["digest"]))
    layers = [blob(each["digest"]) for each in manifest["layers"]]
    return Made(flat(layers), fields(json.loads(blob(manifest["config"]["digest"]))))


def docker_image(saved: Path) -> Made:
    with tarfile.open(saved) as tar:

        def member(name: str) -> bytes:
            file = tar.extractfile(name)
            assert file is not None
            return file.read()

        (manifest,) = json.loads(member("manifest.json"))
        layers = [member(name) for name in manifest["Layers"]]
        return Made(flat(layers), fields(json.loads(member(manifest["Config"]))))


def fields(document: dict[str, Any]) -> dict[str, Any]:
    config = {**(document.get("config") or {}), "Author": document.get("author")}
    labels = dict(config.get("Labels") or {})
    labels.pop("io.buildah.version", None)
    config["Labels"] = labels
    return {name: config[name] for name in FIELDS if config.get(name)}


def flat(layers: list[bytes]) -> dict[str, tuple[str, ...]]:
    """What layers on one another hold."""
    tree: dict[str, tuple[str, ...]] = {}
    for layer in layers:
        with tarfile.open(fileobj=io.BytesIO(layer), errors="surrogateescape") as tar:
            own: set[str] = set()
            for member in tar:
                path = member.name.removeprefix("./").strip("/")
                folder, _, name = path.rpartition("/")
                if name.startswith(".wh."):
                    gone = f"{folder}/{name[4:]}".lstrip("/")
                    below = folder if name == ".wh..wh..opq" else gone
                    for each in [each for each in tree if each not in own]:
                        inside = each.startswith(below + "/") or not below
                        if inside or (each == gone and name != ".wh..wh..opq"):
                            del tree[each]
                    continue
                if not path or path.split("/")[0] in OWN or path in OWN:
                    continue
                own.add(path)
                if member.islnk():
                    tree[path] = tree[member.linkname.removeprefix("./")]
                    continue
                if not member.isdir():
                    for each in [each for each in tree if each.startswith(path + "/")]:
                        del tree[each]
                file = tar.extractfile(member) if member.isreg() else None
                holds = hex_of(file.read())[:12] if file else member.linkname
                seconds = int(member.mtime)
                tree[path] = (
                    member.type.decode(),
                    "" if member.issym() else f"{member.mode & 0o7777:04o}",
                    f"{member.uid}:{member.gid}",
                    holds,
                    str(seconds) if file and seconds in TIMES else "",
                )
    return tree


def differing(ours: Made, theirs: Made) -> dict[str, tuple[Any, Any]]:
    """Paths and fields that are not the same: ours, theirs."""
    if ours.wrong or theirs.wrong:
        return {"": (ours.wrong, theirs.wrong)}
    found: dict[str, tuple[Any, Any]] = {}
    for one, two in ((ours.tree, theirs.tree), (ours.config, theirs.config)):
        for name in sorted({*one, *two}):
            if one.get(name) != two.get(name):
                found[name] = (one.get(name), two.get(name))
    return found


def main() -> None:
    """All cases, or those whose name holds one of the arguments, on a private engine."""
    import tempfile

    from tests.dockerd import running_engine
    from tests.dockerfile.cases import CASES

    work = Path(tempfile.mkdtemp(prefix="compare-"))
    agree = total = 0
    try:
        with running_engine() as engine:
            builders = Builders(engine.socket, work)
            for name, case in CASES.items():
                if sys.argv[1:] and not any(each in name for each in sys.argv[1:]):
                    continue
                ours = builders.build("ours", case)
                if found := differing(builders.converted(case), ours):
                    print(f"{name} (converted): {found}", flush=True)
                for who in case.onto:
                    theirs = builders.build(who, case)
                    found = differing(ours, theirs)
                    expected = {each for each, whose in case.differs.items() if who in whose}
                    total += 1
                    agree += not found
                    if {*found} != expected:
                        print(f"{name} ({who}):", flush=True)
                        for path, pair in found.items():
                            print(
                                "   ", path, *(str(each)[:300] for each in pair), sep="\n        "
                            )
        print(f"{agree} of {total} agree", time.process_time())
    finally:
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()

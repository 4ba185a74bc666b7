"""`make bench`: the builder beside docker build (both builders) and buildah, on the same inputs.

    benchmarks/run.py [--runs N] [--only NAME] [--tools A,B] [--where FOLDER] [--plot FILE.svg]

Inputs are made from a seed. Each tool starts from its own empty store with the base image already
in it. Peers run as they run by default; dockerd is a private one, warm, started and ended here.
Times are whole processes, wall clock, medians; CPU and peak RSS are those of the client process
and its children: a daemon's work is not in them.
"""

from __future__ import annotations

import argparse
import contextlib
import html
import json
import math
import os
import random
import resource
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

BUILDER = [sys.executable, "-m", "builder"]
BUSYBOX = "/bin/busybox"
DOCKER = "/usr/bin/docker"  # Debian's: one elsewhere may be a client that lacks BuildKit


class Sample(NamedTuple):
    wall: float
    cpu: float
    rss: float  # MiB


def measure(argv: list[str], cwd: Path, env: dict[str, str]) -> Sample:
    """Run to the end; raises when it fails."""
    started = time.perf_counter()
    with tempfile.TemporaryFile() as log:
        process = subprocess.Popen(
            argv,
            cwd=cwd,
            env={**os.environ, **env},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        wall = time.perf_counter() - started
        if process.returncode:
            log.seek(0)
            raise SystemExit(f"{' '.join(argv)} failed:\n{log.read().decode()[-2000:]}")
    return Sample(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024)


class Tool:
    """A builder of images: `reset` empties its cache (the base stays known), `build` builds."""

    name = ""
    daemon = False

    def reset(self) -> None:
        raise NotImplementedError

    def build(self, project: Path) -> Sample:
        raise NotImplementedError


class Ours(Tool):
    name = "builder"

    def __init__(self, work: Path, base: Path) -> None:
        self.store, self.base = work / "ours", base

    def reset(self) -> None:
        shutil.rmtree(self.store, ignore_errors=True)
        warm = self.base.parent / "warm"
        (warm / "specs").mkdir(parents=True, exist_ok=True)
        shutil.copy(self.base, warm / "base.tar")
        # the base known and unpacked, as an image that was run before is with the others
        (warm / "specs/warm.yaml").write_text(
            'from: rootfs:base.tar\nsteps:\n  - run: "true"\n    network: none\n'
        )
        measure([*BUILDER, "build", "--progress", "quiet"], warm, self.env)

    @property
    def env(self) -> dict[str, str]:
        return {"BUILDER_CACHE_DIR": str(self.store)}

    def build(self, project: Path) -> Sample:
        return measure([*BUILDER, "build", "--progress", "quiet"], project, self.env)


class Docker(Tool):
    daemon = True

    def __init__(self, socket: str, base: Path, buildkit: bool) -> None:
        self.name = "docker BuildKit" if buildkit else "docker classic"
        self.env = {"DOCKER_HOST": socket, "DOCKER_BUILDKIT": "1" if buildkit else "0"}
        self.base = base

    def reset(self) -> None:
        here = self.base.parent
        measure([DOCKER, "builder", "prune", "-af"], here, self.env)
        measure([DOCKER, "system", "prune", "-af"], here, self.env)
        measure([DOCKER, "import", str(self.base), "base:latest"], here, self.env)

    def build(self, project: Path) -> Sample:
        build = [DOCKER, "build", "-q", "--network", "host"]
        samples = [
            measure(
                [*build, "-t", file.suffix[1:], "-f", str(file), "."],
                project,
                self.env,
            )
            for file in sorted(project.glob("Dockerfile.*"))
        ]
        return Sample(
            sum(each.wall for each in samples),
            sum(each.cpu for each in samples),
            max(each.rss for each in samples),
        )


class Buildah(Tool):
    name = "buildah"

    def __init__(self, work: Path, base: Path) -> None:
        self.root, self.base = work / "buildah", base

    def _run(self, *arguments: str, cwd: Path) -> Sample:
        options = ["--root", f"{self.root}/root", "--runroot", f"{self.root}/run"]
        return measure(
            ["buildah", *options, "--storage-driver", "overlay", *arguments],
            cwd,
            {"BUILDAH_ISOLATION": "chroot"},
        )

    def reset(self) -> None:
        if self.root.exists():
            self._run("rmi", "-af", cwd=self.base.parent)
        context = self.base.parent / "import"
        context.mkdir(exist_ok=True)
        shutil.copy(self.base, context / "base.tar")
        (context / "Dockerfile").write_text("FROM scratch\nADD base.tar /\n")
        self._run("bud", "-q", "-t", "base:latest", ".", cwd=context)

    def build(self, project: Path) -> Sample:
        samples = [
            self._run(
                "bud",
                "-q",
                "--layers",
                "-t",
                f"localhost/{file.suffix[1:]}:latest",
                "-f",
                str(file),
                ".",
                cwd=project,
            )
            for file in sorted(project.glob("Dockerfile.*"))
        ]
        return Sample(
            sum(each.wall for each in samples),
            sum(each.cpu for each in samples),
            max(each.rss for each in samples),
        )


# -- inputs --------------------------------------------------------------------------------------


def make_files(folder: Path, count: int, total: int, seed: int, per_folder: int = 100) -> None:
    """`count` files of about `total` bytes in all: words that compress about as programs do."""
    rng = random.Random(seed)
    words = [rng.randbytes(rng.randrange(2, 9)) for _ in range(4000)]
    pool = b"".join(rng.choice(words) for _ in range(600_000))
    for number in range(count):
        size = rng.randrange(total // count * 2) if count > 1000 else total // count
        path = folder / f"d{number // per_folder:04d}" / f"f{number:06d}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            while size > 0:
                start = rng.randrange(len(pool) // 2)
                piece = pool[start : start + min(size, len(pool) // 2)]
                file.write(piece)
                size -= len(piece)


def in_child(make: Callable[[Path], None], project: Path) -> None:
    """Make inputs in a process of their own: a child's peak RSS begins with its parent's size."""
    child = os.fork()
    if not child:
        make(project)
        os._exit(0)
    os.waitpid(child, 0)


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


class Workload(NamedTuple):
    name: str
    make: Callable[[Path], None]
    cases: tuple[tuple[str, Callable[[Path, int], None]], ...]  # what is changed before each build


def _nothing(project: Path, number: int) -> None:
    pass


def _one_changed(project: Path, number: int) -> None:
    path = sorted((project / "data").rglob("*.txt"))[number * 7 + 3]
    size = path.stat().st_size
    path.write_bytes(f"{number:08d}".encode() + path.read_bytes()[8:size])


def _mixed(project: Path) -> None:
    make_files(project / "data", 200, 200 << 20, 1)
    make_files(project / "small", 20, 20 << 10, 2)
    write(
        project / "Dockerfile.mixed",
        "FROM base\nCOPY data/ /data/\nRUN echo built > /built\nCOPY small/ /small/\n",
    )
    write(
        project / "specs/mixed.yaml",
        "from: rootfs:../base.tar\nsteps:\n  - copy: data/\n    dest: /data/\n"
        "  - run: echo built > /built\n    network: none\n  - copy: small/\n    dest: /small/\n",
    )


def _small_changed(project: Path, number: int) -> None:
    path = sorted((project / "small").rglob("*.txt"))[number % 20]
    path.write_text(f"changed {number}\n")


def _many(project: Path) -> None:
    make_files(project / "data", 50_000, 240 << 20, 3)
    write(project / "Dockerfile.many", "FROM base\nCOPY data/ /data/\n")
    write(
        project / "specs/many.yaml",
        "from: rootfs:../base.tar\nsteps:\n  - copy: data/\n    dest: /data/\n",
    )


def _commands(project: Path) -> None:
    write(
        project / "Dockerfile.commands",
        "FROM base\n" + "".join(f"RUN true {n}\n" for n in range(20)),
    )
    steps = "".join(f"  - run: true {n}\n    network: none\n" for n in range(20))
    write(project / "specs/commands.yaml", f"from: rootfs:../base.tar\nsteps:\n{steps}")


def _rebase(project: Path) -> None:
    make_files(project / "data", 60, 3 << 20, 4)
    copies = [f"data/d0000/f0000{n}0.txt" for n in range(1, 4)]
    write(project / "motd", "0\n")
    lines = "".join(f"COPY {copy} /c{n}/\n" for n, copy in enumerate(copies))
    write(project / "Dockerfile.rebase", f"FROM base\nCOPY motd /etc/motd\n{lines}")
    steps = "".join(f"  - copy: {copy}\n    dest: /c{n}/\n" for n, copy in enumerate(copies))
    write(
        project / "specs/below.yaml",
        "from: rootfs:../base.tar\nsteps:\n  - copy: motd\n    dest: /etc/motd\n",
    )
    write(project / "specs/rebase.yaml", f"from: image:below\nsteps:\n{steps}")


def _base_changed(project: Path, number: int) -> None:
    (project / "motd").write_text(f"{number} {time.time()}\n")


def _hundred(project: Path) -> None:
    make_files(project / "common", 50, 5 << 20, 5)
    for number in range(100):
        name = f"n{number:03d}"
        write(project / f"own/{name}", f"this is {name}\n")
        write(
            project / f"Dockerfile.{name}",
            f"FROM base\nCOPY common/ /common/\nCOPY own/{name} /own\n",
        )
        write(
            project / f"specs/{name}.yaml",
            "from: rootfs:../base.tar\nsteps:\n  - copy: common/\n    dest: /common/\n"
            f"  - copy: own/{name}\n    dest: /own\n",
        )


def _stages(project: Path) -> None:
    """Nine stages, each of a file of its own, and the image that takes a file of each."""
    lines, stages, steps = [], [], []
    for n in range(9):
        write(project / f"src/{n}", f"# source {n}\nprogram {n}\n")
        command = "/bin/busybox grep -v ^# /src > /out"
        lines.append(f"FROM base AS s{n}\nCOPY src/{n} /src\nRUN {command}\n")
        stages.append(
            f"  s{n}:\n    from: rootfs:../base.tar\n    steps:\n"
            f"      - copy: src/{n}\n        dest: /src\n"
            f"      - run: {command}\n        network: none\n"
        )
        steps.append(f"  - copy: /out\n    from: stage:s{n}\n    dest: /app/{n}\n")
    last = "".join(f"COPY --from=s{n} /out /app/{n}\n" for n in range(9))
    write(project / "Dockerfile.stages", "".join(lines) + f"FROM scratch\n{last}")
    text = f"stages:\n{''.join(stages)}from: scratch\nsteps:\n{''.join(steps)}"
    write(project / "specs/stages.yaml", text)


def _program_changed(project: Path, number: int) -> None:
    write(project / f"src/{number}", f"# source\nchanged {number}\n")


def _comment_changed(project: Path, number: int) -> None:
    path = project / "src/8"
    path.write_text(f"# changed {number}\n" + path.read_text())


WORKLOADS = (
    Workload(
        "200 MB in 200 files, a command, 20 small files",
        _mixed,
        (
            ("cold", _nothing),
            ("nothing changed", _nothing),
            ("one small file changed", _small_changed),
        ),
    ),
    Workload(
        "50,000 files, 240 MB",
        _many,
        (("cold", _nothing), ("nothing changed", _nothing), ("one of them changed", _one_changed)),
    ),
    Workload(
        "base changed under three file layers",
        _rebase,
        (("cold", _nothing), ("base changed", _base_changed)),
    ),
    Workload(
        "20 command steps `true`", _commands, (("cold", _nothing), ("nothing changed", _nothing))
    ),
    Workload(
        "10 stages, a file from each into the last",
        _stages,
        (
            ("cold", _nothing),
            ("nothing changed", _nothing),
            ("a stage makes another file", _program_changed),
            ("a stage makes the same file again", _comment_changed),
        ),
    ),
    Workload(
        "100 images, one base and one common layer",
        _hundred,
        (("cold", _nothing), ("nothing changed", _nothing)),
    ),
)


# -- running -------------------------------------------------------------------------------------


@contextlib.contextmanager
def dockerd(work: Path) -> Iterator[str | None]:
    """A private engine, warm; None where there is none to be had."""
    program = shutil.which("dockerd", path=os.environ["PATH"] + ":/usr/sbin")
    if program is None or os.geteuid() != 0:
        yield None
        return
    socket = f"unix://{work}/docker.sock"
    with (work / "dockerd.log").open("wb") as log:
        process = subprocess.Popen(
            [
                program,
                "--iptables=false",
                "--bridge=none",
                "-H",
                socket,
                "--data-root",
                f"{work}/docker",
                "--exec-root",
                f"{work}/exec",
                "--pidfile",
                f"{work}/docker.pid",
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        for _ in range(100):
            ready = subprocess.run(
                [DOCKER, "-H", socket, "version"], stdin=subprocess.DEVNULL, capture_output=True
            )
            if ready.returncode == 0:
                break
            time.sleep(0.2)
        yield socket
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(30)


def unmount(work: Path) -> None:
    """Take away what dockerd and buildah leave mounted below `work`."""
    mounted = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for path in sorted((each for each in mounted if each.startswith(f"{work}/")), reverse=True):
        subprocess.run(["umount", "-l", path], check=False)


def make_base(path: Path) -> None:
    """A root file system of one static program."""
    root = path.parent / "root"
    (root / "bin").mkdir(parents=True)
    (root / "etc").mkdir()
    (root / "tmp").mkdir()
    shutil.copy(BUSYBOX, root / "bin/busybox")
    for name in ("sh", "true", "echo"):
        (root / "bin" / name).symlink_to("busybox")
    (root / "etc/passwd").write_text("root:x:0:0:root:/root:/bin/sh\n")
    subprocess.run(["tar", "-cf", path, "-C", root, "."], check=True)


def bench(workload: Workload, tools: list[Tool], runs: int, work: Path) -> list[dict[str, object]]:
    rows = []
    for tool in tools:
        samples: dict[str, list[Sample]] = {}
        for round_ in range(runs):
            project = work / "project"
            shutil.rmtree(project, ignore_errors=True)
            project.mkdir()
            in_child(workload.make, project)
            tool.reset()
            time.sleep(2.1)  # files as old as those of a checkout
            for case, change in workload.cases:
                if case == "nothing changed":
                    tool.build(project)
                change(project, round_)
                samples.setdefault(case, []).append(tool.build(project))
        for case, taken in samples.items():
            rows.append(
                {
                    "workload": workload.name,
                    "case": case,
                    "tool": tool.name,
                    "wall": statistics.median(each.wall for each in taken),
                    "cpu": statistics.median(each.cpu for each in taken),
                    "rss": max(each.rss for each in taken),
                    "runs": runs,
                }
            )
            print(
                f"{workload.name}: {case}: {tool.name}: {rows[-1]['wall']:.3f} s", file=sys.stderr
            )
    return rows


def big_layer(work: Path) -> float:
    """Peak RSS in MiB of building a layer of 4 GiB (64 MiB of noise, then zeros)."""
    project = work / "big"
    write(project / "specs/big.yaml", "from: scratch\nsteps:\n  - copy: big\n    dest: /big\n")
    with (project / "big").open("wb") as file:
        for number in range(64):
            file.write(random.Random(number).randbytes(1 << 20))
        file.truncate(4 << 30)
    sample = measure(
        [*BUILDER, "build", "--progress", "quiet"],
        project,
        {"BUILDER_CACHE_DIR": f"{work}/bigstore"},
    )
    shutil.rmtree(project)
    return sample.rss


def growing(work: Path, runs: int) -> dict[int, float]:
    """GB of files of 10 MB that did not change -> seconds of a build after a small file did, both
    in copies of their own (a tenth of each large file is noise)."""
    seconds = {}
    project = work / "growing"
    steps = [f"  - {{copy: {name}/, dest: /{name}/}}\n" for name in ("large", "small")]
    write(project / "specs/growing.yaml", "from: scratch\nsteps:\n" + "".join(steps))
    for gigabytes in (1, 10):
        for number in range(gigabytes * 100):
            path = project / f"large/d{number // 50}/f{number}"
            path.parent.mkdir(parents=True, exist_ok=True)
            if not path.exists():
                with path.open("wb") as file:
                    file.write(random.Random(number).randbytes(1 << 20))
                    file.truncate(10_000_000)
        make = [*BUILDER, "build", "--progress", "quiet"]
        env = {"BUILDER_CACHE_DIR": f"{work}/growingstore"}
        taken = []
        for number in range(runs + 1):
            write(project / "small/file", f"{gigabytes} {number}\n")
            time.sleep(2.1)
            taken.append(measure(make, project, env).wall)
        seconds[gigabytes] = statistics.median(taken[1:])
    shutil.rmtree(project)
    return seconds


def table(rows: list[dict[str, object]]) -> str:
    tools = list(dict.fromkeys(str(row["tool"]) for row in rows))
    lines = [
        "| workload | case | " + " | ".join(tools) + " | ratio to the best peer |",
        "|---|---|" + "---|" * (len(tools) + 1),
    ]
    cases = dict.fromkeys((str(row["workload"]), str(row["case"])) for row in rows)
    for workload, case in cases:
        wall = {
            str(row["tool"]): row
            for row in rows
            if (row["workload"], row["case"]) == (workload, case)
        }
        cells = [
            f"{wall[tool]['wall']:.2f} s, {wall[tool]['cpu']:.2f} s, {wall[tool]['rss']:.0f} MiB"
            if tool in wall
            else "-"
            for tool in tools
        ]
        peers = [float(str(row["wall"])) for tool, row in wall.items() if tool != "builder"]
        ratio = (
            f"{float(str(wall['builder']['wall'])) / min(peers):.2f}"
            if peers and "builder" in wall
            else "-"
        )
        lines.append(f"| {workload} | {case} | " + " | ".join(cells) + f" | {ratio} |")
    return "\n".join(lines) + "\n"


def plot(rows: list[dict[str, object]]) -> str:
    """Bars as SVG: seconds on a logarithmic scale, a group for each workload and case."""
    tools = list(dict.fromkeys(str(row["tool"]) for row in rows))
    colours = dict(zip(tools, ("#2a7f62", "#3b6fb6", "#9db8dd", "#c98b3a"), strict=False))
    cases = list(dict.fromkeys((str(row["workload"]), str(row["case"])) for row in rows))
    wall = {
        (str(row["workload"]), str(row["case"]), str(row["tool"])): float(str(row["wall"]))
        for row in rows
    }
    low, high = 0.05, max(wall.values()) * 1.3
    left, width, bar = 390, 480, 13

    def length(seconds: float) -> float:
        return width * math.log(max(seconds, low * 1.05) / low) / math.log(high / low)

    parts, y = [], 40
    for number, tool in enumerate(tools):
        x = left + number * 130
        parts.append(f'<rect x="{x}" y="10" width="11" height="11" fill="{colours[tool]}"/>')
        parts.append(f'<text x="{x + 16}" y="20">{tool}</text>')
    for workload, case in cases:
        middle = y + bar * len(tools) / 2 + 4
        label = html.escape(f"{workload}: {case}")
        parts.append(f'<text x="{left - 8}" y="{middle:.0f}" text-anchor="end">{label}</text>')
        for tool in tools:
            seconds = wall.get((workload, case, tool))
            if seconds is not None:
                end = length(seconds)
                parts.append(
                    f'<rect x="{left}" y="{y}" width="{end:.0f}" height="{bar - 2}"'
                    f' fill="{colours[tool]}"/>'
                    f'<text x="{left + end + 5:.0f}" y="{y + 10}">{seconds:.2f} s</text>'
                )
            y += bar
        y += 9
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{left + width + 70}" height="{y}"'
        f' font-family="sans-serif" font-size="11">\n<rect width="100%" height="100%"'
        f' fill="white"/>\n{body}\n</svg>\n'
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--only", default="", help="part of a workload's name")
    parser.add_argument("--tools", default="builder,docker,buildah")
    parser.add_argument("--where", help="folder to work in; default: a temporary one")
    parser.add_argument("--json", help="also write the rows there")
    parser.add_argument("--plot", help="also write a plot there, as SVG")
    arguments = parser.parse_args()
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    with tempfile.TemporaryDirectory(dir=arguments.where, prefix="builder-bench-") as name:
        work = Path(name)
        base = work / "base.tar"
        make_base(base)
        wanted = arguments.tools.split(",")
        with contextlib.ExitStack() as stack:
            stack.callback(unmount, work)
            tools: list[Tool] = []
            if "builder" in wanted:
                tools.append(Ours(work, base))
            if "docker" in wanted:
                socket = stack.enter_context(dockerd(work))
                if socket:
                    tools += [Docker(socket, base, True), Docker(socket, base, False)]
            if "buildah" in wanted and shutil.which("buildah"):
                tools.append(Buildah(work, base))
            rows = []
            for workload in WORKLOADS:
                if arguments.only in workload.name:
                    rows += bench(workload, tools, arguments.runs, work)
            print(table(rows))
            if not arguments.only:
                print(f"Peak RSS with a layer of 4 GiB: {big_layer(work):.0f} MiB")
                for gigabytes, seconds in growing(work, arguments.runs).items():
                    print(f"A small change beside {gigabytes} GB unchanged: {seconds:.3f} s")
        if arguments.plot:
            Path(arguments.plot).write_text(plot(rows))
        if arguments.json:
            Path(arguments.json).write_text(json.dumps(rows, indent=2) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())

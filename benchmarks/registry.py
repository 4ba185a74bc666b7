"""Pushes and pulls of 240 MB in 5 layers at a registry on loopback, beside skopeo and docker.

    python benchmarks/registry.py [--runs 5] [--dir /dev/shm] [--docker unix:///run/docker.sock]

Every figure is the median of whole processes (`python -m builder ...`), start and imports included.
Each cold push meets a registry with nothing in it, each cold pull an empty store. skopeo copies
from and into an OCI layout and unpacks nothing; ours checks every layer's diff_id and writes its
path table; docker packs on the way out and unpacks on the way in.
"""

from __future__ import annotations

import argparse
import gzip
import io
import json
import os
import random
import resource
import shutil
import socket
import statistics
import subprocess
import sys
import tarfile
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from builder.oci import media
from builder.oci.digest import DiffID, digest_of
from builder.oci.image import Image, Layer, Platform, empty_image
from builder.store.names import ImageName
from builder.store.store import Store

MB = 1_000_000
LAYERS = (100 * MB, 60 * MB, 45 * MB, 34 * MB, 1 * MB)
ROOT = Path(__file__).parents[1]


def make(store: Store, seeds: tuple[int, ...]) -> Image:
    """Files of 64 KiB, two thirds random: about as compressible as programs are."""
    image = empty_image(Platform())
    for seed, size in zip(seeds, LAYERS, strict=True):
        source, plain = random.Random(seed), io.BytesIO()
        with tarfile.open(fileobj=plain, mode="w") as tar:
            for number in range(size // 65536):
                entry = tarfile.TarInfo(f"layer{seed}/{number}")
                entry.size = 65536
                data = source.randbytes(43690) + bytes(65536 - 43690)
                tar.addfile(entry, io.BytesIO(data))
        packed = gzip.compress(plain.getvalue(), 1, mtime=0)
        layer = Layer(DiffID(digest_of(plain.getvalue())), store.put(packed, media.LAYER_GZIP))
        image = image.append(layer, {"created_by": f"layer {seed}"})
    return image


class Server:
    """A docker-registry with an empty folder."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.name = f"127.0.0.1:{probe.getsockname()[1]}"
        self.data = Path(tempfile.mkdtemp(dir=folder))
        config = self.data / "config.yml"
        config.write_text(
            "version: 0.1\nlog: {level: error, accesslog: {disabled: true}}\n"
            f"storage: {{filesystem: {{rootdirectory: {self.data}/data}}}}\n"
            f"http: {{addr: '{self.name}'}}\n"
        )
        self.process = subprocess.Popen(
            ["docker-registry", "serve", str(config)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        host, _, port = self.name.partition(":")
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex((host, int(port))) == 0:
                    return
            time.sleep(0.02)
        raise SystemExit("docker-registry did not start")

    def close(self) -> None:
        self.process.terminate()
        self.process.wait()
        shutil.rmtree(self.data)


def run(argv: list[str]) -> float:
    began = time.perf_counter()
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    env.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed builder is compiled once, not each time
    done = subprocess.run(argv, capture_output=True, text=True, env=env)
    if done.returncode:
        raise SystemExit(f"{argv[:3]}: {done.stderr}")
    return time.perf_counter() - began


class Ours:
    name = "builder"

    def __init__(self, folder: Path, store: Store) -> None:
        self.store, self.target = store, folder / "pulled"

    def push(self, which: int, name: str) -> float:
        return self.builder("push", self.store.root, f"bench{which}", name)

    def pull(self, which: int, name: str) -> float:
        return self.builder("pull", str(self.target), name)

    @staticmethod
    def builder(verb: str, store: str, *arguments: str) -> float:
        return run([sys.executable, "-m", "builder", verb, "--cache-dir", store, *arguments])

    def forget(self) -> None:
        shutil.rmtree(self.target, ignore_errors=True)


class Skopeo:
    name = "skopeo copy"

    def __init__(self, folder: Path, store: Store) -> None:
        self.store, self.target = store, folder / "skopeo"

    def push(self, which: int, name: str) -> float:
        source = f"oci:{self.store.root}:bench{which}"
        return run(["skopeo", "copy", "-q", "--dest-tls-verify=false", source, f"docker://{name}"])

    def pull(self, which: int, name: str) -> float:
        target = f"oci:{self.target}:x"
        return run(["skopeo", "copy", "-q", "--src-tls-verify=false", f"docker://{name}", target])

    def forget(self) -> None:
        shutil.rmtree(self.target, ignore_errors=True)


class Docker:
    name = "docker"

    def __init__(self, host: str, folder: Path, store: Store) -> None:
        self.docker = ["docker", "-H", host]
        self.local = ["bench0:x", "bench1:x"]
        self.pulled: set[str] = set()
        for which, local in enumerate(self.local):
            archive = folder / "docker.tar"
            source = f"oci:{store.root}:bench{which}"
            run(["skopeo", "copy", "-q", source, f"docker-archive:{archive}:{local}"])
            run([*self.docker, "load", "-q", "-i", str(archive)])
            archive.unlink()

    def push(self, which: int, name: str) -> float:
        run([*self.docker, "tag", self.local[which], name])
        try:
            return run([*self.docker, "push", "-q", name])
        finally:
            run([*self.docker, "rmi", name])

    def pull(self, which: int, name: str) -> float:
        self.pulled.add(name)
        return run([*self.docker, "pull", "-q", name])

    def forget(self) -> None:
        """Its layers go with its last image; the local ones are loaded again by nobody."""
        for name in (*self.pulled, *self.local):
            subprocess.run([*self.docker, "rmi", "-f", name], capture_output=True)
        self.pulled.clear()


ROWS = ("push cold", "push unchanged", "push, a small layer changed")
PULLS = ("pull cold", "pull unchanged", "pull, a small layer changed")


def measure(tool: Ours | Skopeo | Docker, folder: Path, runs: int) -> dict[str, float]:
    times: dict[str, list[float]] = {row: [] for row in (*ROWS, *PULLS)}
    for _ in range(runs):
        server = Server(folder)
        name = f"{server.name}/bench:1"
        try:
            for row, which in zip(ROWS, (0, 0, 1), strict=True):
                times[row].append(tool.push(which, name))
        finally:
            server.close()
    seeded = Server(folder)
    try:
        names = [f"{seeded.name}/bench:{which}" for which in range(2)]
        for which, name in enumerate(names):
            tool.push(which, name)
        for _ in range(runs):
            tool.forget()
            for row, which in zip(PULLS, (0, 0, 1), strict=True):
                times[row].append(tool.pull(which, names[which]))
        tool.forget()
    finally:
        seeded.close()
    return {row: statistics.median(each) for row, each in times.items()}


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--dir", default=None, help="where the stores and registries are")
    parser.add_argument("--docker", help="address of an engine to compare with")
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="registry-bench-", dir=options.dir))
    try:
        store = Store(str(folder / "store"))
        images = make(store, (0, 1, 2, 3, 4)), make(store, (0, 1, 2, 3, 5))
        for which, image in enumerate(images):
            store.put(image.config_bytes(), media.CONFIG)
            store.tag(
                ImageName(f"bench{which}", image.platform),
                store.put(image.manifest_bytes(), media.MANIFEST),
            )
        tools: list[Callable[[], Ours | Skopeo | Docker]] = [
            lambda: Ours(folder, store),
            lambda: Skopeo(folder, store),
        ]
        if options.docker:
            tools.append(lambda: Docker(options.docker, folder, store))
        made = [tool() for tool in tools]
        results = {tool.name: measure(tool, folder, options.runs) for tool in made}
        store.close()
    finally:
        shutil.rmtree(folder)
    size = sum(layer.blob.size for layer in images[0].layers)
    print(
        f"{size / MB:.0f} MB in {len(LAYERS)} gzip layers ({sum(LAYERS) / MB:.0f} MB unpacked), "
        f"{os.cpu_count()} cores, median of {options.runs}, seconds\n"
    )
    print("| | " + " | ".join(results) + " |\n|---" * 1 + "|---" * len(results) + "|")
    for row in (*ROWS, *PULLS):
        print(f"| {row} | " + " | ".join(f"{each[row]:.2f}" for each in results.values()) + " |")
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    print(
        f"\npeak RSS of any child: {peak / 1024:.0f} MB",
        json.dumps(results),
        sep="\n",
        file=sys.stderr,
    )


if __name__ == "__main__":
    main()

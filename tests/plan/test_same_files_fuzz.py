"""Files that are renamed, linked, overwritten, swapped and made anew between builds, in several
contexts with one store: every layer is that of a fresh store, which knows of no file.
`BUILDER_SAME_FILES=N` runs N rounds, BUILDER_SEED chooses them."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from builder.project import Options, Project

ROUNDS = int(os.environ.get("BUILDER_SAME_FILES", "2"))
SEED = int(os.environ.get("BUILDER_SEED", "1"))
CONTEXTS = 6  # they grow old together
FOLDERS = ("a", "b", "c/d")


def files(root: Path) -> list[Path]:
    return sorted(
        path for path in (root / "src").rglob("*") if path.is_file() and not path.is_symlink()
    )


def fresh_path(root: Path, seeded: random.Random) -> Path:
    path = root / "src" / seeded.choice(FOLDERS) / f"f{seeded.randrange(40)}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.unlink(missing_ok=True)
    return path


def content(seeded: random.Random) -> bytes:
    return seeded.randbytes(2) * seeded.choice((1, 1, 500))  # few sizes: times alone tell them


def make(root: Path, seeded: random.Random) -> None:
    fresh_path(root, seeded).write_bytes(content(seeded))


def rename(root: Path, seeded: random.Random) -> None:
    found = seeded.choice(files(root))
    path = fresh_path(root, seeded)
    if found.exists():
        os.rename(found, path)


def link(root: Path, seeded: random.Random) -> None:
    found = seeded.choice(files(root))
    path = fresh_path(root, seeded)
    if found.exists():
        os.link(found, path)


def overwrite(root: Path, seeded: random.Random) -> None:
    """The same inode, size and mtime."""
    found = seeded.choice(files(root))
    status = found.stat()
    with found.open("r+b") as file:
        file.write(seeded.randbytes(status.st_size))
    os.utime(found, ns=(status.st_atime_ns, status.st_mtime_ns))


def anew(root: Path, seeded: random.Random) -> None:
    """A file in another's place, as a rule with its inode; of the same size and mtime."""
    found = seeded.choice(files(root))
    status = found.stat()
    found.unlink()
    found.write_bytes(seeded.randbytes(status.st_size))
    os.utime(found, ns=(status.st_atime_ns, status.st_mtime_ns))


def swap(root: Path, seeded: random.Random) -> None:
    one, other = seeded.choices(files(root), k=2)
    os.rename(one, root / "third")
    with contextlib.suppress(FileNotFoundError):
        os.rename(other, one)
    os.rename(root / "third", other)


def move(root: Path, seeded: random.Random) -> None:
    """A folder under another name; what is there already gets its name."""
    one, other = (root / "src" / name for name in seeded.sample(("a", "b", "e"), 2))
    os.rename(one, root / "third") if one.exists() else (root / "third").mkdir()
    if other.exists():
        os.rename(other, one)
    os.rename(root / "third", other)


def twin(root: Path, seeded: random.Random) -> None:
    """A folder of hard links, as `cp -al` makes it."""
    other = root / "src" / "twin"
    shutil.rmtree(other, ignore_errors=True)
    found = root / "src" / seeded.choice(FOLDERS)
    if found.exists():
        shutil.copytree(found, other, copy_function=os.link)


def mode(root: Path, seeded: random.Random) -> None:
    os.chmod(seeded.choice(files(root)), seeded.choice((0o644, 0o755)))


CHANGES: tuple[Callable[[Path, random.Random], None], ...]
CHANGES = (make, rename, link, overwrite, anew, swap, move, twin, mode)


def write_specs(root: Path, seeded: random.Random, number: int) -> list[str]:
    """Of names that no build knew before."""
    shutil.rmtree(root / "specs", ignore_errors=True)
    (root / "specs").mkdir()
    names = []
    for image in range(3):
        steps = []
        for _ in range(seeded.randint(1, 3)):
            there = ["src", "src/*", *(f"src/{each.name}" for each in (root / "src").iterdir())]
            there += [f"{path.relative_to(root)}" for path in seeded.choices(files(root), k=4)]
            sources = "', '".join(seeded.choices(there, k=seeded.choice((1, 1, 2))))
            dest = f"/{seeded.choice('xy')}/"
            exclude = seeded.choice(("", ", exclude: ['f1*']"))
            keep = seeded.choice(("", "", ", preserve: [mode, mtime]"))
            steps.append(f"- {{copy: ['{sources}'], dest: {dest}{exclude}{keep}}}\n")
        names.append(f"i{number}-{image}")
        text = "from: scratch\nsteps:\n" + "".join(steps)
        (root / "specs" / f"{names[-1]}.yaml").write_text(text)
    return names


def layers(root: Path, store: Path, names: list[str], jobs: int) -> dict[str, tuple[object, ...]]:
    options = Options(
        specs=str(root / "specs"), context=str(root), cache_dir=str(store), pull="never", jobs=jobs
    )
    project = Project(options)
    built = project.build(project.load(names)[0])
    return {name: image.image.layers for name, image in built.items()}


def test_layers_are_those_of_a_fresh_store(tmp_path: Path) -> None:
    seeded = random.Random(SEED)
    roots = [tmp_path / f"context{number}" for number in range(CONTEXTS)]
    for root in roots:
        for _ in range(seeded.choice((20, 100))):
            make(root, seeded)
    for number in range(ROUNDS):
        for root in roots:
            for _ in range(seeded.randint(0, 4)):
                seeded.choice(CHANGES)(root, seeded)
        time.sleep(2.1)  # else nothing is remembered of what changed
        for root in roots:
            if seeded.random() < 0.2:
                seeded.choice(CHANGES)(root, seeded)  # too young to be remembered
            names = write_specs(root, seeded, number)
            found = layers(root, tmp_path / "store", names, seeded.choice((1, 3)))
            fresh = tmp_path / "fresh"
            assert found == layers(root, fresh, names, 1), f"round {number}, {root}"
            shutil.rmtree(fresh)

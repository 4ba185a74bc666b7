"""Random projects for several platforms: one build makes of all what a build of each makes."""

from __future__ import annotations

import os
import random
from pathlib import Path

import pytest

from builder.oci.image import Platform, host_platform, parse_platforms
from builder.project import Options, Project

ROUNDS = int(os.environ.get("BUILDER_PLATFORM_ROUNDS", "4"))
PLATFORMS = ("linux/386", "linux/amd64", "linux/arm/v7", "linux/arm64", "linux/s390x")
SAYS = ("same", "{{ target.arch }}", "{{ target.platform }}", "{{ host.arch }}", "{{ v }}")


def steps(dice: random.Random, origins: list[str], label: str) -> str:
    lines = []
    for number in range(dice.randint(1, 3)):
        if origins and dice.random() < 0.6:
            lines.append(
                f"  - {{copy: /f, from: '{dice.choice(origins)}', dest: /{label}{number}/}}"
            )
        else:
            says = dice.choice(SAYS)
            when = "when: 'target.arch != \"amd64\"', " if dice.random() < 0.2 else ""
            lines.append(f"  - {{{when}file: /{label}{number}, content: '{says}'}}")
    lines.append(f"  - {{file: /f, content: '{label} {dice.choice(SAYS)}'}}")
    return "\n".join(lines)


def write(folder: Path, dice: random.Random) -> dict[str, list[str]]:
    """A project; by image the platforms that its spec names."""
    made: dict[str, list[str]] = {}
    for number in range(dice.randint(2, 4)):
        name = f"i{number}"
        # what stands on another is for no platform that the other is not for
        named = [each for each in made if made[each]]
        own = sorted(dice.sample(PLATFORMS, dice.randint(1, 3))) if dice.random() < 0.4 else []
        below = [f"image:{each}" for each in made if each not in named]
        text = f"platforms: [{', '.join(own)}]\n" if own else ""
        text += f"vars: {{v: {name}}}\n"
        stages: list[str] = []
        body = ""
        for count in range(dice.randint(0, 3)):
            origins = [*(f"stage:{each}" for each in stages), *below]
            host = dice.random() < 0.5
            base = dice.choice(["scratch", *below])
            extra = "    platform: host\n" if host else ""
            inner = "\n".join("  " + line for line in steps(dice, origins, f"s{count}").split("\n"))
            body += f"  s{count}:\n    from: '{base}'\n{extra}    steps:\n{inner}\n"
            stages.append(f"s{count}")
        if body:
            text += f"stages:\n{body}"
        origins = [*(f"stage:{each}" for each in stages), *below]
        text += (
            f"from: '{dice.choice(['scratch', *below])}'\nsteps:\n{steps(dice, origins, name)}\n"
        )
        (folder / f"specs/{name}.yaml").write_text(text)
        made[name] = own
    return made


def digests(
    root: Path, store: Path, platforms: tuple[Platform, ...], images: list[str]
) -> tuple[dict[tuple[str, str], str], dict[str, str], int]:
    """By name and platform the manifests, by name the indexes, and how many layers were made."""
    project = Project(Options(str(store), str(root / "specs"), platforms=platforms))
    specs, names = project.load(images)
    built = project.build(specs)
    asked = {part for name in names for part in project.images[name]}
    manifests = {
        (each.spec.name, str(each.image.platform)): each.manifest.digest
        for task, each in built.items()
        if task in asked
    }
    indexes = {
        name.name: blob.digest
        for name, blob in project.store.names().items()
        if not name.platform.os
    }
    made = sum(step.status == "built" for each in built.values() for step in each.steps)
    return manifests, indexes, made


@pytest.mark.parametrize("seed", range(ROUNDS))
def test_all_at_once_is_each_by_itself(tmp_path: Path, seed: int) -> None:
    dice = random.Random(seed)
    (tmp_path / "specs").mkdir()
    own = write(tmp_path, dice)
    chosen = parse_platforms([",".join(dice.sample(PLATFORMS, 2))])
    open_ones = [name for name, named in own.items() if not named]
    together = tmp_path / "together"
    for images, platforms in ((open_ones, chosen), ([n for n in own if own[n]], ())):
        if not images:
            continue
        manifests, indexes, _ = digests(tmp_path, together, platforms, images)
        # again there is nothing to do, and nothing is another
        assert digests(tmp_path, together, platforms, images)[:] == (manifests, indexes, 0)
        alone: dict[tuple[str, str], str] = {}
        for name in images:
            for each in platforms or parse_platforms([",".join(own[name])]):
                store = tmp_path / f"alone-{each.architecture}"
                alone.update(digests(tmp_path, store, (each,), [name])[0])
        assert manifests == alone, f"seed {seed}"
        for name in images:
            several = len(platforms or own[name]) > 1
            assert (name in indexes) == several
    if open_ones:
        here = digests(tmp_path, tmp_path / "here", (), open_ones)[0]
        assert {platform for _, platform in here} == {str(host_platform())}

"""What is kept of a step that failed: the tree and the surroundings that it had, within bounds, and
no secret."""

from __future__ import annotations

import os
import random

import pytest

from tests.shell.conftest import Place

pytestmark = [pytest.mark.root, pytest.mark.needs("runc", "busybox")]

ROUNDS = int(os.environ.get("BUILDER_SHELL_ROUNDS", "2"))
EXECUTORS = pytest.mark.parametrize("executor", ["sandbox", "runc"])
LIST = r"""cd /; find . -path ./proc -prune -o -path ./sys -prune -o -path ./dev -prune \
  -o -path ./bin -prune -o -path ./told -prune -o -path ./etc/hosts -o -path ./etc/resolv.conf \
  -o -print | sort | while IFS= read -r f; do
  if [ -d "$f" ] && [ ! -L "$f" ]; then s=; else s=$(stat -c '%s %Y' "$f"); fi
  echo "$f $(stat -c '%f %u %g' "$f") $s $(readlink "$f") $([ -f "$f" ] && md5sum < "$f")"
done"""


def a_step(seed: int) -> str:
    """Lines that change a tree at random; most do something, some fail."""
    chance = random.Random(seed)
    names = [
        "a",
        "b",
        "old",
        "old/deep",
        "old/deep/file",
        "link",
        "a/in",
        "b/in",
        "sp ace",
        "old/n",
    ]

    def path() -> str:
        return f"'/srv/{chance.choice(names)}'"

    acts = [
        lambda: f"mkdir -p {path()}",
        lambda: f"echo {chance.random()} > {path()}",
        lambda: f"echo more >> {path()}",
        lambda: f"rm -rf {path()}",
        lambda: f"mv {path()} {path()}",
        lambda: f"ln -s {chance.choice(['old', '/etc/passwd', 'nowhere'])} {path()}",
        lambda: f"ln {path()} {path()}",
        lambda: f"chmod {chance.choice(['600', '4755', '1777', '000'])} {path()}",
        lambda: f"chown {chance.choice(['1000:44', '0:7', '65534:65534'])} {path()}",
        lambda: f"mkfifo {path()}",
        lambda: f"cp -a /srv/old {path()}",
        lambda: f"touch -d @{chance.randrange(10**9)} {path()}",
        lambda: f"rm -rf /srv/old; mkdir /srv/old; echo anew > {path()}",
    ]
    return "\n".join(f"({chance.choice(acts)()}) 2>/dev/null" for _ in range(chance.randrange(30)))


@EXECUTORS
def test_what_the_step_saw_last_is_what_is_there(executor: str, place: Place) -> None:
    for seed in range(ROUNDS):
        script = f"{a_step(seed)}\n({LIST}) > /told/list\nexit 1\n"
        place.spec(
            "from: rootfs:base.tar\nsteps:\n"
            "  - run: |\n"
            + "".join(f"      {line}\n" for line in script.splitlines())
            + "    errexit: false\n    mounts: [{cache: told, target: /told}]\n"
        )
        place.fails("app", "--executor", executor)
        at = ("--failed", "app", "--executor", executor)
        told = place.sh(*at, script="cat /told/list")
        assert "/srv" in told, seed
        assert place.sh(*at, script=f"({LIST})") == told, seed

"""What a step can tell of its executor is in its key, or is the same in all of them."""

from __future__ import annotations

from typing import Any

import pytest

from builder.executor.choose import NAMES
from builder.executor.path import unlike

ALIKE = [name for name in NAMES if not unlike(name, {})]
PROBES = {
    "the host's name": "uname -n; hostname",
    "process 1": "echo $$; kill -TERM $$; echo went on",
    "what there is": "find / -xdev | grep -v '^/\\(proc\\|sys\\|bin\\|dev/pts\\)/' | sort",
    "files of /etc": "cp -a /etc /x; cd /x; find . | sort; cat hosts resolv.conf",
    "limits and masks": "umask; id; env | sort; pwd",
    "signals that are ignored": "grep -E '^Sig(Blk|Ign)' /proc/self/status",
}


def test_those_that_differ_are_named() -> None:
    assert [unlike(name, {}) for name in ("docker", "chroot", "runc", "sandbox")] == [
        "docker",
        "chroot",
        "",
        "",
    ]


@pytest.mark.root
@pytest.mark.needs("busybox", "runc")
@pytest.mark.parametrize("network", ["host", "none"])
@pytest.mark.parametrize("probe", PROBES)
def test_the_others_are_the_same_to_a_step(probe: str, network: str, runner: Any) -> None:
    seen = []
    for name in ALIKE:
        step = runner(name)
        layer = step.run(PROBES[probe], network=network)
        seen.append((step.output, list(layer.items())))
    assert len(ALIKE) > 1
    assert all(each == seen[0] for each in seen[1:]), seen

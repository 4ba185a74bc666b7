"""The config document beside what a Dockerfile's instructions make of it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

BASE = """FROM scratch
COPY file /file
ENV PATH=/base/bin B=base A=base
LABEL a=base keep=base
EXPOSE 80
VOLUME /base
WORKDIR /base/work
USER 5
ENTRYPOINT ["/base"]
CMD ["from", "base"]
STOPSIGNAL SIGINT
"""

CASES: dict[str, tuple[str, dict[str, Any]]] = {
    "nothing": ("", {}),
    "env keeps the base's order, new ones last": (
        "ENV Z=1 A=changed\nENV C=2 PATH=/mine:$PATH",
        {"env": {"Z": "1", "A": "changed", "C": "2", "PATH": "/mine:/base/bin"}},
    ),
    "folders in front of the base's PATH": (
        "ENV PATH=/mine:/more:$PATH",
        {"path": ["/mine", "/more"]},
    ),
    "folders in front of an own PATH": (
        "ENV PATH=/own\nENV PATH=/mine:$PATH",
        {"env": {"PATH": "/own"}, "path": "/mine"},
    ),
    "what the base says, in templates": (
        "ENV PATH=/mine:$PATH A=$A-$B\nLABEL user=5",
        {
            "env": {"PATH": "/mine:{{ base.env.PATH }}", "A": "{{ base.env.A }}-{{ base.env.B }}"},
            "labels": {"user": "{{ base.user }}"},
        },
    ),
    "an empty and an odd value": (
        'ENV EMPTY= EQUALS=a=b SPACE="a b"',
        {"env": {"EMPTY": "", "EQUALS": "a=b", "SPACE": "a b"}},
    ),
    "user": ("USER 33:34", {"user": "33:34"}),
    "entrypoint clears cmd": ('ENTRYPOINT ["/new", "a"]', {"entrypoint": ["/new", "a"]}),
    "entrypoint with cmd": (
        'ENTRYPOINT ["/new"]\nCMD ["b"]',
        {"entrypoint": ["/new"], "cmd": ["b"]},
    ),
    "cmd": ('CMD ["only"]', {"cmd": ["only"]}),
    "an empty cmd": ("CMD []", {"cmd": []}),
    "an empty entrypoint": ("ENTRYPOINT []", {"entrypoint": []}),
    "cmd as text": ("CMD only $A && b", {"cmd": "only $A && b"}),
    "cmd as text of several lines": ("CMD a; \\\n  b", {"cmd": "a;   b"}),
    "entrypoint as text": ("ENTRYPOINT exec /new $A", {"entrypoint": "exec /new $A"}),
    "both as text": (
        "ENTRYPOINT exec /new\nCMD b 'c d'",
        {"entrypoint": "exec /new", "cmd": "b 'c d'"},
    ),
    "entrypoint as text with words of cmd": (
        'ENTRYPOINT exec /new\nCMD ["b"]',
        {"entrypoint": "exec /new", "cmd": ["b"]},
    ),
    "text for an own shell": (
        'SHELL ["/bin/bash", "-eo", "pipefail", "-c"]\nENTRYPOINT a | b\nCMD c',
        {"shell": ["/bin/bash", "-eo", "pipefail", "-c"], "entrypoint": "a | b", "cmd": "c"},
    ),
    "ranges of ports": (
        "EXPOSE 8000-8010/tcp 53-55/udp 70-70 80-82 9-10/sctp 65534-65535",
        {
            "exposed_ports": [
                *("8000-8010/tcp", "53-55/udp", "70-70", "80-82", "9-10/sctp", "65534-65535"),
            ]
        },
    ),
    "exposed ports add up": (
        "EXPOSE 80/tcp 53/udp 8080",
        {"exposed_ports": ["80/tcp", "53/udp", "8080"]},
    ),
    "volumes add up": ('VOLUME ["/data", "/more"]', {"volumes": ["/data", "/more"]}),
    "labels add up": (
        'LABEL a=mine b="with space"',
        {"labels": {"a": "mine", "b": "with space"}},
    ),
    "healthcheck": (
        'HEALTHCHECK --interval=30s --timeout=3s --start-period=1m --retries=4 CMD ["/ok", "x"]',
        {
            "healthcheck": {
                "test": ["CMD", "/ok", "x"],
                "interval": "30s",
                "timeout": "3s",
                "start_period": "1m",
                "retries": 4,
            }
        },
    ),
    "healthcheck by the shell": ("HEALTHCHECK CMD /ok x", {"healthcheck": {"test": "/ok x"}}),
    "no healthcheck": ("HEALTHCHECK NONE", {"healthcheck": {"test": ["NONE"]}}),
    "no healthcheck, as a word": ("HEALTHCHECK NONE", {"healthcheck": {"test": "NONE"}}),
    "shell": ('SHELL ["/bin/bash", "-c"]', {"shell": ["/bin/bash", "-c"]}),
    "stop signal": ("STOPSIGNAL SIGQUIT", {"stop_signal": "SIGQUIT"}),
    "an absolute working directory": ("WORKDIR /other", {"working_dir": "/other"}),
}

FIELDS = (
    "Env", "User", "Entrypoint", "Cmd", "ExposedPorts", "Volumes", "Labels", "Healthcheck",
    "Shell", "StopSignal", "WorkingDir",
)  # fmt: skip


@pytest.fixture(scope="module")
def base(sides: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A context with the base's archive in it."""
    context = tmp_path_factory.mktemp("config")
    (context / "file").write_text("file")
    assert not sides.build(BASE, context, "parity:config-base", buildkit=True)
    (context / "base.tar").write_bytes(sides.out("save", "parity:config-base"))
    return context


@pytest.mark.root
@pytest.mark.needs("dockerd")
@pytest.mark.parametrize("name", CASES)
def test_config_is_what_docker_makes_of_it(
    sides: Any, base: Path, tmp_path: Path, name: str
) -> None:
    dockerfile, change = CASES[name]
    text = f"FROM parity:config-base\n{dockerfile}\n"
    assert not sides.build(text, base, "parity:theirs", buildkit=True)
    done = sides.ours({"from": "docker-archive:base.tar", "config": change}, base, tmp_path)
    assert done.returncode == 0, done.stderr
    theirs = sides.config("parity:theirs")
    _, config = sides.built(tmp_path)
    ours = config["config"]
    assert {name: ours.get(name) or None for name in FIELDS} == {
        name: theirs.get(name) or None for name in FIELDS
    }


@pytest.mark.root
@pytest.mark.needs("dockerd")
def test_text_runs_under_the_shell_of_the_base(sides: Any, base: Path, tmp_path: Path) -> None:
    shell = 'FROM parity:config-base\nSHELL ["/odd", "-x", "-c"]\n'
    assert not sides.build(shell, base, "parity:shell-base", buildkit=True)
    (tmp_path / "base.tar").write_bytes(sides.out("save", "parity:shell-base"))
    text = "FROM parity:shell-base\nENTRYPOINT a $A\nCMD b\nHEALTHCHECK CMD c\n"
    assert not sides.build(text, tmp_path, "parity:theirs", buildkit=True)
    change = {"entrypoint": "a $A", "cmd": "b", "healthcheck": {"test": "c"}}
    done = sides.ours({"from": "docker-archive:base.tar", "config": change}, tmp_path, tmp_path)
    assert done.returncode == 0, done.stderr
    theirs = sides.config("parity:theirs")
    ours = sides.built(tmp_path)[1]["config"]
    assert {name: ours.get(name) or None for name in FIELDS} == {
        name: theirs.get(name) or None for name in FIELDS
    }
    assert ours["Cmd"] == ["/odd", "-x", "-c", "b"]


@pytest.mark.root
@pytest.mark.needs("dockerd")
def test_the_first_interval_of_a_healthcheck(sides: Any, base: Path, tmp_path: Path) -> None:
    """Docker has it from version 25: StartInterval of the config document, in nanoseconds, beside
    the fields that this engine knows."""
    text = "FROM parity:config-base\nHEALTHCHECK --start-period=1m CMD c\n"
    assert not sides.build(text, base, "parity:theirs", buildkit=True)
    check = {"test": "c", "start_period": "1m", "start_interval": "500ms"}
    spec = {"from": "docker-archive:base.tar", "config": {"healthcheck": check}}
    done = sides.ours(spec, base, tmp_path)
    assert done.returncode == 0, done.stderr
    theirs = sides.config("parity:theirs")["Healthcheck"]
    ours = sides.built(tmp_path)[1]["config"]["Healthcheck"]
    assert ours == {**theirs, "StartInterval": 500_000_000}


@pytest.mark.root
@pytest.mark.needs("dockerd")
def test_onbuild_is_not_handed_on(sides: Any, tmp_path: Path) -> None:
    """Docker runs the base's triggers first; neither leaves them in the image."""
    (tmp_path / "file").write_text("file")
    text = "FROM scratch\nCOPY file /file\nONBUILD LABEL triggered=yes\n"
    assert not sides.build(text, tmp_path, "parity:onbuild-base", buildkit=True)
    assert sides.config("parity:onbuild-base")["OnBuild"] == ["LABEL triggered=yes"]
    (tmp_path / "base.tar").write_bytes(sides.out("save", "parity:onbuild-base"))
    assert not sides.build("FROM parity:onbuild-base\n", tmp_path, "parity:theirs", buildkit=True)
    theirs = sides.config("parity:theirs")
    assert not theirs.get("OnBuild") and theirs["Labels"] == {"triggered": "yes"}
    done = sides.ours({"from": "docker-archive:base.tar"}, tmp_path, tmp_path)
    assert done.returncode == 0, done.stderr
    assert "the base's ONBUILD is not run" in done.stderr
    config = sides.built(tmp_path)[1]["config"]
    assert not config.get("OnBuild") and not config.get("Labels")

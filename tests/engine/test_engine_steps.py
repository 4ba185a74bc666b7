"""A step that an engine runs gives the layer that the embedded executor gives, to the byte."""

from __future__ import annotations

import contextlib
import os
import shutil
import tempfile
from pathlib import Path
from typing import Any

import pytest

from builder.errors import CommandFailed, ExecutorError, LayerError
from builder.executor.docker import Docker
from builder.layer.entry import DIRECTORY, FILE, HARDLINK, Entry
from builder.store.store import Store

pytestmark = [pytest.mark.root, pytest.mark.needs("runc", "busybox", "setcap")]

# each holds several of the table's steps, for the way that takes seconds
GENERAL = {
    "removed": "rm /srv/old/file /srv/kept/a; rm -r /srv/old/deep; touch /srv/aaa",
    "made anew": "rm -r /srv/old; mkdir /srv/old; rm -r /srv/kept; echo x > /srv/kept",
    "links, modes, devices": "echo 1 > /b; ln /b /a; chown 7:8 /a; chmod 4711 /b; mkfifo /p;"
    " mknod /n c 1 3; cp /bin/busybox /c; setcap cap_net_raw+ep /c; touch $(printf '/\\377')",
    "as it was": "cp -a /srv/kept /x; rm -r /srv/kept; mv /x /srv/kept",
    "nothing": "true",
}


def same(bench: Any, text: str, docker: Docker | None = None) -> Any:
    embedded = bench.run(text, bench.embedded())
    found = bench.run(text, docker)
    assert found.entries == embedded.entries
    assert (found.layer and found.layer.diff_id) == (embedded.layer and embedded.layer.diff_id)
    return found


def test_the_layer_is_the_embedded_executors(bench: Any, step: str) -> None:
    same(bench, step)


def test_many_removed_files_are_one_device_in_the_engine(bench: Any) -> None:
    found = same(bench, "rm -r /srv/old /srv/kept /srv/one /srv/link /etc/passwd")
    assert sum(b".wh." in entry.path for entry in found.entries) == 5


@pytest.mark.parametrize("text", GENERAL.values(), ids=GENERAL)
def test_the_general_way_gives_the_same(bench: Any, text: str) -> None:
    docker = Docker(bench.environ, bench.store, bench.warnings.append, quick=False)
    same(bench, text, docker)
    docker.close()


def test_steps_stand_on_the_layers_of_steps(make_bench: Any) -> None:
    bench = make_bench()
    bench.add([
        (Entry(b"srv", DIRECTORY, 0o755, mtime=5), None),
        (Entry(b"srv/.wh.old", FILE, 0o600), b""),
        (Entry(b"srv/first", FILE, 0o644, mtime=7, size=3), b"abc"),
        (Entry(b"srv/second", HARDLINK, 0o644, link=b"srv/first"), None),
        (Entry(b"srv/\xff", DIRECTORY, 0o700, 3, 4, mtime=5), None),
        (Entry(b"srv/\xff/\xfe", FILE, 0o644, mtime=6, size=1), b"x"),
    ])  # fmt: skip
    assert b"old" not in bench.run("ls /srv").output
    same(bench, "rm -r /srv/$(printf '\\377'); mkdir /srv/$(printf '\\377')")
    same(bench, "chmod 600 /srv/second; chmod 644 /srv/second; touch -d @7 /srv/second")
    same(bench, "printf abd > /srv/second; touch -d @7 /srv/second")


ATTRIBUTES = {
    "folder alone": "setfattr -n user.note -v hi /srv/old",
    "removed": "setfattr -n user.note -v hi /srv/old; setfattr -x user.note /srv/old",
    "several, of one file with two names": "echo 1 > /b; ln /b /a; setfattr -n user.z -v 1 /a;"
    " setfattr -n user.a -v 0x00ff0a /b; setfattr -n user.empty /b",
    "beside a capability": "cp /bin/busybox /p; setcap cap_net_raw+ep /p;"
    " setfattr -n user.note -v hi /p; chmod 000 /p; chown 1000 /p",
    "large, behind a long path": "x=$(printf 'x%.0s' $(seq 200)); d=/$x/$x/$x/$x; mkdir -p $d;"
    " touch $d/f; setfattr -n user.large -v $(printf 'v%.0s' $(seq 2000)) $d/f",
    "not UTF-8": "d=/$(printf '\\377'); mkdir $d; setfattr -n user.note -v hi $d",
}


@pytest.mark.needs("setfattr")
@pytest.mark.parametrize("text", ATTRIBUTES.values(), ids=ATTRIBUTES)
def test_attributes_that_archives_leave_out_are_asked_for(bench: Any, text: str) -> None:
    same(bench, text)


@pytest.mark.needs("setfattr")
def test_the_general_way_loses_the_attributes_of_users_and_says_so(bench: Any) -> None:
    warnings: list[str] = []
    docker = Docker(bench.environ, bench.store, warnings.append, quick=False)
    for _ in range(2):
        assert bench.run("setfattr -n user.note -v hi /srv/kept/a", docker).layer is None
    docker.close()
    assert len([text for text in warnings if "user.* extended attributes" in text]) == 1


def test_the_engines_own_files_cannot_be_removed(bench: Any) -> None:
    with pytest.raises(CommandFailed):
        bench.run("rm /etc/hosts")


def test_a_name_that_means_deletion_is_an_error(bench: Any) -> None:
    with pytest.raises(LayerError, match=r"'/srv/.wh.x': a layer cannot hold"):
        bench.run("touch /srv/.wh.x")


def test_the_environment_is_the_commands_alone(bench: Any) -> None:
    found = bench.run(("env",), env={"PATH": "/bin", "HOME": "/", "GREETING": "a b=c"})
    assert found.output == b"PATH=/bin\nHOME=/\nGREETING=a b=c\n"


def test_what_the_config_says_does_not_touch_a_step(bench: Any) -> None:
    before = bench.image
    config = {
        "Env": ["CANARY=1"],
        "Volumes": {"/srv/kept": {}},
        "Entrypoint": ["/bin/false"],
        "User": "1000",
        "Healthcheck": {"Test": ["CMD", "false"]},
    }
    bench.image = before._replace(config={**before.config, "config": config})
    try:
        found = bench.run("env; id -u; echo new > /srv/kept/new")
    finally:
        bench.image = before
    assert b"CANARY" not in found.output and b"\n0\n" in found.output
    assert found.entries[-1].path == b"srv/kept/new"


def test_user_group_and_supplementary_groups(bench: Any) -> None:
    found = bench.run("id -u; id -g; id -G; touch /tmp/f", uid=1000, gid=1001, groups=(1001, 20))
    uid, gid, groups, *_ = found.output.split(b"\n")
    assert (uid, gid, sorted(groups.split())) == (b"1000", b"1001", [b"1001", b"20"])
    assert [(entry.path, entry.uid, entry.gid) for entry in found.entries[1:]] == [
        (b"tmp/f", 1000, 1001)
    ]


def test_working_dir_is_made_and_the_host_has_one_name(bench: Any) -> None:
    found = bench.run("pwd; hostname; touch x", working_dir="/srv/work/dir")
    assert found.output == b"/srv/work/dir\nlocalhost\n"
    assert [(e.path, e.mode, e.uid) for e in found.entries[1:]] == [
        (b"srv/work", 0o755, 0),
        (b"srv/work/dir", 0o755, 0),
        (b"srv/work/dir/x", 0o644, 0),
    ]


@pytest.mark.parametrize("network", ["none", "host"])
def test_network(bench: Any, network: str) -> None:
    found = bench.run("tail -n +3 /proc/net/dev | cut -d: -f1", network=network)
    interfaces = found.output.split()
    assert (interfaces == [b"lo"]) == (network == "none")
    assert len(bench.run("hostname", network=network).output.split()) == 1


@pytest.mark.parametrize(
    ("text", "changes", "status", "message"),
    [
        ("exit 3", {}, 3, "exit status 3"),
        ("nosuchcommand", {}, 127, "exit status 127"),
        ("sh -c 'kill -9 $$'; true", {}, 137, r"killed by signal 9 \(SIGKILL\)"),
        (("/no/such",), {}, 127, "the image has no /no/such"),
        (("nosuch", "x"), {}, 127, "the image has no nosuch"),
        (("/etc/passwd",), {}, 126, "'/etc/passwd': Permission denied"),
        ("true", {"working_dir": "/srv/one"}, 127, "working_dir '/srv/one': .*not a directory"),
    ],
)
def test_a_failure_says_what_happened(
    bench: Any, text: Any, changes: dict[str, Any], status: int, message: str
) -> None:
    with pytest.raises(CommandFailed, match=message) as caught:
        bench.run(text, **changes)
    assert caught.value.exit_status == status


def test_output_comes_as_it_is_and_its_end_with_a_failure(bench: Any) -> None:
    assert bench.run("printf 'a\\377'; echo b >&2").output in (b"a\xffb\n", b"b\na\xff")
    with pytest.raises(CommandFailed) as caught:
        bench.run("seq 100; printf end; exit 1")
    assert caught.value.tail == (*map(str, range(82, 101)), "end")


def test_an_id_beyond_docker_is_told(bench: Any) -> None:
    with pytest.raises(ExecutorError, match=r"docker: .*range"):
        bench.run("true", uid=4294967294)


def test_probe(bench: Any, tmp_path: Path) -> None:
    store = Store(str(tmp_path / "s"))
    assert Docker(bench.environ, store, print).probe() is None
    why = Docker({"DOCKER_HOST": "unix:///nope"}, store, print).probe()
    assert why == "no Docker engine at unix:///nope: there is no such socket"


def test_an_ordinary_user_gets_the_same_layer_from_an_engine_far_away(
    bench: Any, make_proxy: Any
) -> None:
    """Nothing is shared with the engine but a connection."""
    text = (
        "cp /bin/busybox /b; setcap cap_net_raw+ep /b; chown 7:8 /srv/one; mknod /n c 1 3;"
        " rm /srv/two"
    )
    wanted = bench.run(text)
    folder = Path(tempfile.mkdtemp(prefix="far-"))
    try:
        folder.chmod(0o755)
        shutil.copytree(bench.store.root, folder / "store")
        for each in (folder, *folder.rglob("*")):
            os.chown(each, 65534, 65534, follow_symlinks=False)
        host = make_proxy().host
        read, write = os.pipe()
        child = os.fork()
        if child == 0:
            with contextlib.suppress(BaseException):
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
                bench.store = Store(str(folder / "store"))
                bench.docker = Docker({"DOCKER_HOST": host}, bench.store, print)
                found = bench.run(text)
                os.write(write, found.layer.diff_id.encode())
                bench.docker.close()
            os._exit(0)
        os.close(write)
        os.waitpid(child, 0)
        assert os.read(read, 200).decode() == wanted.layer.diff_id
        os.close(read)
    finally:
        shutil.rmtree(folder)

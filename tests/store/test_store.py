"""What the store keeps, how it is read back, and what it refuses."""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import tarfile
import time
from pathlib import Path

import pytest

from builder.errors import CorruptBlob, StoreError
from builder.events import Event, Noted, Warned
from builder.oci import media
from builder.oci.digest import digest_of
from builder.oci.image import Descriptor, Layer, Platform, empty_image
from builder.store import unpacked
from builder.store.check import check
from builder.store.incoming import write
from builder.store.names import ImageName
from builder.store.store import Store

KEY = "a" * 64


def test_a_blob_comes_back_as_it_was_written(store: Store) -> None:
    with store.incoming() as incoming:
        for part in (b"a" * 10, b"b" * 300_000, b""):
            incoming.write(part)
        blob = incoming.publish(media.LAYER)
    assert blob == Descriptor(media.LAYER, digest_of(b"a" * 10 + b"b" * 300_000), 300_010)
    with store.open(blob) as file:
        assert file.read(10) == b"a" * 10
        assert file.read() == b"b" * 300_000
        assert file.read() == b""


def test_what_is_not_published_leaves_nothing(store: Store) -> None:
    with pytest.raises(ZeroDivisionError), store.incoming() as incoming:
        incoming.write(b"half")
        raise ZeroDivisionError
    assert os.listdir(os.path.join(store.root, "tmp")) == []
    assert not os.path.exists(os.path.join(store.root, "blobs/sha256", digest_of(b"half")[7:]))


def test_the_store_is_private_and_marked_as_a_cache(store: Store) -> None:
    assert os.stat(store.root).st_mode & 0o777 == 0o700
    tag = Path(store.root, "CACHEDIR.TAG").read_bytes()
    assert tag.startswith(b"Signature: 8a477f597d28d172789f06886806bc55")


def test_opening_a_store_costs_less_than_a_millisecond(store: Store) -> None:
    times = []
    for _ in range(20):
        start = time.perf_counter()
        Store(store.root)
        times.append(time.perf_counter() - start)
    assert min(times) < 0.001


def test_a_foreign_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(StoreError, match=r"not a store of builder: it holds 'thesis\.txt'"):
        Store(str(tmp_path))


def test_a_layout_of_another_tool_is_refused(tmp_path: Path) -> None:
    (tmp_path / "oci-layout").write_text("{}")
    (tmp_path / "blobs").mkdir()
    with pytest.raises(StoreError, match="not a store of builder"):
        Store(str(tmp_path))


def test_a_file_in_the_stores_place_is_refused(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for path in ("file", "file/below"):
        with pytest.raises(StoreError):
            Store(str(tmp_path / path))


@pytest.mark.root
def test_a_store_of_another_user_is_refused(store: Store) -> None:
    os.chown(store.root, 12345, 12345)
    with pytest.raises(StoreError, match="belongs to user 12345, not to user 0"):
        Store(store.root)


def test_a_store_of_a_newer_builder_is_refused(store: Store) -> None:
    from builder.oci.digest import hex_of

    Path(store.root, "version").write_text(hex_of(b"version 2") + "\n2")
    with pytest.raises(StoreError, match="a store of version 2, this builder knows 1"):
        Store(store.root)


@pytest.mark.parametrize("name", ["../x", "a/b", "", ".", "..", ".hidden", "a\nb", "x" * 300])
def test_names_cannot_leave_their_folder(store: Store, name: str) -> None:
    for call in (
        lambda: store.load("records", name),
        lambda: store.save("records", name, b""),
        lambda: store.lock(name).__enter__(),
        lambda: store.blob_path(name),  # type: ignore[arg-type]
        lambda: store.unpacked_path("sha256:" + name),
        lambda: store.load(name, KEY),
    ):
        with pytest.raises(StoreError):
            call()


def _damage_kinds(path: Path) -> dict[str, object]:
    data = path.read_bytes() if path.is_file() else b""

    def replace(make: object) -> object:
        def act() -> None:
            path.unlink()
            make()  # type: ignore[operator]

        return act

    return {
        "flipped": lambda: path.write_bytes(bytes([data[0] ^ 1]) + data[1:]),
        "flipped at the end": lambda: path.write_bytes(data[:-1] + bytes([data[-1] ^ 1])),
        "truncated": lambda: path.write_bytes(data[:-1]),
        "longer": lambda: path.write_bytes(data + b"x"),
        "empty": lambda: path.write_bytes(b""),
        "garbage": lambda: path.write_bytes(b"\xff\x00{" * 30),
        "a folder": replace(lambda: (path.mkdir(), (path / "inner").write_text("x"))),
        "a fifo": replace(lambda: os.mkfifo(path)),
        "a symlink": replace(lambda: path.symlink_to("/etc/passwd")),
        "a loop": replace(lambda: path.symlink_to(path)),
    }


SITE = ImageName("site", Platform())
DAMAGES = list(_damage_kinds(Path("/nonexistent")))


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_corrupt_blob_is_a_miss_and_can_be_made_again(
    store: Store, events: list[Event], damage: str
) -> None:
    data = b"the bytes of a layer" * 100
    blob = store.put(data, media.LAYER)
    _damage_kinds(Path(store.blob_path(blob.digest)))[damage]()  # type: ignore[operator]
    with pytest.raises(CorruptBlob):
        store.read(blob)
    assert not store.has(blob)
    assert not store.claim(blob)
    assert any(isinstance(event, Warned) for event in events)
    with store.incoming() as incoming:
        incoming.write(data)
        assert incoming.publish(media.LAYER) == blob
    assert store.read(blob) == data
    store.close()
    assert os.listdir(os.path.join(store.root, "tmp")) == []


def test_a_stream_raises_before_it_hands_over_the_last_byte(store: Store) -> None:
    data = bytes(400_000)
    blob = store.put(data, media.LAYER)
    Path(store.blob_path(blob.digest)).write_bytes(data[:-5] + b"wrong")
    got = 0
    with store.open(blob) as file, pytest.raises(CorruptBlob, match="not what its name says"):
        while part := file.read(1 << 16):
            got += len(part)
    assert got < len(data)


def test_a_lying_descriptor_does_not_remove_a_good_blob(store: Store) -> None:
    blob = store.put(b"good", media.LAYER)
    with pytest.raises(CorruptBlob):
        store.read(blob._replace(size=3))
    assert store.read(blob) == b"good"


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_corrupt_entry_is_a_miss_and_one_warning(
    store: Store, events: list[Event], damage: str
) -> None:
    store.save("records", KEY, b"what is known")
    _damage_kinds(Path(store.root, "records", KEY))[damage]()  # type: ignore[operator]
    assert store.load("records", KEY) is None
    assert store.load("records", KEY) is None
    assert len(events) == 1
    store.save("records", KEY, b"what is known")
    assert store.load("records", KEY) == b"what is known"


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_corrupt_index_loses_no_name(store: Store, events: list[Event], damage: str) -> None:
    site = store.put(b'{"a":1}', media.MANIFEST)
    base = store.put(b'{"b":1}', media.MANIFEST)
    store.tag(ImageName("site", Platform()), site)
    store.tag(ImageName("base", Platform()), base)
    _damage_kinds(Path(store.root, "index.json"))[damage]()  # type: ignore[operator]
    names = {ImageName("base", Platform()): base, ImageName("site", Platform()): site}
    assert store.names() == names
    events.clear()
    assert store.names() == names
    assert events == []
    index = json.loads(Path(store.root, "index.json").read_bytes())["manifests"]
    assert {entry["digest"] for entry in index} == {site.digest, base.digest}


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_corrupt_version_file_does_not_lock_anyone_out_and_is_told_once(
    store: Store, damage: str
) -> None:
    store.save("records", KEY, b"kept")
    _damage_kinds(Path(store.root, "version"))[damage]()  # type: ignore[operator]
    told: list[Event] = []
    again = Store(store.root, told.append)
    assert again.load("records", KEY) == b"kept"
    assert len(told) == 1
    Store(store.root, told.append).load("records", KEY)
    assert len(told) == 1
    assert not list(Path(store.root, "tmp").iterdir())


def test_swapped_entries_are_corrupt(store: Store) -> None:
    store.save("records", "a" * 64, b"of a")
    os.rename(os.path.join(store.root, "records", "a" * 64), os.path.join(store.root, "records/b"))
    assert store.load("records", "b") is None


def test_check_finds_what_is_wrong_and_repairs_it(store: Store) -> None:
    blob = store.put(b"layer", media.LAYER)
    store.save("records", KEY, b"{}")
    store.tag(ImageName("site", Platform()), store.put(b"{}", media.MANIFEST))
    assert check(store) == []
    Path(store.blob_path(blob.digest)).write_bytes(b"lyaer")
    Path(store.root, "records", KEY).write_bytes(b"junk")
    assert sorted(problem.text.partition("/")[0] for problem in check(store)) == [
        "blobs",
        "records",
    ]
    assert os.path.exists(store.blob_path(blob.digest))
    assert all(problem.repaired for problem in check(store, repair=True))
    assert check(store) == []


def test_tagging_again_writes_nothing(store: Store) -> None:
    manifest = store.put(b"{}", media.MANIFEST)
    store.tag(ImageName("site", Platform()), manifest)
    before = os.stat(os.path.join(store.root, "index.json"))
    store.tag(ImageName("site", Platform()), manifest)
    assert os.stat(os.path.join(store.root, "index.json")) == before
    assert store.untag(ImageName("site", Platform()))
    assert not store.untag(ImageName("site", Platform()))
    assert store.names() == {}


def test_entries_of_other_tools_stay_in_the_index(store: Store) -> None:
    path = Path(store.root, "index.json")
    foreign = {"mediaType": media.MANIFEST, "digest": digest_of(b"x"), "size": 1, "odd": [1]}
    path.write_text(json.dumps({"schemaVersion": 2, "manifests": [foreign]}))
    store.tag(ImageName("site", Platform()), store.put(b"{}", media.MANIFEST))
    assert json.loads(path.read_bytes())["manifests"][0] == foreign
    assert [name.name for name in store.names()] == ["site"]


def test_an_unpacked_layer_is_whole_or_not_there(store: Store) -> None:
    diff_id = digest_of(b"layer")
    assert not unpacked.claim(store, diff_id)
    folder = store.temporary()
    Path(folder, "file").write_text("x")
    path = unpacked.publish(store, folder, diff_id, diff_id)
    assert Path(path, "file").read_text() == "x"
    assert unpacked.claim(store, diff_id)
    again = store.temporary()
    assert unpacked.publish(store, again, diff_id, diff_id) == path
    assert os.path.exists(again)
    write(store.folder, unpacked.mark_path(store, diff_id), b"another boot")
    assert not unpacked.claim(store, diff_id)
    Path(again, "file").write_text("y")
    unpacked.publish(store, again, diff_id, diff_id)
    assert Path(path, "file").read_text() == "y"


def test_removing_a_tree_follows_no_symlink_and_minds_no_mode(store: Store, tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    canary.write_text("alive")
    with store.live():
        folder = Path(store.temporary())
        (folder / "out").symlink_to(tmp_path)
        closed = folder / "closed"
        closed.mkdir()
        (closed / "file").write_text("")
        closed.chmod(0)
        here = os.open(folder, os.O_RDONLY)
        try:
            for _ in range(3000):
                os.mkdir("d", dir_fd=here)
                inner = os.open("d", os.O_RDONLY, dir_fd=here)
                os.close(here)
                here = inner
        finally:
            os.close(here)
    assert canary.read_text() == "alive"
    assert os.listdir(os.path.join(store.root, "tmp")) == []


READER = """
import sys
from builder.errors import StoreError
from builder.oci.image import Descriptor, Platform
from builder.store.names import ImageName
from builder.store.store import Store
root, digest, size = sys.argv[1:]
SITE = ImageName("site", Platform())
store = Store(root, print)
blob = Descriptor("", digest, int(size))
with store.live(), store.lock("a"):
    assert store.claim(blob) and store.read(blob) == b"kept", "cannot read"
    assert store.load("records", "a") == b"known"
    assert [name.name for name in store.names()] == ["site"]
    store.tag(SITE, store.names()[SITE])
try:
    store.save("records", "b", b"new")
except StoreError as error:
    print(error.message, "|", error.hint)
"""


@pytest.mark.root
@pytest.mark.needs("unshare", "mount")
def test_a_read_only_store_is_read_and_says_why_it_is_not_written(store: Store) -> None:
    blob = store.put(b"kept", media.LAYER)
    store.save("records", "a", b"known")
    store.tag(ImageName("site", Platform()), store.put(b"{}", media.MANIFEST))
    store.close()
    script = 'mount --bind "$2" "$2" && mount -o remount,bind,ro "$2" && exec "$0" -c "$1" "${@:2}"'
    done = subprocess.run(
        [
            "unshare",
            "-m",
            "bash",
            "-c",
            script,
            sys.executable,
            READER,
            store.root,
            blob.digest,
            str(blob.size),
        ],
        capture_output=True,
        text=True,
        timeout=30,
    )
    assert done.stderr == ""
    assert done.stdout == (
        f"cannot write in {store.root}/tmp: the file system is read-only"
        " | --cache-dir names a folder that can be written\n"
    )


@pytest.mark.needs("skopeo", "umoci")
def test_the_layout_is_read_by_skopeo_and_umoci(store: Store) -> None:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        tar.addfile(tarfile.TarInfo("hello"), io.BytesIO())
    blob = store.put(buffer.getvalue(), media.LAYER)
    image = empty_image(Platform()).append(
        Layer(records_diff_id(buffer.getvalue()), blob), {"created_by": "test"}
    )
    store.put(image.config_bytes(), media.CONFIG)
    store.tag(ImageName("site", Platform()), store.put(image.manifest_bytes(), media.MANIFEST))
    shown = subprocess.run(
        ["skopeo", "inspect", f"oci:{store.root}:site"], capture_output=True, check=True
    )
    assert json.loads(shown.stdout)["Layers"] == [blob.digest]
    listed = subprocess.run(
        ["umoci", "ls", "--layout", store.root], capture_output=True, check=True, text=True
    )
    assert listed.stdout == "site\n"


def records_diff_id(data: bytes) -> object:
    from builder.oci.digest import DiffID

    return DiffID(str(digest_of(data)))


HOLDER = """
import sys, time
from builder.store.names import ImageName
from builder.store.store import Store
store = Store(sys.argv[1])
with store.lock("a" * 64, "apt-get install nginx"):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_waiter_says_whom_it_waits_for_and_a_killed_holder_frees_the_lock(
    store: Store, events: list[Event]
) -> None:
    import threading

    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, store.root], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        killer = threading.Timer(0.3, holder.kill)
        killer.start()
        with store.lock(KEY):
            pass
        killer.join()
    (note,) = events
    assert isinstance(note, Noted)
    assert f"waiting for builder {holder.pid}, which does 'apt-get install nginx'" in note.text
    assert KEY not in os.listdir(os.path.join(store.root, "locks"))

"""What a stopped container changed, out of its engine: two ways with one result.

The quick way: overlay2 keeps a container's changes in a directory of the engine's host. A second
container gets it as a mount, and its archive is the changes and nothing else. `diff` adds what
overlayfs says by an `opaque` xattr, which archives do not carry; what they do not carry of `user.*`
is asked for (see docker_xattrs).

The general way: commit the container, save the image, take the last layer. `save` writes all the
layers, so it takes seconds where the quick way takes a tenth, and `user.*` xattrs are lost.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, BinaryIO, NamedTuple, cast

from builder.errors import ExecutorError, LayerError, TransportError
from builder.executor.docker_tree import LayerTree
from builder.executor.docker_xattrs import PROGRAM, Reader, read_xattrs
from builder.layer.entry import CHAR, FILE, HARDLINK, WHITEOUT, Entry, whiteout
from builder.layer.read import read_layer, read_tar
from builder.oci.digest import hasher
from builder.transport.engine_stream import Chunks

if TYPE_CHECKING:
    from builder.transport.engine import Engine

_CHUNK = 1 << 20
_PLACE = "/.builder-changes"
_DELETED = 2  # Kind of a `diff` line
_LOST = "\ufffd"  # what JSON has of a byte that is not UTF-8
_GO_SOCKET = 1 << 24  # of a mode as Go's os.FileMode has it


class StoppedContainer(NamedTuple):
    """A container whose command has ended."""

    engine: Engine
    container: str
    image: str  # that it was made of
    labels: dict[str, str]  # for what is made on the way
    machine: str  # of the engine


class Storage(NamedTuple):
    """How an engine keeps what containers change."""

    driver: str
    upper: bool  # as directories with the owners that the command sees
    machine: str  # as uname says it

    @property
    def copies(self) -> bool:
        """Whether it copies whole trees instead of laying one over the other."""
        return self.driver not in ("overlay2", "overlay", "overlayfs", "fuse-overlayfs", "stargz")


def storage_of(engine: Engine) -> Storage:
    with engine.asking():
        about = engine.api.info()
    driver = str(about.get("Driver"))
    remapped = any(
        text.startswith(("name=userns", "name=rootless"))
        for text in about.get("SecurityOptions") or ()
    )
    machine = str(about.get("Architecture"))
    return Storage(driver, driver == "overlay2" and not remapped, machine)


def read_changes(stopped: StoppedContainer, folder: str, *, upper: bool) -> LayerTree | None:
    """The changes as a tree with its files in `folder`; None: nothing. `upper`: see Storage.
    Raises LayerError, ExecutorError, TransportError."""
    engine = stopped.engine
    with engine.asking():
        found = engine.api.diff(stopped.container) or []
    paths = [str(each["Path"]) for each in found]
    for path in paths:
        # in a layer's tar such a name is a deletion, and could not be told from one
        if any(part.startswith(os.fsdecode(WHITEOUT)) for part in path.split("/")):
            raise LayerError(
                f"the step left {path!r}: a layer cannot hold a name that begins with '.wh.'",
                "such names mark deletions in layers: remove or rename it in the step",
            )
    if not found and not upper:  # `diff` does not look at xattrs
        return None
    deleted = [path for path, each in zip(paths, found, strict=True) if each["Kind"] == _DELETED]
    told = None
    if upper:
        lossy = [path for path in deleted if _LOST in path]
        tree = _from_upper(stopped, [path for path in deleted if _LOST not in path], folder)
        if tree is not None:
            right = _add_sockets(tree, stopped, paths)  # else it is not the changes' directory
            if right and _has_removed(tree, lossy):
                return tree
            told = tree.told if right else None
            tree.close()
    tree = _from_commit(stopped, folder)
    if tree is not None:
        tree.told = told
        _add_sockets(tree, stopped, paths)
    return tree


def _has_removed(tree: LayerTree, lossy: Sequence[str]) -> bool:
    """Whether all of these deletions are in `tree`: JSON has lost the bytes of their names."""
    if not lossy:
        return True
    known: Counter[str] = Counter()
    for path in tree.whiteouts:
        text = path.decode("utf-8", "surrogateescape")
        known["/" + "".join(_LOST if "\udc80" <= each <= "\udcff" else each for each in text)] += 1
    return Counter(lossy) <= known


def _add_sockets(tree: LayerTree, stopped: StoppedContainer, paths: Sequence[str]) -> bool:
    """An engine's archives leave out sockets, which hide what was there before as any file does.
    Whether `tree` then has all the `paths` that changed."""
    complete = True
    for path in paths:
        inner = _inner(path)
        if _LOST in path or tree.has(inner):
            continue
        if complete and _is_socket(stopped, path):
            tree.add_socket(inner)
        else:
            complete = False
    return complete


def _is_socket(stopped: StoppedContainer, path: str) -> bool:
    from docker.errors import NotFound

    engine = stopped.engine
    with engine.asking():
        try:
            chunks, about = engine.api.get_archive(stopped.container, path)
        except NotFound:
            return False
        for _ in chunks:
            pass
    return bool(int(about.get("mode", 0)) & _GO_SOCKET)


def _inner(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape").strip(b"/")


# -- the quick way -------------------------------------------------------------------------------


def _from_upper(stopped: StoppedContainer, deleted: Sequence[str], folder: str) -> LayerTree | None:
    """None: the engine does not give its directory away."""
    from docker.types import Mount

    engine, api = stopped.engine, stopped.engine.api
    with engine.asking():
        driver = api.inspect_container(stopped.container).get("GraphDriver") or {}
    source = (driver.get("Data") or {}).get("UpperDir")
    if not source:
        return None
    try:
        with engine.asking():
            # a mount, not a `bind`: the engine makes no directory where there is none
            mount = Mount(_PLACE, source, type="bind", read_only=True)
            config = api.create_host_config(
                network_mode="none", mounts=[mount], log_config={"Type": "none"}
            )
            helper = str(
                api.create_container(
                    stopped.image,
                    [PROGRAM],
                    labels=stopped.labels,
                    host_config=config,
                    use_config_proxy=False,
                )["Id"]
            )
    except TransportError:
        return None
    try:
        with engine.asking():
            chunks, _ = api.get_archive(helper, _PLACE)
            tar = cast(BinaryIO, io.BufferedReader(Chunks(chunks), _CHUNK))
            tree = LayerTree(_rebased(tar, deleted), folder)
        reader = Reader(engine, helper, stopped.machine, _PLACE)
        tree.told = read_xattrs(reader, tree.attributed())
        return tree
    finally:
        with contextlib.suppress(TransportError), engine.asking():
            api.remove_container(helper, force=True, v=True)


def _rebased(tar: BinaryIO, deleted: Sequence[str]) -> Iterator[tuple[Entry, BinaryIO]]:
    """Below the mount's name, deletions as a layer says them."""
    nothing = io.BytesIO()
    top = os.fsencode(_PLACE[1:])
    removed: set[bytes] = set()
    for entry, content in read_tar(tar, upper=True):
        first, _, path = entry.path.partition(b"/")
        if first != top:
            raise ExecutorError(
                f"docker: the engine's archive has {os.fsdecode(entry.path[:100])!r}"
            )
        link = entry.link
        if entry.type == HARDLINK:
            link = link.removeprefix(top + b"/")
        # the kernel makes one whiteout and links the others to it
        is_link = entry.type == HARDLINK and link in removed
        if is_link or (entry.type == CHAR and entry.device == (0, 0)):
            removed.add(path)
            yield whiteout(path, 0), nothing
        else:
            yield entry._replace(path=path, link=link), content
    for each in deleted:
        yield whiteout(_inner(each), 0), nothing


# -- the general way -----------------------------------------------------------------------------


def _from_commit(stopped: StoppedContainer, folder: str) -> LayerTree | None:
    engine, api = stopped.engine, stopped.engine.api
    with engine.asking():
        made = str(api.commit(stopped.container)["Id"])  # it has the container's labels
    try:
        with engine.asking():
            before = _layers(api, stopped.image)
            after = _layers(api, made)
            if len(after) == len(before):
                return None
            return _last_layer(engine, made, after[-1], folder)
    finally:
        with contextlib.suppress(TransportError), engine.asking():
            api.remove_image(made, force=True, noprune=True)


def _layers(api: Any, image: str) -> list[str]:
    return api.inspect_image(image)["RootFS"].get("Layers") or []


def _last_layer(engine: Engine, image: str, diff_id: str, folder: str) -> LayerTree:
    """Of all the layers that `save` writes, the one with this diff_id. Where it stands differs
    between engines, so every member is read until it is found."""
    from builder.layer.decompress import open_layer

    spool = os.path.join(folder, "saved")
    stream = Chunks(engine.api.get_image(image))
    for entry, content in read_tar(cast(BinaryIO, io.BufferedReader(stream, _CHUNK))):
        if entry.type != FILE or entry.size < 512:
            continue
        running = hasher()
        with contextlib.suppress(LayerError), open(spool, "wb") as file:  # not all are tars
            plain = open_layer(content)
            while chunk := plain.read(_CHUNK):
                running.update(chunk)
                file.write(chunk)
        if running.hexdigest() == diff_id[7:]:
            stream.close()
            with open(spool, "rb") as tar:
                return LayerTree(read_layer(tar), folder)
    raise ExecutorError(f"the Docker engine at {engine.host} saved an image without its last layer")

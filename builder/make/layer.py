"""Layers: the changes of one step written into the store, or a layer in another codec."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator
from contextlib import nullcontext
from functools import partial
from typing import TYPE_CHECKING, BinaryIO, cast

from builder.errors import CorruptBlob, StoreError
from builder.events import StepProgress
from builder.layer.compress import codec_of
from builder.layer.entry import FILE
from builder.layer.read import read_layer
from builder.layer.runs import index_name
from builder.layer.write import Earlier, Told, Written, write_layer
from builder.make.workshop import Workshop
from builder.oci.digest import DiffID
from builder.oci.image import Layer
from builder.plan.last import LastBuild
from builder.plan.planned import BuildFiles, Decision, Planned
from builder.rootfs.accounts import is_account_file
from builder.rootfs.making import read_account
from builder.rootfs.table import table_writer
from builder.spec.model import ImageSpec
from builder.store.records import add_blob, load_layer

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

    from builder.layer.entry import Change
    from builder.plan.changes import Changes

_WORTH = 64  # changes of a file step from which on its runs are worth remembering
_LARGE = 4 << 20  # bytes of a tar from which on its runs are, to be unpacked by several threads


def write_files(
    shop: Workshop,
    spec: ImageSpec,
    planned: Planned,
    changes: Changes,
    last: LastBuild | None,
) -> Written | None:
    """A file step's layer. What stands unchanged in the layer it had in the last build is taken
    from there, neither read nor compressed again: a speed-up, for layers that are worth it."""
    if len(changes.rows) < _WORTH and not changes.unread:
        return write(shop, spec, planned, changes.sorted())
    earlier = _earlier(shop, planned, last)
    try:
        written = write(shop, spec, planned, changes.sorted(), earlier, changes.told())
    except CorruptBlob:
        if earlier is None:
            raise
        written = write(shop, spec, planned, changes.sorted(), None, changes.told())
    finally:
        if earlier:
            earlier.close()
    return written


def _earlier(shop: Workshop, planned: Planned, last: LastBuild | None) -> Earlier | None:
    before = last.match(planned.number - 1, planned.name, "files") if last else None
    if before is None or not before.diff_id:
        return None
    settings = shop.planner.settings
    info = load_layer(shop.store, DiffID(before.diff_id))
    blob = info.blobs.get(settings.encoding) if info else None
    index = shop.store.load("trees", index_name(blob.digest)) if blob else None
    if blob is None or index is None or not shop.store.claim(blob):
        return None
    encoder = codec_of(settings.codec, settings.level).name
    return Earlier(shop.store.blob_path(blob.digest), index, encoder)


def listed_later(decision: Decision) -> Changes | None:
    """The changes of a file step, whose path table is made when a step above asks for it: most
    never do. Account files are read while the layer is made, so their table is made then."""
    if isinstance(decision, BuildFiles) and not decision.changes.accounts:
        return decision.changes
    return None


def write(
    shop: Workshop,
    spec: ImageSpec,
    planned: Planned,
    changes: Iterable[Change],
    earlier: Earlier | None = None,
    told: Told | None = None,
) -> Written | None:
    """Changes to a layer in the store; with its path table, if that is not made later."""
    settings = shop.planner.settings
    later = listed_later(planned.decision) is not None
    accounts: dict[bytes, bytes] = {}

    def watched() -> Iterator[Change]:
        for entry, content in changes:
            if entry.type == FILE and is_account_file(entry.path):
                accounts[entry.path] = read_account(content)
            yield entry, content

    def progress(size: int) -> None:
        shop.emit(StepProgress(spec.label, planned.number, size, None))

    if shop.guard:
        changes = shop.guard.changes(changes)
    with table_writer(shop.store) if not later else nullcontext() as table:
        written = write_layer(
            changes if later else watched(),
            shop.store,
            settings.codec,
            settings.level,
            table.add if table else None,
            progress,
            earlier,
            told,
        )
        if written and table:
            table.publish(shop.store, written.layer.diff_id, accounts)
    if written:
        add_blob(shop.store, written.layer, written.size, settings.encoding)
        if told or written.size >= _LARGE:
            shop.store.save("trees", index_name(written.layer.blob.digest), written.runs)
    return written


def convert(shop: Workshop, layer: Layer) -> Layer:
    """The same layer in the codec that is wanted: read and written again, equal to the bit to one
    that was built so."""
    settings = shop.planner.settings

    def changes() -> Iterator[Change]:
        for entry, content in read_layer(plain):
            yield entry, partial(_reader, content) if entry.type == FILE else None

    with shop.layers.open(layer) as plain:
        written = write_layer(changes(), shop.store, settings.codec, settings.level)
    if written is None or written.layer.diff_id != layer.diff_id:
        raise StoreError(f"layer {layer.diff_id} could not be converted to {settings.codec}")
    add_blob(shop.store, written.layer, written.size, settings.encoding)
    return written.layer


def _reader(content: BinaryIO) -> BinaryIO:
    """A member's content as a stream that may be closed before the next member is read."""
    return cast(BinaryIO, io.BufferedReader(_Raw(content), 1 << 20))


class _Raw(io.RawIOBase):
    def __init__(self, content: BinaryIO) -> None:
        self._content = content

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: WriteableBuffer, /) -> int:
        view = memoryview(buffer).cast("B")
        data = self._content.read(len(view))
        view[: len(data)] = data
        return len(data)

"""Changes to a layer: one pass makes the tar, its diff_id, the compressed blob and its digest."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

from builder.layer.compress import codec_of
from builder.layer.entry import Change, Entry
from builder.layer.pipeline import Pipeline
from builder.layer.runs import Earlier, Learned, Told, cut, sort_key
from builder.oci import media
from builder.oci.image import Layer

if TYPE_CHECKING:
    from builder.store.store import Store

__all__ = ["Earlier", "Learned", "Told", "Written", "sort_key", "write_layer"]


class Written(NamedTuple):
    layer: Layer
    size: int  # bytes of the uncompressed tar
    runs: bytes  # their index, for Earlier
    learned: Learned  # where `told` left digests to be found


def write_layer(
    changes: Iterable[Change],
    store: Store,
    codec: str = "gzip",
    level: int | None = None,
    seen: Callable[[Entry], object] | None = None,
    progress: Callable[[int], object] | None = None,
    earlier: Earlier | None = None,
    told: Told | None = None,
) -> Written | None:
    """Write a layer into the store; None when there are no changes.

    `changes` come sorted as `sort_key` says, each path once. `seen` gets every entry as it is
    written, `progress` the tar bytes so far. A run that `told` says to be as in `earlier` is taken
    from there. Memory does not grow with the layer. Raises LayerError when a file is not what its
    entry says any more, StoreError when it cannot be written, CorruptBlob when `earlier` is
    damaged.
    """
    learned = Learned()
    iterator = iter(changes)
    first = next(iterator, None)
    if first is None:
        return None
    with store.incoming() as incoming:
        pipeline = Pipeline(incoming, codec_of(codec, level), earlier)
        try:
            for run in cut(chain([first], iterator), seen, earlier, told, learned):
                pipeline.put(run)
                if progress:
                    progress(pipeline.size)
            diff_id, index = pipeline.finish()
        finally:
            pipeline.close()
        blob = incoming.publish(media.LAYER_OF_CODEC[codec])
    return Written(Layer(diff_id, blob), pipeline.size, index, learned)

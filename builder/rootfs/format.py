"""Path tables: the metadata of every path of one layer, searched on disk without parsing.

One file per diff_id. Layout, little-endian, in pages of 4 KiB:

    header    magic and where the parts begin
    records   one per path, sorted by path components (parents first)
    order     u64 positions of the records
    side      whiteouts, opaque folders, implied folders, contents of account files
    CRCs      u32 per page, checked when a page is first touched; then the CRC of the CRCs
    name      64 hex digits of the diff_id, added when it is published: another layer's table in
              its place is as good as none

A table is a cache that can be made again from its layer: it is published by rename without fsync,
and the CRCs turn whatever a crash or a bad disk left into CorruptBlob.
"""

from __future__ import annotations

import struct

MAGIC = b"bldpath\x02"
HEADER = struct.Struct("<8sQQQQ")  # magic, size of all pages, position of order, count, side
PAGE = 4096
NAME = 64  # hex digits of a diff_id

"""Compression: the same bytes in every process, in members that any tool reads."""

from __future__ import annotations

import gzip
import subprocess
import sys
import zlib

import pytest

from builder.errors import UsageError
from builder.layer.compress import LEVELS, codec_of

TARS = """
import random
from builder.layer.compress import codec_of
from builder.oci.digest import hasher
rng = random.Random(5)
words = [rng.randbytes(rng.randint(1, 12)) for _ in range(300)]
digest = hasher()
compress = codec_of("gzip").compress
for _ in range(1500):
    tar = bytearray(512 * rng.randint(1, 40))
    for _ in range(rng.randint(1, 40)):
        word = rng.choice(words)
        at = rng.randrange(len(tar) - len(word))
        tar[at : at + len(word)] = word
    digest.update(compress(tar))
print(digest.hexdigest())
"""


def test_processes_compress_to_the_same_bytes_wherever_their_memory_lies() -> None:
    """ISA-L's other levels fail this: address randomization reaches what they write."""
    found = set()
    for _ in range(6):
        batch = [
            subprocess.Popen([sys.executable, "-c", TARS], stdout=subprocess.PIPE, text=True)
            for _ in range(4)
        ]
        found |= {process.communicate()[0] for process in batch}
    assert len(found) == 1
    assert found.pop().strip()


@pytest.mark.parametrize("level", [None, *range(1, 10)])
def test_gzip_members_are_read_by_others_and_hold_no_time(level: int | None) -> None:
    data = b"some bytes of a tar " * 5000
    member = codec_of("gzip", level).compress(data)
    assert gzip.decompress(member + member) == data + data
    assert member[4:8] == bytes(4)
    assert zlib.decompress(member, 31) == data


def test_higher_levels_are_smaller() -> None:
    data = b"".join(b"line %d of a file\n" % (number * 7919 % 10007) for number in range(20000))
    sizes = [len(codec_of("gzip", level).compress(data)) for level in (1, 2, 6, 9)]
    assert sizes == sorted(sizes, reverse=True)


@pytest.mark.parametrize("codec", LEVELS)
def test_levels_out_of_range_are_refused(codec: str) -> None:
    for level in (LEVELS[codec][0] - 1, LEVELS[codec][2] + 1):
        with pytest.raises(UsageError, match="expected"):
            codec_of(codec, level)

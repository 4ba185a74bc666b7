"""Downloads: from a real server that does what servers do wrong.

DOWNLOAD_ROUNDS=3000 for more random servers than the usual few, DOWNLOAD_SEED for others.
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from builder.errors import BuilderError, StoreError, TransportError
from builder.spec.address import Checksum
from builder.store.files import Files
from builder.store.gc import gc
from builder.store.store import Store
from builder.transport.download import Downloads, find
from builder.transport.registry.settings import Settings
from builder.work.cancel import Cancel, Cancelled
from tests.transport.web import Fault, Site

QUICK = Settings(backoff=0.001, connect_timeout=2.0)
ROUNDS = int(os.environ.get("DOWNLOAD_ROUNDS", "60"))
SEED = int(os.environ.get("DOWNLOAD_SEED", "1"))
DATA = random.Random(7).randbytes(3_000_000)


def checksum(data: bytes, algorithm: str = "sha256") -> Checksum:
    return Checksum(algorithm, hashlib.new(algorithm, data).hexdigest())


@pytest.fixture
def serve() -> Iterator[Callable[..., Site]]:
    """serve(data, *faults, tls=None): a Site."""
    running: list[Site] = []

    def start(data: bytes, *faults: Fault, tls: tuple[str, str] | None = None) -> Site:
        running.append(Site(data, tls))
        running[-1].faults = list(faults)
        return running[-1]

    yield start
    for site in running:
        site.close()


def fetch(store: Store, url: str, wanted: Checksum, settings: Settings = QUICK, **more: object):
    downloads = Downloads(store, settings, **more)  # type: ignore[arg-type]
    try:
        return downloads.fetch(url, wanted)
    finally:
        downloads.close()


def blobs(store: Store) -> list[str]:
    return sorted(os.listdir(os.path.join(store.root, "blobs", "sha256")))


def partials(store: Store) -> list[Path]:
    return sorted(Path(store.root, "partials").glob("*"))


def fault_of(error: pytest.ExceptionInfo[BuilderError]) -> str:
    assert "\n" not in error.value.message
    return f"{error.value.message} | {error.value.hint}"


# -- what comes -----------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_a_file_comes_once(store: Store, serve: Callable[..., Site], algorithm: str) -> None:
    site, wanted = serve(DATA), checksum(DATA, algorithm)
    seen: list[tuple[int, int | None]] = []
    assert find(store, wanted) is None
    downloads = Downloads(store, QUICK)
    blob = downloads.fetch(site.url, wanted, lambda done, total: seen.append((done, total)))
    assert store.read(blob) == DATA
    assert blob.digest[7:] == checksum(DATA).digest
    assert seen[0] == (0, len(DATA)) and seen[-1] == (len(DATA), len(DATA))
    assert find(store, wanted) == blob == downloads.fetch(site.url, wanted)
    assert len(site.seen) == 1
    assert site.seen[0].headers["Accept-Encoding"] == "identity"
    assert not partials(store)
    assert not store.entries("memos") or algorithm == "sha512"


def test_an_empty_file_comes(store: Store, serve: Callable[..., Site]) -> None:
    for length in ("right", "chunked", "none"):
        blob = fetch(store, serve(b"", Fault(length=length)).url, checksum(b""))
        assert blob.size == 0 and store.read(blob) == b""
        store.discard(blob.digest)


def test_two_who_want_one_file_ask_once(store: Store, serve: Callable[..., Site]) -> None:
    site, downloads = serve(DATA, Fault(pause=0.02)), Downloads(store, QUICK)
    threads = [
        threading.Thread(target=downloads.fetch, args=(site.url, checksum(DATA))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(site.seen) == 1 and len(blobs(store)) == 1


def test_memory_stays_bounded(tmp_path: Path, serve: Callable[..., Site]) -> None:
    data = bytes(200_000_000)
    site = serve(data)
    code = f"""
import resource
from builder.spec.address import Checksum
from builder.store.store import Store
from builder.transport.download import Downloads
from builder.transport.registry.settings import Settings
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
store = Store({str(tmp_path / "store")!r})
Downloads(store, Settings()).fetch({site.url!r}, Checksum("sha256", {checksum(data).digest!r}))
store.close()
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert int(out.stdout) < 30_000  # kB


# -- what servers do -----------------------------------------------------------------------------

PASSES = {
    "reset before the header": Fault(reset=True),
    "status 500": Fault(500),
    "status 503 with a wait": Fault(503, {"Retry-After": "0"}),
    "status 429 with a wait": Fault(429, {"Retry-After": "0"}),
    "status 408": Fault(408),
    "the body breaks off": Fault(cut=1_000_000),
    "the body breaks off at once": Fault(cut=0),
    "chunks break off": Fault(cut=1_000_000, length="chunked"),
    "more is announced than comes": Fault(length="9000000"),
    "ranges are not served": Fault(ranges=False),
    "no length": Fault(length="none"),
    "chunks": Fault(length="chunked"),
}


@pytest.mark.parametrize("first", PASSES)
@pytest.mark.parametrize("second", PASSES)
def test_what_passes_is_waited_for(
    store: Store, serve: Callable[..., Site], first: str, second: str
) -> None:
    site = serve(DATA, PASSES[first], PASSES[second])
    assert store.read(fetch(store, site.url, checksum(DATA))) == DATA
    assert not partials(store)


def test_a_broken_body_goes_on_at_the_byte(store: Store, serve: Callable[..., Site]) -> None:
    site = serve(DATA, *(Fault(cut=500_000) for _ in range(5)))
    fetch(store, site.url, checksum(DATA))
    assert sum(each.sent for each in site.seen) == len(DATA)
    ranges = [each.headers.get("Range") for each in site.seen]
    assert ranges == [None, *(f"bytes={count * 500_000}-" for count in range(1, 6))]
    assert [each.headers.get("If-Range") for each in site.seen] == [None, *['"1"'] * 5]


@pytest.mark.parametrize("how", ["strong", "weak", "modified", "nothing", "nothing honoured"])
def test_a_file_that_changed_meanwhile_is_begun_anew(
    store: Store, serve: Callable[..., Site], how: str
) -> None:
    """What is put together of two versions is never taken, whatever the server tells of them."""
    old = random.Random(8).randbytes(len(DATA))
    site = serve(old, Fault(cut=1_000_000, hang=0.0))
    tags = {
        "strong": ('"1"', "", '"2"', ""),
        "weak": ('W/"1"', "", 'W/"2"', ""),
        "modified": (
            *("", "Wed, 21 Oct 2015 07:28:00 GMT"),
            *("", "Wed, 21 Oct 2015 07:29:00 GMT"),
        ),
    }.get(how, ("", "", "", ""))
    site.etag, site.modified = tags[:2]
    if how == "nothing honoured":  # a range is served whatever is asked for
        site.etag = '"same"'
    downloads = Downloads(store, QUICK._replace(tries=1))
    with pytest.raises(TransportError):
        downloads.fetch(site.url, checksum(DATA))
    site.data, (site.etag, site.modified) = DATA, tags[2:]
    if how == "nothing honoured":
        site.etag = '"same"'
    assert store.read(fetch(store, site.url, checksum(DATA))) == DATA


LIES = {
    "other bytes": (Fault(), DATA[:-1] + b"x"),
    "cut, and said to be whole": (Fault(length="1000"), DATA),
    "nothing": (Fault(length="0"), DATA),
    "an error page": (Fault(headers={"Content-Type": "text/html; x"}), b"<html>sorry"),
}


@pytest.mark.parametrize("lie", LIES)
@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_what_is_not_wanted_is_not_kept(
    store: Store, serve: Callable[..., Site], lie: str, algorithm: str
) -> None:
    fault, data = LIES[lie]
    site, wanted = serve(data, fault), checksum(DATA, algorithm)
    length = len(data) if fault.length == "right" else int(fault.length or 0)
    with pytest.raises(TransportError) as caught:
        fetch(store, site.url, wanted)
    said = fault_of(caught)
    came = checksum(data[:length], algorithm).digest
    assert f"{algorithm} {came} came ({length} bytes" in said
    assert f"expected {wanted.digest}" in said
    assert ("of text/html)" in said) == (lie == "an error page")
    assert len(site.seen) == 1
    assert blobs(store) == [] and not partials(store) and find(store, wanted) is None


def test_a_server_that_never_fits_is_given_up(store: Store, serve: Callable[..., Site]) -> None:
    site = serve(DATA, Fault(cut=900_000), *(Fault(range_off=-5) for _ in range(9)))
    with pytest.raises(TransportError) as caught:
        fetch(store, site.url, checksum(DATA), QUICK._replace(tries=2))
    assert blobs(store) == []
    assert len(site.seen) <= 4 and "other parts" in fault_of(caught)


NEVER_ENDS = {
    "other parts": Fault(range_off=3),
    "no part": Fault(416),
    "an end, again": Fault(cut=2_000_000),
    "all from the start": Fault(ranges=False, cut=2_000_000),
}


@pytest.mark.parametrize("other", NEVER_ENDS)
def test_who_begins_anew_again_and_again_is_given_up(
    store: Store, serve: Callable[..., Site], other: str
) -> None:
    """2 of 3 MB come each time, which is progress once."""
    faults = [each for _ in range(30) for each in (Fault(cut=2_000_000), NEVER_ENDS[other])]
    site = serve(DATA, *faults)
    try:
        fetch(store, site.url, checksum(DATA), QUICK._replace(tries=3))
    except TransportError:
        pass
    assert len(site.seen) <= 12


@pytest.mark.parametrize("digits", [0, 1, 19, 20, 300, 4300, 4301, 60_000])
@pytest.mark.parametrize("header", ["Content-Length", "Content-Range", "Retry-After"])
def test_numbers_of_any_length_are_read(
    store: Store, serve: Callable[..., Site], header: str, digits: int
) -> None:
    number = "9" * digits
    told = f"bytes 0-{number}/{number}" if header == "Content-Range" else number
    status = 429 if header == "Retry-After" else 0
    site = serve(DATA, Fault(status, {header: told}, length="none"))
    try:
        fetch(store, site.url, checksum(DATA), QUICK._replace(tries=2, backoff=0.0))
    except BuilderError as error:
        assert "\n" not in error.message


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_followed(store: Store, serve: Callable[..., Site], status: int) -> None:
    site, other = serve(DATA), serve(DATA)
    site.faults = [Fault(status, {"Location": f"{other.base}/there.bin?signed=1#part"})]
    assert store.read(fetch(store, site.url + "#frag", checksum(DATA))) == DATA
    assert [each.path for each in other.seen] == ["/there.bin?signed=1"]


def test_a_circle_of_redirects_ends(store: Store, serve: Callable[..., Site]) -> None:
    site = serve(DATA)
    site.faults = [Fault(302, {"Location": site.url}) for _ in range(40)]
    with pytest.raises(TransportError, match="more than 5 redirects"):
        fetch(store, site.url, checksum(DATA))


@pytest.mark.needs("openssl")
def test_tls_never_leads_to_plain_http(
    store: Store, serve: Callable[..., Site], tmp_path: Path
) -> None:
    tls = (str(tmp_path / "crt"), str(tmp_path / "key"))
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2"),
            *("-subj", "/CN=us", "-addext", "subjectAltName=IP:127.0.0.1"),
            *("-out", tls[0], "-keyout", tls[1]),
        ],
        check=True,
        capture_output=True,
    )
    site, plain = serve(DATA, tls=tls), serve(DATA)
    known = QUICK._replace(ca_file=tls[0])
    with pytest.raises(TransportError, match="certificate was refused"):
        fetch(store, site.url, checksum(DATA))
    site.faults = [Fault(302, {"Location": plain.url})]
    with pytest.raises(TransportError, match="which is not https"):
        fetch(store, site.url, checksum(DATA), known)
    assert not plain.seen
    with pytest.raises(TransportError) as caught:
        fetch(store, plain.url.replace("http:", "https:"), checksum(DATA), known)
    assert "write http://127.0.0.1" in fault_of(caught)
    site.faults = [Fault(cut=1_000_000)]
    assert store.read(fetch(store, site.url, checksum(DATA), known)) == DATA


def test_a_proxy_is_asked(store: Store, serve: Callable[..., Site]) -> None:
    proxy = serve(DATA)
    settings = QUICK._replace(proxies={"http": proxy.base})
    assert store.read(fetch(store, "http://files.invalid/a?b", checksum(DATA), settings)) == DATA
    assert [each.path for each in proxy.seen] == ["http://files.invalid/a?b"]


@pytest.mark.parametrize("status", [401, 403, 404, 410, 400, 451, 206, 304])
def test_a_refusal_is_said_at_once(store: Store, serve: Callable[..., Site], status: int) -> None:
    site = serve(DATA, Fault(status))
    with pytest.raises(TransportError, match=f"the server answered {status}") as caught:
        fetch(store, site.url + "?token=secret", checksum(DATA))
    assert len(site.seen) == 1 and not partials(store) and "secret" not in fault_of(caught)
    assert ("netrc" in fault_of(caught)) == (status in (401, 403))


def test_who_asks_for_long_patience_is_told_on(store: Store, serve: Callable[..., Site]) -> None:
    site = serve(DATA, Fault(429, {"Retry-After": "7200"}))
    with pytest.raises(TransportError) as caught:
        fetch(store, site.url, checksum(DATA))
    assert "it asks to wait 7200 s" in fault_of(caught) and len(site.seen) == 1


def test_nobody_there_is_said_at_once(store: Store) -> None:
    with pytest.raises(TransportError) as caught:
        fetch(store, "http://127.0.0.1:1/a", checksum(DATA))
    assert "Connection refused" in fault_of(caught) and "registry" not in fault_of(caught)
    with pytest.raises(TransportError, match="the name is not known"):
        fetch(store, "https://nowhere.invalid/a", checksum(DATA))


def test_slow_servers_end(store: Store, serve: Callable[..., Site]) -> None:
    impatient = QUICK._replace(idle_timeout=0.3, tries=2)
    for fault in (Fault(hang=5), Fault(pause=5)):
        began = time.monotonic()
        with pytest.raises(TransportError):
            fetch(store, serve(DATA, fault, fault).url, checksum(DATA), impatient)
        assert time.monotonic() - began < 4


# -- names and passwords ------------------------------------------------------------------------


def test_netrc_counts_at_its_own_host(
    store: Store, serve: Callable[..., Site], tmp_path: Path
) -> None:
    site, other = serve(DATA), serve(DATA)
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine 127.0.0.1 login ann password s3cret\n")
    site.faults = [Fault(302, {"Location": other.url})]
    fetch(store, site.url, checksum(DATA), environment={"HOME": str(tmp_path)})
    assert site.seen[0].headers["Authorization"] == "Basic YW5uOnMzY3JldA=="
    assert "Authorization" not in other.seen[0].headers
    store.discard(find(store, checksum(DATA)).digest)  # type: ignore[union-attr]
    netrc.write_text("default login ann password s3cret\n")
    fetch(store, other.url, checksum(DATA), environment={"NETRC": str(netrc)})
    assert "Authorization" not in other.seen[1].headers
    store.discard(find(store, checksum(DATA)).digest)  # type: ignore[union-attr]
    netrc.write_text("machine 127.0.0.1 pass s3cret word\n")
    with pytest.raises(TransportError, match="malformed") as caught:
        fetch(store, other.url, checksum(DATA), environment={"NETRC": str(netrc)})
    assert "s3cret" not in fault_of(caught)


@pytest.mark.parametrize(
    "url",
    [
        "http://ann:s3cret@127.0.0.1:1/a", "https://ann@h/a", "https://:s3cret@h/a",
        "file:///etc/passwd", "ftp://h/a", "/etc/passwd", "a.tar", "https:///a", "https://h",
        "https://h/a b", "https://h/\u00e4", "https://h:0/a", "https://h:99999/a", "https://-h/a",
        "https://h/a\nb", "https://[::1/a", "", "javascript:x", "https://a_b..:80:80/",
    ],
)  # fmt: skip
def test_other_addresses_are_refused(store: Store, url: str) -> None:
    with pytest.raises(BuilderError) as caught:
        fetch(store, url, checksum(DATA))
    assert "s3cret" not in fault_of(caught)


# -- what is left behind -------------------------------------------------------------------------


def test_a_killed_run_is_gone_on_with(
    store: Store, serve: Callable[..., Site], tmp_path: Path
) -> None:
    code = f"""
from builder.spec.address import Checksum
from builder.store.store import Store
from builder.transport.download import Downloads
from builder.transport.registry.settings import Settings
store = Store({store.root!r})
import sys
Downloads(store, Settings()).fetch(sys.argv[1], Checksum("sha256", {checksum(DATA).digest!r}))
"""
    site = serve(DATA, Fault(pause=0.05))
    running = subprocess.Popen([sys.executable, "-c", code, site.url])
    while not site.seen or site.seen[0].sent < 1_000_000:
        time.sleep(0.01)
    running.kill()
    running.wait()
    (left,) = partials(store)
    came = left.stat().st_size
    assert came > 500_000 and blobs(store) == []
    assert store.read(fetch(store, site.url, checksum(DATA))) == DATA
    assert site.seen[-1].headers["Range"] == f"bytes={came}-"
    assert site.seen[-1].sent == len(DATA) - came
    assert not partials(store) and not os.listdir(os.path.join(store.root, "locks"))[1:]


def test_what_was_left_is_not_believed(store: Store, serve: Callable[..., Site]) -> None:
    """Whatever stands where a partial would: the bytes come, and nothing outside is touched."""
    wanted = checksum(DATA)
    outside = Path(store.root, "..", "outside")
    outside.write_bytes(b"mine")
    fetch(store, serve(DATA, Fault(cut=10)).url, wanted)
    store.discard(find(store, wanted).digest)  # type: ignore[union-attr]
    with pytest.raises(TransportError):
        fetch(store, serve(DATA, Fault(cut=10)).url, wanted, QUICK._replace(tries=1))
    (place,) = partials(store)

    def made(kind: str) -> None:
        if place.is_dir() and not place.is_symlink():
            place.rmdir()
        else:
            place.unlink(missing_ok=True)
        if kind == "symlink":
            place.symlink_to(outside)
        elif kind == "hard link":
            place.hardlink_to(outside)
        elif kind == "fifo":
            os.mkfifo(place)
        elif kind == "folder":
            place.mkdir()
        elif kind == "other bytes":
            place.write_bytes(bytes(1_000_000))
        elif kind == "too many":
            place.write_bytes(DATA + b"more")
        elif kind == "whole":
            place.write_bytes(DATA)

    for kind in ("symlink", "hard link", "fifo", "folder", "other bytes", "too many", "whole"):
        made(kind)
        site = serve(DATA)
        blob = fetch(store, site.url, wanted)
        assert store.read(blob) == DATA, kind
        assert outside.read_bytes() == b"mine" and outside.stat().st_nlink == 1, kind
        assert (kind == "whole") == (not site.seen)
        store.discard(blob.digest)


def test_gc_takes_what_nobody_goes_on_with(store: Store, serve: Callable[..., Site]) -> None:
    once = QUICK._replace(tries=1)
    for number in range(3):
        data = DATA[number:]
        with pytest.raises(TransportError):
            fetch(store, serve(data, Fault(cut=100_000)).url, checksum(data), once)
    store.close()
    assert len(partials(store)) == 3
    old = time.time() - 4 * 86400
    for path in partials(store)[:2]:
        os.utime(path, (old, old))
    assert gc(store, max_age=3.5 * 86400, dry_run=True).removed >= 2
    fetch(store, serve(DATA).url, checksum(DATA), once)
    assert len(partials(store)) <= 1
    store.close()
    gc(store, max_size=0)
    assert partials(store) == []


class Small(Files):
    """A disk with 70 MB left."""

    came = 0

    def free(self, path: str) -> int:
        return 70_000_000 - self.came

    def write(self, handle: int, data: object) -> int:
        count = super().write(handle, data)  # type: ignore[arg-type]
        self.came += count
        return count


@pytest.mark.parametrize("length", ["right", "chunked", "none"])
def test_a_disk_is_not_filled(tmp_path: Path, serve: Callable[..., Site], length: str) -> None:
    """Nor is a file that has no end waited for."""
    store, data = Store(str(tmp_path / "s"), files=Small()), bytes(60_000_000)
    site = serve(data, Fault(length=length))
    with pytest.raises(StoreError, match="no room for") as caught:
        fetch(store, site.url, checksum(data))
    assert "cache gc" in fault_of(caught)  # type: ignore[arg-type]
    assert not partials(store) and blobs(store) == []
    assert length != "right" or site.seen[0].sent < 20_000_000


def test_a_full_disk_keeps_nothing(
    tmp_path: Path, serve: Callable[..., Site], faults: None = None
) -> None:
    class Full(Files):
        def write(self, handle: int, data: object) -> int:
            if len(data) > 1000:  # type: ignore[arg-type]
                raise OSError(28, "No space left on device")
            return super().write(handle, data)  # type: ignore[arg-type]

    store = Store(str(tmp_path / "s"), files=Full())
    with pytest.raises(StoreError, match="no space left"):
        fetch(store, serve(DATA).url, checksum(DATA))
    assert not partials(store) and blobs(store) == []


def test_cancel_ends_it(store: Store, serve: Callable[..., Site]) -> None:
    for fault in (Fault(hang=30), Fault(pause=30), Fault(cut=70_000, pause=0.1)):
        cancel, ended = Cancel(), []
        site = serve(DATA, *[fault] * 9)

        def work(cancel: Cancel = cancel, site: Site = site, ended: list = ended) -> None:
            try:
                fetch(store, site.url, checksum(DATA), QUICK._replace(backoff=9.0), cancel=cancel)
            except Cancelled:
                ended.append(time.monotonic())

        thread = threading.Thread(target=work)
        thread.start()
        while not site.seen:
            time.sleep(0.01)
        time.sleep(0.3)
        began = time.monotonic()
        cancel.set()
        thread.join(10)
        assert ended and ended[0] - began < 1.0
        assert blobs(store) == []


def test_an_interrupt_ends_the_process(store: Store, serve: Callable[..., Site]) -> None:
    """The socket's wait is one that a signal ends."""
    code = f"""
from builder.spec.address import Checksum
from builder.store.store import Store
from builder.transport.download import Downloads
from builder.transport.registry.settings import Settings
import sys
store = Store({store.root!r})
try:
    Downloads(store, Settings()).fetch(sys.argv[1], Checksum("sha256", {checksum(DATA).digest!r}))
finally:
    store.close()
"""
    site = serve(DATA, Fault(pause=30))
    running = subprocess.Popen([sys.executable, "-c", code, site.url], stderr=subprocess.DEVNULL)
    while not site.seen:
        time.sleep(0.01)
    began = time.monotonic()
    running.send_signal(signal.SIGINT)
    running.wait()
    assert time.monotonic() - began < 2
    assert os.listdir(os.path.join(store.root, "tmp")) == []


# -- random servers -------------------------------------------------------------------------------


def random_fault(pick: random.Random, size: int) -> Fault:
    kind = pick.randrange(9)
    cut = pick.choice([None, None, 0, 1, pick.randrange(size + 1), size])
    length = pick.choice(["right", "right", "chunked", "none", str(pick.randrange(2 * size + 2))])
    if kind == 0:
        return Fault(reset=True)
    if kind == 1:
        return Fault(pick.choice([500, 502, 503, 504, 429, 408]), {"Retry-After": "0"})
    if kind == 2:
        return Fault(range_off=pick.choice([-7, 3]))
    if kind == 3:
        return Fault(ranges=False, cut=cut)
    if kind == 4:
        return Fault(short_range=pick.randrange(1, size + 1))
    if kind == 5:
        return Fault(416)
    return Fault(cut=cut, length=length)


def test_random_servers(tmp_path: Path, serve: Callable[..., Site]) -> None:
    """Whatever a server did before: what is wanted comes, once it is served as it should be, and
    nothing else is ever kept. Runs that gave up leave what the next ones go on with."""
    gave_up = 0
    site = serve(b"")
    for number in range(ROUNDS):
        pick = random.Random(SEED * 1_000_003 + number)
        store = Store(str(tmp_path / str(number)))
        size = pick.choice([1, 1000, 70_000, 300_000])
        data, other = pick.randbytes(size), pick.randbytes(size)
        wanted = checksum(data, pick.choice(["sha256", "sha512"]))
        for _ in range(pick.randrange(4)):
            site.data = pick.choice([data, data, other])
            site.etag = pick.choice(['"1"', 'W/"1"', '"2"', ""])
            site.faults = [random_fault(pick, size) for _ in range(pick.randrange(6))]
            try:
                blob = fetch(store, site.url, wanted, QUICK._replace(tries=3))
            except BuilderError as error:
                assert "\n" not in error.message
                assert blobs(store) == [], number
                gave_up += 1
            else:
                assert store.read(blob) == data, number
        site.data, site.etag = data, pick.choice(['"1"', '"2"', ""])
        site.faults = []
        assert store.read(fetch(store, site.url, wanted)) == data, number
        assert blobs(store) == [checksum(data).digest] and not partials(store), number
        store.close()
    assert gave_up

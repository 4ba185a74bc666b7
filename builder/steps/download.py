"""`download`: a file of the web, told by its checksum; or what the archive that it is holds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

from builder.errors import BuilderError, SpecError
from builder.plan.step import FileStep
from builder.spec.model import ImageSpec, Place, shown

if TYPE_CHECKING:
    from builder.oci.image import Platform
    from builder.plan.changes import Changes
    from builder.plan.context import Context
    from builder.plan.materials import Materials
    from builder.plan.remote import Fetched, Progress, Tell
    from builder.spec.address import Checksum
    from builder.spec.fields import Reader, Table
    from builder.spec.node import Node
    from builder.store.store import Store
    from builder.transport.fetcher import Fetcher


class _Download(NamedTuple):
    place: Place
    name: str | None
    url: str
    dest: str
    algorithm: str  # sha256 | sha512
    digests: Mapping[str, str]  # by architecture; "": of all
    unpack: bool = False
    strip_components: int = 0
    owner: str | None = None  # as of Copy; of an archive as of Unpack
    mode: str | None = None  # as of Copy; None: 0644
    times: str | None = None  # as of Copy


class WebFile(NamedTuple):
    """What a step downloads: a plan.remote.Remote."""

    url: str
    checksum: Checksum
    unpack: bool

    def find(self, store: Store) -> Fetched | None:
        from builder.plan.remote import fetched
        from builder.transport.download import find

        blob = find(store, self.checksum)
        return fetched(store, blob) if blob else None

    def promised(self) -> Fetched | None:
        from builder.plan.remote import promised

        known = self.checksum.algorithm == "sha256" and not self.unpack
        return promised(self.checksum.digest) if known else None

    def fetch(self, fetcher: Fetcher, tell: Tell, progress: Progress) -> None:
        fetcher.download(self.url, self.checksum, progress)


class Download(_Download, FileStep):
    __slots__ = ()
    verb = "download"
    doc = "Download a file by its checksum, or unpack it."

    @classmethod
    def fields(cls) -> Table:
        from builder.spec.fetching import checksum, web_address
        from builder.spec.fields import Field, boolean, number, text
        from builder.spec.kinds import MODE_FIELD, NAME_FIELD, OWNER_FIELD, TARGET, TIMES_FIELD

        return {
            "download": Field(
                text(web_address, expected="an http(s) address"),
                "The address of a file.",
                required=True,
            ),
            "sha256": Field(
                checksum("sha256"), "The file's SHA-256, or one for each architecture."
            ),
            "sha512": Field(checksum("sha512"), "Its SHA-512, in place of sha256."),
            "dest": Field(
                TARGET,
                "The path of the file; with a slash at its end the directory for it. With"
                " `unpack`, the directory to unpack into.",
                required=True,
            ),
            "name": NAME_FIELD,
            "unpack": Field(boolean(), "true: unpack it, a tar (gz, xz, bz2, zst) or zip."),
            "strip_components": Field(
                number(0, 100), "How many leading folders of each member's path to leave out."
            ),
            "owner": OWNER_FIELD,
            "mode": MODE_FIELD,
            "times": TIMES_FIELD,
        }

    @classmethod
    def read(cls, reader: Reader, node: Node, given: Mapping[str, Any]) -> Download:
        from builder.spec.fetching import file_name, shell_word
        from builder.spec.kinds import no_slash, place

        url, dest, unpack = given["download"], given["dest"], given.get("unpack", False)
        algorithms = [name for name in ("sha256", "sha512") if name in given]
        if not algorithms:
            raise node.fault(
                "a download needs a checksum: sha256 or sha512",
                f"this says it: curl -fsSL {shell_word(shown(url))} | sha256sum",
            )
        if len(algorithms) > 1:
            raise (node.get("sha512") or node).fault("'sha256' and 'sha512' in one step, write one")
        for name, wants in (("mode", False), ("times", False), ("strip_components", True)):
            if name in given and unpack != wants:
                what = "an archive's members have their own" if unpack else "nothing is unpacked"
                hint = None if unpack else "write unpack: true"
                raise (node.get(name) or node).fault(f"{name!r} is given, but {what}", hint)
        if unpack:
            dest = no_slash(dest)
        elif dest.endswith("/"):
            name = file_name(url)
            if not name:
                at = node.get("dest") or node
                raise at.fault("the address names no file, expected a path of one in 'dest'")
            dest += name
        (algorithm,) = algorithms
        return cls(
            place(reader, node.get("download") or node),
            given.get("name"),
            url,
            dest,
            algorithm,
            given[algorithm],
            unpack,
            given.get("strip_components", 0),
            given.get("owner"),
            given.get("mode"),
            given.get("times"),
        )

    def title(self) -> str:
        return f"download {shown(self.url).partition('?')[0]}"

    def without_sources(self) -> Download:
        """The checksum tells the file, wherever it is."""
        return self._replace(url="")

    def remote(self, platform: Platform) -> WebFile:
        from builder.spec.address import Checksum

        names = (f"{platform.architecture}/{platform.variant}", platform.architecture, "")
        digest = next((self.digests[name] for name in names if name in self.digests), None)
        if digest is None:
            known = ", ".join(self.digests)
            raise BuilderError(
                f"{self.algorithm} has no checksum for {platform.architecture}, only for {known}",
                f"add a line to it: {platform.architecture}: ...",
            )
        return WebFile(self.url, Checksum(self.algorithm, digest), self.unpack)

    def advice(self, spec: ImageSpec, context: Context) -> Iterator[SpecError]:
        from builder.spec.advice import served

        return iter(()) if self.times or self.unpack else served(self.place, self.dest)

    def changes(self, given: Materials) -> Changes:
        assert given.fetched is not None
        if self.unpack:
            from builder.steps.unpacking import Archive, unpack

            archive = Archive(given.fetched.seekable, shown(self.url), self.strip_components)
            return unpack(self, [archive], given.ground)
        from builder.steps.target import write_content

        came = given.fetched
        return write_content(self, came.open, came.size, came.sha256, given.ground)

"""COPY and ADD: steps that copy, unpack, download, and write files."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from builder.dockerfile import archives
from builder.dockerfile.expand import Value, known
from builder.dockerfile.nodes import put, template, text, texts
from builder.dockerfile.words import Word, heredoc
from builder.spec import syntax
from builder.spec.files import MAX_BYTES
from builder.spec.node import MAPPING, Node
from builder.spec.source import Fault, quote

if TYPE_CHECKING:
    from builder.dockerfile.convert import Part, Servers, _Converter
    from builder.dockerfile.instructions import Instruction

_WEB = re.compile("https?://", re.I)
_GIT = re.compile(r"[\w-]+@[\w.-]+:|(ssh|git)://|github\.com/|https?://[^#?]*\.git([#?]|$)", re.I)
_CHECKSUM = re.compile("(sha256):([0-9a-f]{64})|(sha512):([0-9a-f]{128})")
_COMMIT = re.compile("[0-9a-f]{40}([0-9a-f]{24})?")


class _To(NamedTuple):
    """Where to, and as whose."""

    dest: str
    owner: Node | None
    mode: Node | None


def copy(by: _Converter, part: Part, found: Instruction) -> None:
    *sources, last = found.args
    dest = template(by.value(last, part.scope.lookup)) or "."
    if heredoc(last.text) and not found.is_json:
        raise found.fault("the destination is a here-document", None, last.at)
    several = len(sources) > 1 and not found.heredocs and not dest.endswith("/")
    if several or dest in (".", "..") or dest.endswith(("/.", "/..")):
        dest += "/"
    to = _To(_dest(dest), _flag(by, part, found, "chown"), _flag(by, part, found, "chmod"))
    if to.owner and not to.owner.text:
        to = to._replace(owner=None)
    inner = found.flag("from") is not None
    if not posixpath.isabs(to.dest):
        part.wanted = None  # the step makes the working directory
    documents = {each.name: each for each in found.heredocs}
    plain: list[Word] = []
    for word in sources:
        announced = None if found.is_json else heredoc(word.text)
        if announced and announced[0] in documents:
            _document(by, part, found, documents[announced[0]], to, many=len(sources) > 1)
        elif found.word == "ADD" and _GIT.match(by.by_default(word, part.scope.lookup)):
            _repository(by, part, found, word, to)
        elif found.word == "ADD" and _WEB.match(by.by_default(word, part.scope.lookup)):
            _download(by, part, found, word, to)
        else:
            plain.append(word)
    if not plain:
        return
    paths = []
    for word in plain:
        value = by.value(word, part.scope.lookup)
        path = template(value).replace("[!", "[\\!")  # which is no negation there
        paths.append(path if inner else source(path))
    if found.word == "ADD":
        _add(by, part, found, paths, to)
        return
    if found.on("parents"):
        for path in paths:
            _parents(by, part, found, path, to, inner)
        return
    _copy(by, part, found, paths, to)


def _dest(dest: str) -> str:
    """Without the parts that a spec does not have: `.`, `..` and doubled slashes."""
    if "{{" in dest or "{%" in dest or not any(each in dest for each in ("..", "//", "./", "/.")):
        return dest
    slash = "/" if dest.endswith("/") else ""
    clean = posixpath.normpath(dest)
    if clean.startswith("//"):
        clean = clean[1:]
    while clean.startswith("../"):
        clean = clean[3:]
    if clean in (".", ".."):
        return "./"
    return clean if clean.endswith("/") else clean + slash


def source(path: str) -> str:
    """A path of the context: from its top, whatever it says."""
    if "{{" in path or "{%" in path:
        return path.lstrip("/") or "."
    slash = path.endswith("/")
    clean = posixpath.normpath("/" + path).lstrip("/")
    return (clean + "/" if slash and clean else clean) or "."


def _flag(by: _Converter, part: Part, found: Instruction, name: str) -> Node | None:
    flag = found.flag(name)
    if flag is None:
        return None
    value = by.value(Word(flag.value, flag.at), part.scope.lookup)
    if name == "chmod" and (octal := known(value)) and octal.isdecimal():
        value = (octal.zfill(4),)
    return text(value, found.line.at(flag.at))


def _copy(by: _Converter, part: Part, found: Instruction, paths: list[str], to: _To) -> Node:
    at = found.place
    step = Node(MAPPING, *at)
    one = text(paths[0], at, ready=True)
    many = texts([], at)
    many.items = [text(path, at, ready=True) for path in paths]
    put(step, "copy", one if len(paths) == 1 else many, at)
    if flag := found.flag("from"):
        put(step, "from", origin(by, part, found, flag.value, flag.at), at)
    put(step, "dest", text(to.dest, at, ready=True), at)
    excludes = [_exclude(flag.value) for flag in found.all("exclude")]
    if not flag and "." in paths:
        excludes += [f"/{path}" for path in by.wish.excludes]
    if excludes:
        put(step, "exclude", texts(excludes, at), at)
    _own(step, to, found)
    if not by.wish.idiomatic or any(map(syntax.is_glob, paths)):
        put(step, "rules", text("docker", at), at)
    by.add(part, step, found)
    return step


def _own(step: Node, to: _To, found: Instruction) -> None:
    if to.owner:
        put(step, "owner", to.owner, found.place)
    if to.mode:
        put(step, "mode", to.mode, found.place)


def origin(by: _Converter, part: Part, found: Instruction, said: str, at: int) -> Node:
    """The image of --from: a stage by number or name, else a reference."""
    if "$" in said:
        raise found.fault(
            "--from knows no variables", "name a stage: FROM $NAME AS other, --from=other", at
        )
    stage = by.stage_of(part, said)
    if stage is None and said.isdecimal():
        raise found.fault(
            f"--from={said}: there is no stage of this number before this one", None, at
        )
    if stage is None and said.lower() == part.stage.name:
        raise found.fault(f"--from={quote(said)} is the stage itself", None, at)
    where = found.line.at(at)
    if stage:
        part.needs.add(stage.name)
        return text(f"stage:{stage.name}", where)
    later = [each.name for each in by.file.stages[part.number + 1 :]]
    if said.lower() in later:
        raise found.fault(
            f"--from={quote(said)} is a stage that comes later", "put it above this one", at
        )
    return text(said, where)


def _exclude(pattern: str) -> str:
    """A pattern of .dockerignore by the rules of .gitignore."""
    no, bare = ("!", pattern[1:]) if pattern.startswith("!") else ("", pattern)
    bare = bare.strip().lstrip("/")
    return f"{no}{bare}" if bare.startswith("**/") else f"{no}/{bare}"


def _parents(
    by: _Converter, part: Part, found: Instruction, path: str, to: _To, inner: bool
) -> None:
    """--parents: a source keeps its folders, from a `./` within it on."""
    if found.flag("from"):
        path = path.lstrip("/")
    word = next(each.text for each in found.args if source(each.text) == source(path))
    head, pivot, tail = word.lstrip("/").partition("/./")
    kept = tail if pivot else posixpath.normpath("/" + word).lstrip("/")
    parts = kept.split("/")
    fixed = next((n for n, each in enumerate(parts) if syntax.is_glob(each)), None)
    folder = "/".join(parts[: len(parts) - 1 if fixed is None else fixed])
    whole = posixpath.normpath("/" + (f"{head}/{tail}" if pivot else word)).lstrip("/")
    base = to.dest if to.dest.endswith("/") else to.dest + "/"
    name = parts[-1] if fixed is None and archives.is_folder(by.wish.context, whole) else ""
    by.looked = True
    dest = posixpath.join(base, folder, name)
    step = _copy(
        by, part, found, [f"/{whole}" if inner else whole],
        to._replace(dest=dest if dest.endswith("/") else dest + "/"),
    )  # fmt: skip
    if fixed is not None:
        step.pairs = [(key, value) for key, value in step.pairs if key.text != "rules"]
        put(
            step,
            "preserve",
            text("mtime", found.place) if inner else texts(["mode", "mtime"], found.place),
            found.place,
        )


def _add(by: _Converter, part: Part, found: Instruction, paths: list[str], to: _To) -> None:
    """ADD of the context: archives are unpacked, all else is copied."""
    by.looked = True
    groups: list[tuple[bool, list[str]]] = []
    flag = found.flag("unpack")
    for path in paths:
        for each, packed in archives.among(by.wish.context, path):
            unpacked = packed if flag is None else found.on("unpack")
            if groups and groups[-1][0] == unpacked:
                groups[-1][1].append(each)
            else:
                groups.append((unpacked, [each]))
    for unpacked, some in groups:
        if not unpacked:
            _copy(by, part, found, some, to)
            continue
        step = Node(MAPPING, *found.place)
        node = texts([], found.place)
        node.items = [text(each, found.place, ready=True) for each in some]
        put(step, "unpack", node if len(some) > 1 else node.items[0], found.place)
        put(step, "dest", text(to.dest, found.place, ready=True), found.place)
        put(step, "preserve", text("mtime", found.place), found.place)
        by.add(part, step, found)
        found = found._replace(line=found.line._replace(comments=()))


def _document(
    by: _Converter, part: Part, found: Instruction, document: object, to: _To, *, many: bool
) -> None:
    from builder.dockerfile.lines import Heredoc

    assert isinstance(document, Heredoc)
    content: Value = (document.content,)
    if document.expand:
        from builder.dockerfile.expand import Bad, expanded

        try:
            content = expanded(
                document.content,
                "\\",
                part.scope.lookup,
                quotes=False,
                fuel=by.fuel,
                limit=MAX_BYTES,
            )
        except Bad as bad:
            raise found.fault(bad.message, bad.hint) from None
    dest = to.dest
    if dest.endswith("/"):
        dest += document.name
    elif many:
        raise found.fault("several sources need a destination that ends in /")
    step = Node(MAPPING, *found.place)
    put(step, "file", text(dest, found.place, ready=True), found.place)
    put(step, "content", text(content, (document.line, 1)), found.place)
    _own(step, to, found)
    by.add(part, step, found)


def _download(by: _Converter, part: Part, found: Instruction, word: Word, to: _To) -> None:
    flag = found.flag("checksum")
    said = known(by.value(Word(flag.value, flag.at), part.scope.lookup)) if flag else ""
    sum_ = _CHECKSUM.fullmatch(said or "")
    step = Node(MAPPING, *found.place)
    where, address = found.line.at(word.at), by.value(word, part.scope.lookup)
    put(step, "download", text(address, where), found.place)
    if sum_:
        name, digest = (sum_[1], sum_[2]) if sum_[1] else (sum_[3], sum_[4])
        put(step, name, text(digest, where), found.place)
    else:

        def ask(servers: Servers) -> bool:
            url = known(address)
            if url is not None:
                put(step, "sha256", text(servers.checksum_now(url), where), found.place)
            return url is not None

        _missing(
            by, part, step, found.fault(
                "ADD of an address needs a checksum, or each build could bring another file",
                "write ADD --checksum=sha256:HEX ADDRESS DESTINATION; curl -fsSL ADDRESS |"
                " sha256sum says it", word.at,
            ), ask,
        )  # fmt: skip
        if by.wish.given is None:
            put(step, "sha256", text("TO BE FILLED IN", where), found.place)
    put(step, "dest", text(to.dest, found.place, ready=True), found.place)
    if found.on("unpack"):
        put(step, "unpack", Node("bool", *found.place, "true"), found.place)
        _own(step, to._replace(mode=None), found)
    else:
        _own(step, to._replace(mode=to.mode or text("0600", found.place)), found)
    by.add(part, step, found)


def _missing(
    by: _Converter, part: Part, step: Node, fault: Fault, ask: Callable[[Servers], bool]
) -> None:
    """What is not said of what comes from a server: it is asked before the stage is built; in a
    spec that is to be kept it has to be said by hand."""
    if by.wish.given is not None:
        from builder.dockerfile.convert import Late

        part.late.append(Late(fault, ask))
    else:
        by.remark((fault.line, fault.column), f"{fault.message}: {fault.hint}", step)


def _repository(by: _Converter, part: Part, found: Instruction, word: Word, to: _To) -> None:
    whole = template(by.value(word, part.scope.lookup))
    address, _, fragment = whole.partition("#")
    address, _, query = address.partition("?")
    options = dict(each.partition("=")[::2] for each in query.split("&")) if query else {}
    ref, _, folder = fragment.partition(":")
    ref = options.get("commit") or options.get("ref") or options.get("checksum") or ref
    flag = found.flag("checksum")
    commit = flag.value if flag else ref
    step = Node(MAPPING, *found.place)
    put(step, "git", text(address, found.line.at(word.at), ready=True), found.place)
    if _COMMIT.fullmatch(commit):
        put(step, "commit", text(commit, found.place), found.place)
    else:

        def ask(servers: Servers) -> bool:
            id_ = servers.commit_now(address, commit)
            put(step, "commit", text(id_, found.place), found.place)
            return True

        _missing(
            by, part, step, found.fault(
                "ADD of a repository needs the id of a commit, or each build could bring another",
                "write ADDRESS#COMMIT, of 40 hex digits; git ls-remote ADDRESS REF says it",
                word.at,
            ), ask,
        )  # fmt: skip
        if by.wish.given is None:
            put(step, "commit", text("TO BE FILLED IN", found.place), found.place)
    put(step, "dest", text(to.dest, found.place, ready=True), found.place)
    if folder := options.get("subdir") or folder:
        put(step, "subdir", text(folder, found.place), found.place)
    if to.owner:
        put(step, "owner", to.owner, found.place)
    if found.on("keep-git-dir"):
        by.remark(found.place, "--keep-git-dir: the repository's .git does not come along", step)
    by.add(part, step, found)

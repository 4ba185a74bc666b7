"""Words of Dockerfiles, Compose and others that people will try, and what is said here for them.

A word may be one of another place, or the value may be written otherwise there: the hint then has
the line to write. `at the top: `, `under 'config': `, `as a step: ` and `in its place: ` are
followed by YAML that is taken there (tests follow each of them).
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from typing import NamedTuple

from builder.spec import syntax
from builder.spec.fields import Kind, Reader, Table
from builder.spec.node import LIST, MAPPING, NULL, TEXT, Node
from builder.spec.source import Fault, quote, written

_LONGEST = 150  # characters of a value in a hint
_SHOWN = 50  # nodes of one


def _table(text: str) -> dict[str, tuple[str, ...]]:
    """`word word > ours` by word. Words are compared in small letters, without - and _; one in
    several lines means the first that a place has."""
    found: dict[str, tuple[str, ...]] = {}
    for line in text.strip().splitlines():
        words, _, ours = line.partition(" > ")
        for word in words.split():
            found[word] = (*found.get(word, ()), ours)
    return found


_SPEC = _table("""
from base baseimage image parent > from
args arg buildargs arguments variables parameters params > vars
tag > tags
platform arch > platforms
containername > name
layers instructions tasks > steps
""")
_CONFIG = _table("""
user runas > user
env environment envs environ > env
workdir workingdir cwd > working_dir
cmd command > cmd
entrypoint > entrypoint
shell > shell
expose exposes exposedports ports port > exposed_ports
volume volumes > volumes
label labels annotations > labels
stopsignal > stop_signal
healthcheck health livenessprobe > healthcheck
path > path
""")
_VERB = _table("""
run sh bash script exec execute command cmds raw > run
copy add copyfiles files > copy
mkdir dir folder > directory
rm delete unlink > remove
ln link > symlink
untar extract unarchive unzip > unpack
changeset diff applylayer > layer
wget curl fetch geturl > download
clone gitclone checkout repository repo > git
render jinja j2 > template
useradd adduser > account
""")
_OPTION = _table("""
workdir workingdir cwd chdir dir > working_dir
environment envs environ > env
chown user > owner
owner become runas as > user
chmod perms permissions > mode
destination dst target to path into > dest
target source dest > to
ignore ignores excludes except > exclude
strip > strip_components
ref branch revision rev > commit
checksum hash digest sha > sha256
net > network
text data body contents > content
variables args > vars
title id label > name
executable > shell
secrets secret ssh mount > mounts
homedir > home
""")
_MOUNT = _table("""
dst destination path mountpoint > target
uid user chown > owner
chmod perms > mode
environment variable > env
src source > bind
""")
_VALUES = ("src", "source", "sources", "from", "path", "file", "cmd", "command", "script", "link")
_TEST = _table("""
cmd command run exec httpget > test
period every periodseconds > interval
timeoutseconds > timeout
startdelay initialdelayseconds > start_period
failurethreshold > retries
""")
_CHECK = _table("""
exit exitcode exitstatus returncode code > status
output out expectedoutput > stdout
err error expectederror > stderr
cwd workdir dir > working_dir
environment envs envvars > env
net > network
input > stdin
perms permissions filemode > mode
chown uid user > owner
hash digest checksum > sha256
linkedto target symlink > link
shouldexist exist present > exists
versions > version
expect contain includes has stdoutcontains > contains
pattern regex match > matches
excludes notcontains > lacks
title id label > name
wait deadline > within
url > http
""")

_RUN_TIME = """
restart networks networkmode privileged capadd capdrop deploy hostname extrahosts links logging
envfile replicas resources securitycontext imagepullpolicy init
"""
_NONE = {
    **dict.fromkeys(_RUN_TIME.split(), "it is said where an image is run: `docker run`, Compose"),
    "dependson": "a base is what an image waits for: `from: image:NAME` stands on another spec",
    "services": "a file is one image; each that is built here is a spec of its own",
    "build": "the whole spec says what is built: `from`, `steps`, `config`",
    "dockerfile": "a spec takes its place: `builder init` begins one beside a Dockerfile",
    "onbuild": "what is to be done on an image is said by the spec that stands on it",
    "target": "`builder build IMAGE:STAGE` builds one stage",
    "secrets": "`mounts` of a step say which it sees, --secret or builder.yaml who gives them",
    "version": "a label says it: `org.opencontainers.image.version`, or a tag",
    "maintainer": "a label says it: `org.opencontainers.image.authors`",
    "author": "a label says it: `org.opencontainers.image.authors`",
}


class _Place(NamedTuple):
    what: str  # as messages name it
    owner: str
    where: str  # how a hint says it
    words: Mapping[str, tuple[str, ...]]
    table: Callable[[], Table]


def _spec_table() -> Table:
    from builder.spec.language import SPEC

    return SPEC


def _config_table() -> Table:
    from builder.spec.config import CONFIG

    return CONFIG


_TOP = _Place("a spec", "the spec itself", "at the top: ", _SPEC, _spec_table)
_UNDER = _Place("'config'", "'config'", "under 'config': ", _CONFIG, _config_table)


def renamed(
    reader: Reader, key: Node, value: Node, what: str, free: dict[str, Kind]
) -> Fault | None:
    """For a key that `what` has by another name; None: it has none. `free` are the keys it has that
    are not given yet: the one that was meant is taken out."""
    known = {
        "a spec": _SPEC,
        "'config'": _CONFIG,
        "a healthcheck": _TEST,
        "'set'": _CONFIG,
        "a stage": _SPEC,
    }.get(what, {})
    known = _OPTION if what.endswith(" step") else known
    known = _MOUNT if what.endswith(" mount") else known
    known = _CHECK if what.endswith(" test") else known
    meant = next((name for name in known.get(_plain(key.text), ()) if name in free), None)
    if meant is None:
        return None
    kind = free.pop(meant)
    if reader.fits(kind, value):
        return key.fault(f"unknown key {quote(key.text)} in {what}, did you mean {meant!r}?")
    if meant == "mounts":
        items = value.items if value.kind == LIST else [value]
        value = Node(LIST, value.line, value.column)
        value.items = [_mapping(each, {_plain(key.text).rstrip("s"): each}) for each in items]
    line = next(_lines(reader, meant, kind, value), None)
    hint = f"in its place: {line}" if line else f"{meant!r} is the word for it"
    return key.fault(f"unknown key {quote(key.text)} in {what}", hint)


def of_step(reader: Reader, key: Node, value: Node) -> Fault | None:
    """What was meant by a key of a step without a verb."""
    word = _plain(key.text)
    verb = "run" if word == "shell" and value.kind == TEXT else _verb(reader, word)
    if verb and verb != key.text:
        what = f"unknown step {quote(key.text)}"
        fields = reader.verbs[verb].fields()
        whole = "dest" in fields and len(_split(value)) > 1  # a b /dest
        whole |= verb == "run" and value.text.startswith("--")
        if not whole and reader.fits(fields[verb].kind, value):
            return key.fault(f"{what}, did you mean {verb!r}?")
        return key.fault(what, _step_hint(reader, verb, value))
    return _set_step(reader, key, value) or elsewhere(reader, key, value, "a step")


def _set_step(reader: Reader, key: Node, value: Node) -> Fault | None:
    """For a Dockerfile's ENV, USER, WORKDIR: a step that sets it from here on."""
    from builder.spec.steps import read_step

    for name in _CONFIG.get(_plain(key.text), ()) if "set" in reader.verbs else ():
        for candidate in _candidates(value):
            one = _mapping(value, {name: candidate})
            step = _mapping(value, {"set": one})
            if reader.fits(Kind(read_step, {}), step) and (text := flow(one)):
                what = f"key {quote(key.text)} is not a step"
                return key.fault(f"{what}, expected one that sets it", f"as a step: - set: {text}")
    return None


def of_options(reader: Reader, key: Node, options: Node) -> Fault | None:
    """What was meant by a verb whose value is a mapping, where it takes none: `copy: {src: a}`."""
    from builder.spec.steps import read_step

    fields = reader.verbs[key.text].fields()
    schema = fields[key.text].kind.schema
    if any(each.get("type") == "object" for each in (schema, *schema.get("anyOf", ()))):
        return None
    made = Node(MAPPING, options.line, options.column)
    for name, value in options.pairs:
        word = _plain(name.text)
        own = key.text if word in (key.text, *_VALUES) and word not in fields else None
        known = next((each for each in _OPTION.get(word, ()) if each in fields), name.text)
        made.pairs.append((_text(name, own or known), value))
    text = flow(made) if reader.fits(Kind(read_step, {}), made) else None
    message = f"{quote(key.text)} has a mapping, expected the options of the step beside it"
    return key.fault(message, f"as a step: - {text}" if text else None)


def of_text(reader: Reader, node: Node) -> Fault | None:
    """What was meant by a step that is a Dockerfile's line."""
    word, _, rest = node.text.partition(" ")
    key, value = _text(node, word), _text(node, rest.strip())
    if node.kind != TEXT or word != word.upper() or not rest.strip():
        return None
    if verb := _verb(reader, _plain(word)):
        hint = _step_hint(reader, verb, value)
        return node.fault(f"found {node.show()}, expected a step", hint)
    return _set_step(reader, key, value) or elsewhere(reader, key, value, "a step")


def as_mapping(node: Node) -> Node | None:
    """`[A=b, C=d]` or `A=b C=d` as {A: b, C: d}."""
    texts = [each.text for each in node.items] if node.kind == LIST else _split(node)
    pairs = [text.partition("=") for text in texts]
    if not pairs or not all(name and equals for name, equals, _ in pairs):
        return None
    return _mapping(node, {name: _text(node, value) for name, _, value in pairs})


def flow(node: Node) -> str | None:
    """A value on one line, as YAML; None if it is long."""
    if node.size > _SHOWN:
        return None
    if node.kind == LIST:
        items = [flow(each) for each in node.items]
        text = None if None in items else f"[{', '.join(map(str, items))}]"
    elif node.kind == MAPPING:
        pairs = [(flow(key), flow(value)) for key, value in node.pairs]
        text = "{" + ", ".join(f"{key}: {value}" for key, value in pairs) + "}"
        text = None if any(None in pair for pair in pairs) else text
    elif node.kind == TEXT:
        text = written(node.text)
    else:
        text = "null" if node.kind == NULL else node.text
    return text if text is not None and len(text) <= _LONGEST else None


def elsewhere(reader: Reader, key: Node, value: Node, what: str) -> Fault | None:
    """For a key that belongs to another place than `what`, or nowhere; None: it is not known."""
    word = _plain(key.text)
    step = what.endswith(" step")
    if not (step or what in (_TOP.what, _UNDER.what, "'set'", "a stage")):
        return None
    for place in (_TOP, _UNDER):
        table = place.table()
        names = (*place.words.get(word, ()), key.text)
        name = next((each for each in names if each in table), None)
        if name is None or what == place.what:
            continue
        line = next(_lines(reader, name, table[name].kind, value), None)
        return key.fault(
            f"key {quote(key.text)} belongs to {place.owner}, not to {what}",
            f"{place.where}{line}" if line else f"{name!r} is the word for it there",
        )
    verb = _verb(reader, word)
    if verb and not step:
        message = f"key {quote(key.text)} is a step's, not one of {what}"
        return key.fault(message, _step_hint(reader, verb, value))
    if word in _NONE:
        return key.fault(f"unknown key {quote(key.text)} in {what}", _NONE[word])
    return None


def _step_hint(reader: Reader, verb: str, value: Node) -> str:
    from builder.spec.steps import read_step

    flagged = verb == "run" and value.text.startswith("--")
    if flagged and (step := of_run(value.text)):
        return step
    for candidate in () if flagged else _candidates(value):
        made = _mapping(value, {verb: candidate})
        if "dest" in reader.verbs[verb].fields() and len(_split(candidate)) > 1:
            made = _copied(value, verb, _split(candidate))
        if reader.fits(Kind(read_step, {}), made) and (text := flow(made)):
            return f"as a step: - {text[1:-1] if len(made.pairs) == 1 else text}"
    table = reader.verbs[verb].fields()
    needed = ", ".join(f"{name}: ..." for name, field in table.items() if field.required)
    return f"a step says it: - {{{needed}}}"


def of_run(text: str) -> str | None:
    """The hint for what stands behind RUN where that begins with flags."""
    from builder.spec.mounting import of_docker

    mounts, options = [], {}
    while flag := re.match(r"--(mount|network)=(\S+)\s+", text):
        text = text[flag.end() :]
        if flag[1] == "network":
            options["network"] = flag[2]
        elif mount := of_docker(flag[2]):
            mounts.append(mount)
        else:
            return None
    if not text or text.startswith("--") or options.get("network", "none") not in ("none", "host"):
        return None
    options |= {"mounts": f"[{', '.join(mounts)}]"} if mounts else {}
    rest = "".join(f", {name}: {value}" for name, value in options.items())
    return f"as a step: - {{run: {written(text)}{rest}}}" if len(text) <= _LONGEST else None


def _copied(at: Node, verb: str, words: list[str]) -> Node:
    """`--chown=OWNER SOURCE... DEST` as a step."""
    flags = [each[2:].partition("=") for each in words[:-1] if each.startswith("--")]
    sources = [each for each in words[:-1] if not each.startswith("--")]
    made = {verb: _list(at, sources), "dest": _text(at, words[-1])}
    for name, _, value in flags:
        if name == "from" and re.fullmatch(syntax.IMAGE_NAME, value):
            value = f"stage:{value}"
        value = value.zfill(4) if name == "chmod" else value
        made[{"chown": "owner", "chmod": "mode"}.get(name, name)] = _text(at, value)
    return _mapping(at, made)


def _lines(reader: Reader, name: str, kind: Kind, value: Node) -> Iterator[str]:
    """`name: VALUE` for the values that may have been meant and that are taken."""
    for each in _candidates(value):
        text = flow(each)
        if text is not None and reader.fits(kind, each):
            yield f"{name}: {text}"


def _candidates(value: Node) -> Iterator[Node]:
    """A value as it stands and as it may be written elsewhere: one for a list, `A=b` for a mapping,
    HOST:IMAGE for what is the image's, a command for the mapping that tests by it."""
    yield value
    if value.size > _SHOWN or len(value.text) > _LONGEST:
        return  # it would not be shown
    items = [value] if value.kind not in (LIST, MAPPING, NULL) else value.items
    if items and value.kind != LIST:
        yield _list(value, [value.text])
        if len(_split(value)) > 1:
            yield _list(value, _split(value))
    if mapping := as_mapping(value):
        yield mapping
    for part in (-1, 1):
        parts = [each.text.split(":") for each in items]
        if any(len(each) > 1 for each in parts):
            yield _list(value, [each[part] if len(each) > 1 else each[0] for each in parts])
    if value.kind not in (MAPPING, NULL):
        yield _mapping(value, {"test": value})


def _verb(reader: Reader, word: str) -> str | None:
    return next((each for each in _VERB.get(word, (word,)) if each in reader.verbs), None)


def _plain(word: str) -> str:
    return word.lower().replace("_", "").replace("-", "")


def _split(node: Node) -> list[str]:
    if node.kind != TEXT or len(node.text) > _LONGEST:
        return []
    try:
        return shlex.split(node.text)
    except ValueError:
        return []


def _text(at: Node, text: str) -> Node:
    return Node(TEXT, at.line, at.column, text)


def _mapping(at: Node, values: Mapping[str, Node]) -> Node:
    made = Node(MAPPING, at.line, at.column)
    made.pairs = [(_text(at, name), value) for name, value in values.items()]
    return made


def _list(at: Node, texts: list[str]) -> Node:
    made = Node(LIST, at.line, at.column)
    made.items = [_text(at, each) for each in texts]
    return made

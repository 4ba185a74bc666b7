"""The text of a Dockerfile: lines, words, variables, here-documents, faults with their places."""

from __future__ import annotations

import time

import pytest

from builder.dockerfile.expand import Bad, Bound, Ref, expanded, known
from builder.dockerfile.instructions import Dockerfile, read
from builder.dockerfile.loading import source_of
from builder.errors import SpecErrors
from builder.spec.source import Source


def parsed(text: str) -> Dockerfile:
    return read(Source("Dockerfile", text))


def one(text: str) -> tuple[str, ...]:
    """The words of the instruction below a FROM."""
    (step,) = parsed("FROM scratch\n" + text).stages[0].steps
    return tuple(each.text for each in step.args)


LINES = {
    "RUN a \\\n  b": ("a   b",),
    "RUN a \\\n# a note\n  # another\n\n  b": ("a   b",),
    "RUN a \\   \n b": ("a  b",),
    "RUN a \\\\\nRUN b": None,
    "run a": ("a",),
    "  RUN\ta  b ": ("a  b",),
    "RUN a # no comment": ("a # no comment",),
    "RUN a \\\r\n  b\r": ("a   b",),
    'RUN ["a", "b c"]': ("a", "b c"),
    'RUN ["a", "b" ': ('["a", "b"',),
    "RUN [a]": ("[a]",),
    'RUN ["a"] b': ('["a"] b',),
    'CMD [ "a" ]': ("a",),
    "CMD []": (),
    "CMD": (),
    'COPY ["a b", "c/"]': ("a b", "c/"),
    "COPY a   b c/": ("a", "b", "c/"),
    "USER a b": ("a b",),
    "EXPOSE 80 81/udp": ("80", "81/udp"),
    'VOLUME ["/a", "/b c"]': ("/a", "/b c"),
    "VOLUME /a /b": ("/a", "/b"),
    "WORKDIR /a b": ("/a b",),
    "HEALTHCHECK --interval=5s CMD a b": ("CMD", "a b"),
    'HEALTHCHECK CMD ["a", "b"]': ("CMD", "a", "b"),
    "HEALTHCHECK NONE": ("NONE",),
    "HEALTHCHECK none": ("NONE",),
    "RUN --network=none a": ("a",),
    "RUN --mount=type=cache,target=/a --mount=type=tmpfs,target=/b a": ("a",),
    "COPY --from=x --chown=a:b a b": ("a", "b"),
    "COPY --link a b": ("a", "b"),
}


@pytest.mark.parametrize("text", LINES)
def test_the_words_of_an_instruction(text: str) -> None:
    wanted = LINES[text]
    if wanted is None:
        assert len(parsed("FROM scratch\n" + text).stages[0].steps) == 2
    else:
        assert one(text) == wanted


PAIRS = {
    "ENV A=1 B=2": [("A", "1"), ("B", "2")],
    'ENV A="x y" B=\\ z': [("A", '"x y"'), ("B", "\\ z")],
    "ENV A=x\\ y": [("A", "x\\ y")],
    "ENV A the  rest = of it": [("A", "the  rest = of it")],
    "ENV A=": [("A", "")],
    "LABEL a.b=c \\\n  'd e'=\"f\"": [("a.b", "c"), ("'d e'", '"f"')],
    "ARG A B=c": [("A", None), ("B", "c")],
}


@pytest.mark.parametrize("text", PAIRS)
def test_names_and_values(text: str) -> None:
    (step,) = parsed("FROM scratch\n" + text).stages[0].steps
    found = [(pair.name.text, pair.value.text if pair.value else None) for pair in step.pairs]
    assert found == PAIRS[text]


def test_here_documents() -> None:
    text = (
        "FROM scratch\nCOPY <<A <<-'B c' <<\"C\" 3<<D /to/\n"
        "a $x\nA\n\t\tb\n\tB c\nC\nd\n\nD\nRUN x\n"
    )
    copy, run = parsed(text).stages[0].steps
    assert [(each.name, each.expand, each.content) for each in copy.heredocs] == [
        ("A", True, "a $x\n"),
        ("B c", False, "b\n"),
        ("C", False, ""),
        ("D", True, "d\n\n"),
    ]
    assert run.text == "x"
    (run,) = parsed("FROM scratch\nRUN a << EOF b<<EOF $((1<<2))").stages[0].steps
    assert not run.heredocs


def test_directives() -> None:
    file = parsed("# syntax=docker/dockerfile:1\n# escape=`\nFROM a\nRUN a `\n b \\\nRUN c").file
    assert file.escape == "`"
    assert [line.text for line in file.lines] == ["FROM a", "RUN a  b \\", "RUN c"]
    assert parsed("# a comment\n# escape=`\nFROM a").file.escape == "\\"
    assert read(source_of("Dockerfile", b"\xef\xbb\xbf# escape=`\nFROM a")).file.escape == "`"
    assert parsed("\n# escape=`\nFROM a").file.escape == "\\"
    with pytest.raises(SpecErrors, match=r"Dockerfile:1:1: escape '/', expected"):
        parsed("# escape=/\nFROM a")


NAMES = {"A": "file.tar.gz", "E": "", "P": "/a/b/c", "V": "v1.2.3"}
EXPANDED = {
    "$A ${A}": "file.tar.gz file.tar.gz",
    "$Ab.$A": ".file.tar.gz",
    "\\$A '$A' \"$A\" \\a": "$A $A file.tar.gz a",
    '"\\$A \\" \\\\ \\n"': '$A " \\ \\n',
    "$ $$ $1x": "$  x",
    "${U:-d} ${U-d} ${E:-d} ${E-d} ${A:-d}": "d d d  file.tar.gz",
    "${U:+d} ${E:+d} ${E+d} ${A:+d$V}": "  d dv1.2.3",
    "${A?no} ${E?no} ${A:?no}": "file.tar.gz  file.tar.gz",
    "${A#*.} ${A##*.} ${A%.*} ${A%%.*}": "tar.gz gz file.tar file",
    "${V#v} ${V%x} ${V#?} ${V%%[1]*}": "1.2.3 v1.2.3 1.2.3 v1.2.3",
    "${P##*/} ${P%/*} ${P#/} ${P%%/*}": "c /a/b a/b/c ",
    "${A/tar/zip} ${A//./-} ${A/./} ${A/e*/x}": "file.zip.gz file-tar-gz filetar.gz filx",
    "${A//[.]/x} ${P//\\//-}": "file.tar.gz -a-b-c",
    "${U:-${A%.*}}": "file.tar",
    "${U:-'a b'} ${U:-\"$V\"}": "a b v1.2.3",
}


@pytest.mark.parametrize("text", EXPANDED)
def test_variables(text: str) -> None:
    def scope(name: str) -> Bound | None:
        return Bound((NAMES[name],)) if name in NAMES else None

    assert known(expanded(text, "\\", scope)) == EXPANDED[text]


LATER = {  # what is known when the spec is read: the expression says what the shell would
    "${X:-d}": {"": "d", "x": "x"},
    "${X:+d}": {"": "", "x": "d"},
    "${X%.*}": {"a.b.c": "a.b", "abc": "abc"},
    "${X%%.*}": {"a.b.c": "a", "abc": "abc"},
    "${X#*.}": {"a.b.c": "b.c", "abc": "abc"},
    "${X##*.}": {"a.b.c": "c", "abc": "abc"},
    "${X#v}": {"v1": "1", "1": "1"},
    "${X%v}": {"1v": "1"},
    "${X/./_}": {"a.b.c": "a_b.c"},
    "${X//./_}": {"a.b.c": "a_b_c"},
    'a${X:-${X:-"it\'s"}}b': {"": "ait'sb", "x": "axb"},
}


@pytest.mark.parametrize("text", LATER)
def test_variables_that_are_known_later(text: str) -> None:
    from builder.dockerfile.nodes import template
    from builder.spec.render import Renderer

    for value, wanted in LATER[text].items():
        made = template(expanded(text, "\\", lambda name: Bound((Ref("X"),))))
        renderer = Renderer({"X": value}, {})
        assert renderer.render(made) == wanted, (made, value)


FAULTS = {
    "FROM a\nFRM b": (2, 1, "did you mean 'FROM'"),
    "FROM a as": (1, 8, "one word, or three"),
    "FROM a AS 1x": (1, 11, "names no stage"),
    "RUN a": (1, 1, "before the first FROM"),
    "FROM a\n  COPY --frm=b c d": (2, 8, "did you mean 'from'"),
    "FROM a\nCOPY a": (2, 1, "sources and a destination"),
    "FROM a\nCOPY --from a b": (2, 6, "has no value"),
    "FROM a\nRUN \\\n --network=none --network=host a": (3, 17, "given twice"),
    "FROM a\nENV A": (2, 5, "has no value"),
    "FROM a\nENV A=1 \\\n    B": (3, 5, "has no value"),
    "FROM a\nCOPY <<EOF /a\nx": (2, 6, "has no end"),
    "FROM a\nSHELL sh -c": (2, 7, "JSON array"),
    'FROM a\nCMD ["a", 1]': (2, 5, "something else than texts"),
    "FROM a\nHEALTHCHECK curl": (2, 13, "expected CMD"),
    "FROM a\nONBUILD FROM b": (2, 9, "trigger"),
    "FROM a\nONBUILD COPY b": (2, 9, "destination"),
    "# a\n": (1, 1, "no instruction"),
    "ARG A": (1, 1, "no FROM"),
}


@pytest.mark.parametrize("text", FAULTS)
def test_faults_have_a_place(text: str) -> None:
    line, column, message = FAULTS[text]
    with pytest.raises(SpecErrors) as caught:
        parsed(text)
    (error,) = caught.value.errors
    assert message in error.message
    assert error.place is not None
    assert (error.place.line, error.place.column) == (line, column)


@pytest.mark.parametrize("text", ["${", "${A", "${:x}", "${}", "${A^}", "'a", '"a', "${A:x}"])
def test_a_substitution_that_is_none(text: str) -> None:
    with pytest.raises(Bad):
        expanded("abc " + text, "\\", lambda name: None)


MEGABYTE = 1 << 20
HOSTILE = {
    "a long line": "RUN " + "x" * MEGABYTE,
    "white space": "RUN " + " " * MEGABYTE + "x",
    "backslashes": "RUN " + "\\" * MEGABYTE,
    "continued lines": "RUN x" + "\\\n" * (MEGABYTE // 2),
    "comments": "RUN a \\\n" + "#\n" * (MEGABYTE // 2),
    "words": "COPY " + "a " * (MEGABYTE // 2),
    "pairs": "LABEL " + "a=b " * (MEGABYTE // 4),
    "quotes": "ENV A=" + "'\"" * (MEGABYTE // 2),
    "flags": "RUN " + "--mount=a " * (MEGABYTE // 10),
    "here-documents": "RUN " + "<<A " * (MEGABYTE // 4),
    "instructions": "RUN a\n" * (MEGABYTE // 6),
    "brackets": "RUN " + "[" * MEGABYTE,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_end_soon(name: str) -> None:
    before = time.process_time()
    try:
        parsed("FROM a\n" + HOSTILE[name])
    except SpecErrors:
        pass
    assert time.process_time() - before < 10


BOMBS = {
    "nested": "${A:-" * 100_000,
    "wild": "${A%%" + "*a" * 200 + "?}",
    "replaced": "${A//*a*b*c/x}",
    "dollars": "$" * MEGABYTE,
    "names": "$A" * 100_000,
}


@pytest.mark.parametrize("name", BOMBS)
def test_expansion_bombs_end_soon(name: str) -> None:
    before = time.process_time()
    try:
        expanded(BOMBS[name], "\\", lambda name: Bound(("a" * 100_000,)))
    except Bad:
        pass
    assert time.process_time() - before < 10

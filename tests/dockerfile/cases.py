"""Dockerfiles that are built by ours, by BuildKit and by buildah; all stand on one small base.

`{B}` is the base. What the BuildKit of Docker 20.10 does not know is said for it in other words:
`others`. `differs` names paths and fields of the config where ours is another than whose, and why.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple


class Case(NamedTuple):
    text: str
    others: str = ""  # the same for builders of before here-documents; "": the same text
    arguments: Mapping[str, str] = {}
    target: str = ""
    differs: Mapping[str, str] = {}  # path or field -> who has it otherwise: buildkit, buildah
    onto: tuple[str, ...] = ("buildkit", "buildah")


def on(*lines: str) -> str:
    return "\n".join(("FROM {B}", *lines)) + "\n"


CASES: dict[str, Case] = {}


def case(name: str, *lines: str, **options: object) -> None:
    """A case of one stage on the base."""
    assert name not in CASES, name
    CASES[name] = Case(on(*lines), **options)  # type: ignore[arg-type]


def whole(name: str, text: str, **options: object) -> None:
    assert name not in CASES, name
    CASES[name] = Case(text, **options)  # type: ignore[arg-type]


OTHERS_COPY: dict[tuple[str, str], dict[str, str]] = {  # buildah drops set-id bits
    (".", "/all/"): {"all/modes/setuid": "buildah"},
    ("/", "/all"): {"all/modes/setuid": "buildah"},
    ("modes", "/c"): {"c/setuid": "buildah"},
    ("a.txt", "/flink"): {"file": "buildah", "flink": "buildah"},  # it replaces the link
}

# -- COPY ------------------------------------------------------------------------------------------
for number, (sources, dest) in enumerate(
    [
        ("a.txt", "/c"),
        ("a.txt", "/c/"),
        ("a.txt", "/deep/er/c"),
        ("a.txt", "/dir"),
        ("a.txt", "/dir/"),
        ("a.txt", "/file"),
        ("a.txt b.sh", "/c/"),
        ("a.txt b.sh", "/dir"),
        ("a.txt priv b.sh dir", "/c/"),
        ("priv", "/c"),
        ("dir", "/c"),
        ("dir/", "/c/"),
        ("dir", "/dir"),
        ("dir", "/secret"),
        ("dir/sub", "/c"),
        ("dir/sub/three.txt", "/c"),
        ("over", "/"),
        (".", "/all/"),
        ("/", "/all"),
        ("./a.txt", "/c"),
        ("/a.txt", "/c"),
        ("dir/../a.txt", "/c"),
        ("link", "/c"),
        ("link", "/c/"),
        ("dirlink", "/c"),
        ("links", "/c"),
        ("a.txt", "/lnk/x"),
        ("dir", "/lnk"),
        ("a.txt", "/flink"),
        ("hard", "/c"),
        ("modes", "/c"),
        ("umlaut-ä.txt", "/ü"),
        ("empty", "/c"),
        ("conf/*.ini", "/c/"),
        ("conf/?.ini", "/c/"),
        ("conf/[ab].*", "/c/"),
        ("conf/[!a].ini", "/c/"),
        ("conf/[^a].ini", "/c/"),
        ("pkg/*/package.json", "/c/"),
        ("pkg/*", "/c/"),
        ("d*", "/c/"),
        ("conf/c.*", "/c"),
        ("a.txt none*", "/c/"),
        ("none*", "/c/"),
        ("*.txt", "/dir/"),
        ("deep/*/*/z.txt", "/c/"),
        ("a.txt", "."),
        ("a.txt", "./x"),
        ("a.txt", "x/../y"),
        ("dir", "./"),
    ]
):
    case(
        f"copy {number:02} {sources} to {dest}",
        f"COPY {sources} {dest}",
        differs=OTHERS_COPY.get((sources, dest), {}),
        onto=("buildkit",) if sources == "none*" else ("buildkit", "buildah"),
    )

case("copy JSON form", 'COPY ["sp ace.txt", "a.txt", "/c d/"]')
case("copy chown names", "COPY --chown=app:staff dir /c")
case("copy chown a name", "COPY --chown=app a.txt /c")
case("copy chown a number", "COPY --chown=33 a.txt /c/")
case("copy chown numbers", "COPY --chown=1234:56 dir /new/c")
case("copy chown onto a directory", "COPY --chown=7:8 dir /secret")
case("copy chown of links", "COPY --chown=7:8 links /c")
case("copy chmod", "COPY --chmod=640 a.txt b.sh /c/", onto=("buildkit",))
case("copy chmod of a directory", "COPY --chmod=0750 dir /c", onto=("buildkit",))
case("copy chown by ARG", "ARG U=7", "COPY --chown=$U:${U}0 a.txt /c")
case("copy by ENV", "ENV F=a.txt D=/c", "COPY $F ${D}/x/")
case("copy over what is there", "COPY a.txt /c", "COPY b.sh /c")
case(
    "copy over a link",
    "RUN ln -s /file /c",
    "COPY a.txt /c",
    differs={"c": "buildah", "file": "buildah"},
)
case("copy into a stage's work", "WORKDIR /w", "COPY dir .", "COPY a.txt sub/", "RUN ls -R > list")
case("copy as a user", "USER app", "COPY a.txt /c", "WORKDIR /w", "COPY a.txt x/")
case("copy, then another", "COPY dir /c", "COPY over /", "COPY conf /c/sub")

# -- ADD -------------------------------------------------------------------------------------------
for name in ("arch.tar", "arch.tar.gz", "arch.tar.bz2", "arch.tar.xz", "plain.gz", "fake.tar"):
    case(f"add {name}", f"ADD {name} /c/")
case("add an archive to a name", "ADD arch.tar /c")
case("add an archive onto a directory", "ADD arch.tar /dir")
case("add files", "ADD a.txt dir /c/")
case("add a file", "ADD a.txt /c")
case("add archives by a glob", "ADD arch.tar.* /c/")
case("add both kinds", "ADD arch.tar a.txt /c/")
case("add chown of a file", "ADD --chown=7:8 a.txt /c/")
case("add to a relative path", "WORKDIR /w", "ADD arch.tar x")

# -- stages ----------------------------------------------------------------------------------------
whole("a stage by name", "FROM {B} AS one\nRUN echo x > /x\nFROM {B}\nCOPY --from=one /x /c\n")
whole("a stage by number", "FROM {B}\nRUN echo x > /x\nFROM {B}\nCOPY --from=0 /x /c/\n")
whole(
    "a name in other letters",
    "FROM {B} AS One\nRUN echo x > /x\nFROM {B}\nCOPY --from=oNE /x /c\n",
    onto=("buildkit",),
)
whole(
    "a stage that fails and is not used",
    "FROM {B} AS no\nRUN false\nFROM {B}\nCOPY a.txt /c\n",
    onto=("buildkit",),
)
whole(
    "a stage on a stage",
    "FROM {B} AS a\nENV X=1\nWORKDIR /w\nUSER app\nFROM a AS b\nRUN id -u > /tmp/o\nFROM b\nRUN echo $X > /tmp/x\n",
)
whole("a target", "FROM {B} AS a\nCOPY a.txt /c\nFROM {B}\nRUN false\n", target="a")
whole(
    "a target by number",
    "FROM {B}\nCOPY a.txt /c\nFROM {B}\nRUN false\n",
    target="0",
    onto=(),
)
whole(
    "copy of a directory of a stage",
    "FROM {B} AS a\nCOPY --chown=7:8 dir /d\nFROM {B}\nCOPY --from=a /d /c\n",
)
whole("copy of a stage's links", "FROM {B} AS a\nCOPY links /d\nFROM {B}\nCOPY --from=a /d /c\n")
whole(
    "copy of a stage with chown",
    "FROM {B} AS a\nCOPY dir /d\nFROM {B}\nCOPY --from=a --chown=app /d /c\n",
)
whole(
    "copy of a stage by a glob",
    "FROM {B} AS a\nCOPY conf /d\nFROM {B}\nCOPY --from=a /d/*.ini /c/\n",
)
whole("copy of a stage's whole", "FROM scratch AS a\nCOPY dir /d\nFROM {B}\nCOPY --from=a / /c\n")
whole(
    "a base from ARG",
    "ARG NAME=one\nFROM {B} AS one\nRUN echo 1 > /x\nFROM {B} AS two\nRUN echo 2 > /x\nFROM ${NAME}\nRUN cat /x > /y\n",
    arguments={"NAME": "two"},
)
whole("scratch", "FROM scratch\nCOPY a.txt /\n", differs={"WorkingDir": "buildah"})
whole(
    "scratch with PATH",
    "FROM scratch\nENV A=$PATH B=${NOPE}x\nCOPY a.txt /\n",
    differs={"WorkingDir": "buildah"},
)

# -- ARG and ENV -----------------------------------------------------------------------------------
case("arg with a default", "ARG A=1", "RUN echo $A > /c")
case("arg that is given", "ARG A=1", "RUN echo $A > /c", arguments={"A": "2 3"})
case("arg without a default", "ARG A", "RUN echo ${A-unset} > /c; env | grep -c ^A= >> /c; true")
case("arg without a default, given", "ARG A", "RUN echo ${A-unset} > /c", arguments={"A": ""})
case("arg in quotes", 'ARG A="x y"', "ARG B='$A'", 'RUN echo "$A$B" > /c')
case("arg of arg", "ARG A=1", "ARG B=${A}2", "RUN echo $B > /c")
case("several args", "ARG A=1 B=2", "RUN echo $A$B > /c", onto=("buildkit",))
case("arg, then env", "ARG A=1", "ENV A=2", "RUN echo $A > /c", arguments={"A": "3"})
case("env of arg", "ARG A=1", "ENV B=${A:-x}", "RUN echo $B > /c")
case("arg is not in the config", "ARG A=1", "RUN true")
whole("a global arg", 'ARG A=1\nFROM {B}\nRUN echo "${A-unset}" > /c\n')
whole("a global arg that is declared", 'ARG A=1\nFROM {B}\nARG A\nRUN echo "${A-unset}" > /c\n')
whole(
    "a global arg with another default", 'ARG A=1\nFROM {B}\nARG A=2\nRUN echo "${A-unset}" > /c\n'
)
whole(
    "args of two stages",
    "FROM {B} AS a\nARG V=1\nRUN echo $V > /x\nFROM {B}\nARG V=2\nCOPY --from=a /x /x\nRUN echo $V > /c\n",
    onto=("buildkit",),
)
whole(
    "an arg of the stage below",
    "FROM {B} AS a\nARG V=1\nFROM a\nRUN echo ${V-unset} > /c\n",
    onto=("buildkit",),
)
case(
    "env new form", 'ENV A=1 B="2 3" C=4\\ 5 D=\'$A\' E="$A"', "RUN env | grep ^[A-E]= | sort > /c"
)
case("env old form", "ENV A the  rest", 'ENV B "quoted" word', 'RUN echo "$A|$B" > /c')
case("env sees what was before", "ENV A=1", "ENV A=2 B=$A", "ENV C=$A", "RUN echo $B$C > /c")
case("env of the base", "ENV X=${BASEVAR}-x Y=$NOPE Z=${NOPE:-z}", "RUN echo $X$Y$Z > /c")
case("env changes the base's", "ENV BASEVAR=other NEW=$BASEVAR")
case("path in front", "ENV PATH=/opt/a:$PATH", "RUN echo $PATH > /c", differs={"Env": "buildah"})
case(
    "path twice",
    "ENV PATH=/opt/a:$PATH",
    "ENV PATH=/opt/b:${PATH}:/opt/c",
    "RUN echo $PATH > /c",
    differs={"Env": "buildah"},
)
case(
    "path by a variable",
    "ENV HOME_=/opt/x",
    "ENV PATH=$HOME_/bin:$PATH",
    "RUN echo $PATH > /c",
    differs={"Env": "buildah"},
)
case("path anew", "ENV PATH=/bin:/usr/bin", "RUN echo $PATH > /c", differs={"Env": "buildah"})
case("empty values", 'ENV A= B=""', 'LABEL a= b=""', "RUN echo [$A$B] > /c")
case(
    "dollars",
    "ENV A=\\$B C='$D' E=a$",
    'LABEL x="\\$y"',
)
case("braces", "ENV A='{{ x }}' B='{% y %}' C='{#'", 'RUN echo "{{ $A }} {% $B %} ${#A} {# x" > /c')
case(
    "backslashes",
    "ENV A=\"a\\b\" B=a\\\\b C='a\\b'",
    'RUN echo "$A $B $C" > /c',
)
case(
    "defaults of names",
    "ENV A=1 E=",
    "ENV P=${A:-x} Q=${U:-x} R=${E:-x} S=${E-x} T=${A:+y} V=${U:+y} W=${U-x} X=${E+y}",
    others=on("ENV A=1 E=", "ENV P=1 Q=x R=x S= T=y V= W=x X=y"),
)
case("defaults within defaults", "ENV A=1", "ENV B=${U:-${A}2}")

# -- RUN -------------------------------------------------------------------------------------------
case("run goes on after what fails", "RUN false; echo x > /c")
case("run JSON form", 'RUN ["/bin/sh", "-c", "echo $0 $1 > /c", "a", "b c"]')
case("run continued", "RUN echo a \\", "  b \\", "  # no", "", "  c > /c")
case("run continued in quotes", "RUN echo 'a \\", "  b' > /c")
case("run with comments", "# first", "RUN echo a > /c && \\", "# second", "    echo b >> /c")
case(
    "run as a user", "USER app", "RUN id -u > /tmp/c; id -g >> /tmp/c; env | grep ^HOME= >> /tmp/c"
)
case("run as a user and a group", "USER app:staff", "RUN id -u > /tmp/c; id -g >> /tmp/c")
case("run as a number", "USER 1234", "RUN id -u > /tmp/c; id -g >> /tmp/c")
case("run in a folder", "WORKDIR /w/x", "RUN pwd > c")
case("run sees env", "ENV A=1", "RUN A=2; echo $A > /c", "RUN echo $A >> /c")
case("run with a pipe", "RUN false | true && echo x > /c")
case(
    "run makes all kinds",
    "RUN mkdir -m 700 /c && ln -s a /c/l && mkfifo /c/p && : > /c/e && chown -R 7:8 /c",
)
case("run removes", "RUN rm -r /dir && rm /file && mkdir /dir && echo x > /dir/new")
case("run changes modes", "RUN chmod 600 /file && chown 5:6 /secret && chmod 2755 /dir")
case("run without a network", "RUN --network=none echo x > /c", others=on("RUN echo x > /c"))
case(
    "run with a tmpfs",
    "RUN --mount=type=tmpfs,target=/t echo x > /t/x && ls /t > /c",
    differs={"t": "buildkit"},
    onto=("buildkit",),
)
case(
    "run with a bind",
    "RUN --mount=type=bind,source=dir,target=/m cat /m/one.txt > /c",
    differs={"m": "buildkit"},
    onto=("buildkit",),
)
whole(
    "run with binds at the working directory",
    "FROM {B} AS a\nCOPY dir /d\nFROM {B}\nWORKDIR /w\nRUN --mount=from=a,source=/d ls > /c"
    "\nRUN --mount=ro ls dir >> /c\n",
    onto=("buildkit",),
)
whole(
    "run with a bind of a stage",
    "FROM {B} AS a\nCOPY dir /d\nFROM {B}\nRUN --mount=from=a,source=/d,target=/m ls /m > /c\n",
    differs={"m": "buildkit"},
    onto=("buildkit",),
)
case(
    "run with a cache",
    "RUN --mount=type=cache,target=/m echo x > /m/x && ls /m > /c",
    differs={"m": "buildkit"},
    onto=("buildkit",),
)
case(
    "run with a cache and a tmpfs at the working directory",
    "WORKDIR /w",
    "RUN --mount=type=cache,id=z echo x > x && ls > /c",
    "RUN --mount=type=tmpfs echo x > y && ls >> /c",
    onto=("buildkit",),
)
case(
    "run with a secret that lacks",
    "RUN --mount=type=secret,id=no ls /run/secrets > /c 2>&1; true",
    onto=(),
)

# -- SHELL, CMD, ENTRYPOINT ------------------------------------------------------------------------
case("shell", 'SHELL ["/bin/sh", "-ec"]', "RUN echo $- > /c", "CMD x y", onto=("buildkit",))
case(
    "shell, twice",
    'SHELL ["/bin/sh", "-ec"]',
    "RUN true",
    'SHELL ["/bin/ash", "-c"]',
    "ENTRYPOINT a b",
    onto=("buildkit",),
)
case("cmd after a shell", "CMD a", "RUN true", 'SHELL ["/bin/ash", "-c"]', onto=("buildkit",))
case("cmd text", "CMD echo  a   $B")
case("cmd words", 'CMD ["echo", "a b"]')
case("cmd empty", "CMD []")
case("cmd twice", "CMD a", "CMD b")
case("entrypoint text", "ENTRYPOINT exec top -b")
case("entrypoint words", 'ENTRYPOINT ["top", "-b"]')
case("entrypoint clears the base's cmd", 'ENTRYPOINT ["x"]')
case("entrypoint and cmd", 'CMD ["a"]', 'ENTRYPOINT ["x"]', onto=("buildkit",))
whole("entrypoint on a stage with cmd", 'FROM {B} AS a\nCMD ["a"]\nFROM a\nENTRYPOINT ["x"]\n')
whole(
    "cmd on a stage with entrypoint",
    'FROM {B} AS a\nENTRYPOINT ["x"]\nCMD ["q"]\nFROM a\nCMD ["a"]\n',
)

# -- USER, WORKDIR ---------------------------------------------------------------------------------
case("workdir", "WORKDIR /w")
case("workdir relative", "WORKDIR /w", "WORKDIR x", "WORKDIR ../y")
case("workdir below the base's", "WORKDIR sub")
case("workdir that exists", "WORKDIR /secret")
case("workdir by a variable", "ENV D=/w", "WORKDIR $D/x", "RUN pwd > c")
case("workdirs that nothing uses", "WORKDIR /a", "WORKDIR /b", "WORKDIR /c/d")
case("workdir, then a user", "WORKDIR /w", "USER app")
case("a user, then workdir", "USER app", "WORKDIR /w/x")
case(
    "workdir, copy, a user",
    "WORKDIR /w",
    "COPY a.txt .",
    "USER app",
    "WORKDIR /v",
)
case("users in turn", "USER app", "RUN id -u > /tmp/a", "USER root", "RUN id -u > /b", "USER 33:44")
case("a user by ARG", "ARG U=app", "USER ${U}", "RUN id -un > /tmp/c")
case("workdir with a slash", "WORKDIR /w/", "RUN pwd > c", others=on("WORKDIR /w", "RUN pwd > c"))

# -- the rest of the config ------------------------------------------------------------------------
case("labels", 'LABEL a=1 b.c="x y" "d"=\'e\'', "LABEL a=2", "LABEL old form of it")
case("labels on lines", "LABEL a=1 \\", "      b=2 \\", '      c="3 4"')
case("labels by variables", "ENV V=1.2", 'LABEL v=$V w="${V}-x"')
case("ports", "EXPOSE 80 443/tcp 53/udp")
case("a range of ports", "EXPOSE 8000-8003 90-91/udp", differs={"ExposedPorts": "buildah"})
case("ports by a variable", "ARG P=99", "EXPOSE $P ${P}9/udp")
case("volumes", "VOLUME /v /w", 'VOLUME ["/x y"]', differs={"x y": "buildah"})
case("a volume and a file in it", "RUN mkdir /v && echo x > /v/f", "VOLUME /v")
case("a stop signal", "STOPSIGNAL SIGQUIT")
case("a stop signal as a number", "STOPSIGNAL 9")
case(
    "a healthcheck",
    "HEALTHCHECK --interval=5s --timeout=1m30s --start-period=2s --retries=3 CMD curl -f x || exit 1",
    onto=("buildkit",),
)
case("a healthcheck of words", 'HEALTHCHECK CMD ["/check", "x"]', onto=("buildkit",))
case("no healthcheck", "HEALTHCHECK NONE", onto=("buildkit",))
case("onbuild", "ONBUILD COPY a.txt /x", "ONBUILD RUN echo x", onto=("buildkit",))
whole(
    "onbuild of a stage",
    "FROM {B} AS a\nONBUILD RUN echo x > /c\nONBUILD ENV Q=1\nFROM a\nRUN echo $Q >> /c\n",
    onto=("buildkit",),
)
case("maintainer", "MAINTAINER A Name <a@b>", "LABEL x=y")

# -- the text --------------------------------------------------------------------------------------
whole(
    "CRLF",
    on("ENV A=1 \\", "  B=2", "RUN echo $A \\", "  $B > /c", "COPY a.txt /d").replace("\n", "\r\n"),
)
whole("a BOM", "\ufeff" + on("COPY a.txt /c"))
whole("small letters", "from {B}\ncopy a.txt /c\nenv a=b\nrun echo $a > /d\n")
whole(
    "escape is a backtick",
    "# escape=`\n" + on('ENV A=`$x B="a`"b"', "RUN echo a `", "  b\\c > /c"),
    onto=("buildkit",),
)
whole(
    "empty lines and tabs", "\n\n# x\n\n" + on("\tCOPY\ta.txt\t/c", "", "   ", "RUN\techo x\t> /d")
)
whole("a comment that looks like one", on("RUN echo a # b > /c", "#RUN false", "  # COPY x y"))
whole("no newline at the end", on("COPY a.txt /c", "ENV A=1").rstrip("\n"))

# -- what Docker 20.10 has not ---------------------------------------------------------------------
case(
    "a here-document",
    "RUN <<EOF",
    "echo a > /c",
    "false",
    "echo b >> /c",
    "EOF",
    others=on("RUN echo a > /c; false; echo b >> /c"),
)
case(
    "a here-document with tabs",
    "RUN <<-EOF",
    "\techo a > /c",
    "\t\techo b >> /c",
    "\tEOF",
    others=on("RUN echo a > /c; echo b >> /c"),
)
case(
    "a here-document of a program",
    "RUN cat <<EOF > /c",
    "a $HOME",
    "EOF",
    others=on('RUN echo "a $HOME" > /c'),
)
case(
    "a here-document in quotes",
    "RUN cat <<'EOF' > /c",
    "a $HOME",
    "EOF",
    others=on("RUN echo 'a $HOME' > /c"),
)
case(
    "two here-documents",
    "RUN cat <<A > /c && cat <<B > /d",
    "a",
    "A",
    "b",
    "B",
    others=on("RUN echo a > /c && echo b > /d"),
)
case(
    "a here-document with its program",
    "RUN <<EOF",
    "#!/bin/busybox ash",
    "echo a > /c",
    "false",
    "echo $(id -u) >> /c",
    "EOF",
    others=on("RUN echo a > /c; echo 0 >> /c"),
)
case(
    "copy a here-document",
    "ENV A=1",
    "COPY <<EOF /c",
    "x $A ${B:-b} \\$A 'q' \"r\"",
    "EOF",
    others=on("ENV A=1", 'RUN echo "x 1 b \\$A \'q\' \\"r\\"" > /c'),
)
case(
    "copy here-documents",
    'COPY --chown=7:8 <<one <<"two" a.txt /c/',
    "1",
    "one",
    "$2",
    "two",
    others=on(
        "RUN mkdir /c; chown 7:8 /c; echo 1 > /c/one; echo '$2' > /c/two; chown -R 7:8 /c",
        "COPY --chown=7:8 a.txt /c/",
    ),
)
case("copy link", "COPY --link a.txt dir /c/", others=on("COPY a.txt dir /c/"))
case(
    "copy parents",
    "COPY --parents dir/sub/three.txt deep/x /c/",
    others=on("COPY dir/sub/three.txt /c/dir/sub/", "COPY deep/x /c/deep/x"),
)
case(
    "copy parents from a point",
    "COPY --parents deep/./x/y/z.txt /c/",
    others=on("COPY deep/x/y/z.txt /c/x/y/"),
)
case(
    "copy parents of a glob",
    "COPY --parents pkg/*/package.json /c/",
    others=on("COPY pkg/a/package.json /c/pkg/a/", "COPY pkg/b/package.json /c/pkg/b/"),
)
case(
    "copy exclude",
    "COPY --exclude=*.conf --exclude=sub dir /c",
    others=on("COPY dir/one.txt dir/.hidden /c/"),
)
case(
    "copy exclude at any depth",
    "COPY --exclude=**/*.txt deep /c",
    others=on("RUN mkdir -p /c/x/y", "COPY deep/x/y/k /c/x/y/k"),
)
case(
    "prefix and suffix",
    "ENV A=file.tar.gz",
    "ENV B=${A%.*} C=${A%%.*} D=${A#*.} E=${A##*.} F=${A/tar/zip} G=${A//./_}",
    others=on(
        "ENV A=file.tar.gz", "ENV B=file.tar C=file D=tar.gz E=gz F=file.zip.gz G=file_tar_gz"
    ),
)

# -- together --------------------------------------------------------------------------------------
whole(
    "the whole of a stage onto another",
    "FROM {B} AS a\nRUN rm -r /dir && mkdir -m 700 /new && echo x > /secret/x && chmod 711 /open\n"
    "FROM {B}\nRUN chown 5:6 /real\nCOPY --from=a / /\n",
)
case("removed, then copied again", "COPY dir /c", "RUN rm -r /c", "COPY dir /c")
case("a folder for a file", "COPY dir /c", "RUN rm -r /c && echo x > /c")
case(
    "a volume that is written to",
    "VOLUME /v",
    "RUN mkdir -p /v && echo x > /v/x",
    onto=("buildkit",),
)
case("an entrypoint that is taken away", 'ENTRYPOINT ["x"]', "ENTRYPOINT []")
case("a port twice", "EXPOSE 80 80/tcp 80/udp", "EXPOSE 80")
whole(
    "settings of three stages",
    "FROM {B} AS a\nENV A=1 PATH=/a:$PATH\nLABEL l=a\nFROM a AS b\nENV B=$A-2 PATH=/b:$PATH A=3\n"
    "WORKDIR sub\nFROM b\nENV C=$A$B$BASEVAR\nLABEL l=c$C\nWORKDIR x\nRUN env | grep ^[ABCP] | sort > c\n",
    onto=("buildkit",),
)
case(
    "an ARG in all places",
    "ARG A=a.txt U=7 P=81 D=/d",
    "COPY --chown=$U:$U $A $D/x/",
    "EXPOSE $P",
    "WORKDIR $D",
    "LABEL a=$A",
    "VOLUME $D/v",
    "ENV E=$A",
    "USER $U",
    onto=("buildkit",),
)
case(
    "a user of numbers, then files",
    "USER 7:8",
    "WORKDIR /w",
    "COPY a.txt .",
    "ADD b.sh y/",
    "RUN echo x > z",
)
case(
    "HOME",
    "ENV HOME=/h",
    "USER app",
    "RUN echo $HOME > /tmp/c",
    "WORKDIR $HOME",
    onto=("buildkit",),
)
case(
    "modes of folders",
    "COPY dir/sub /secret",
    "COPY modes /real/",
    "COPY --chown=1:2 dir /real",
    differs={"real/setuid": "buildah"},
)
case("links onto folders", "COPY links /c", "COPY a.txt /c/dir/x")
case("an archive over files", "COPY dir /c/in", "ADD arch.tar /c/")
case("quotes in commands", """CMD ["a b", "c\\"d", "e\\\\f"]""", """ENTRYPOINT echo "a b" 'c'""")
case("JSON that is none", "CMD ['a', 'b']", "ENTRYPOINT [a", onto=("buildkit",))

# -- as projects have them -------------------------------------------------------------------------
POINTS = {"secrets": {"mnt": "buildkit"}}  # it leaves what it mounts on
FILES = Path(__file__).parent / "files"
for path in sorted(FILES.glob("*.Dockerfile")):
    whole(
        f"a project: {path.name.partition('.')[0]}",
        path.read_text(),
        others=path.read_text().replace("# syntax=", "# no syntax="),  # which they would fetch
        arguments={"go": {"VERSION": "1.2"}, "node": {"NODE_ENV": "test"}}.get(
            path.stem.partition(".")[0], {}
        ),
        differs=POINTS.get(path.stem.partition(".")[0], {}),
        onto=("buildkit", "buildah") if path.name[0] in "n" else ("buildkit",),
    )

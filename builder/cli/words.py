"""Commands and options that people try, and what they are called here."""

from __future__ import annotations

import argparse
import re
from collections.abc import Collection

from builder.errors import UsageError


def _table(text: str) -> dict[str, str]:
    """`word word > text` by word."""
    found = {}
    for line in text.strip().splitlines():
        words, _, said = line.partition(" > ")
        found.update(dict.fromkeys(words.split(), said))
    return found


_COMMANDS = _table("""
start restart attach > builder run container:NAME runs one again that was kept
exec > builder run container:NAME COMMAND runs one in a container that was kept, builder run IMAGE COMMAND in a new one
create > builder run IMAGE COMMAND runs a command in a container
stop kill > builder rm -f NAME ends a container and removes it
pause unpause wait top stats port events > a container ends with its `builder run`; builder ps lists those that run
rename update > builder commit NAME writes what a container holds, builder tag IMAGE NAME names an image
volume volumes > a folder of this machine takes its place: builder run -v HOST:PATH IMAGE
network networks > builder run --network host, none or private IMAGE
scan scout sbom > builder report IMAGE lists its packages and files
up down compose > several containers at once are run elsewhere: builder load IMAGE, then `docker compose`
container containers > builder ps -a lists containers
manifest imagetools join merge > builder index create joins images of several platforms
make bake buildx compile buildah > builder build builds all specs, or those that are named
ls list image > builder images lists the images in the store
delete remove untag > builder rmi IMAGE forgets a name
prune system builder clean purge gc > builder cache gc removes what is not used
df du usage store > builder cache ls says what the store holds
verify fsck repair > builder cache check verifies the store
save > builder build IMAGE --output docker-archive:FILE writes an image
export > builder build IMAGE --output dir:DIR writes an image's files, tar:FILE a tar of them
import > a spec takes it as its base: `from: docker-archive:FILE` or `from: rootfs:FILE`
check validate fmt format > builder lint checks specs
explain reason > builder why IMAGE names what differs
log output journal > builder logs IMAGE prints what its steps printed
status show graph dry-run changes > builder plan says what would be built
config print template > builder render IMAGE prints a spec after its templates
bake compose > builder convert docker-bake.hcl -o specs writes specs, or compose.yaml
new generate scaffold > builder init writes a first spec
info version env > builder doctor says what works here, builder --version which one it is
help usage > builder --help lists the commands
publish upload deploy > builder push IMAGE
fetch download > builder pull REF
login logout auth > push and pull use what `docker login` and `podman login` keep
tags > builder search NAME --registry HOST lists tags
watch > builder build --watch builds again whenever something changes
serve daemon > there is no daemon: builder build builds what changed
""")  # noqa: E501
_OPTIONS = _table("""
--no-cache --force --rebuild > builder build --no-cache makes every step again
--target > builder build IMAGE:STAGE builds one stage
--quiet -q > --progress quiet
--verbose --debug -v -vv > --progress plain
--dry-run -n > builder plan says what would be built
--tag -t > builder tag IMAGE NAME names an image; builder build takes -t
--file -f > IMAGE is a spec's name, or a spec file
--var --arg --define -D -e > --set NAME=TEXT
--vars --var-file --values --env-file > --vars-file FILE
--build-context --root > --context DIR
--chdir --directory --project-directory -C > --specs DIR names the folder of specs, --context DIR that of what they copy
--label --annotation > labels are said under `config` of the spec
--mount > a step `run` says its `mounts`
--secret --ssh > builder build takes it
--network --net > `network` is said by a step `run`
--cache-from --cache-to --cache > the store is a folder: --cache-dir DIR
--load > builder load IMAGE gives it to an engine
--save --out --dest > --output docker-archive:FILE; its files alone: --output dir:DIR
--format > --json
--rm --force-rm --squash --compress > nothing of the kind remains: leave it out
--add-host --memory -m --cpus --cpu-quota --ulimit --shm-size --security-opt --isolation > steps have what this process has
--no-trunc --digests --size -s --filter --since --until > --json tells all
--all -a > it is so without: leave it out
--parallel --workers --max-parallelism > --jobs N
--arch --os > --platform OS/ARCH
--plain > --progress plain
""")  # noqa: E501
_ACTIONS = _table("""
prune clean clear purge > builder cache gc removes what is not used
list df du usage show > builder cache ls says what the store holds
delete remove > builder cache rm NAME removes a cache that steps mount
verify fsck repair > builder cache check verifies the store
save > builder cache export NAME writes a cache that steps mount
load restore > builder cache import NAME has a tar's files in a cache that steps mount
""")

_OF = {
    "rmi": _table("""
-f --force > a name is given up without asking: leave it out
"""),
    "images": _table("""
ls list > builder images lists them
-q --quiet > --json
"""),
    "ps": _table("""
-q --quiet -l -n --latest --last > --json tells all
"""),
    "inspect": _table("""
-f --format > it prints JSON: a program such as jq takes a field of it
"""),
    "load": _table("""
-i --input > an archive is taken by a spec as its base: `from: docker-archive:FILE`
"""),
    "logs": _table("""
-f --follow > logs are of builds that ended; builder build --progress plain shows output as it comes
--tail -n --since --until -t --timestamps > it prints lines as they were: builder logs IMAGE | tail
"""),
    "commit": _table("""
-a --author -c --change -p --pause > `config` in the spec that it writes says it
"""),
    "run": _table("""
-d --detach > a container ends with its `builder run`, which may be in the background: builder run ... &
--name > --keep NAME keeps what it changes under a name
-p -P --publish --expose > its ports are this machine's already: leave it out
--mount > -v HOST:PATH[:ro], or --tmpfs PATH
--net > --network host, none or private
--privileged --cap-add --cap-drop --device --gpus > it has what a step `run` has
--add-host --dns --dns-search --memory -m --cpus --cpu-shares --cpuset-cpus --ulimit --shm-size --pids-limit --security-opt --sysctl --cgroupns > it has what this process has: leave it out
--volumes-from --link --network-alias > several containers at once are run elsewhere: builder load IMAGE, then `docker compose`
--label -l --log-driver --log-opt --health-cmd --cidfile --init --hostname -h --pid --ipc --uts --userns > leave it out
--restart > what has to run again is run elsewhere: builder load IMAGE
--stop-timeout --stop-signal > --timeout TIME ends it; signals go to the command
"""),  # noqa: E501
    "lint": _table("""
--fix > what a hint says is written by hand
"""),
}
"""Of one command, before the others."""


def no_command(command: str, known: Collection[str]) -> UsageError:
    import difflib

    hint = _COMMANDS.get(command.lower())
    if not hint and (near := difflib.get_close_matches(command, known, 1)):
        hint = f"did you mean {near[0]!r}?"
    return UsageError(
        f"there is no command {command!r}", hint or "builder --help lists the commands"
    )


def no_action(prog: str, word: str) -> UsageError:
    """`prog` is `builder cache` or another that has commands below it."""
    hint = _ACTIONS.get(word) if prog == "builder cache" else None
    return UsageError(
        f"{prog} has no action {word!r}", hint or f"{prog} --help tells how it is used"
    )


def no_value(
    parser: argparse.ArgumentParser, option: Collection[str], value: str, argv: Collection[str]
) -> UsageError:
    """A value behind an option that takes none: `--all=true`, or what seems one in `-aq`. `option`
    are its spellings."""
    for name in option:
        if f"{name}={value}" in argv:
            return UsageError(f"{parser.prog} {name} takes no value", f"leave out ={value}")
    return not_taken(parser, f"-{value}")


def not_taken(parser: argparse.ArgumentParser, text: str) -> UsageError:
    """What a command does not take: an option, or an argument too many."""
    import difflib

    own = _OF.get(parser.prog.split()[-1], {})
    if not text.startswith("-") or text == "-":
        told = own.get(text) or f"{parser.prog} --help tells how it is used"
        return UsageError(f"{parser.prog} does not take {text!r}", told)
    name = text.partition("=")[0]
    known = [each for action in parser._actions for each in action.option_strings]
    if name not in _OPTIONS and re.fullmatch(
        "-[A-Za-z]{2,}", name
    ):  # such as -dit, of which one is none
        name = next((f"-{each}" for each in name[1:] if f"-{each}" not in known), name)
    hint = own.get(name) or _OPTIONS.get(name)
    if not hint and (near := difflib.get_close_matches(name, known, 1)):
        hint = f"did you mean {near[0]}?"
    return UsageError(
        f"{parser.prog} has no option {name!r}", hint or f"{parser.prog} --help lists its options"
    )

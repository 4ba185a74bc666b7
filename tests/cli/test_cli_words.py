"""Commands and options that people try: those that have an equal work, the others are told it."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from typing import Any

import pytest

from builder.cli import words
from builder.cli.arguments import parser_of
from builder.cli.commands import COMMANDS

COPY = "from: scratch\nsteps:\n- {file: /a, content: x}\n"


def parsers() -> Iterator[argparse.ArgumentParser]:
    for name, command in COMMANDS.items():
        if not command.actions:
            yield parser_of(f"builder {name}", command)
        for action, each in command.actions.items():
            yield parser_of(f"builder {name} {action}", each)


@pytest.mark.parametrize("parser", list(parsers()), ids=lambda parser: parser.prog)
def test_every_argument_has_a_help(parser: argparse.ArgumentParser) -> None:
    for action in parser._actions:
        assert action.help, (parser.prog, action.option_strings or action.metavar)
    assert max(map(len, parser.format_help().splitlines())) <= 100


def test_the_builder_alone_and_commands_with_actions_print_help(project: Any) -> None:
    said = project.run().stdout
    assert said == project.run("--help").stdout == project.run("--progress", "plain").stdout
    rows = re.findall(r"^  ([a-z]+) +\S", said, re.M)
    assert sorted(rows) == sorted(COMMANDS)
    for name, command in COMMANDS.items():
        if command.actions:
            assert project.run(name).stdout == project.run(name, "-h").stdout
            rows = re.findall(r"^  ([a-z]+) +\S", project.run(name).stdout, re.M)
            assert rows == list(command.actions)


def test_options_of_most_commands_stand_before_the_command_too(project: Any) -> None:
    project.file("else/site.yaml", COPY)
    project.file("shop/site.yaml", COPY)
    before = ("--specs", "else", "--progress=json", "--cache-dir", "../other", "--pull")
    assert project.run(*before, "build").stderr.startswith("{")
    assert " 1 " in project.run("--cache-dir", "../other", "cache", "ls").stdout
    assert project.run("--specs", "else", "--cache-dir=../other", "plan", "--exit-code").stdout
    project.run("--specs", "none", "lint", "--specs=shop")  # the last one counts
    project.run("--specs", "else", "lint", "--specs=none", status=2)
    for wrong, says in (
        (("-t", "x", "build"), "builder build takes -t"),
        (("--frob", "build"), "builder --help lists its options"),
        (("--progres", "plain", "build"), "did you mean --progress?"),
        (("--allow-foreign", "doctor"), "builder doctor --help lists its options"),
        (("--specs",), "how it is used"),
        (("--progress", "loud", "build"), "how it is used"),
    ):
        error, hint = hint_of(project, *wrong)
        assert says in hint, (wrong, error, hint)


def hint_of(project: Any, *arguments: str) -> tuple[str, str]:
    said = project.run(*arguments, status=2).stderr.splitlines()
    assert said[0].startswith("error: ") and len(said) <= 2, said
    return said[0], said[1].removeprefix("hint: ") if len(said) == 2 else ""


def sound(text: str) -> None:
    """Commands and options that a hint names exist."""
    for command in re.findall(r"builder ([a-z]+)", text):
        assert command in COMMANDS, text
    for option in re.findall(r"(?<!docker )(--[a-z-]+)", text):
        known = {each for parser in parsers() for a in parser._actions for each in a.option_strings}
        assert option in {*known, "--version", "--help"}, text


def test_what_the_tables_say_exists() -> None:
    for word, text in {**words._COMMANDS, **words._OPTIONS}.items():
        sound(text)
        assert word not in COMMANDS


@pytest.mark.parametrize("word", [*words._ACTIONS, "gcc", "a b", ""])
def test_an_action_that_is_none_is_told(project: Any, word: str) -> None:
    error, hint = hint_of(project, "cache", word)
    assert error == f"error: builder cache has no action {word!r}"
    sound(hint)
    assert ("--help" in hint) == (word not in words._ACTIONS)
    error, hint = hint_of(project, "index", word)
    assert error == f"error: builder index has no action {word!r}" and "--help" in hint


@pytest.mark.parametrize("word", [*words._COMMANDS, "biuld", "lnit", "pusch", "imagse"])
def test_a_command_of_another_tool_is_told(project: Any, word: str) -> None:
    error, hint = hint_of(project, word, "site")
    assert error == f"error: there is no command {word!r}"
    sound(hint)
    assert hint
    assert "--help lists the commands" not in hint or word in ("help", "usage")


@pytest.mark.parametrize("option", words._OPTIONS)
def test_an_option_of_another_tool_is_told(project: Any, option: str) -> None:
    project.spec("site", COPY)
    command = "plan" if option in ("--tag", "-t") else "search"
    if option in ("--file", "-f"):
        command = "inspect"
    others = ("site",) if command != "plan" else ()
    error, hint = hint_of(project, command, *others, option)
    assert error == f"error: builder {command} has no option {option!r}"
    assert hint and "lists its options" not in hint


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("build", "--outptu", "oci:x"), "did you mean --output?"),
        (("build", "--keepgoing"), "did you mean --keep-going?"),
        (("build", "--rebuild"), "builder build --no-cache"),
        (("build", "--target=build"), "builder build IMAGE"),
        (("build", "--frobnicate"), "builder build --help lists its options"),
        (("plan", "-q", "site"), "--progress quiet"),
        (("images", "ls"), "builder images lists them"),
        (("images", "-q"), "--json"),
        (("build", "specs/"), "--context DIR"),
        (("build", "-f", "Dockerfile", "site"), "builder build -f Dockerfile ."),
        (("build", "-o", "type=oci,dest=x.tar"), "write oci-archive:x.tar"),
        (("build", "-o", "type=oci,tar=false,dest=x"), "write oci:x"),
        (("build", "-o", "type=docker,dest=x.tar"), "write docker-archive:x.tar"),
        (("build", "-o", "type=image,name=a/b,push=true"), "--push, and --tag a/b"),
        (("build", "-o", "x.tar"), "write docker-archive:x.tar"),
        (("build", "-t", "a@sha256:" + "0" * 64), ""),
        (("rmi", "-f", "site"), "leave it out"),
        (("ps", "-q"), "--json"),
        (("ps", "-aq"), "--json"),
        (("images", "--digests"), "--json"),
        (("logs", "-f", "site"), "builds that ended"),
        (("inspect", "-f", "x", "site"), "JSON"),
        (("load", "-i", "x.tar"), "docker-archive:FILE"),
        (("build", "--no-cache=true"), "leave out =true"),
        (("push", "site:1"), "builder push site:1 REF"),
        (("cache", "gc", "--al"), ""),
    ],
)
def test_a_wrong_argument_is_told_the_right_one(
    project: Any, arguments: tuple[str, ...], says: str
) -> None:
    project.spec("site", COPY)
    project.file("Dockerfile", "FROM scratch\n")
    if arguments == ("push", "site:1"):
        project.build("site", "-t", "site:1")
    _, hint = hint_of(project, *arguments)
    assert says in hint
    sound(hint)
    if value := re.match("write (.*)$", hint):
        project.run("build", "-o", value[1])


@pytest.mark.parametrize("command", words._OF)
def test_an_option_that_one_command_has_elsewhere_is_told(project: Any, command: str) -> None:
    parser = next(each for each in parsers() if each.prog == f"builder {command}")
    for word, text in words._OF[command].items():
        assert word not in parser._option_string_actions or word == "-h", (command, word)
        sound(text)
        assert str(words.not_taken(parser, word)).count(word) == 1


@pytest.mark.parametrize("letters", ["-d", "-dit", "-itd", "-itde", "-id"])
def test_of_letters_in_one_word_the_wrong_one_is_told(project: Any, letters: str) -> None:
    error, hint = hint_of_run(project, letters, "site")
    assert error == "error: builder run has no option '-d'" and hint.endswith("&")


def test_what_run_lacks_is_told(project: Any) -> None:
    project.spec("site", COPY)
    project.build("site")
    error, _ = hint_of_run(project)
    assert error == "error: the following arguments are required: IMAGE"
    _, hint = hint_of_run(project, "debian:12", status=125)
    assert "`builder pull debian:12`" in hint
    _, hint = hint_of_run(project, "sit", status=125)
    assert hint == "did you mean 'site'?"


def hint_of_run(project: Any, *arguments: str, status: int = 2) -> tuple[str, str]:
    said = project.run("run", *arguments, status=status).stderr.splitlines()
    return said[0], said[1].removeprefix("hint: ")


def test_tag_names_the_image_in_the_store(project: Any) -> None:
    project.spec("site", COPY)
    made = project.build("site", "-t", "app:1", "--tag", "registry.example/team/app")
    for name in ("app:1", "app:1", "registry.example/team/app:latest"):
        assert made["site"]["digest"] in project.run("inspect", name).stdout
    assert project.plan("site")["site"][0][0] == "hit"
    assert project.run("plan", "--exit-code").returncode == 0
    project.spec("other", COPY)
    error, hint = hint_of(project, "build", "-t", "app:2")
    assert "2 images would have one name: other, site" in error
    project.run(*hint.removeprefix("name one: builder ").split())
    assert made["site"]["digest"] in project.run("inspect", "app:2").stdout


def test_images_stand_before_and_behind_options(project: Any) -> None:
    for name in "abc":
        project.spec(name, COPY)
    for order in ("a b c --jobs 1", "a --jobs 1 b c", "--jobs 1 a -k b --progress plain c"):
        assert sorted(project.build(*order.split())) == ["a", "b", "c"]
    project.run("lint", "a", "--context", ".", "b", "--specs=specs", "--", "c")
    error, _ = hint_of(project, "build", "a", "--jobs", "1", "b", "--frob")
    assert "no option '--frob'" in error
    error, _ = hint_of(project, "why", "a", "--platform", "linux/amd64", "1", "b")
    assert "does not take 'b'" in error


def test_file_names_a_spec(project: Any) -> None:
    project.spec("site", COPY)
    project.file("else/other.yaml", COPY)
    assert list(project.build("-f", "specs/site.yaml")) == ["site"]
    assert sorted(project.build("-f", "else/other.yaml", "site")) == ["other", "site"]
    assert project.run("plan", "--file=specs/site.yaml").stdout.startswith("site  from scratch")
    assert "no spec file" in project.run("lint", "-f", "specs/none.yaml", status=2).stderr

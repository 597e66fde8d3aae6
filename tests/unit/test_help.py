"""What a newcomer reads first holds: ``--help`` of every command explains every argument, and each example in it, in
README.md and in docs/ is a command line that is accepted."""

from __future__ import annotations

import argparse
import itertools
import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from libreseed.adapters.command.console import CommandParser
from services.mirror.cli import _parser as mirror_parser
from services.packager.cli import _parser as packager_parser
from services.resolver.cli import _parser as resolver_parser
from services.seeder.cli import _parser as seeder_parser
from services.silexium.cli import _parser as silexium_parser
from services.user.cli import _parser as user_parser

ROOT = Path(__file__).parents[2]
COMMANDS = {
    parser.prog: parser
    for parser in (
        user_parser(),
        packager_parser(),
        seeder_parser(),
        resolver_parser(),
        mirror_parser(),
        silexium_parser(),
    )
}
DOCUMENTS = (ROOT / "README.md", *sorted(ROOT.glob("docs/**/*.md")))
_COMMAND = re.compile(  # after a prompt, a time of cron's, or as what a variable is set to; with variables of its own
    r"(?:\$ )?(?:[*/0-9]+ ){0,5}(?:[A-Z]+=\$\()?((?:[A-Z_]+=\S* )?libreseed(?:-[a-z]+)? .*)"
)
BY_ITSELF = "libreseed install"  # the resolver takes the place of that process, and its --help is the one shown


def _verbs(parser: argparse.ArgumentParser) -> Iterator[argparse.ArgumentParser]:
    yield parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for name, inner in action.choices.items():
                if f"{parser.prog} {name}" != BY_ITSELF:
                    yield from _verbs(inner)


PARSERS = {verb.prog: verb for parser in COMMANDS.values() for verb in _verbs(parser)}


def _lines(text: str) -> list[str]:
    return re.sub(r"\\\n *", "", text).splitlines()


def _accept(line: str) -> None:
    """Parse the first command in a shell's line; raises UsageFault."""
    lexer = shlex.shlex(line, posix=True, punctuation_chars="<>|&;()")
    lexer.whitespace_split = True
    words = itertools.takewhile(lambda word: not set(word) <= set("<>|&;()"), lexer)
    program, *arguments = itertools.dropwhile(lambda word: "=" in word, words)
    if [program, *arguments[:1]] == BY_ITSELF.split():
        program, arguments = "libreseed-resolve", arguments[1:]
    COMMANDS[program].parse_args(arguments)


@pytest.mark.parametrize("prog", PARSERS)
def test_help_says_what_a_command_does_and_explains_every_argument(prog: str) -> None:
    parser = PARSERS[prog]
    assert parser.description
    assert parser.epilog
    assert parser.epilog.startswith("examples:\n")
    arguments = [action for action in parser._actions if not isinstance(action, argparse._SubParsersAction)]
    assert [action.dest for action in arguments if not action.help] == []


@pytest.mark.parametrize("prog", PARSERS)
def test_every_example_is_accepted(prog: str) -> None:
    for line in _lines(str(PARSERS[prog].epilog).removeprefix("examples:\n")):
        assert prog.partition(" ")[0] in line
        _accept(re.split(r" {3,}", line.strip())[0])


def _command_lines(document: Path) -> Iterator[str]:
    for block in re.findall(r"```(?:console|sh|text)?\n(.*?)```", document.read_text("utf-8"), re.DOTALL):
        for line in _lines(block):
            if found := _COMMAND.match(line.strip()):
                yield found[1]


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_every_command_line_of_the_documents_is_accepted(document: Path) -> None:
    for line in _command_lines(document):
        _accept(line)


def test_the_readme_is_among_the_documents_and_has_command_lines() -> None:
    assert len(list(_command_lines(ROOT / "README.md"))) > 15


def test_every_parser_is_ours() -> None:
    assert all(isinstance(parser, CommandParser) for parser in PARSERS.values())

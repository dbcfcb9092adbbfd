"""Reads the documentation: its blocks of code, and the commands in them."""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.small_experiment import REPOSITORY

DOCS = REPOSITORY / "docs"
PAGES = [REPOSITORY / "README.md", *sorted(DOCS.glob("*.md"))]
FENCE = re.compile(r"^( *)```(\w+)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
INLINE = re.compile(r"(?<!`)`(medmtl [^`]+)`(?!`)")
FILE_NAMED = re.compile(r"# ([\w./-]+\.\w+)\n")


@dataclass(frozen=True)
class Block:
    """A fenced block.

    Attributes:
        language: As it is written behind the fence.
        text: Without the indentation that the fence has.
    """

    language: str
    text: str

    @property
    def file(self) -> str | None:
        """The file that the block is the content of: what its first line names."""
        named = FILE_NAMED.match(self.text)
        return named[1] if named and self.language in ("yaml", "python") else None

    @property
    def lines(self) -> list[str]:
        """The lines that are not empty."""
        return [line for line in self.text.splitlines() if line.strip()]


def blocks_of(page: Path) -> list[Block]:
    """The fenced blocks of a page, in their order."""
    found = FENCE.finditer(page.read_text(encoding="utf-8"))
    return [
        Block(match[2], "".join(line.removeprefix(match[1]) for line in match[3].splitlines(True)))
        for match in found
    ]


def typed_commands(page: Path) -> list[list[str]]:
    """The words behind `medmtl` of every command in a page's bash blocks."""
    lines = [line for block in blocks_of(page) if block.language == "bash" for line in block.lines]
    return [words for line in lines for words in _medmtl_calls(line)]


def named_commands(page: Path) -> list[list[str]]:
    """The same of commands within a sentence or a table, where arguments may be left out."""
    text = FENCE.sub("", page.read_text(encoding="utf-8"))
    calls = [re.sub(r"[\[\]]|\.\.\.", " ", call) for call in INLINE.findall(text)]
    return [words for call in calls for words in _medmtl_calls(call)]


def _medmtl_calls(line: str) -> Iterator[list[str]]:
    lexer = shlex.shlex(line, posix=True, punctuation_chars=True)
    lexer.whitespace_split = True
    command: list[str] = []
    for word in [*lexer, ";"]:
        if set(word) <= set("();<>|&"):
            if "medmtl" in command:
                yield command[command.index("medmtl") + 1 :]
            command = []
        else:
            command.append(word)

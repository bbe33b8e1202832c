"""Where in a data file a key stands, and what pydantic's complaint about it means in one line.

``tomllib`` keeps no positions, so a small scanner walks a text that ``tomllib`` has already accepted.
"""

import re
from bisect import bisect_right

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from traitrl.core import complaint

Loc = tuple[str | int, ...]

_BLANK = re.compile(r"(?:\s|#[^\n]*)*")
_REST_OF_LINE = re.compile(r"[^\n]*")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_BARE_VALUE = re.compile(r"[^\s,\]}#]+")
_STRING = re.compile(
    r'"""(?:\\.|[^\\])*?"{3,5}' + r"|'''.*?'{3,5}" + r'|"(?:\\.|[^"\\])*"' + r"|'[^']*'",
    re.DOTALL,
)
_SYNTAX_LINE = re.compile(r"at line (\d+)")


def key_lines(text: str) -> dict[Loc, int]:
    """The line, from 1, of every table, key and array element of a valid TOML text, by its path."""
    return _Scanner(text).document()


def line_of(lines: dict[Loc, int], loc: Loc) -> int:
    """The line of the longest prefix of ``loc`` that is in the file, else 1: a missing key is placed at its table."""
    for length in range(len(loc), 0, -1):
        if loc[:length] in lines:
            return lines[loc[:length]]
    return 1


def syntax_line(message: str, text: str) -> int:
    """The line that a ``tomllib`` message names; the last one where it says *end of document*."""
    found = _SYNTAX_LINE.search(message)
    return int(found.group(1)) if found else text.rstrip("\n").count("\n") + 1


def explain(error: ErrorDetails, model: type[BaseModel]) -> str:
    """One line for one pydantic error: what is wrong and what to do."""
    advice = {"extra_forbidden": "", "missing": "; add it"}.get(error["type"], "; correct it")
    return complaint(error, model) + advice


class _Scanner:
    """A position in a valid TOML text, and the paths met so far."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0
        self.newlines = [match.start() for match in re.finditer("\n", text)]
        self.lines: dict[Loc, int] = {}
        self.lengths: dict[Loc, int] = {}  # of arrays of tables

    def document(self) -> dict[Loc, int]:
        table: Loc = ()
        while self._skip_blank():
            if self.text.startswith("[", self.at):
                table = self._header()
            else:
                self._pair(table)
            self._skip(_REST_OF_LINE)
        return self.lines

    def _header(self) -> Loc:
        array = self.text.startswith("[[", self.at)
        start = self.at
        self.at += 2 if array else 1
        *parents, last = self._dotted()
        path: Loc = ()
        for part in parents:
            path = self._note((*path, part), start)
            if path in self.lengths:
                path = (*path, self.lengths[path] - 1)
        path = self._note((*path, last), start)
        if array:
            index = self.lengths.get(path, 0)
            self.lengths[path] = index + 1
            path = self._note((*path, index), start)
        return path

    def _pair(self, table: Loc) -> None:
        start = self.at
        path = table
        for part in self._dotted():
            path = self._note((*path, part), start)
        self.at += 1  # the equals sign
        self._value(path)

    def _value(self, path: Loc) -> None:
        self._skip_blank()
        opened = self.text[self.at]
        if opened in "[{":
            self.at += 1
            index = 0
            while self._skip_blank() and self.text[self.at] not in "]}":
                if opened == "{":
                    self._pair(path)
                else:
                    self._value(self._note((*path, index), self.at))
                    index += 1
                if self._skip_blank() and self.text[self.at] == ",":
                    self.at += 1
            self.at += 1
        elif not self._skip(_STRING):
            self._skip(_BARE_VALUE)

    def _dotted(self) -> list[str]:
        parts: list[str] = []
        while True:
            self._skip_blank()
            quoted = self.text[self.at] in "\"'"
            part = self._skip(_STRING if quoted else _BARE_KEY)
            parts.append(part[1:-1] if quoted else part)
            self._skip_blank()
            if not self.text.startswith(".", self.at):
                return parts
            self.at += 1

    def _note(self, path: Loc, position: int) -> Loc:
        self.lines.setdefault(path, bisect_right(self.newlines, position) + 1)
        return path

    def _skip(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self.text, self.at)
        if found is None:
            return ""
        self.at = found.end()
        return found.group()

    def _skip_blank(self) -> bool:
        """Move past white space and comments; whether anything is left."""
        self._skip(_BLANK)
        return self.at < len(self.text)

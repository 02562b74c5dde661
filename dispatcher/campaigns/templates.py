"""A text with gaps: `Power is back by {eta}, {name}.` Pure.

A gap names a declared variable in braces; `{{` and `}}` are braces of the text itself. There is nothing else: no
conditions, no loops, no filters. What a type cannot say is said in the list (docs/adr/0016-campaigns.md).

A template is checked whole when it is made: each gap has its variable and each variable its gap. Then a row either
makes its text or is refused by the name of the variable that does not fit.
"""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import Final

from dispatcher import encoding
from dispatcher.campaigns.variables import NAME, Type, Unfit, Variable, faults, writer
from dispatcher.model import Encoding
from dispatcher.store import DispatcherError

MOST_VARIABLES: Final = 30
MOST_CHARACTERS: Final = 2_000
_PIECE: Final = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|\{|\}")


@dataclass(frozen=True, kw_only=True)
class Fault:
    """`field` is where: `text`, `variables.eta.style`, or, of values, the variable's name."""

    field: str
    message: str


class Faulty(DispatcherError):
    """A template, or the values for one, cannot be used."""

    def __init__(self, faults: Sequence[Fault]) -> None:
        super().__init__("; ".join(f"{fault.field}: {fault.message}" for fault in faults))
        self.faults = tuple(faults)


@dataclass(frozen=True, kw_only=True)
class Size:
    """What the longest values would make of a template: where a text may end up, not where it must."""

    encoding: Encoding
    segments: int


class Template:
    """Raises Faulty that names everything that is wrong."""

    def __init__(self, text: str, variables: Sequence[Variable]) -> None:
        found = list(_faults(text, variables))
        if found:
            raise Faulty(found)
        self.text = text
        self.variables = tuple(variables)
        self._pieces, self._gaps = _parse(text)
        self._writers = {variable.name: writer(variable) for variable in variables}

    def render(self, values: Mapping[str, str]) -> str:
        """The text with these values. Raises Faulty that names each missing, unknown and unfit one."""
        written: dict[str, str] = {}
        known = {variable.name: variable for variable in self.variables}
        wrong = [
            Fault(field=name, message=f"is no variable of this template{_meant(name, known)}")
            for name in values
            if name not in known
        ]
        for name, variable in known.items():
            if name not in values and variable.default is None:
                wrong.append(Fault(field=name, message="is missing"))
                continue
            try:
                written[name] = self._writers[name](values.get(name, ""))
            except Unfit as unfit:
                wrong.append(Fault(field=name, message=str(unfit)))
        if wrong:
            raise Faulty(wrong)
        pieces = list(self._pieces)
        for at, name in self._gaps:
            pieces[at] = written[name]
        return "".join(pieces)

    def for_columns(self, columns: Sequence[str]) -> Callable[[Sequence[str]], str]:
        """Renders a row with its values in the order of `columns`, which has every variable without a default.

        As `render` would, but in a tenth of the time. It raises Misfit.
        """
        place = {name: index for index, name in enumerate(columns)}
        plan = [
            (place.get(variable.name), variable.name, self._writers[variable.name])
            for variable in self.variables
        ]
        order = {variable.name: index for index, variable in enumerate(self.variables)}
        gaps = [(at, order[name]) for at, name in self._gaps]
        blank = tuple(self._pieces)

        def render(values: Sequence[str]) -> str:
            written = []
            for index, name, write in plan:
                try:
                    written.append(write(values[index] if index is not None else ""))
                except Unfit as unfit:
                    value = values[index] if index is not None else ""
                    raise Misfit(name, str(unfit), value) from None
            pieces = list(blank)
            for at, number in gaps:
                pieces[at] = written[number]
            return "".join(pieces)

        return render

    def at_most(self) -> Size:
        """The most segments that any values may make."""
        longest = {variable.name: variable.longest for variable in self.variables}
        fixed = "".join(self._pieces)
        # All other types are written in GSM 03.38 whatever their value.
        wide = any(variable.type is Type.TEXT for variable in self.variables)
        chosen = Encoding.UCS2 if wide else encoding.choose(fixed)
        # In UCS-2 a character may take two units, and a part may end one unit early for it.
        each = 2 if chosen is Encoding.UCS2 else 1
        if chosen is Encoding.GSM:
            # An amount's sign, and `~`, `[`, `|` and the like in an address, are of two septets.
            longest |= {v.name: 2 * v.longest for v in self.variables if v.type is Type.URL}
            longest |= {v.name: v.longest + 1 for v in self.variables if v.type is Type.AMOUNT}
        size = encoding.units(fixed, chosen) + each * sum(longest[name] for _, name in self._gaps)
        alone, part = (70, 66) if chosen is Encoding.UCS2 else (160, 152)
        return Size(encoding=chosen, segments=1 if size <= alone else -(-size // part))


class Misfit(DispatcherError):
    """One value of a row does not fit its variable."""

    def __init__(self, name: str, reason: str, value: str) -> None:
        super().__init__(reason)
        self.name = name
        self.value = value


def literal(text: str) -> str:
    """A text in which every brace stands for itself."""
    return text.replace("{", "{{").replace("}", "}}")


def _parse(text: str) -> tuple[list[str], list[tuple[int, str]]]:
    """The pieces, with empty ones for the gaps, and the gaps: which piece, and whose."""
    pieces: list[str] = []
    gaps: list[tuple[int, str]] = []
    end = 0
    for found in _PIECE.finditer(text):
        pieces.append(text[end : found.start()])
        end = found.end()
        if found[1] is None:
            pieces.append(found[0][0])
        else:
            gaps.append((len(pieces), found[1]))
            pieces.append("")
    pieces.append(text[end:])
    return pieces, gaps


def _faults(text: str, variables: Sequence[Variable]) -> Iterator[Fault]:
    yield from _of_text(text, {variable.name for variable in variables})
    used = {name for _, name in _parse(text)[1]}
    seen: set[str] = set()
    if len(variables) > MOST_VARIABLES:
        yield Fault(
            field="variables", message=f"are {len(variables)}, and at most {MOST_VARIABLES} are taken"
        )
    for variable in variables:
        where = f"variables.{variable.name}"
        if variable.name in seen:
            yield Fault(field=where, message="is declared twice")
        seen.add(variable.name)
        for field, message in faults(variable):
            yield Fault(field=f"{where}.{field}", message=message)
        if variable.name not in used:
            yield Fault(field=where, message="is declared, and the text does not use it")


def _of_text(text: str, declared: set[str]) -> Iterator[Fault]:
    if not text or text.isspace():
        yield Fault(field="text", message="must not be empty")
    if len(text) > MOST_CHARACTERS:
        yield Fault(
            field="text", message=f"has {len(text)} characters, and at most {MOST_CHARACTERS} are taken"
        )
    told: set[str] = set()
    for found in _PIECE.finditer(text):
        name = found[1]
        if name is None:
            if len(found[0]) == 1:
                yield Fault(
                    field="text",
                    message=f"has a lone {found[0]} at index {found.start()}; a brace of the text is written twice",
                )
        elif name not in told and name not in declared:
            told.add(name)
            if NAME.fullmatch(name) is None:
                why = f"has {{{name[:40]}}} at index {found.start()}, which cannot be a variable's name"
            else:
                why = f"uses {{{name}}}, which is not declared{_meant(name, declared)}"
            yield Fault(field="text", message=why)
    for index, char in enumerate(text):
        if (char < " " and char not in "\n\r\t\f") or char == "\x7f" or "\ud800" <= char <= "\udfff":
            yield Fault(
                field="text", message=f"holds U+{ord(char):04X} at index {index}, which no telephone shows"
            )
            break


def _meant(name: str, known: Mapping[str, object] | set[str]) -> str:
    close = get_close_matches(name, list(known), n=1)
    return f"; did you mean {close[0]}?" if close else ""

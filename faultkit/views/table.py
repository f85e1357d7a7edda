"""Every table: as wide as it needs in a pipe; on a terminal no wider than that, and no word broken.

What has no room beside the rest stands beneath its row, in lines of its own with the column's title before it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from faultkit.views import signs
from faultkit.views.console import folded, longest, room

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

_BENEATH, _HANGING = " " * 4, " " * 6
_HARDLY_MORE = 1.1  # arbitrary: one row of ten may be folded for a column that all others have room for


@dataclass(frozen=True, slots=True)
class Column:
    """A column; `prose` may be folded between words, all else not at all. The greatest `rank` goes beneath the row first,
    the last column where all are alike."""

    title: str = ""
    prose: bool = False
    right: bool = False
    rank: int = 0
    style: str = ""


@dataclass(frozen=True, slots=True)
class _Layout:
    beside: dict[int, int]  # each column that stands in the row, with its width
    beneath: tuple[int, ...]
    fits: bool
    lines: int  # all rows together


@dataclass(frozen=True, slots=True)
class _Table:
    columns: Sequence[Column]
    rows: list[list[Text]]
    room: int | None
    gap: int
    grid: bool

    def chosen(self) -> _Layout:
        """Of those layouts that fit, and need hardly more lines than any, the one that leaves most in the row; the narrowest,
        where none fits."""
        order = sorted(range(len(self.columns)), key=lambda place: (self.columns[place].rank, place), reverse=True)
        beneath = range(len(order)) if self.room is not None else (0,)
        layouts = [self._layout(tuple(sorted(order[:number]))) for number in beneath]
        fitting = [one for one in layouts if one.fits] or layouts[-1:]
        fewest = min(one.lines for one in fitting)
        return next(one for one in fitting if one.lines <= fewest * _HARDLY_MORE)

    def _layout(self, beneath: tuple[int, ...]) -> _Layout:
        places = [place for place in range(len(self.columns)) if place not in beneath]
        most = {place: self._measure(place, narrow=False) for place in places}
        if self.room is None:
            return _Layout(most, beneath, True, 0)
        left = self.room - self.between(len(places), boxed=self.grid and not beneath)
        widths = {place: self._measure(place, narrow=True) for place in places}
        fits = sum(widths.values()) <= left
        while sum(widths.values()) < min(left, sum(most.values())):
            widths[max(places, key=lambda place: most[place] - widths[place])] += 1
        lines = sum(
            max(len(self.cell(row[place], widths[place])) for place in places) + len(self.under(row, beneath))
            for row in self.rows
        )
        return _Layout(widths, beneath, fits, lines)

    def _measure(self, place: int, *, narrow: bool) -> int:
        column = self.columns[place]
        lines = [line for row in self.rows for line in row[place].plain.split("\n")]
        measure = longest if column.prose and narrow else len
        return max(map(measure, [column.title, *lines]))

    def between(self, number: int, *, boxed: bool) -> int:
        """What stands between so many columns, and in a box around them."""
        return 3 * number + 1 if boxed else self.gap * (number - 1)

    def cell(self, cell: Text, width: int) -> list[str]:
        """Its lines beside the others."""
        limit = None if self.room is None else width
        return [line for part in cell.plain.split("\n") for line in folded(part, limit)]

    def under(self, row: Sequence[Text], places: Sequence[int]) -> list[str]:
        """The lines beneath the row; what is short shares one. A cell that is empty has none."""
        told: list[list[str]] = []
        shared = False
        for place in places:
            title, parts = self.columns[place].title, row[place].plain.split("\n")
            if not any(parts):
                continue
            if title:
                parts[0] = f"{title}: {parts[0]}"
            short = bool(title) and len(parts) == 1
            if shared and short:
                told[-1][0] += f"; {parts[0]}"
            else:
                told.append(parts)
            shared = short
        return [
            line
            for parts in told
            for number, part in enumerate(parts)
            for line in folded(part, self.room, _HANGING if number else _BENEATH, _HANGING)
        ]


Row = Sequence["str | Text"]


def show(
    console: Console,
    columns: Sequence[Column],
    rows: Iterable[Row],
    *,
    indent: int = 0,
    gap: int = 2,
    header: bool = False,
    grid: bool = False,
) -> None:
    """Print the rows. A cell is no markup; a newline in it begins a line; of a Text's styles the first counts."""
    _print(console, columns, [(lambda: None, list(rows))], indent, gap, header, grid)


def groups(
    console: Console,
    columns: Sequence[Column],
    parts: Iterable[tuple[Callable[[], None], Iterable[Row]]],
    *,
    indent: int,
    gap: int = 2,
) -> None:
    """Print rows in groups that look alike, each after what prints its heading."""
    _print(console, columns, [(heading, list(rows)) for heading, rows in parts], indent, gap, False, False)


def names(console: Console, rows: Sequence[Sequence[str]], *, indent: int = 0) -> None:
    """Names, each with what is said of it."""
    told = [Column(prose=True)] * (len(rows[0]) - 1)
    show(console, [Column(), *told], rows, indent=indent)


def _print(
    console: Console,
    columns: Sequence[Column],
    parts: Sequence[tuple[Callable[[], None], Sequence[Row]]],
    indent: int,
    gap: int,
    header: bool,
    grid: bool,
) -> None:
    space = room(console)
    cells = [
        [[_text(console, cell, column) for cell, column in zip(row, columns, strict=True)] for row in rows]
        for _, rows in parts
    ]
    every = [row for rows in cells for row in rows]
    table = _Table(columns, every, None if space is None else space - indent, gap, grid)
    layout = table.chosen()
    for (heading, _), rows in zip(parts, cells, strict=True):
        heading()
        if not layout.beneath:
            _draw(console, table, layout, rows, indent, header)
            continue
        if header:
            _draw(console, table, layout, [], indent, True)
        for number, row in enumerate(rows):
            if grid and number:
                console.print()
            _draw(console, table, layout, [row], indent, False)
            for line in table.under(row, layout.beneath):
                console.print(" " * indent + line, style=row[layout.beneath[0]].style, markup=False, soft_wrap=True)


def _text(console: Console, cell: str | Text, column: Column) -> Text:
    from rich.text import Text

    told, style = (cell, column.style) if isinstance(cell, str) else (cell.plain, cell.style or column.style)
    return Text(signs.plain(told, console.encoding), style)


def _draw(console: Console, table: _Table, layout: _Layout, rows: list[list[Text]], indent: int, header: bool) -> None:
    """With rich, which is given the widths, and cells that are folded already."""
    from rich import box
    from rich.table import Table
    from rich.text import Text

    boxed = table.grid and not layout.beneath
    drawn = Table(
        box=box.HEAVY_HEAD if boxed else None,
        width=sum(layout.beside.values()) + table.between(len(layout.beside), boxed=boxed),
        show_header=header,
        header_style="bold",
        show_lines=boxed,
        pad_edge=boxed,
        padding=(0, 1) if boxed else (0, table.gap, 0, 0),
    )
    for place, width in layout.beside.items():
        column = table.columns[place]
        drawn.add_column(column.title, justify="right" if column.right else "left", width=width, no_wrap=True)
    for row in rows:
        cells = {place: "\n".join(table.cell(row[place], width)) for place, width in layout.beside.items()}
        drawn.add_row(*(Text(cell, row[place].style) for place, cell in cells.items()))
    with console.capture() as captured:
        console.print(drawn, crop=False)
    for line in captured.get().splitlines():
        print((" " * indent + line).rstrip(), file=console.file)

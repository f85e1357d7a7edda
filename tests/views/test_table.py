"""Every table's mechanism: whatever is in it, and however wide the terminal."""

from __future__ import annotations

import io
import random
from collections.abc import Sequence

import pytest
from rich.console import Console

from faultkit.views import console, table
from faultkit.views.table import Column


class Screen(io.StringIO):
    """A terminal, as far as a console asks."""

    def isatty(self) -> bool:
        return True


def drawn(
    columns: Sequence[Column], rows: list[list[str]], width: int, *, pipe: bool = False, **how: bool
) -> list[str]:
    stream = io.StringIO() if pipe else Screen()
    table.show(Console(file=stream, width=width, color_system=None), columns, rows, **how)
    return [line.rstrip() for line in stream.getvalue().splitlines()]


NAMES = ["keepalive-race", "retransmit-timeout", "linger"]
ERRNOS = ["recv ECONNRESET", "connect ECONNREFUSED", "no error", ""]
REASONS = ["TCP_ABORT_ON_CLOSE", "TCP_KEEPALIVE_TIMEOUT, NO_SOCKET", ""]
COLUMNS = [
    Column(),
    Column("cause"),
    Column("saw", prose=True),
    Column("reason", prose=True, rank=1),
    Column("s", right=True),
]


def made_up(seed: int) -> list[list[str]]:
    chance = random.Random(seed)
    return [
        ["✔", chance.choice(NAMES), chance.choice(ERRNOS), chance.choice(REASONS), f"{chance.random() * 1000:.1f}"]
        for _ in range(5)
    ]


@pytest.mark.parametrize("grid", [False, True])
@pytest.mark.parametrize("width", [*range(28, 121, 4), 40, 80])
def test_no_line_is_wider_and_no_word_is_broken(width: int, grid: bool) -> None:
    for seed in range(3):
        rows = made_up(seed)
        lines = drawn(COLUMNS, rows, width, header=True, grid=grid)
        assert max(map(len, lines)) <= width, lines
        words = " ".join(lines).replace("│", " ").replace("┃", " ").split()
        for word in " ".join(cell for row in rows for cell in row).split():
            assert word in words or f"{word};" in words, (word, lines)


@pytest.mark.parametrize("width", [1, 40, 80])
def test_in_a_pipe_a_row_is_a_line(width: int) -> None:
    rows = made_up(7)
    header, *lines = drawn(COLUMNS, rows, width, pipe=True, header=True)
    assert header.split() == ["cause", "saw", "reason", "s"]
    assert [line.split() for line in lines] == [" ".join(row).split() for row in rows]


def test_what_has_no_room_stands_beneath_with_its_title() -> None:
    rows = [["✔", "linger", "recv ECONNRESET", "TCP_STATE", "0.1"], ["✔", "reject", "no error", "", "0.2"]]
    assert drawn(COLUMNS, rows, 34, header=True) == [
        "   cause   saw                s",
        "✔  linger  recv ECONNRESET  0.1",
        "    reason: TCP_STATE",
        "✔  reject  no error         0.2",
    ]


def test_lines_of_a_cell_stay_lines() -> None:
    columns = [Column(), Column("says", prose=True)]
    rows = [["curl", "first line of it\nsecond line"]]
    assert drawn(columns, rows, 60) == ["curl  first line of it", "      second line"]
    assert drawn(columns, rows, 18) == ["curl  first line", "      of it", "      second line"]
    rows[0][0] = "retransmit-timeout"
    beneath = ["retransmit-timeout", "    says: first line", "      of it", "      second line"]
    assert drawn(columns, rows, 22) == beneath


def test_brackets_are_no_markup() -> None:
    assert drawn([Column(), Column()], [["[red]", "[/]"]], 80) == ["[red]  [/]"]
    assert drawn([Column(), Column()], [["[red]", "[bold]"]], 10) == ["[red]", "    [bold]"]


def test_groups_look_alike() -> None:
    stream = Screen()
    out = Console(file=stream, width=30, color_system=None)
    parts = [
        (lambda: console.paragraph(out, "first"), [["a", "short"]]),
        (lambda: console.paragraph(out, "second"), [["retransmit-timeout", "words that have no room"]]),
    ]
    table.groups(out, [Column(), Column(prose=True)], parts, indent=2)
    lines = [line.rstrip() for line in stream.getvalue().splitlines()]
    assert lines == ["first", "  a", "      short", "second", "  retransmit-timeout", "      words that have no room"]


@pytest.mark.parametrize("width", range(20, 100, 5))
def test_a_command_in_a_paragraph_is_never_broken(width: int) -> None:
    stream = Screen()
    command = "faultkit keepalive-race --timeout 50"
    text = f"seen by the client; shown by: {console.whole(command)}; and more of the early-response kind"
    console.paragraph(Console(file=stream, width=width, color_system=None), text, "   ", "     ")
    lines = stream.getvalue().splitlines()
    assert any(command in line for line in lines)
    assert all(len(line) <= width or line.strip(" ;") == command for line in lines)
    assert "early-response" in stream.getvalue()

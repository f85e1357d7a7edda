"""Writes the table of what packets cannot tell apart into docs/explain.md: `python -m tests.explaining.table`."""

from __future__ import annotations

from pathlib import Path

from faultkit.explaining.alike import ALIKE

PAGE = Path(__file__).parents[2] / "docs/explain.md"
HEADING = "| what is seen | the causes | why | what tells them apart |\n|---|---|---|---|\n"


def rows() -> str:
    """The table's rows, in Markdown."""
    cells = (
        (group.seen, ", ".join(f"`{cause}`" for cause in group.causes), group.why, group.tell.replace("|", "\\|"))
        for group in ALIKE
    )
    return "".join(f"| {' | '.join(row)} |\n" for row in cells)


if __name__ == "__main__":
    before, _, _ = PAGE.read_text(encoding="utf-8").partition(HEADING)
    PAGE.write_text(before + HEADING + rows(), encoding="utf-8")

"""docs/kernels.md tells the truth of the kernel that this is."""

from __future__ import annotations

import pytest

from faultkit.witness.kernel import release
from tests.ordinary import CHECKOUT
from tests.shell import USERS, faultkit

TOLD = ("bad-segment --segment future-ack", "mptcp --path no-mapping")


def version(text: str) -> tuple[int, ...]:
    return tuple(map(int, text.split(".")))


def tabled(command: str) -> str:
    """What that row says of this kernel, or of the newest before it."""
    rows = [
        line.strip("| ").split("|") for line in (CHECKOUT / "docs/kernels.md").read_text().splitlines() if "|" in line
    ]
    columns = [cell.strip() for cell in rows[0]]
    [row] = [row for row in rows if f"`{command}`" in row[0]]
    told = {version(columns[n]): row[n].strip() for n in range(1, len(columns) - 1) if row[n].strip()}
    return told[max(known for known in told if known <= version(release()))]


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("command", TOLD)
def test_what_this_kernel_does_is_in_the_table(command: str, user: str) -> None:
    told = faultkit(*command.split(), user=user)
    assert told.returncode == 0, told.stdout
    assert tabled(command)
    [line] = [line for line in told.stdout.splitlines() if f"server: Linux {release()}" in line]
    assert tabled(command) in line

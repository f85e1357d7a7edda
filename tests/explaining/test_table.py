"""docs/explain.md has the table of what packets cannot tell apart, as the rules are held against it."""

from __future__ import annotations

import pytest

from faultkit import causes
from faultkit.explaining.alike import ALIKE, Alike, alike, fits
from tests.explaining import table


def test_the_page_has_the_table() -> None:
    _, heading, rest = table.PAGE.read_text(encoding="utf-8").partition(table.HEADING)
    assert heading
    assert rest == table.rows()


@pytest.mark.parametrize("group", ALIKE, ids=lambda group: str(group.seen))
def test_a_row_names_causes_of_the_catalogue_and_says_why(group: Alike) -> None:
    assert {cause.split()[0] for cause in group.causes} <= {*causes.names()}
    assert len(group.why) > 40
    assert len(group.tell) > 20


def test_options_narrow_what_a_name_stands_for() -> None:
    assert fits("linger *", "linger --unsent 4096")
    assert fits("unread", "unread")
    assert not fits("half-open", "half-open --found-by nobody")
    assert fits("fin-wait-timeout --end aborted", "fin-wait-timeout --end aborted --by sysctl")
    assert not fits("fin-wait-timeout --end aborted", "fin-wait-timeout --end lowered")
    assert alike("unread", "linger --unsent 4096")
    assert not alike("unread", "keepalive-race")

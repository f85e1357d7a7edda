"""What stands for a sign where the output cannot say it."""

from __future__ import annotations

import io
import json

import pytest

from faultkit.views import ladder, signs
from faultkit.views.console import console
from tests.made import linger


@pytest.mark.parametrize(
    ("encoding", "told"),
    [
        ("utf-8", "✔ recv → EOF ×7 ≮"),
        ("latin-1", "ok recv -> EOF ×7 not <"),
        ("ascii", "ok recv -> EOF x7 not <"),
    ],
)
def test_each_encoding_says_what_it_can(encoding: str, told: str) -> None:
    assert signs.plain("✔ recv → EOF ×7 ≮", encoding) == told


def test_what_keeps_columns_apart_stays_as_wide() -> None:
    for sign in "▶◀─┄×–":
        assert len(signs.SIGNS[sign]) == 1


def test_every_stand_in_is_ascii() -> None:
    assert all(told.isascii() for told in signs.SIGNS.values())


def test_what_has_no_stand_in_is_escaped() -> None:
    assert signs.plain("naïve \U0001f600", "ascii") == "na\\u00efve \\ud83d\\ude00"


def written(text: str, *, as_document: bool) -> str:
    raw = io.BytesIO()
    stream = io.TextIOWrapper(raw, encoding="ascii", errors="strict")
    if as_document:
        signs.escaped(stream)
        stream.write(text)
    else:
        console(stream).print(text)
    stream.flush()
    return raw.getvalue().decode("ascii")


def test_a_document_stays_what_it_is() -> None:
    told = {"message": "✔ → ×", "name": "naïve \U0001f600"}
    assert json.loads(written(json.dumps(told, ensure_ascii=False), as_document=True)) == told


def test_a_console_says_signs_in_words() -> None:
    assert written("✘ Something else was seen.", as_document=False) == "not ok Something else was seen.\n"


@pytest.mark.parametrize("width", [40, 80, 120])
def test_the_ladder_keeps_its_columns_and_its_directions(width: int) -> None:
    said = [line.plain for line in ladder.lines(linger(), width, "ascii")]
    drawn = [line.plain for line in ladder.lines(linger(), width)]
    assert len(said) == len(drawn)
    assert all(line.isascii() and len(line) <= width for line in said)
    assert "recv -> ECONNRESET" in "\n".join(said)
    for plain, sign in zip(said, drawn, strict=True):
        assert plain.count("->") - plain.count("-->") == sign.count("→") or "▶" in sign
        assert ("<" in plain) == ("◀" in sign)
        assert plain.rstrip().endswith(">") == sign.endswith("▶")

"""The table of what programs write: every entry keeps to the vocabulary, names its source, and is found in its own examples."""

from __future__ import annotations

import time

import pytest

from faultkit.errors import Misuse
from faultkit.messages import likely, reading, table, template
from faultkit.messages.vocabulary import TOLD, WRITERS, tells

ENTRIES = table.entries()


@pytest.mark.parametrize("file", sorted({entry.file for entry in ENTRIES}))
def test_every_example_is_matched_by_its_entry_and_decided_by_nobody_wrongly(file: str) -> None:
    for entry in (entry for entry in ENTRIES if entry.file == file):
        for example in entry.examples:
            plain = " ".join(example.split())
            mine = entry.find(example, plain, plain.casefold())
            assert mine is not None, (entry.texts, example)
            decided = reading.read(example).found
            if entry.beside:
                assert not decided or not decided[0].entry.beside, example
                continue
            first = decided[0]
            says_more = tells(first.told) < tells(mine.told)
            same = (
                first.told.split()[-1] == mine.told.split()[-1] if mine.told and first.told else first.told == mine.told
            )
            right = entry.part or first.entry.file == file or same or says_more
            assert right, (example, first.entry.file, first.entry.texts)


@pytest.mark.parametrize("file", sorted({entry.file for entry in ENTRIES}))
def test_every_entry_has_causes_or_says_why_not(file: str) -> None:
    for entry in (entry for entry in ENTRIES if entry.file == file and not entry.beside):
        read = reading.read(entry.examples[0])
        assert read.known, entry.examples[0]
        assert entry.source and entry.versions, entry.texts


def test_every_text_is_needed_by_an_example() -> None:
    for entry in ENTRIES:
        for text in entry.texts if entry.file != "haproxy.toml" else ():  # of whose three formats each entry shows some
            assert any(template.pattern(text, entry.case).search(example) for example in entry.examples), (
                entry.file,
                text,
            )


def test_a_template_is_linear() -> None:
    """What it takes grows with the text and no faster, for texts that begin to match everywhere and never do."""
    for entry in ENTRIES:
        for text in entry.texts:
            parts = template.parts(text)
            filled = "".join(written.split("|")[0] if kind != "place" else "1" for kind, written in parts[:-1] or parts)
            begun = time.process_time()
            template.pattern(text, entry.case).search((filled + " ") * (20_000 // (len(filled) + 1)) + "\n")
            assert time.process_time() - begun < 0.5, (entry.file, text)


@pytest.mark.parametrize("text", ["{any} failed", "a {any}{word} b", "a {anything}", "{?maybe}{number}", ""])
def test_what_is_no_template(text: str) -> None:
    with pytest.raises(Misuse):
        template.parts(text)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"told": "recv ENONSENSE"}, "not in the vocabulary"),
        ({"told": ""}, "say either"),
        ({"writer": "nobody"}, "not in the vocabulary"),
        ({"when": ["tomorrow"]}, "not in the vocabulary"),
        ({"cause": "linger"}, "is unknown"),
        ({"source": ""}, "has no source"),
        ({"example": ""}, "has no example"),
        ({"told": "recv {errno}"}, "the text has none"),
    ],
)
def test_what_the_vocabulary_does_not_have_is_refused(change: dict[str, object], sentence: str) -> None:
    head = {"program": "p", "pool": "http", "writer": "client", "versions": "1"}
    row = {"text": "a line", "told": "EOF", "source": "s", "example": "a line"} | change
    with pytest.raises(Misuse, match=sentence):
        list(table.parse("p.toml", {**head, "line": [row]}))


def test_the_priors_name_what_there_is() -> None:
    answers = likely.document()["answers"]
    for row in likely.document()["likely"]:
        assert set(row["answers"]) <= set(answers)
        assert row["because"] and row["sources"]
        assert set(row.get("writer", ())) <= set(WRITERS)
    for told in TOLD:
        assert likely.prior("", "", "", told, ())

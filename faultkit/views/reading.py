"""What a pasted line means: who wrote it, what was told, the causes by how likely they are, and what to do next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from faultkit.cause import typed
from faultkit.messages import fitting
from faultkit.messages.vocabulary import OTHERWISE, WHEN, WRITERS
from faultkit.serving.faults import TESTERS
from faultkit.views.console import paragraph, whole

if TYPE_CHECKING:
    from rich.console import Console

    from faultkit.messages.fitting import Fit
    from faultkit.messages.likely import Answer
    from faultkit.messages.reading import Reading

SOURCES = 3  # that are named
WAY_ON = (
    "Say what the call gave: faultkit which --saw 'recv ECONNRESET'. From the symptom to the cause: docs/debugging.md"
)


def show(console: Console, reading: Reading) -> None:
    """At most what fits a screen: who said it, the answers, the setting, the way on."""
    if not reading.known:
        paragraph(console, "No line that is known is in it, and no errno.")
        if reading.nearest is not None:
            paragraph(console, f"The nearest is one of {reading.nearest.program}: {reading.nearest.examples[0]}")
        paragraph(console, WAY_ON)
        return
    _who(console, reading)
    for sentence in reading.not_tcp:
        paragraph(
            console, f"No failure of a TCP connection: {sentence}." if not reading.answers else f"Besides: {sentence}."
        )
    for number, answer in enumerate(reading.answers, 1):
        console.print()
        _answer(console, number, answer)
    if reading.prior is not None and reading.answers:
        console.print()
        paragraph(console, f"In this order because {reading.prior.because}.")
    for setting in reading.settings[:2]:
        paragraph(console, f"What usually ends it: {setting}", rest="  ")


def _who(console: Console, reading: Reading) -> None:
    told = reading.told
    if reading.words:
        paragraph(console, f'No line that is known is in it, but what many programs say: "{reading.words}".')
        return
    sources = list(
        dict.fromkeys(f"{one.entry.program} ({one.entry.source})" for one in reading.found if not one.entry.part)
    )
    for source in sources[:SOURCES] or [f"{one.entry.program} ({one.entry.source})" for one in reading.found[:1]]:
        paragraph(console, f"Written by {source}", rest="  ")
    if told is not None and told.told:
        means = OTHERWISE.get(told.told)
        words = [f"It says: {told.told}{f' ({means})' if means else ''}", f"to {WRITERS[told.writer]}"]
        words += [WHEN[when] for when in told.when]
        paragraph(console, "; ".join(words), rest="  ")


def _answer(console: Console, number: int, answer: Answer) -> None:
    says = answer.says[0].upper() + answer.says[1:]
    paragraph(
        console,
        f"{number}. {says}: {', '.join(fit.name for fit in answer.fits)}",
        rest="   ",
        drawn={answer.fits[0].name: "cyan"},
    )
    paragraph(console, f"play it: {whole(command(answer.fits[0]))}", "   ", "   ")


def command(fit: Fit) -> str:
    """What plays it."""
    if fit.tester:
        return f"faultkit serve {fit.name}"
    cause, options, _ = fitting.variant(fit.name, fit.variant)
    return f"faultkit {typed(cause, options)}"


def _summary(fit: Fit) -> str:
    return TESTERS[fit.name].summary if fit.tester else fitting.variant(fit.name, fit.variant)[0].summary


def document(reading: Reading) -> dict[str, Any]:
    """For machines: one of `causes` for each answer, by its likeliest cause; `alike` cannot be told from it here."""
    told = reading.told
    return {
        "messages": [
            {
                "program": one.entry.program,
                "versions": one.entry.versions,
                "told": one.told or None,
                "place": one.entry.source,
                "file": one.entry.file,
            }
            for one in reading.found
        ],
        "told": told and told.told,
        "writer": told and (told.writer or None),
        "when": list(told.when) if told else [],
        "peer": (told and (told.upstream or told.peer)) or None,
        "causes": [
            {
                "cause": answer.fits[0].name,
                "alike": [fit.name for fit in answer.fits[1:]],
                "answer": answer.name,
                "says": answer.says,
                "summary": _summary(answer.fits[0]),
                "call": answer.fits[0].call or None,
                "command": command(answer.fits[0]),
            }
            for answer in reading.answers
        ],
        "because": reading.prior and reading.prior.because,
        "sources": list(reading.prior.sources) if reading.prior else [],
        "settings": list(reading.settings),
        "not_tcp": list(reading.not_tcp),
        "nearest": reading.nearest and reading.nearest.examples[0],
        "words": reading.words or None,
    }

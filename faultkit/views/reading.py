"""What a pasted line means: who wrote it, what was told, the causes by how likely they are, and what to do next."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from faultkit.cause import typed
from faultkit.messages import fitting, packets, table
from faultkit.messages.vocabulary import OTHERWISE, WHEN, WRITERS
from faultkit.serving.faults import TESTERS
from faultkit.views.console import paragraph, whole

if TYPE_CHECKING:
    from rich.console import Console

    from faultkit.messages.answering import Reading
    from faultkit.messages.fitting import Fit
    from faultkit.messages.likely import Answer

SOURCES = 2  # that are named
SEEN = 3  # clients that are named which were seen to say so
WHOLE = 4  # answers that are told whole; arbitrary: what comes later is seldom
WAY_ON = "From the symptom to the cause: docs/debugging.md. What a call gave: faultkit which --saw 'recv ECONNRESET'"


def show(console: Console, reading: Reading) -> None:
    """Who said what, what it most likely is, what to ask next and what usually ends it."""
    if not reading.known:
        paragraph(console, "No line that is known is in it, and no errno.")
        if reading.nearest is not None:
            paragraph(console, f"The nearest is one of {reading.nearest.program}: {reading.nearest.examples[0]}")
        paragraph(console, WAY_ON)
        return
    if reading.packets:
        _packets(console, reading)
        return
    _who(console, reading)
    for sentence in reading.not_tcp:
        paragraph(console, f"{'Besides' if reading.answers else 'No failure of a TCP connection'}: {sentence}.")
    if reading.dropped:
        paragraph(console, f"Nothing that fits it fits {' and '.join(reading.dropped)}: left out.")
    for hint in reading.hints:
        paragraph(console, f"You say: {hint}.")
    told = _told(reading)
    for number, answer in enumerate(told, 1):
        console.print()
        _answer(console, number, answer, unix=reading.told is not None and reading.told.unix)
    rest = [fit.name for answer in reading.answers[len(told) :] for fit in answer.fits]
    if reading.answers:
        console.print()
        if rest:
            paragraph(console, f"Hardly ever: {', '.join(rest)}.")
        if reading.prior is not None:
            paragraph(console, f"In this order because: {reading.prior.because}.")
    for setting in reading.settings[:2]:
        paragraph(console, f"What usually ends it: {setting}{'' if setting[-1:] == '?' else '.'}", rest="  ")
    _questions(console, reading)


def _packets(console: Console, reading: Reading) -> None:
    number = len(reading.packets)
    paragraph(
        console, f"Rows of packets, of {number} connection{'s' * (number > 1)}: faultkit explain shows them whole."
    )
    for place, (name, alike, why) in enumerate(packets.causes(reading.packets), 1):
        console.print()
        paragraph(console, f"{place}. {why[0].upper() + why[1:]}.", rest="   ")
        names = ", ".join([name, *alike])
        paragraph(console, f"{names}: {whole(f'faultkit {name}')}", "   ", "   ", drawn={name: "cyan"})
    for one in reading.packets:
        if not one.causes:
            paragraph(console, f"{one.end[0].upper() + one.end[1:]}: {one.why}.")


def _told(reading: Reading) -> list[Answer]:
    """The answers that are told whole."""
    return [answer for answer in reading.answers if answer.likely][:WHOLE] or list(reading.answers[:WHOLE])


def _who(console: Console, reading: Reading) -> None:
    told = reading.told
    if reading.words:
        said = f'No line that is known is in it, but what many programs say: "{reading.words}"'
        paragraph(console, f"{said}, which is {told.told}." if told else f"{said}.")
        return
    if not reading.found:
        if told is not None:
            paragraph(console, f"No line that is known is in it, but what it says is: {told.told}.")
        return
    shown = [one.entry for one in reading.found if not one.entry.part] or [one.entry for one in reading.found]
    said = ", ".join(dict.fromkeys(entry.program for entry in shown[:SOURCES]))
    if told is not None:
        means = OTHERWISE.get(told.told)
        words = [
            f"{told.told} {WRITERS[told.writer]}",
            *([means] if means else []),
            *(WHEN[when] for when in told.when),
        ]
        said += f" {'say' if said.startswith('many ') else 'says'}: {'; '.join(words)}"
        if told.idle:
            said += f"; idle for {told.idle}"
        if peer := told.peers.of(told.writer):
            said += f"; the other end is {peer}"
    paragraph(console, f"{said[0].upper() if said.startswith('many ') else said[0]}{said[1:]}.", rest="  ")
    sources = ", ".join(dict.fromkeys(f"{entry.source} ({entry.versions})" for entry in shown[:SOURCES]))
    seen = ", ".join(table.seen(shown[0])[:SEEN])
    paragraph(console, f"Read in {sources}{f'; seen of {seen}' if seen else ''}.", rest="  ", style="dim")


def _answer(console: Console, number: int, answer: Answer, unix: bool = False) -> None:
    says = answer.says[0].upper() + answer.says[1:]
    paragraph(console, f"{number}. {says}.", rest="   ")
    names = ", ".join(fit.name for fit in answer.fits)
    paragraph(
        console, f"{names}: {whole(command(answer.fits[0], unix))}", "   ", "   ", drawn={answer.fits[0].name: "cyan"}
    )


def _questions(console: Console, reading: Reading) -> None:
    numbers = {answer.name: number for number, answer in enumerate(_told(reading), 1)}
    for question in reading.questions:
        console.print()
        told = sorted(str(numbers[name]) for name in question.answers if name in numbers)
        paragraph(console, f"{question.asks} ({'; '.join(filter(None, (' or '.join(told), question.where)))})")
        paragraph(console, whole(question.command), "  ", "  ")


def command(fit: Fit, unix: bool = False) -> str:
    """What plays it, over TCP or on a Unix socket."""
    if unix:
        return f"faultkit serve {fit.name}{':unread' * (fit.name == 'crash')} --unix PATH"
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
                "seen": table.seen(one.entry),
                "file": one.entry.file,
            }
            for one in reading.found
        ],
        "told": told and told.told,
        "writer": told and (told.writer or None),
        "unix": bool(told and told.unix),
        "when": list(told.when) if told else [],
        "server": (told and told.peers.server) or None,
        "client": (told and told.peers.client) or None,
        "idle": (told and told.idle) or None,
        "causes": [
            {"cause": name, "alike": list(alike), "says": why, "command": f"faultkit {name}"}
            for name, alike, why in packets.causes(reading.packets)
        ]
        + [
            {
                "cause": answer.fits[0].name,
                "alike": [fit.name for fit in answer.fits[1:]],
                "answer": answer.name,
                "says": answer.says,
                "summary": _summary(answer.fits[0]),
                "call": answer.fits[0].call or None,
                "command": command(answer.fits[0], told is not None and told.unix),
            }
            for answer in reading.answers
        ],
        "hints": list(reading.hints),
        "because": reading.prior and reading.prior.because,
        "sources": list(reading.prior.sources) if reading.prior else [],
        "next": [
            {
                "asks": question.asks,
                "command": question.command,
                "where": question.where,
                "tells": list(question.answers),
            }
            for question in reading.questions
        ],
        "settings": list(reading.settings),
        "not_tcp": list(reading.not_tcp),
        "nearest": reading.nearest and reading.nearest.examples[0],
        "words": reading.words or None,
    }

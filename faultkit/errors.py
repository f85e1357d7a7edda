"""The two ways in which faultkit refuses. The third family, "it was tried and something else was seen", is a verdict.

Beside them stands what is nobody's mistake: the end that somebody asked for.
"""

import signal


class Misuse(Exception):
    """You asked for something that cannot mean anything: one sentence with value, state and next step. Exit status 2."""


class Unable(Exception):
    """This machine cannot: one sentence with what is missing and the command that gets it. Exit status 3."""


class Ended(Exception):
    """A signal other than Ctrl-C ended the run, which was taken down in order. Exit status 128 + its number."""

    def __init__(self, number: int) -> None:
        super().__init__(f"ended by {signal.Signals(number).name}; nothing is left behind")
        self.status = 128 + number

"""The two ways in which faultkit refuses. The third family, "it was tried and something else was seen", is a verdict."""


class Misuse(Exception):
    """You asked for something that cannot mean anything: one sentence with value, state and next step. Exit status 2."""


class Unable(Exception):
    """This machine cannot: one sentence with what is missing and the command that gets it. Exit status 3."""

"""`faultkit`, and `python -m faultkit`."""

import signal
import sys
from collections.abc import Sequence
from typing import NoReturn


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Run the command line.

    Ctrl-C while Python imports would be a traceback, or lost: KeyboardInterrupt is ignored in some of its callbacks. So
    until the run begins, and when it is over, it simply ends us (128 + SIGINT in the shell's words). What serves until it is told
    to end keeps such signals until it can hear them.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    if (sys.argv[1:] if arguments is None else arguments)[:1] in (["serve"], ["proxy"]):
        # They end in order whenever they are told to: `faultkit.playing.signals` lets it through when they can.
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGHUP})
    from faultkit.commands.line.main import main

    main(arguments)


def toxiproxy_server() -> NoReturn:
    """The program `faultkit-toxiproxy-server`, for what starts one as `toxiproxy-server -host H -port P`."""
    main(["proxy", "--api", *sys.argv[1:]])


if __name__ == "__main__":
    main()

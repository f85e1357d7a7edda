"""What this machine or this process has no more of, as errno says it, with the cure."""

from __future__ import annotations

import errno
import resource


def sentence(error: BaseException | None) -> str | None:
    """What was lacking, where this error is of that kind; None for any other."""
    if not isinstance(error, OSError):
        return None
    if error.errno == errno.EMFILE:
        limit, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        above = f"`ulimit -n {most}` allows more" if limit < most else "raise it (`ulimit -Hn`, as root)"
        return (
            f"no descriptor is left of the {limit} that this process may have (EMFILE, too many open files): "
            f"{above}, or close what is open"
        )
    if error.errno == errno.ENFILE:
        return "no descriptor is left on this machine (ENFILE): raise fs.file-max, or end what holds them"
    if error.errno in (errno.ENOBUFS, errno.ENOMEM):
        return f"the kernel has no memory left for it ({errno.errorcode[error.errno]}): end what holds it"
    return None

"""Any command in a private network namespace, as if it had been started without us: `faultkit sandbox -- COMMAND`.

Two processes of ours stand before the command, all in one process group, so that the terminal speaks to the command
itself. The *front* is the one that was started; it passes on what is sent to it alone. Its child, the *keeper*, makes the
namespace and starts the command. Whatever the command leaves behind becomes the keeper's child
(PR_SET_CHILD_SUBREAPER, prctl(2)) and is ended by it, also when the front was killed with SIGKILL.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import shutil
import signal
import socket
import time
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path

from faultkit.errors import Unable, exhausted, starting
from faultkit.stage import namespace
from faultkit.stage.namespace import Namespace

# What tells a program that it is inside: INODE:OUTER:user or INODE:OUTER:root, the fields of `Namespace`.
VARIABLE = "FAULTKIT_SANDBOX"

# An address that only its own network namespace knows, and that the keeper holds while it lives (unix(7), abstract). The
# variable alone proves nothing: it can outlive the namespace, whose inode another one then gets.
_MARK = "\0faultkit-sandbox"

# As shells say it.
NOT_EXECUTABLE, NOT_FOUND, BY_SIGNAL = 126, 127, 128

# Seconds; arbitrary: what was left behind may clean up, and nobody likes to wait.
_PATIENCE = 2.0

_PR_SET_PDEATHSIG, _PR_SET_CHILD_SUBREAPER = 1, 36  # linux/prctl.h

# What a thread does to itself ends it, blocked or not.
_FAULTS = {signal.SIGSEGV, signal.SIGBUS, signal.SIGFPE, signal.SIGILL, signal.SIGTRAP, signal.SIGSYS}
_WATCHED = signal.valid_signals() - _FAULTS - {signal.SIGKILL, signal.SIGSTOP}

# Which of them the kernel sends for a terminal, and then to a whole process group.
_TERMINALS = {
    *(signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU),
    *(signal.SIGWINCH, signal.SIGHUP, signal.SIGCONT),
}

_PYTHON_IGNORES = (signal.SIGPIPE, signal.SIGXFSZ)


def inside() -> Namespace | None:
    """The sandbox that this thread runs in; None where it is in none, or in another namespace by now."""
    inode, outer, whose, *_ = (*os.environ.get(VARIABLE, "").split(":"), "", "", "")
    if not (inode.isdecimal() and outer.isdecimal()):
        return None
    own = Namespace(int(inode), int(outer), whose == "user")
    if not own.holds():
        return None
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(_MARK)
        except OSError:
            return None
    return own


def run(command: Sequence[str]) -> int:
    """Run the command and give its exit status: 128 + n where signal n ended it, 127 if not found, 126 if not executable.

    Raises `Unable` where namespaces are forbidden. Signals stay blocked in this process: one more that comes while the
    command ends must not take the place of its exit status.
    """
    restore = _signals_aside()
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)  # should the keeper be killed, we are the next
    front = os.getpid()
    reader, writer = os.pipe()
    keeper = _fork(lambda: _keep(command, restore, front, writer))
    os.close(writer)
    with os.fdopen(reader) as pipe:
        refused = pipe.read()
    status = _relay(keeper)
    _end_the_rest()
    if refused:
        raise Unable(refused)
    return status


def _signals_aside() -> Callable[[], None]:
    """Take the signals to wait for them. Gives what makes them as they were before Python and we came."""
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, _WATCHED)
    children = signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # ignored, it loses the exit status (wait(2))

    def restore() -> None:
        for number in _PYTHON_IGNORES:
            signal.signal(number, signal.SIG_DFL)
        if signal.getsignal(signal.SIGINT) is not signal.SIG_IGN:
            signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGCHLD, children)
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)

    return restore


def _relay(keeper: int) -> int:
    """In the front: pass on to the keeper what is sent to us, until it ends. Gives its exit status."""
    while True:
        told = signal.sigwaitinfo(_WATCHED)
        for pid, status in _changes():
            if pid == keeper and not os.WIFSTOPPED(status) and not os.WIFCONTINUED(status):
                return _as_shells_say(status)
        if told.si_signo != signal.SIGCHLD and told.si_pid != keeper and not _reached_the_command(told):
            os.kill(keeper, told.si_signo)


def _reached_the_command(told: signal.struct_siginfo) -> bool:
    """Did the sender tell the command too, because it told our whole process group?"""
    if told.si_code > 0:  # the kernel (sigaction(2)); a hang-up it tells to the session's leader alone
        return told.si_signo in _TERMINALS and not (told.si_signo == signal.SIGHUP and os.getsid(0) == os.getpid())
    import psutil  # type: ignore[import-untyped]

    # Whoever is inside means the command and itself: `kill 0`.
    with contextlib.suppress(OSError, psutil.Error):
        return any(ancestor.pid == os.getpid() for ancestor in psutil.Process(told.si_pid).parents())
    return False


def _keep(command: Sequence[str], restore: Callable[[], None], front: int, refusal: int) -> int:
    """In the keeper. Through the pipe it says why the command cannot be run, or nothing."""
    try:
        own = namespace.enter(as_root=False, otherwise="")
        if not own.user:
            namespace.keep_mounts()
        with _mark():
            return _keep_in(own, command, restore, front, refusal)
    except Unable as error:
        os.write(refusal, str(error).encode())
        return 0


def _mark() -> socket.socket:
    try:
        mark = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    except OSError as error:
        raise exhausted(error) or Unable(
            f"sandbox: UNIX sockets are refused here ({error.strerror}), and one of them marks the namespace as ours: "
            "allow AF_UNIX (systemd RestrictAddressFamilies=; in a container --security-opt seccomp=unconfined)"
        ) from error
    mark.bind(_MARK)
    return mark


def _keep_in(own: Namespace, command: Sequence[str], restore: Callable[[], None], front: int, refusal: int) -> int:
    os.environ[VARIABLE] = f"{own.inode}:{own.outer}:{'user' if own.user else 'root'}"
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)
    _prctl(_PR_SET_PDEATHSIG, signal.SIGCHLD)  # any that wakes us: that the front is gone is seen by getppid()
    keeper = os.getpid()
    child = _fork(lambda: _become(command, restore, keeper))
    os.close(refusal)
    status = _tend(child, front)
    _end_the_rest()
    return status


def _tend(child: int, front: int) -> int:
    """In the keeper: what the front says goes to the command, its stops and its end to the front. Gives its exit status.

    The front stops as the command does, so that a shell with job control sees it, but the keeper never does: whoever
    continues the command continues all.
    """
    stopped = False
    while os.getppid() == front:
        told = signal.sigwaitinfo(_WATCHED)
        with contextlib.suppress(ProcessLookupError, FileNotFoundError):  # the front is gone: seen above
            for status in [status for pid, status in _changes() if pid == child]:
                stopped = os.WIFSTOPPED(status)
                if not stopped and not os.WIFCONTINUED(status):
                    os.kill(front, signal.SIGCONT)
                    return _as_shells_say(status)
                # One that runs would only lose a SIGTSTP that waits for it (signal(7)).
                if stopped or not _runs(front):
                    os.kill(front, signal.SIGSTOP if stopped else signal.SIGCONT)
            if told.si_pid != front or told.si_signo == signal.SIGCHLD:
                continue
            # A shell's `fg` continues all of us. What the front says of that may come after the next stop.
            if told.si_signo != signal.SIGCONT or (stopped and _runs(front)):
                os.kill(child, told.si_signo)
    return BY_SIGNAL + signal.SIGKILL


def _runs(pid: int) -> bool:
    """Is that process, of one thread, neither stopped nor about to be?"""
    waiting, state = (Path(f"/proc/{pid}/status").read_text() for _ in range(2))  # in this order: a stop takes it
    stops = int(waiting.partition("\nShdPnd:")[2].split()[0], 16) & 1 << signal.SIGSTOP - 1
    return not stops and state.partition("\nState:")[2].split()[0] != "T"


def _become(command: Sequence[str], restore: Callable[[], None], keeper: int) -> int:
    """Be the command; or say why not, and give the exit status."""
    _prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != keeper:
        return BY_SIGNAL + signal.SIGKILL
    restore()
    try:
        os.execvp(command[0], [*command])
    except OSError as error:
        status, sentence = _not_run(command[0], error)
        with contextlib.suppress(OSError):
            os.write(2, os.fsencode(f"faultkit: sandbox: {sentence}\n"))
        return status


def _not_run(program: str, error: OSError) -> tuple[int, str]:
    name, reason = repr(program), error.strerror
    if not isinstance(error, FileNotFoundError):
        return NOT_EXECUTABLE, f"{name} cannot be executed ({reason}): chmod +x it, or name the program that runs it"
    if shutil.which(program):
        return NOT_FOUND, f"{name} names an interpreter in its first line that is not there: install it, or correct it"
    return NOT_FOUND, f"there is no command {name}: install it, or give its path"


def _end_the_rest() -> None:
    """End every process that is left: SIGTERM, and after a while SIGKILL.

    Only children are told, whose numbers nobody else can have before we wait for them. The children of one that ends
    become ours, so that the last to go is the last of all.
    """
    deadline = time.monotonic() + _PATIENCE
    told: set[int] = set()
    while children := _children():
        left = deadline - time.monotonic()
        for pid in children:
            if left <= 0:
                os.kill(pid, signal.SIGKILL)
            elif pid not in told:
                os.kill(pid, signal.SIGTERM)
                os.kill(pid, signal.SIGCONT)  # a stopped process gets it only then
                told.add(pid)
        if left > 0:
            signal.sigtimedwait({signal.SIGCHLD}, left)
        else:
            signal.sigwait({signal.SIGCHLD})


def _children() -> list[int]:
    """Our children that run."""
    for _ in _changes():
        pass
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
    except ChildProcessError:
        return []
    import psutil

    return [child.pid for child in psutil.Process().children()]


def _changes() -> list[tuple[int, int]]:
    """Which children have stopped, gone on or ended since we last asked."""
    seen = []
    with contextlib.suppress(ChildProcessError):
        while (change := os.waitpid(-1, os.WNOHANG | os.WUNTRACED | os.WCONTINUED))[0]:
            seen.append(change)
    return seen


def _as_shells_say(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    return code if code >= 0 else BY_SIGNAL - code


def _fork(work: Callable[[], int]) -> int:
    """Do the work in a child and end it with the exit status that it gives. Gives the child's pid."""
    with starting():
        child = os.fork()
    if child:
        return child
    status = 70  # sysexits.h: EX_SOFTWARE
    try:
        status = work()
    except BaseException:  # a forked child must never return into its parent's code
        traceback.print_exc()
    finally:
        os._exit(status)


def _prctl(*arguments: int) -> None:
    if ctypes.CDLL(None, use_errno=True).prctl(*arguments, 0, 0, 0):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))

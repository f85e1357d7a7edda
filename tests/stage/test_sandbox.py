"""`faultkit sandbox`: the command is as it would be without us, but for its network."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from typing import Any

import pytest

from faultkit.stage import namespace, sandbox
from tests.boxes import PYTHON, boxed, every_user, held, nested
from tests.ordinary import CHECKOUT, command
from tests.shell import ENVIRONMENT, ROOT, everybodys_directory, faultkit, line
from tests.stage.child import in_child
from tests.stage.test_firewall import hosts_rules as hosts_rules

LOOK = """
import json, os, socket
for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
    with socket.create_server((host, 0), family=family) as listener:
        socket.create_connection(listener.getsockname()[:2]).close()
status = dict(line.split(":", 1) for line in open("/proc/self/status"))
print(json.dumps({
    "ids": [os.getuid(), os.geteuid(), os.getgid(), os.getegid()],
    "net": os.stat("/proc/self/ns/net").st_ino,
    "interfaces": [name for _, name in socket.if_nameindex()],
    "told": os.environ.get("FAULTKIT_SANDBOX"),
    "capabilities": status["CapEff"].strip(),
    "group": os.getpgrp(),
    "directory": os.getcwd(),
    "files": sorted(os.listdir("/proc/self/fd")),
}))
"""


def looked(argv: list[str], **options: Any) -> dict[str, Any]:
    ended = subprocess.run(argv, cwd=CHECKOUT, env=ENVIRONMENT, capture_output=True, text=True, timeout=60, **options)
    assert ended.returncode == 0, ended.stderr
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


@every_user
@nested
def test_only_the_network_is_another(user: str, boxes: int) -> None:
    with held() as (_, writer):
        outside = looked(command(*PYTHON, LOOK, ordinary=user == "nobody"), pass_fds=[writer])
        inside = looked(line(*boxed(*PYTHON, LOOK, boxes=boxes), user=user), pass_fds=[writer])
        os.close(writer)
    assert inside["interfaces"] == ["lo"]
    inode, outer, whose = inside["told"].split(":")
    assert int(inode) == inside["net"] != outside["net"]
    assert (int(outer) == outside["net"]) is (boxes == 1)
    assert whose == ("root" if user == "root" else "user")
    # CAP_NET_BIND_SERVICE, CAP_NET_ADMIN, CAP_NET_RAW
    assert inside["capabilities"] == (outside["capabilities"] if user == "root" else f"{0x3400:016x}")
    for same in ("ids", "group", "directory", "files"):
        assert inside[same] == outside[same], same
    assert outside["told"] is None


@pytest.mark.parametrize("ignored", [None, "SIGHUP", "SIGINT", "SIGQUIT", "SIGCHLD"])
def test_signals_are_as_they_were(ignored: str | None) -> None:
    """Also those that nohup(1), or a shell's `&`, ignores."""
    ignores = f"signal.signal(signal.{ignored}, signal.SIG_IGN);" if ignored else ""
    begin = f"import os, signal, sys; {ignores} signal.signal(signal.SIGPIPE, signal.SIG_DFL); "
    begin += "signal.signal(signal.SIGXFSZ, signal.SIG_DFL); os.execvp(sys.argv[1], sys.argv[1:])"
    seen = []
    for argv in ([], line("sandbox", "--")):
        launched = [*PYTHON, begin, *argv, "grep", "^Sig[BIC]", "/proc/self/status"]
        seen.append(subprocess.run(launched, cwd=CHECKOUT, env=ENVIRONMENT, capture_output=True, text=True).stdout)
    bit = 1 << signal.Signals[ignored] - 1 if ignored else 0
    own = 0b11 << 31  # 32 and 33 are glibc's own; a worker of pytest-xdist has one of them ignored in Python 3.13
    assert int(seen[0].partition("SigIgn:\t")[2].split()[0], 16) & ~own == bit
    assert seen[0] == seen[1]


@every_user
@nested
@pytest.mark.parametrize(
    ("script", "status"), [("exit 0", 0), ("exit 7", 7), ("kill -9 $$", 137), ("kill -15 $$", 143), ("kill -2 $$", 130)]
)
def test_the_exit_status_is_passed_on(script: str, status: int, user: str, boxes: int) -> None:
    ended = faultkit(*boxed("sh", "-c", script, boxes=boxes), user=user)
    assert (ended.returncode, ended.stdout, ended.stderr) == (status, "", "")


@every_user
def test_the_streams_and_the_arguments_are_the_commands(user: str) -> None:
    script = 'cat; echo "$@" >&2'
    for dashes in (["--"], []):
        ended = faultkit("sandbox", *dashes, "sh", "-c", script, "sh", "--json", "-h", "--", user=user, input="in\n")
        assert (ended.returncode, ended.stdout, ended.stderr) == (0, "in\n", "--json -h --\n")


@every_user
def test_what_cannot_be_run(user: str) -> None:
    with everybodys_directory() as where:
        for name, text, mode in (("plain", "", 0o644), ("text", "words", 0o755), ("script", "#!/no/such", 0o755)):
            (where / name).write_text(text)
            (where / name).chmod(mode)
        for argument, status, sentence in (
            ("no-such", 127, "there is no command 'no-such': install it, or give its path"),
            (f"{where}/no-such", 127, f"there is no command '{where}/no-such': install it, or give its path"),
            (
                f"{where}/script",
                127,
                f"'{where}/script' names an interpreter in its first line that is not there: install it, or correct it",
            ),
            (
                f"{where}/plain",
                126,
                f"'{where}/plain' cannot be executed (Permission denied): chmod +x it, or name the program that runs it",
            ),
            (
                f"{where}/text",
                126,
                f"'{where}/text' cannot be executed (Exec format error): chmod +x it, or name the program that runs it",
            ),
        ):
            ended = faultkit("sandbox", "--", argument, user=user)
            assert (ended.returncode, ended.stdout, ended.stderr) == (status, "", f"faultkit: sandbox: {sentence}\n")


@pytest.mark.parametrize("arguments", [[], ["--"], ["--", ""]])
def test_nothing_to_run(arguments: list[str]) -> None:
    ended = faultkit("sandbox", *arguments)
    sentence = "sandbox: there is no command to run: faultkit sandbox -- pytest tests"
    assert (ended.returncode, ended.stdout, ended.stderr) == (2, "", f"faultkit: {sentence}\n")


@every_user
def test_where_namespaces_are_denied(user: str) -> None:
    ended = faultkit("sandbox", "--", "echo", "run", user=user, denied=True)
    assert (ended.returncode, ended.stdout) == (3, "")
    assert ended.stderr.count("\n") == 1
    assert ended.stderr.startswith(
        "faultkit: a private network namespace is forbidden here (EPERM): allow user namespaces (sysctl "
    )


@pytest.mark.skipif(not ROOT, reason="needs root")
def test_what_root_mounts_inside_is_not_seen_outside() -> None:
    with everybodys_directory() as where:
        for boxes, seen in ((0, 0), (1, 32)):  # mountpoint(1): 32 is no
            argv = line(*boxed(boxes=boxes)) if boxes else []
            script = f'"$@" mount -t tmpfs none {where} && exec mountpoint -q {where}'
            outer = ["unshare", "--mount", "--propagation", "shared", "sh", "-c", script, "sh", *argv]
            assert subprocess.run(outer, cwd=CHECKOUT, env=ENVIRONMENT).returncode == seen


def test_who_is_not_inside() -> None:
    def look() -> list[str]:
        namespace.enter()  # in place of the host
        here = os.stat("/proc/self/ns/net").st_ino
        believed = []
        # The last is what one reads inside; but nobody keeps this namespace.
        for text in (
            "",
            "x",
            "1:2:user",
            f"{here}",
            f"{here}:{here}:user",
            f"{here + 1}:{here}:root",
            f"{here}:1:root",
        ):
            os.environ[sandbox.VARIABLE] = text
            believed += [text] if sandbox.inside() else []
        return believed

    assert in_child(look) == []


@every_user
@nested
def test_who_is_inside(user: str, boxes: int) -> None:
    program = "from faultkit.stage import sandbox; own = sandbox.inside(); print(own.inode, own.outer, own.user)"
    ended = faultkit(*boxed(*PYTHON, program, boxes=boxes), user=user)
    inode, outer, whose = ended.stdout.split()
    assert len({inode, outer, str(os.stat("/proc/self/ns/net").st_ino)}) == 1 + boxes
    assert whose == str(user == "nobody")

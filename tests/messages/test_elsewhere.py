"""What is no TCP is not read as TCP, and what is TCP stays so; what a Unix socket can do is what its server can play."""

from __future__ import annotations

import io
import json
import os
import re
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from rich.console import Console

from faultkit.messages import reading, unwrapping
from faultkit.messages.log import Log
from faultkit.views import log as log_view
from faultkit.views import reading as view
from tests.shell import faultkit

HEADER = "while reading response header from upstream, client: 10.0.0.1, upstream"
CONNECTING = "while connecting to upstream, client: 10.0.0.1, upstream"

# What failed, by a word of the sentence that says so.
ELSEWHERE = {
    "pipe": """write |1: broken pipe
write /dev/stdout: broken pipe
write /proc/self/fd/1: broken pipe
Exception ignored in: <_io.TextIOWrapper name='<stdout>' mode='w' encoding='utf-8'>⏎BrokenPipeError: [Errno 32] Broken pipe
Traceback (most recent call last):⏎  File "a.py", line 3, in <module>⏎    print(line)⏎IOError: [Errno 32] Broken pipe
Traceback (most recent call last):⏎  File "a.py", line 3⏎    sys.stdout.write(x)⏎BrokenPipeError: [Errno 32] Broken pipe
cat: write error: Broken pipe
sort: write failed: standard output: Broken pipe
find: ‘standard output’: Broken pipe
thread 'main' panicked at 'failed printing to stdout: Broken pipe (os error 32)'
mysqldump: Got errno 32 on write
pg_dump: error: could not write to output file: Broken pipe
java.io.IOException: Broken pipe⏎\tat java.io.FileOutputStream.writeBytes(Native Method)⏎\tat java.io.PrintStream.write""",
    "SIGPIPE": "xargs: grep: terminated by signal 13",
    "DNS": """lookup x.example on 10.0.0.2:53: read udp 10.0.0.5:41234->10.0.0.2:53: i/o timeout
dial tcp: lookup r.example on 10.0.0.2:53: read udp 10.0.0.5:41234->10.0.0.2:53: i/o timeout
dial tcp: lookup x.example on 10.0.0.2:53: read udp 10.0.0.5:41234->10.0.0.2:53: read: connection refused
;; connection timed out; no servers could be reached""",
    "UDP": """write udp 10.0.0.5:41234->10.0.0.2:8125: write: connection refused
read udp 10.0.0.5:41234->10.0.0.2:514: i/o timeout""",
    "driver": """usb 1-1: device descriptor read/64, error -110
[   12.345678] usb 3-2: device not accepting address 5, error -71
mmc0: error -110 whilst initialising SD card
cros-ec-spi spi6.0: Cannot identify the EC: error -110
PM: Device 1806000.gpmi-nand failed to resume: error -110
scmi-cpufreq scmi_dev.4: probe with driver scmi-cpufreq failed with error -110
mmcblk0: error -110 sending status command, retrying
i2c i2c-1: timeout waiting for bus ready
nvme nvme0: I/O 123 QID 4 timeout, aborting
ata1.00: qc timeout (cmd 0xec)
kernel: Bluetooth: hci0: command 0x0c03 tx timeout
iwlwifi 0000:00:14.3: Failed to load firmware chunk! error -110
tpm tpm0: A TPM error (-110) occurred""",
    "Bluetooth": """bluetoothd[5]: connect error: Host is down (112)
a2dp-source profile connect failed for AA:BB:CC:DD:EE:FF: Connection timed out""",
    "systemd": """systemd[1]: app.service: start operation timed out. Terminating.
systemd[1]: dev-sda1.device: Job dev-sda1.device/start timed out.
Failed to start app.service: Connection timed out
Failed to list units: Connection timed out
Failed to connect to bus: Connection refused
Failed to get D-Bus connection: Operation not permitted""",
    "file": """ls: cannot access '/mnt': Connection timed out
ls: reading directory '/mnt/x': Input/output error
df: /mnt/share: Transport endpoint is not connected""",
    "this user may not": """\
connect() to unix:/run/a.sock failed (13: Permission denied) while connecting to upstream, client: 10.0.0.1
Got permission denied while trying to connect: dial unix /var/run/docker.sock: connect: permission denied
Error: connect EACCES /var/run/docker.sock""",
}
LINES = [(word, line) for word, lines in ELSEWHERE.items() for line in lines.split("\n")]


@pytest.mark.parametrize(("word", "line"), LINES)
def test_it_is_said_in_words_and_has_no_cause_of_tcp(word: str, line: str) -> None:
    read = reading.read(line.replace("⏎", "\n"))
    assert read.known and not read.answers
    assert any(re.search(word, said) or "name could not be resolved" in said for said in read.not_tcp), read.not_tcp


@pytest.mark.parametrize(
    "line",
    [
        "write tcp 10.0.0.5:1->10.0.0.6:80: write: broken pipe",
        "BrokenPipeError: [Errno 32] Broken pipe",
        "java.io.IOException: Broken pipe\n\tat java.base/sun.nio.ch.SocketDispatcher.write0(Native Method)",
        "bash: connect: Connection timed out\nbash: /dev/tcp/10.0.0.1/80: Connection timed out",
        "nfs: server files.example not responding, timed out",
        "systemd-journal-upload: Upload failed: Failed to connect to 10.0.0.7 port 19532: Connection refused",
        "dial tcp 10.0.0.7:53: i/o timeout",
        "rbd: image x: failed to open: error -110",
        "[lua] redis.lua:12: failed to query: connection reset by peer, client: 192.0.2.7",
        "Failed to start listener: Connection refused",
        "Group coordinator lookup failed: Connection reset by peer",
        "CIFS: VFS: cifs_mount failed w/return code = -110",
        "Failed to start the listener: dial tcp 10.0.0.7:80: connect: connection refused",
        "rsync: connection unexpectedly closed (0 bytes received so far) [sender]",
        "kernel: nvme_tcp: failed to connect socket: -111",
    ],
)
def test_what_is_tcp_stays_so(line: str) -> None:
    assert reading.read(line).answers


def test_who_only_says_broken_pipe_may_be_either() -> None:
    read = reading.read("BrokenPipeError: [Errno 32] Broken pipe")
    assert read.answers and "print()" in read.not_tcp[0]
    assert not reading.read("write tcp 10.0.0.5:1->10.0.0.6:80: write: broken pipe").not_tcp


GONE = """\
connect() to unix:/run/a.sock failed (2: No such file or directory) while connecting to upstream
psql: could not connect to server: No such file or directory⏎\tconnections on Unix domain socket "/run/.s.PGSQL.5432"?
dial unix /var/run/docker.sock: connect: no such file or directory
ERROR 2002 (HY000): Can't connect to local MySQL server through socket '/run/mysqld/mysqld.sock' (2)
Error: connect ENOENT /var/run/docker.sock"""


@pytest.mark.parametrize("line", GONE.split("\n"))
def test_where_the_file_of_a_unix_socket_is_not_there_nobody_listens(line: str) -> None:
    read = reading.read(line.replace("⏎", "\n"))
    assert "Unix socket's file is not there" in read.not_tcp[0]
    assert [fit.name for answer in read.answers for fit in answer.fits] == ["closed-port"]


UNIX = {
    "recv() failed (104: Connection reset by peer) " + HEADER + ': "fastcgi://unix:/run/php.sock:"': (
        "unread",
        "crash",
    ),
    "upstream prematurely closed connection " + HEADER + ': "http://unix:/run/a.sock:/"': (
        "crash",
        "accept-then-close",
        "half-close",
    ),
    "connect() to unix:/run/a.sock failed (111: Connection refused) " + CONNECTING + ': "http://unix:/run/a.sock:/"': (
        "closed-port",
    ),
    "connect() to unix:/run/a.sock failed (11: Resource temporarily unavailable) "
    + CONNECTING
    + ': "http://unix:/run/a.sock:/"': ("backlog-full",),
    "upstream timed out (110: Connection timed out) " + HEADER + ': "fastcgi://unix:/run/php.sock"': (
        "stall",
        "slow",
    ),
    "read unix @->/run/docker.sock: read: connection reset by peer": ("unread", "crash"),
    "redis.exceptions.ConnectionError: Error 111 connecting to unix socket: /tmp/redis.sock. Connection refused.": (
        "closed-port",
    ),
    "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?": (
        "closed-port",
    ),
}


@pytest.mark.parametrize("line", UNIX)
def test_over_a_unix_socket_only_what_one_can_do(line: str) -> None:
    read = reading.read(line)
    names = {fit.name for answer in read.answers for fit in answer.fits}
    assert set(UNIX[line]) <= names
    assert names.isdisjoint(
        {
            "linger",
            "reject",
            "injected",
            "firewall-reset",
            "nat-expiry",
            "connect-timeout",
            "idle-firewall",
            "half-open",
        }
    )
    assert "Unix socket" in read.not_tcp[0]
    document = view.document(read)
    shown = json.dumps(document)
    assert "tcpdump" not in shown and "RST:" not in shown and "SO_LINGER" not in shown
    for cause in document["causes"]:
        assert re.fullmatch(r"faultkit serve [a-z-]+(:unread)? --unix PATH", cause["command"])


def test_every_answer_can_be_shown_and_counted() -> None:
    """Of each as a message, and of all as one log, where they stay apart."""
    lines = [*(line for _, line in LINES), *GONE.split("\n"), *UNIX, *(line for line, _ in LIMITS), *PAGES]
    text = "\n".join(line.replace("⏎", "\n") for line in lines)
    log = Log()
    log.read(io.BytesIO(text.encode()))
    assert len(log.kinds) > 30 and {kind.reading.told.unix for kind in log.kinds.values() if kind.reading.told} == {
        True,
        False,
    }
    out = io.StringIO()
    console = Console(file=out, width=80)
    log_view.show(console, log)
    for line in lines:
        view.show(console, reading.read(line.replace("⏎", "\n")))
    assert "(;" not in out.getvalue() and "says:" in out.getvalue()


def test_no_program_is_named_that_did_not_write_it() -> None:
    for line in (
        "Failed to connect to bus: Connection refused",
        "a2dp-source profile connect failed for X: Connection timed out",
    ):
        assert reading.read(line).found == ()


def test_the_command_says_so() -> None:
    shown = faultkit("which", "--message", next(iter(UNIX))).stdout
    assert "goes over a Unix socket" in shown and "faultkit serve crash:unread --unix PATH" in shown
    assert "tcpdump" not in shown and "ss -xp" not in shown.split("journalctl")[0]


def test_the_other_side_of_a_proxy_is_not_that_one() -> None:
    """The client came over a Unix socket, and the server is over TCP."""
    read = reading.read(
        "recv() failed (104: Connection reset by peer) while reading response header from upstream, client: unix:, "
        'upstream: "http://10.0.0.7:80/"'
    )
    assert read.told and not read.told.unix and "linger" in {fit.name for one in read.answers for fit in one.fits}


def test_what_the_kernel_itself_does_over_a_unix_socket() -> None:
    """A close with data unread is ECONNRESET, a write after it is EPIPE, and a socket's file at which nobody listens refuses."""
    ours, theirs = socket.socketpair()
    ours.send(b"x")
    theirs.close()
    with pytest.raises(ConnectionResetError):
        ours.recv(1)
    with pytest.raises(BrokenPipeError):
        ours.send(b"x")
    ours.close()
    with tempfile.TemporaryDirectory() as directory, socket.socket(socket.AF_UNIX) as client:
        path = os.path.join(directory, "s")
        listener = socket.socket(socket.AF_UNIX)
        listener.bind(path)
        listener.listen(0)
        listener.close()
        with pytest.raises(ConnectionRefusedError):
            client.connect(path)


LIMITS = [
    ("dial tcp 10.0.0.7:80: connect: cannot assign requested address", "TIME-WAIT"),
    ("java.net.BindException: Cannot assign requested address (connect failed)", "port"),
    ("java.net.NoRouteToHostException: Cannot assign requested address (Address not available)", "TIME-WAIT"),
    ("Error: connect EADDRNOTAVAIL 10.0.0.7:80 - Local (0.0.0.0:0)", "port"),
    ("OSError: [Errno 99] Cannot assign requested address", "TIME-WAIT"),
    ("connect() to 10.0.0.7:80 failed (99: Cannot assign requested address) while connecting to upstream", "TIME-WAIT"),
    ("curl: (7) Failed to connect to 10.0.0.7 port 80: Cannot assign requested address", "TIME-WAIT"),
    ("socket() failed (24: Too many open files) while connecting to upstream", "ulimit"),
    ("dial tcp 10.0.0.7:80: socket: too many open files", "ulimit"),
    ("java.net.SocketException: Too many open files", "ulimit"),
    ("connect() to 10.0.0.7:80 failed (13: Permission denied) while connecting to upstream", "SELinux"),
    ("java.net.SocketException: Permission denied: connect", "SELinux"),
    ("ssh: connect to host 10.0.0.7 port 22: Operation not permitted", "firewall"),
    ("java.net.SocketException: No buffer space available (maximum connections reached?): connect", "port|memory"),
    ("Error: listen EADDRINUSE: address already in use :::3000", "ss -tlnp"),
    ("bind() to 0.0.0.0:80 failed (98: Address already in use)", "ss -tlnp"),
    ("[WinError 10048] Only one usage of each socket address (protocol/network address/port) is normally permitted", "in use"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "word"), LIMITS)
def test_a_limit_of_this_host_is_said_in_words(line: str, word: str) -> None:
    read = reading.read(line)
    assert read.known and not read.answers and re.search(word, " ".join(read.not_tcp)), read.not_tcp


@pytest.mark.parametrize("name", ["No route to host", "Network is unreachable", "Host is down"])
def test_what_is_unreachable_is_said_to_be_so(name: str) -> None:
    for line in (f"flux: connect: {name}", f"dial tcp 10.0.0.7:80: connect: {name.lower()}"):
        assert reading.read(line).answers[0].name in ("unreachable", "unanswered")
    assert "ARP" in reading.read(f"dial tcp 10.0.0.7:80: connect: {name}").answers[0].says or name == "Host is down"


PAGES = {
    "502 Bad Gateway": "bad gateway",
        "<html><head><title>502 Bad Gateway</title></head><body><h1>502 Bad Gateway</h1><hr>nginx</body></html>": "bad gateway",
        "503 Service Temporarily Unavailable": "unavailable",
        "Error: Request failed with status code 503": "unavailable",
        "504 Gateway Time-out": "own timer: first byte",
}  # fmt: skip


@pytest.mark.parametrize(("page", "told"), PAGES.items())
def test_a_gateway_s_page_leads_to_its_log(page: str, told: str) -> None:
    read = reading.read(page)
    assert read.told and read.told.told == told and read.answers
    assert "log" in " ".join([*(asked.asks for asked in read.questions), *read.settings])


def test_the_queues_of_a_listening_socket_are_told_apart() -> None:
    def answers(line: str) -> list[str]:
        return [answer.name for answer in reading.read(line).answers if answer.likely]

    assert answers("TCP: request_sock_TCP: Possible SYN flooding on port 80. Sending cookies.") == [
        "handshakes",
        "full",
    ]
    assert answers("    12 SYNs to LISTEN sockets dropped") == ["full", "handshakes"]
    assert answers("    12 times the listen queue of a socket overflowed") == ["full"]
    assert answers("TcpExtTCPReqQFullDrop            12    0.0")[0] == "handshakes"
    asked = " ".join(
        one.command for one in reading.read("possible SYN flooding on port 80. Sending cookies.").questions
    )
    assert "syn-recv" in asked and "TcpExtListen" in asked


CLF = "1.2.3.4 - - [06/May/2026:07:08:09 +0000] "
ASKED = [
    CLF + '"GET /search?q=ECONNRESET HTTP/1.1" 200 4711 "-" "Mozilla/5.0"',
    CLF + '"GET /connection+reset+by+peer HTTP/1.1" 200 4711 "-" "Mozilla/5.0"',
    CLF + '"GET / HTTP/1.1" 200 4711 "http://a.example/?q=connection%20refused&x=ECONNREFUSED" "-"',
    CLF + '"GET / HTTP/1.1" 200 4711 "-" "read: connection reset by peer"',
    '{"time":"2026-05-06T07:08:09Z","status":200,"request_uri":"/a?e=ETIMEDOUT","user_agent":"Connection refused"}',
    'level=info path="/x/ECONNRESET" status=200 user_agent="broken pipe"',
    'level=info msg="search" query="connection reset by peer" hits=3',
    '{"status":200,"request":{"uri":"/ECONNRESET","headers":{"User-Agent":["upstream prematurely closed connection"]}}}',
    'haproxy[9]: 192.0.2.7:39001 [23/Mar/2022:11:12:13.001] fe be/s1 0/0/1/1/4 200 183 - - ---- 6/6/3/7/0 0/0 "GET /ECONNRESET"',
]  # fmt: skip


@pytest.mark.parametrize("row", ASKED)
def test_what_was_asked_for_has_not_failed(row: str) -> None:
    assert not reading.read(row).answers
    log = Log()
    log.read(io.BytesIO((row + "\n").encode() * 3))
    assert log.failures == 0, list(log.kinds)


def test_a_failure_beside_what_was_asked_for_counts() -> None:
    row = f'recv() failed (104: Connection reset by peer) {HEADER}: "http://10.0.0.7", request: "GET /?e=ECONNREFUSED"'
    assert (told := reading.read(row).told) and told.told == "recv ECONNRESET"
    go = 'Get "http://a/ETIMEDOUT?x=ECONNREFUSED": read tcp 10.0.0.5:1->10.0.0.7:80: read: connection reset by peer'
    assert (told := reading.read(go).told) and told.told.endswith("ECONNRESET")
    assert len(unwrapping.unasked(row)) == len(row)


def test_a_pipe_s_own_words(tmp_path: Path) -> None:
    """What Python and the shell's tools really write when their reader goes."""
    code = "import sys\nfor n in range(100000): print(n)"
    script = tmp_path / "many.py"
    script.write_text(code)
    for command in ([sys.executable, str(script)], ["sh", "-c", "trap '' PIPE; seq 1000000"]):
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
            assert process.stdout and process.stderr
            process.stdout.read(1)
            process.stdout.close()
            said = process.stderr.read().decode()
        read = reading.read(said)
        assert read.not_tcp and not read.answers, said

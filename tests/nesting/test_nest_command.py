"""`faultkit nest` as it is typed: what it refuses, files, its output."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from pathlib import Path

import pytest

from faultkit.commands.line.main import run
from faultkit.errors import Misuse
from faultkit.nesting import chain, nest, settings
from faultkit.nesting.timeouts import Hop, spelled
from tests.shell import USERS, faultkit, on_terminal

every_user = pytest.mark.parametrize("user", USERS)


MISUSES = {
    "": "give the timeouts from the client to the server, such as 30 60 65, or --file alone",
    "30 60 --file chain.ini": "give the timeouts from the client to the server, such as 30 60 65, or --file alone",
    "--file chain.ini --requests": "--requests is for timeouts on the command line: in a file write request = TIMEOUT",
    "30": "one timeout cannot nest: give two or more, from the client to the server, such as 30 60 65",
    "nat-expiry=30": "one timeout cannot nest: give two or more, from the client to the server, such as 30 60 65",
    "30 abc": "server: 'abc' is not a duration: write 65, 65s, 500ms, 2m or 1m30s",
    "30 -- -60": "server: '-60' is not a duration: write 65, 65s, 500ms, 2m or 1m30s",
    "30 1e9": "server: '1e9' is not a duration: write 65, 65s, 500ms, 2m or 1m30s",
    "30 1m30": "server: '1m30' is not a duration: write 65, 65s, 500ms, 2m or 1m30s",
    "30 nginx=": "nginx: '' is not a duration: write 65, 65s, 500ms, 2m or 1m30s",
    "30 nginx=0": "nginx: 0 is 'never' to some programs and 'off' to others: write never or off",
    "30 0s": "server: 0 is 'never' to some programs and 'off' to others: write never or off",
    "30 60 --requests --margin 1x": "--margin: '1x' is not a duration: write 65, 65s, 500ms, 2m or 1m30s",
    "30 off --requests": "server: 'off' is not a duration: write 65, 65s, 500ms, 2m or 1m30s",
    "30 99999999999": "server: 99999999999 is beyond every timeout: write never, if it never ends",
    "=30 60": "=30 has no name: write NAME=TIMEOUT, or the timeout alone",
    "nginx=30 nginx=60": "two hops are named nginx: give each a name of its own, such as nginx-2",
    "client=30/20 60": "client=30/20: an end of the chain has one timeout: only a proxy has one for either side",
    "30 60/70": "server=60/70: an end of the chain has one timeout: only a proxy has one for either side",
    "30 60 nat-expiry=350": "nat-expiry is an end of the chain: put it between the two that speak through it",
    "nat-expiry=350 30 60": "nat-expiry is an end of the chain: put it between the two that speak through it",
    "30 nat-expiry=off 60": "nat-expiry: 'off' is not a duration: write 65, 65s, 500ms, 2m or 1m30s",
    "--file missing.ini": "--file missing.ini cannot be read: No such file or directory",
    "--file /": "--file / cannot be read: Is a directory",
    "--file /dev/zero": "--file /dev/zero has more than 100000 bytes: a chain of timeouts has a few lines",
}


@pytest.mark.parametrize("typed", MISUSES)
def test_misuse_is_one_sentence_and_exit_status_2(typed: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert run(["nest", *typed.split()]) == 2
    assert capfd.readouterr() == ("", f"faultkit: nest: {MISUSES[typed]}\n")


FILES = {
    "": "chain.ini: no hop in it: write a section for each, from [client] to [server]",
    "idle=3": "chain.ini, line 1: a timeout before the first [hop]: begin with [client]",
    "[a]\nidle": "chain.ini, line 2: 'idle' is neither [hop] nor key = timeout",
    "[a]\nidle=3\n[]\n": "chain.ini, line 3: '[]' is neither [hop] nor key = timeout",
    "[a]\nidle=3\n[a]\nidle=4": "chain.ini, line 3: a second section [a]: give each hop a name of its own",
    "[a]\nidle=3\nidle=4": "chain.ini, line 3: idle stands twice in [a]",
    "[a]\nidle=3": "one timeout cannot nest: give two or more, from the client to the server, such as 30 60 65",
    "[a]\n[b]\nidle=4": (
        "chain.ini, [a]: it says nothing: give it one of idle, idle-downstream, idle-upstream, tcp-keepalive, "
        "tcp-keepalive-downstream, tcp-keepalive-upstream, heartbeat, heartbeat-downstream, heartbeat-upstream, request, "
        "idle-firewall, nat-expiry, load-balancer-idle"
    ),
    "[a]\ntimeout=3": (
        "chain.ini, [a]: timeout is not a timeout: it takes idle, idle-downstream, idle-upstream, tcp-keepalive, "
        "tcp-keepalive-downstream, tcp-keepalive-upstream, heartbeat, heartbeat-downstream, heartbeat-upstream, request, "
        "idle-firewall, nat-expiry, load-balancer-idle"
    ),
    "[a]\nidle=soon": "chain.ini, [a], idle: 'soon' is not a duration: write 65, 65s, 500ms, 2m or 1m30s",
    "[a]\nidle=3\n  4": "chain.ini, [a], idle: '3 4' is not a duration: write 65, 65s, 500ms, 2m or 1m30s",
    "[a]\nidle=%(b)s": "chain.ini, [a], idle: '%(b)s' is not a duration: write 65, 65s, 500ms, 2m or 1m30s",
    "[a]\ntcp-keepalive=0": (
        "chain.ini, [a], tcp-keepalive: 0 is 'never' to some programs and 'off' to others: write on or off"
    ),
    "[a]\nidle-downstream=3\n[b]\nidle=4": (
        "chain.ini, [a]: idle-downstream decides nothing: nobody is downstream of a"
    ),
    "[a]\nidle=3\n[b]\nheartbeat-upstream=4": (
        "chain.ini, [b]: heartbeat-upstream decides nothing: nobody is upstream of b"
    ),
    "[a]\nidle=3\n[b]\nnat-expiry=9\nidle=4\n[c]\nidle=9": (
        "chain.ini, [b]: what has a nat-expiry has nothing else: it only forgets"
    ),
    "[a]\nidle=3\n[b]\nrequest=4": (
        "a has an idle timeout towards b, and b says nothing of its own: add it, or never, if it keeps idle connections "
        "for ever"
    ),
    "[a]\nrequest=3\n[b]\nidle=4": (
        "b has an idle timeout towards a, and a says nothing of its own: add it, or never, if it keeps idle connections "
        "for ever"
    ),
    "[a]\nidle=3\ntcp-keepalive=2\n[b]\nidle=4": (
        "a has a tcp-keepalive or a heartbeat, and nothing in the chain forgets a silent connection: add what does "
        "(idle-firewall, nat-expiry, load-balancer-idle), or leave it out"
    ),
    "[a]\nrequest=3\n[b]\nidle-upstream=3\n[c]\nidle=4\n[d]\nrequest=9": (
        "c has an idle timeout towards d, and d says nothing of its own: add it, or never, if it keeps idle connections "
        "for ever"
    ),
    "[a]\nrequest=3\n[b]\nidle-upstream=3\n[c]\nidle-downstream=4": "",
    "[a]\nheartbeat=3\n[n]\nload-balancer-idle=60\n[b]\ntcp-keepalive=off": "",
    "[a]\ntcp-keepalive=3\n[n]\nload-balancer-idle=60\n[b]\ntcp-keepalive=off": (
        "nothing says how long a and b may be silent through n: give one of them an idle, request, tcp-keepalive or heartbeat"
    ),
    "[a]\nrequest=3\n[b]\ntcp-keepalive=2\n[n]\nnat-expiry=9\n[c]\nrequest=2": "",
    "[a]\nrequest=3\n[b]\nidle-upstream=2\n[c]\nidle-downstream=4\n[d]\nrequest=2": "",
    "[a ]\nidle=3\n[b]\nidle=4": "'a ' cannot name a hop: take printable letters, without spaces at the ends",
    "[\x1b[31m]\nidle=3\n[b]\nidle=4": (
        "'\\x1b[31m' cannot name a hop: take printable letters, without spaces at the ends"
    ),
}


@pytest.mark.parametrize("text", FILES)
def test_a_file_that_cannot_be_judged(text: str) -> None:
    if not FILES[text]:
        assert nest.check(chain.from_file(text, "chain.ini"))
        return
    with pytest.raises(Misuse) as caught:
        nest.check(chain.from_file(text, "chain.ini"))
    assert str(caught.value) == FILES[text]


def test_two_that_say_nothing_alike() -> None:
    with pytest.raises(Misuse) as caught:
        nest.check([Hop("a", request=Decimal(3)), Hop("b")])
    assert str(caught.value) == (
        "no two neighbours say a timeout of the same kind: give both an idle or a request timeout"
    )


# What programs call their timeouts


def test_a_hop_is_known_by_its_first_word() -> None:
    for name in ("nginx", "nginx-edge", "Nginx 2", "nginx.example"):
        assert settings.setting(name, "request", "app") == f"{name}'s proxy_read_timeout"
    for name in ("nginxx", "engine", "", "2"):
        assert settings.program(name) == settings.Program()
    assert settings.setting("gunicorn", "upstream", "db") == "gunicorn's idle timeout towards db"
    assert settings.moves_together("nginx", "upstream") == {"upstream"}
    assert settings.moves_together("alb", "upstream") == {"upstream", "downstream", "request"}
    assert settings.moves_together("engine", "upstream") == {"upstream"}


# The command


@every_user
def test_the_command(user: str) -> None:
    ended = faultkit("nest", "30", "60", "65", user=user)
    assert (ended.returncode, ended.stderr) == (0, "")
    assert ended.stdout == (
        "keep-alive: who reuses a connection gives it up before the other end closes it\n"
        "  ✔ client 30 s < proxy 60 s: 30 s apart\n"
        "  ✔ proxy 60 s < server 65 s: 5 s apart\n"
        "2 of 2 nest.\n"
    )
    ended = faultkit("nest", "client=30", "nginx=65", "gunicorn=65", user=user)
    assert (ended.returncode, ended.stderr) == (1, "")
    assert ended.stdout == (
        "keep-alive: who reuses a connection gives it up before the other end closes it\n"
        "  ✔ client 30 s < nginx 65 s: 35 s apart\n"
        "  ✘ nginx 65 s ≮ gunicorn 65 s: equal\n"
        "    Both let go of an idle connection at the same moment, when gunicorn closes:\n"
        "      a request of nginx that crosses its FIN is reset (in a proxy: 502).\n"
        "    To see it: faultkit keepalive-race\n"
        "    To end it: nginx's keepalive_timeout in the upstream block at most 64 s, or\n"
        "      gunicorn's --keep-alive at least 66 s\n"
        "1 of 2 races.\n"
    )


def test_a_file_from_disk_and_from_a_pipe(tmp_path: Path) -> None:
    file = tmp_path / "chain.ini"
    file.write_text("[client]\nidle=1\nrequest=9\n[app[1]]\nidle=2\n")
    told = (
        "keep-alive: who reuses a connection gives it up before the other end closes it\n"
        "  ✔ client 1 s < app[1] 2 s: 1 s apart\n"
        "Not compared: the request timeouts of client and app[1]: app[1] gives none\n"
        "1 of 1 nests.\n"
    )
    ended = faultkit("nest", "--file", str(file))
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, told, "")
    ended = faultkit("nest", "--file", "-", input=file.read_text())
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, told, "")
    file.write_bytes(b"\xff\xfe")
    ended = faultkit("nest", "--file", str(file))
    assert (ended.returncode, ended.stdout) == (2, "")
    assert ended.stderr == (
        f"faultkit: nest: --file {file} is not text: write a section for each hop, from [client] to [server]\n"
    )


def test_the_document() -> None:
    ended = faultkit("nest", "pool=never", "nat-expiry=350", "db=900", "--margin", "500ms", "--json")
    assert (ended.returncode, ended.stderr) == (1, "")
    told = json.loads(ended.stdout)
    assert (told["nests"], told["margin_seconds"], told["unchecked"]) == (False, 0.5, [])
    race, silence = told["pairs"]
    assert race["shorter"] == {"hop": "pool", "seconds": None, "setting": "pool's idle timeout towards db"}
    assert (race["kind"], race["nests"], race["cause"]) == ("keep-alive", False, "keepalive-race")
    assert (silence["longer"]["hop"], silence["longer"]["seconds"]) == ("nat-expiry", 350.0)
    assert (silence["kind"], silence["cause"], silence["remedy"]) == (
        "silence",
        "nat-expiry",
        "TCP keepalive at either end, TCP_KEEPIDLE at most 175 s (half, so that a lost one does no harm)",
    )
    assert json.loads(faultkit("nest", "1", "9", "--json").stdout)["pairs"][0]["remedy"] is None


def test_it_fits_a_terminal() -> None:
    status, told = on_terminal("nest", "pool=600", "load-balancer-idle=60", "db=500", columns=80)
    assert status == 1
    plain = re.sub(r"\x1b\[[0-9;]*m", "", told)
    assert all(len(line) <= 80 for line in plain.splitlines()), plain
    assert "\x1b[31m✘" in told


def test_a_duration_is_written_as_it_is_read() -> None:
    for text in ("65 s", "0.5 s", "100 s", "1000000 s"):
        assert spelled(chain.duration(text, "")) == text

"""An errno is known by any of its names."""

from __future__ import annotations

import errno
import os

import pytest

from faultkit.messages import errnos, reading
from faultkit.messages.vocabulary import ERRNOS


@pytest.mark.parametrize("name", ERRNOS)
def test_what_this_system_calls_it(name: str) -> None:
    number = getattr(errno, name)
    assert errnos.named(f"x failed: {os.strerror(number)}") == name
    assert errnos.named(f"[Errno {number}] x") == name
    assert errnos.named(f"boom ({name})") == name
    assert errnos.named(f"os error {number}") == name


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("errno: -104", "ECONNRESET"),
        ("(54, 'x')", ""),  # without a word it may be anything
        ("[Errno 54] Connection reset by peer", "ECONNRESET"),
        ("[Errno 60] Operation timed out", "ETIMEDOUT"),
        ("[Errno 61] Connection refused", "ECONNREFUSED"),
        ("Error 10053 while writing to socket", "ECONNABORTED"),
        ("Socket Error # 10054", "ECONNRESET"),
        ("WSAGetLastError 10060", "ETIMEDOUT"),
        ("WSAECONNREFUSED", "ECONNREFUSED"),
        ("SocketException (10061)", "ECONNREFUSED"),
        ("(os error 10054)", "ECONNRESET"),
        ("[WinError 10053] ...", "ECONNABORTED"),
        ("[WinError 64] The specified network name is no longer available", "ECONNRESET"),
        ("An existing connection was forcibly closed by the remote host.", "ECONNRESET"),
        ("Eine vorhandene Verbindung wurde vom Remotehost geschlossen", "ECONNRESET"),
        ("Verbindungsaufbau abgelehnt", "ECONNREFUSED"),
        ("Une connexion existante a dû être fermée par l'hôte distant", "ECONNRESET"),
        ("Connexion refusée", "ECONNREFUSED"),
        ("Se ha forzado la interrupción de una conexión existente por el host remoto", "ECONNRESET"),
        ("Conexión rehusada", "ECONNREFUSED"),
        ("远程主机强迫关闭了一个现有的连接。", "ECONNRESET"),
        ("由于目标计算机积极拒绝，无法连接。", "ECONNREFUSED"),
        ("既存の接続はリモート ホストに強制的に切断されました。", "ECONNRESET"),
        ("接続を拒否されました", "ECONNREFUSED"),
        ("Удаленный хост принудительно разорвал существующее подключение", "ECONNRESET"),
        ("В соединении отказано", "ECONNREFUSED"),
        ("Обрыв канала", "EPIPE"),
        ("Datenübergabe unterbrochen (broken pipe)", "EPIPE"),
        ("HTTP 404 Not Found", ""),
        ("took 104 ms", ""),
        ("104 Items were saved", ""),
        ("page 10054 of 20000", ""),
        ("The read operation timed out", ""),  # a program's own timer
    ],
)
def test_by_other_names(text: str, name: str) -> None:
    assert errnos.named(text) == name


@pytest.mark.parametrize(
    "name", ["ECONNRESET", "ECONNREFUSED", "ECONNABORTED", "ETIMEDOUT", "EPIPE", "EHOSTUNREACH", "ENETUNREACH"]
)
def test_each_leads_to_causes(name: str) -> None:
    read = reading.read(f"flux: it failed: {os.strerror(getattr(errno, name))}")
    assert read.answers and read.words, name

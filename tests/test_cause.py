"""Options: how they are written, which values they take, and the sentences that refuse the others."""

from __future__ import annotations

import importlib
import inspect
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import pytest

from faultkit import causes
from faultkit.cause import Cause, Options, checked, option
from faultkit.errors import Misuse
from faultkit.evidence.verdict import Promise
from faultkit.options import flag, spec, written


@dataclass(frozen=True)
class Given(Options):
    wait_seconds: float = option(2.0, "how long", unit="ms", least=1000, most=5000, multiple=1000)
    tries: int = option(1, "how often", least=1, most=3)
    limit: int | None = option(None, "if any", least=1)
    way: str = option("up", "whither", choices=("up", "down"))
    loudly: bool = option(False, "a flag")

    def check(self) -> None:
        if self.loudly and self.way == "down":
            raise Misuse("--loudly goes up only: leave --way down out")


async def nothing(*_: Any) -> None:
    raise NotImplementedError


CAUSE = Cause(
    name="given",
    family="protocol",
    summary="",
    doing=lambda options: "",
    story="",
    promise=lambda options, play: Promise(calls={}),
    script=nothing,
    fault=nothing,
    options=Given,
)


def test_a_field_on_the_command_line() -> None:
    wait, tries, limit, way, loudly = fields(Given)
    assert [flag(one) for one in (wait, tries, limit, way, loudly)] == [
        "--wait",
        "--tries",
        "--limit",
        "--way",
        "--loudly",
    ]
    assert written(wait, 2.0) == 2000
    assert written(wait, None) is None
    assert written(tries, 3) == 3
    assert spec(way).choices == ("up", "down")


def test_values_within_their_ranges() -> None:
    assert checked(CAUSE, {}) == Given()
    assert checked(CAUSE, {"wait_seconds": 5.0, "tries": 3, "limit": 7, "way": "down"}) == Given(5.0, 3, 7, "down")
    assert checked(CAUSE, {"limit": None}) == Given()


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"tries": 0}, "given: --tries 0 is out of range: it takes 1 to 3"),
        ({"tries": 4}, "given: --tries 4 is out of range: it takes 1 to 3"),
        ({"wait_seconds": 6.0}, "given: --wait 6000 is out of range: it takes 1000 to 5000 ms"),
        ({"wait_seconds": 0.0}, "given: --wait 0 is out of range: it takes 1000 to 5000 ms"),
        (
            {"wait_seconds": 1.5},
            "given: --wait 1500 is not a multiple of 1000 ms, because the kernel counts whole seconds: "
            "take 1000 or 2000",
        ),
        (
            {"wait_seconds": 0.5},
            "given: --wait 500 is not a multiple of 1000 ms, because the kernel counts whole seconds: take 1000",
        ),
        ({"way": "left"}, "given: --way left is unknown: it takes up, down"),
        ({"tires": 1}, "given: it has no option 'tires': it takes wait_seconds, tries, limit, way, loudly"),
        ({"loudly": True, "way": "down"}, "given: --loudly goes up only: leave --way down out"),
    ],
)
def test_values_that_are_refused(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(Misuse) as refused:
        checked(CAUSE, values)
    assert str(refused.value) == sentence


def test_a_cause_without_options() -> None:
    with pytest.raises(Misuse, match="unread: it has no option 'port': it takes none"):
        checked(causes.load("unread"), {"port": 1})


@pytest.mark.parametrize("name", causes.names())
def test_every_option_of_the_catalogue(name: str) -> None:
    """Its default passes, its bounds pass, and one beyond each is refused."""
    cause = causes.load(name)
    assert checked(cause, {}) == cause.options()
    for one in fields(cause.options):
        rule = spec(one)
        assert rule.help
        scale = 1000 if rule.unit == "ms" else 1
        for bound, beyond in ((rule.least, -rule.multiple), (rule.most, rule.multiple)):
            if bound is None:
                continue
            alone = dict.fromkeys([one.name], (bound + beyond) / scale if scale > 1 else bound + beyond)
            with pytest.raises(Misuse, match=f"^{name}: {flag(one)} .* is out of range"):
                checked(cause, alone)


def test_the_nearest_cause_is_named() -> None:
    with pytest.raises(Misuse, match=r"there is no cause 'unraed': did you mean unread\?"):
        causes.load("unraed")
    with pytest.raises(Misuse, match=r"did you mean doctor\?"):
        causes.load("docotr", beside=("doctor",))
    with pytest.raises(Misuse, match="faultkit list names them all"):
        causes.load("xyzzy")


@pytest.mark.parametrize("name", causes.names())
def test_the_functions_of_a_file_take_what_the_contract_says(name: str) -> None:
    """A cause is made of them by their names, so no type checker compares them with the fields of `Cause`."""
    cause = causes.load(name)
    wanted = {
        "promise": (2, "play", "Play", "Promise"),
        "script": (1, "play", "Play", "None"),
        "fault": (2, "play", "Play", "None"),
        "server": (1, "play", "Play", "None"),
        "prepare": (1, "play", "Play", "None"),
        "doing": (1, "options", cause.options.__name__, "str"),
    }
    for part, (count, last, kind, gives) in wanted.items():
        function = getattr(cause, part)
        if function is None or function.__name__ == "<lambda>":
            continue
        signature = inspect.signature(function)
        parameters = list(signature.parameters.values())
        assert (part, len(parameters), parameters[-1].name) == (part, count, last)
        assert (parameters[-1].annotation, signature.return_annotation) == (kind, gives)
        assert inspect.iscoroutinefunction(function) == (part not in ("promise", "doing"))


def test_a_cause_is_what_its_file_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "some_fault.py").write_text(
        "from dataclasses import dataclass\n"
        "from faultkit.cause import Options, Promise, described, option\n"
        "from faultkit.causes.linger import fault\n"
        "@dataclass(frozen=True)\n"
        "class Some(Options):\n"
        "    number: int = option(1, 'a number')\n"
        "def promise(options, play): return Promise(calls={})\n"
        "async def script(play): ...\n"
        "CAUSE = described(__name__, family='timer', summary='', doing=lambda options: '', story='')\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    made = importlib.import_module("some_fault").CAUSE
    assert (made.name, made.options.__name__, made.script.__name__) == ("some-fault", "Some", "script")
    assert made.fault is None  # another file's is not its own

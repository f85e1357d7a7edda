from __future__ import annotations

import shlex
import subprocess
from pathlib import Path

import pytest

from faultkit.errors import Misuse
from faultkit.stage import recipe

ROOT = Path(__file__).parents[2]
PLAIN: dict[str, str | int] = {"port": 7654, "interface": "eth0", "address": "192.0.2.2"}
PLAIN6: dict[str, str | int] = {"port": 7654, "interface": "eth0", "address": "2001:db8::2"}
ODD: dict[str, str | int] = {"port": 7654, "interface": "e;r'd$x`&#(~", "address": "192.0.2.2"}

GOOD = """# Title

Story.

## Apply

```sh iptables
$iptables -I INPUT -p tcp --dport $port -j DROP
```

```sh nft
nft add table inet faultkit
```

## Watch

## Undo

```sh iptables
$iptables -D INPUT -p tcp --dport $port -j DROP
```

```sh nft
nft delete table inet faultkit
```

## What to expect

- Silence.
"""

every_recipe = pytest.mark.parametrize("name", recipe.names())
every_tool = pytest.mark.parametrize("tool", recipe.TOOLS)


def commands(document: str, section: str) -> list[tuple[str, ...]]:
    """The fenced blocks of one section of a printed recipe, read independently of faultkit's own reader."""
    text = document.partition(f"\n## {section}\n")[2].partition("\n## ")[0]
    return [tuple(block.partition("\n```")[0].splitlines()[1:]) for block in text.split("\n```sh")[1:]]


def test_the_recipes_that_the_first_run_needs() -> None:
    assert {"idle-firewall", "reject-with-reset", "syn-drop"} <= set(recipe.names())


def test_one_source_for_checkout_and_wheel() -> None:
    link = ROOT / "faultkit/recipes"
    assert link.is_symlink() and str(link.readlink()) == "../recipes"
    assert link.resolve() == ROOT / "recipes"


@every_recipe
@every_tool
@pytest.mark.parametrize("values", [PLAIN, PLAIN6, ODD])
def test_printed_is_applied(name: str, tool: recipe.Tool, values: dict[str, str | int]) -> None:
    loaded = recipe.load(name)
    text = loaded.text(values, tool)
    assert commands(text, "Apply") == list(loaded.apply(tool, values))
    assert commands(text, "Undo") == list(loaded.undo(tool, values))
    assert [line for block in commands(text, "Watch") for line in block] == list(loaded.watch(tool, values))
    other = ("nft ",) if tool == "iptables" else ("iptables ", "ip6tables ")
    assert not any(line.startswith(other) for line in text.splitlines())
    if values is not ODD:
        assert "$" not in text
    assert text.startswith(f"# {loaded.title}\n\n") and "**This cuts real traffic:**" in text


@every_recipe
@every_tool
@pytest.mark.parametrize("values", [PLAIN, PLAIN6, ODD])
def test_a_shell_reads_the_same_words(name: str, tool: recipe.Tool, values: dict[str, str | int]) -> None:
    """What we run without a shell is what a person pastes into one, filled in or with the variables set by hand."""
    loaded = recipe.load(name)
    bare = {name: f"${name}" for name in recipe.PLACEHOLDERS}
    version = 6 if ":" in str(values["address"]) else 4
    family = {"iptables": "ip6tables", "ip": "ip6"} if version == 6 else {"iptables": "iptables", "ip": "ip"}
    answers = {
        "port_unreachable": ["icmp-port-unreachable", "icmp6-port-unreachable"],
        "host_unreachable": ["icmp-host-unreachable", "icmp6-addr-unreachable"],
        "net_unreachable": ["icmp-net-unreachable", "icmp6-no-route"],
        "admin_prohibited": ["icmp-admin-prohibited", "icmp6-adm-prohibited"],
    }
    family |= {name: words[version == 6] for name, words in answers.items()}
    environment = {key: str(value) for key, value in {**values, **family, "table": "faultkit"}.items()}
    for section in ("Apply", "Watch", "Undo"):
        blocks = [part for part in loaded.sections[section] if isinstance(part, recipe.Block) and tool in part.tools]
        unfilled = [line for block in blocks for line in block.filled(bare)]
        filled = [line for block in commands(loaded.text(values, tool), section) for line in block]
        assert len(unfilled) == len(filled) > 0
        for before, after in zip(unfilled, filled, strict=True):
            words = "".join(f"{word}\n" for word in shlex.split(after))
            for line in (before, after):
                shown = subprocess.run(
                    ["sh", "-c", f"printf '%s\\n' {line}"], env=environment, capture_output=True, text=True, check=True
                )
                assert shown.stdout == words


@every_recipe
@every_tool
def test_undo_names_what_apply_put_in(name: str, tool: recipe.Tool) -> None:
    loaded = recipe.load(name)
    steps = loaded.apply(tool, PLAIN)
    for number, lines in enumerate(steps, 1):
        undo = loaded.undo_of(number, tool, PLAIN)
        if tool == "nft":
            assert undo == ("nft delete table inet faultkit",)
            assert all(" inet faultkit" in line for line in lines)
        else:
            assert undo == tuple(line.replace(" -I ", " -D ") for line in lines)
            assert all(" -I " in line and (" -t " not in line or " -t nat " in line) for line in lines)


def test_steps_of_the_idle_firewall() -> None:
    first, second = recipe.load("idle-firewall").apply("iptables", PLAIN6)
    assert first == ("ip6tables -I OUTPUT -o eth0 -p tcp -s 2001:db8::2 --sport 7654 -j DROP",)
    assert second == ("ip6tables -I INPUT -i eth0 -p tcp -d 2001:db8::2 --dport 7654 -j DROP",)


def test_a_name_that_there_is_not() -> None:
    with pytest.raises(Misuse, match=r"^there is no recipe 'idle-firewal': did you mean idle-firewall\? \(there are "):
        recipe.load("idle-firewal")
    for name in ("../README", "README", "", "/etc/passwd", "idle-firewall.md"):
        with pytest.raises(Misuse, match="there is no recipe"):
            recipe.load(name)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"port": 99999}, "port 99999 is not a TCP port: give one of 1 to 65535"),
        ({"port": 0}, "port 0 is not"),
        ({"port": "80; reboot"}, "port 80; reboot is not"),
        ({"interface": ""}, "interface '' cannot be written in a firewall rule"),
        ({"interface": "eth+"}, "cannot be written"),
        ({"interface": "eth*"}, "cannot be written"),
        ({"interface": "a b"}, "cannot be written"),
        ({"interface": 'a"b'}, "cannot be written"),
        ({"interface": "a\x1bb"}, "cannot be written"),
        ({"interface": "sixteen-letters!"}, "cannot be written"),
        ({"address": "here"}, "address 'here' is neither IPv4 nor IPv6"),
        ({"address": "fe80::1%eth0"}, "has a zone"),
        ({"cidr": "10.0.0.0/8"}, "a recipe has no place for cidr"),
        ({"table": "a b"}, "table 'a b' is not a name for one of nft's: take letters, digits and underscores"),
    ],
)
def test_values_that_no_rule_can_have(change: dict[str, str | int], sentence: str) -> None:
    with pytest.raises(Misuse) as caught:
        recipe.load("syn-drop").apply("iptables", {**PLAIN, **change})
    assert sentence in str(caught.value)


def test_values_that_are_missing() -> None:
    for call in (recipe.load("syn-drop").apply, recipe.load("syn-drop").undo, recipe.load("syn-drop").watch):
        with pytest.raises(Misuse, match=r"^a recipe needs a value for address, interface$"):
            call("nft", {"port": 7654})
    with pytest.raises(Misuse, match="needs a value for port"):
        recipe.load("syn-drop").text({"interface": "lo", "address": "::1"}, "nft")


def test_the_smallest_good_recipe() -> None:
    parsed = recipe.parse("small", GOOD)
    assert (parsed.title, parsed.story) == ("Title", "Story.")
    assert parsed.apply("iptables", PLAIN) == (("iptables -I INPUT -p tcp --dport 7654 -j DROP",),)
    assert parsed.watch("nft", PLAIN) == ()


@pytest.mark.parametrize(
    ("old", "new", "sentence"),
    [
        (GOOD, "", "it must begin with a title"),
        ("# Title", "Title", "it must begin with a title"),
        ("Story.\n", "", "the story before '## Apply' must be there"),
        ("Story.", "```sh\nls\n```", "hold no commands"),
        ("## Watch\n", "", "its sections must be Apply, Watch, Undo, What to expect, in this order, not Apply, Undo,"),
        ("## Watch", "### Watch", "its sections must be"),
        ("## Watch", "## Apply\n\n## Watch", "two sections '## Apply'"),
        ("```sh nft", "```sh nftables", "a block is marked '```sh nftables', not one of sh, sh iptables, sh nft"),
        ("```sh nft", "```", "a block is marked '```'"),
        ("faultkit\n```\n\n## What", "faultkit\n\n## What", "'' is not a command"),
        ("faultkit\n```\n\n## What to expect\n\n- Silence.\n", "faultkit", "a block is not closed"),
        ("--dport $port", "--dport $ports", "$ports is not one of the placeholders address, admin_prohibited,"),
        ("- Silence.", "- Silence for $seconds s.", "$seconds is not one of the placeholders"),
        ("--dport $port", "--dport $(port)", "a lone $ in"),
        ("--dport $port", "--dport '$port", "is not a command (No closing quotation)"),
        ("nft add table", "# nft add table", "is not a command"),
        ("nft add table", "  nft add table", "is not a command"),
        ("nft delete table", "nft list tables; nft delete table", "needs a shell"),
        ("nft delete table", "nft list tables | nft delete table", "needs a shell"),
        ("```sh nft\nnft add table inet faultkit\n```\n", "", "nft has 0 steps and 1 blocks that undo them"),
        ("```sh nft\nnft delete table inet faultkit\n```\n", "", "nft has 1 steps and 0 blocks that undo them"),
        ("## Watch", "```sh nft\nnft x\n```\n\n## Watch", "the tools differ in their number of steps"),
    ],
)
def test_a_malformed_recipe(old: str, new: str, sentence: str) -> None:
    assert old in GOOD
    with pytest.raises(Misuse) as caught:
        recipe.parse("small", GOOD.replace(old, new, 1))
    assert str(caught.value).startswith("recipes/small.md is malformed: ")
    assert sentence in str(caught.value)

"""Firewall recipes: files that a person applies by hand, read here so that the tool applies the very same lines.

Pure: it reads a file and gives text. How a file is written stands in recipes/README.md; whatever departs from it is an
error, never a half-filled command.
"""

from __future__ import annotations

import ipaddress
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Final, Literal, TypeAlias, get_args

from faultkit.errors import Misuse

Tool: TypeAlias = Literal["iptables", "nft"]
TOOLS: Final[tuple[Tool, ...]] = get_args(Tool)

# "port", "interface", "address", and "table" where it is not nft's usual one; what else a file needs follows from these.
Values: TypeAlias = Mapping[str, str | int]
TABLE: Final = "faultkit"

SECTIONS: Final = ("Apply", "Watch", "Undo", "What to expect")
# How iptables and ip6tables call the same ICMP answers (iptables-extensions(8), REJECT).
_REJECTS: Final[dict[str, tuple[str, str]]] = {
    "port_unreachable": ("icmp-port-unreachable", "icmp6-port-unreachable"),
    "host_unreachable": ("icmp-host-unreachable", "icmp6-addr-unreachable"),
    "net_unreachable": ("icmp-net-unreachable", "icmp6-no-route"),
    "admin_prohibited": ("icmp-admin-prohibited", "icmp6-adm-prohibited"),
}
PLACEHOLDERS: Final = frozenset({"port", "interface", "address", "table", "iptables", "ip", *_REJECTS})

_FILES = Path(__file__).parents[1] / "recipes"  # in a checkout a symlink to recipes/ at the root
_MARKS: Final[dict[str, tuple[Tool, ...]]] = {"sh": TOOLS, "sh iptables": ("iptables",), "sh nft": ("nft",)}


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: commands, one to a line, for the tools it names."""

    tools: tuple[Tool, ...]
    lines: tuple[str, ...]

    def filled(self, quoted: Mapping[str, str]) -> tuple[str, ...]:
        """The lines with every placeholder replaced."""
        return tuple(Template(line).substitute(quoted) for line in self.lines)


Part: TypeAlias = str | Block  # a paragraph (or list), or a block


@dataclass(frozen=True, slots=True)
class Recipe:
    """One recipe. Commands come out as lines that mean the same to a shell and to `shlex.split`."""

    name: str
    title: str
    story: str
    sections: Mapping[str, tuple[Part, ...]]

    def apply(self, tool: Tool, values: Values) -> tuple[tuple[str, ...], ...]:
        """The steps in order, each with its command lines."""
        return self._blocks("Apply", tool, values)

    def undo(self, tool: Tool, values: Values) -> tuple[tuple[str, ...], ...]:
        """What undoes each step, in the same order; or one for all steps together."""
        return self._blocks("Undo", tool, values)

    def undo_of(self, step: int, tool: Tool, values: Values) -> tuple[str, ...]:
        """What undoes that step (the first is 1); where one command undoes all steps, that."""
        undo = self.undo(tool, values)
        return undo[step - 1] if len(undo) == len(self.apply(tool, values)) else undo[0]

    def watch(self, tool: Tool, values: Values) -> tuple[str, ...]:
        """The commands that show what the rules and the connections do, before and after each step."""
        return tuple(line for block in self._blocks("Watch", tool, values) for line in block)

    def text(self, values: Values, tool: Tool) -> str:
        """The whole document, filled in, with that tool's commands only."""
        plain, quoted = _spelled(values)
        paragraphs = [f"# {self.title}", Template(self.story).substitute(plain)]
        for heading, parts in self.sections.items():
            paragraphs.append(f"## {heading}")
            for part in parts:
                if isinstance(part, str):
                    paragraphs.append(Template(part).substitute(plain))
                elif tool in part.tools:
                    paragraphs.append("\n".join(("```sh", *part.filled(quoted), "```")))
        return "\n\n".join(paragraphs) + "\n"

    def _blocks(self, section: str, tool: Tool, values: Values) -> tuple[tuple[str, ...], ...]:
        _, quoted = _spelled(values)
        parts = self.sections[section]
        return tuple(part.filled(quoted) for part in parts if isinstance(part, Block) and tool in part.tools)


def names() -> tuple[str, ...]:
    """The recipes there are."""
    return tuple(sorted(file.stem for file in _FILES.glob("*.md") if file.stem != "README"))


def load(name: str) -> Recipe:
    """Read one recipe. `Misuse` for a name that there is not (with the nearest one) and for a malformed file."""
    known = names()
    if name not in known:
        import difflib  # only a mistake needs it

        nearest = difflib.get_close_matches(name, known, n=1, cutoff=0)
        raise Misuse(f"there is no recipe {name!r}: did you mean {nearest[0]}? (there are {', '.join(known)})")
    return parse(name, (_FILES / f"{name}.md").read_text(encoding="utf-8"))


def parse(name: str, document: str) -> Recipe:
    """Read a recipe's text, all of it: nothing that is not understood is passed over."""
    parts = _parts(name, document)
    if not parts or not isinstance(parts[0], str) or not parts[0].startswith("# "):
        raise _malformed(name, "it must begin with a title, '# ...'")
    heading = ""
    sections: dict[str, list[Part]] = {heading: []}
    for part in parts[1:]:
        if isinstance(part, str) and part.startswith("#"):
            heading = part.removeprefix("## ")
            if heading in sections:
                raise _malformed(name, f"two sections {part!r}")
            sections[heading] = []
        else:
            sections[heading].append(part)
    story = sections.pop("")
    if tuple(sections) != SECTIONS:
        raise _malformed(name, f"its sections must be {', '.join(SECTIONS)}, in this order, not {', '.join(sections)}")
    told = [part for part in story if isinstance(part, str)]
    if not told or len(told) != len(story):
        raise _malformed(name, "the story before '## Apply' must be there, and hold no commands")
    recipe = Recipe(
        name,
        parts[0].removeprefix("# "),
        "\n\n".join(told),
        {heading: tuple(content) for heading, content in sections.items()},
    )
    _check_steps(recipe)
    return recipe


def _parts(name: str, document: str) -> list[Part]:
    # Paragraphs, headings and blocks, each with its placeholders checked.
    parts: list[Part] = []
    paragraph: list[str] = []
    block: list[str] | None = None
    tools: tuple[Tool, ...] = ()
    for line in document.splitlines():
        _check_placeholders(name, line)
        if block is not None:
            if line == "```":
                parts.append(Block(tools, tuple(block)))
                block = None
            else:
                block.append(_command(name, line))
        elif line and not line.startswith(("```", "#")):
            paragraph.append(line)
        else:
            if paragraph:
                parts.append("\n".join(paragraph))
                paragraph = []
            if line.startswith("#"):
                parts.append(line)
            elif line:
                if line.removeprefix("```") not in _MARKS:
                    raise _malformed(name, f"a block is marked {line!r}, not one of {', '.join(_MARKS)}")
                block, tools = [], _MARKS[line.removeprefix("```")]
    if block is not None:
        raise _malformed(name, "a block is not closed")
    if paragraph:
        parts.append("\n".join(paragraph))
    return parts


def _command(name: str, line: str) -> str:
    # One command to a line, with nothing in it that only a shell would understand: it is also run without one.
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise _malformed(name, f"{line!r} is not a command ({error})") from error
    if not words or line.startswith("#") or line != line.strip():
        raise _malformed(name, f"{line!r} is not a command")
    if set(shlex.shlex(line, posix=True, punctuation_chars=True)) & {";", "&", "&&", "|", "||", "<", ">", ">>"}:
        raise _malformed(name, f"{line!r} needs a shell")
    return line


def _check_placeholders(name: str, line: str) -> None:
    template = Template(line)
    if not template.is_valid():
        raise _malformed(name, f"a lone $ in {line!r}")
    unknown = set(template.get_identifiers()) - PLACEHOLDERS
    if unknown:
        raise _malformed(name, f"${min(unknown)} is not one of the placeholders {', '.join(sorted(PLACEHOLDERS))}")


def _check_steps(recipe: Recipe) -> None:
    steps: dict[Tool, int] = {}
    for tool in TOOLS:
        count = {
            heading: sum(isinstance(part, Block) and tool in part.tools for part in recipe.sections[heading])
            for heading in ("Apply", "Undo")
        }
        steps[tool] = count["Apply"]
        if not count["Apply"] or count["Undo"] not in (1, count["Apply"]):
            raise _malformed(
                recipe.name,
                f"{tool} has {count['Apply']} steps and {count['Undo']} blocks that undo them: one each or one for all",
            )
    if len(set(steps.values())) > 1:
        raise _malformed(recipe.name, f"the tools differ in their number of steps: {steps}")


def _malformed(name: str, what: str) -> Misuse:
    return Misuse(f"recipes/{name}.md is malformed: {what}")


def _spelled(values: Values) -> tuple[dict[str, str], dict[str, str]]:
    # The values as they stand in prose, and as they stand in a command.
    missing = {"port", "interface", "address"} - set(values)
    unknown = set(values) - {"port", "interface", "address", "table"}
    if missing:
        raise Misuse(f"a recipe needs a value for {', '.join(sorted(missing))}")
    if unknown:
        raise Misuse(f"a recipe has no place for {', '.join(sorted(unknown))}")
    port, interface, address = str(values["port"]), str(values["interface"]), str(values["address"])
    if not re.fullmatch(r"[1-9][0-9]{0,4}", port) or int(port) > 65535:
        raise Misuse(f"port {port} is not a TCP port: give one of 1 to 65535")
    # net/core/dev.c, dev_valid_name(): shorter than IFNAMSIZ (16 bytes), no '/', ':' or white space. Of what is left,
    # nft reads a final * as a pattern and has no way to write a quote, and iptables reads a final + as a pattern.
    written = re.fullmatch(r"[^\s/:\"\\]*[^\s/:\"\\*+]", interface)
    if not written or not interface.isprintable() or len(interface.encode()) > 15:
        raise Misuse(f"interface {interface!r} cannot be written in a firewall rule: rename it, or use another")
    try:
        version = ipaddress.ip_address(address).version
    except ValueError as error:
        raise Misuse(f"address {address!r} is neither IPv4 nor IPv6") from error
    if "%" in address:
        raise Misuse(f"address {address} has a zone: give it without what follows the %")
    table = str(values.get("table", TABLE))
    if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", table):  # what nft(8) takes without quotes, and a little less
        raise Misuse(f"table {table!r} is not a name for one of nft's: take letters, digits and underscores")
    plain = {
        "port": port,
        "interface": interface,
        "address": address,
        "table": table,
        "iptables": "ip6tables" if version == 6 else "iptables",
        "ip": "ip6" if version == 6 else "ip",
        **{name: words[version == 6] for name, words in _REJECTS.items()},
    }
    return plain, {name: shlex.quote(value) for name, value in plain.items()}

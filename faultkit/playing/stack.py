"""Real stacks: a cause played by the very programs in whose logs it is met. One folder each, under recipes/stacks.

How a folder is written stands in recipes/stacks/README.md. Nothing is listed by hand.
"""

from __future__ import annotations

import difflib
import importlib
import re
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from faultkit import causes
from faultkit.acting.program import Part, Programs, need
from faultkit.cause import Cause, Options, option
from faultkit.errors import Misuse
from faultkit.stage.addresses import ip

if TYPE_CHECKING:
    from faultkit.acting.play import Play
    from faultkit.evidence.verdict import Promise

_FOLDERS = Path(__file__).parents[1] / "recipes/stacks"  # in a checkout a symlink to recipes/ at the root
_PAGE = "README.md"
_FIXED = "fixed"  # the folder's folder with the files that differ in the fixed stack


@dataclass(frozen=True)
class StackOptions(Options):
    """What every stack takes. Its own options follow in a dataclass that inherits from this one."""

    fixed: bool = option(False, "with the fix: nothing may fail")


@dataclass(frozen=True, slots=True)
class Page:
    """What a person reads of a stack: its README.md. Paragraphs are one line each."""

    title: str
    story: tuple[str, ...]
    sections: Mapping[str, tuple[str, ...]]  # "What runs", "What to expect", "The fix"


@dataclass(frozen=True, kw_only=True)
class Stack(Cause):
    """A cause whose ends are real programs. Played, judged and shown as every cause is; made by `stack`."""

    folder: Path
    page: Page
    shows: Callable[[Any], tuple[str, ...]]  # what to type to see each cause of it alone: "keepalive-race --fin unsent"
    parts: Callable[[Any], tuple[Part, ...]]

    async def make_ready(self, play: Play) -> None:
        """Everything is there before anything starts: the programs, a namespace for them, their files.

        Nothing that arrives is acknowledged late (ip-route(8): quickack). On a busy machine the delayed ACK of a FIN can come
        after the FIN that its own end has sent meanwhile: then TIME-WAIT answers it, and that answer meets a connection that is
        gone. That RST resets nothing, and is nobody's failure.
        """
        need(self.name, self.parts(play.options))
        play.programs = Programs(play.name, play.stage, play.notes, lambda: play.beside)
        play.leaving.callback(play.programs.close)
        assert play.stage.namespace
        for addresses in ("127.0.0.0/8", "127.0.0.1"):
            await ip(
                play.stage.namespace, f"route change local {addresses} dev lo src 127.0.0.1 table local quickack 1"
            )
        for name, text in self.files(fixed=play.options.fixed).items():
            (play.programs.directory / name).write_text(text, encoding="utf-8")

    def files(self, *, fixed: bool) -> dict[str, str]:
        """The programs' files by their names: those of the folder, and over them those of the fix."""
        found = {}
        for directory in (self.folder, self.folder / _FIXED) if fixed else (self.folder,):
            for file in sorted(directory.iterdir()):
                if file.is_file() and file.name not in (_PAGE, _module(self.name) + ".py"):
                    found[file.name] = file.read_text(encoding="utf-8")
        return found

    def versions(self, options: Any) -> dict[str, str]:
        """Its programs by their commands, with the versions that are on this machine."""
        return {part.command: part.version() for part in self.parts(options)}

    def fix(self) -> str:
        """What `fixed/` changes, as a unified diff."""
        before, after = self.files(fixed=False), self.files(fixed=True)
        lines: list[str] = []
        for name, text in after.items():
            old = before.get(name, "")
            lines += difflib.unified_diff(
                old.splitlines(keepends=True), text.splitlines(keepends=True), name, f"{_FIXED}/{name}"
            )
        return "".join(lines)


async def _no_server(play: Play) -> None:
    """The programs are the servers, and the script starts them."""


def stack(
    file: str,
    *,
    shows: Callable[[Any], tuple[str, ...]],
    parts: Callable[[Any], tuple[Part, ...]],
    doing: Callable[[Any], str],
    script: Callable[[Play], Awaitable[None]],
    promise: Callable[[Any, Play], Promise],
    options: type[StackOptions] = StackOptions,
    variants: tuple[Mapping[str, Any], ...] = ({}, {"fixed": True}),
) -> Stack:
    """The stack of the folder that `file`, a module's `__file__`, lies in. `script` starts the programs and drives them.

    What a person reads is in the folder's README.md; `shows` names the causes by what is typed to see each alone.
    """
    folder = Path(file).parent
    page = read(folder)
    return Stack(
        name=folder.name,
        family=causes.load(shows(options())[0].split()[0]).family,
        summary=page.title,
        doing=doing,
        story=" ".join(page.story),
        promise=promise,
        script=script,
        server=_no_server,
        options=options,
        variants=variants,
        remedy=page.sections["The fix"],
        folder=folder,
        page=page,
        shows=shows,
        parts=parts,
    )


def read(folder: Path) -> Page:
    """The page of a stack. Raises `Misuse` where it is not written as every page is."""
    text = (folder / _PAGE).read_text(encoding="utf-8")
    head, *parts = re.split(r"^## ", text, flags=re.MULTILINE)
    title, _, story = head.partition("\n")
    name, colon, summary = title.removeprefix("# ").partition(": ")
    sections = {part.partition("\n")[0]: _paragraphs(part.partition("\n")[2]) for part in parts}
    if name != folder.name or not colon or tuple(sections) != ("What runs", "What to expect", "The fix"):
        raise Misuse(
            f"{folder.name}/{_PAGE} must begin with '# {folder.name}: ...' and have the sections What runs, "
            f"What to expect and The fix, in this order, not {', '.join(sections)}"
        )
    return Page(summary, _paragraphs(story), sections)


def _paragraphs(text: str) -> tuple[str, ...]:
    """Each on one line. List items are paragraphs; fenced blocks are left out: they are for the page."""
    prose = re.sub(r"^```.*?^```$", "", text, flags=re.DOTALL | re.MULTILINE)
    blocks = re.split(r"\n\s*\n|\n(?=- )", prose)
    return tuple(" ".join(block.removeprefix("- ").split()) for block in blocks if block.strip())


def _module(name: str) -> str:
    return name.replace("-", "_")


def names() -> list[str]:
    """Every stack's name, from the folders, none of them imported."""
    return sorted(page.parent.name for page in _FOLDERS.glob(f"*/{_PAGE}"))


def title(name: str) -> str:
    """Its one line."""
    return read(_FOLDERS / name).title


def load(name: str) -> Stack:
    """One stack by its name. Raises `Misuse` with the nearest name for an unknown one."""
    known = names()
    if name not in known:
        near = difflib.get_close_matches(name, known, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]}?" if near else "faultkit stack names them all"
        raise Misuse(f"there is no stack {name!r}: {hint}")
    found = importlib.import_module(f"faultkit.recipes.stacks.{name}.{_module(name)}").STACK
    assert isinstance(found, Stack)
    assert found.name == name
    return found

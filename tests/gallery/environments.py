"""The environments in which a bug is played: for each version one of its own, kept from one run to the next.

All see what faultkit and pytest need through one environment that they share, behind their own packages, so that a version
of the library brings the versions of its dependencies that it wants.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

from tests.gallery.bug import ROOT, Bug

PLUGINS = ("pytest-asyncio>=1", "pytest-timeout>=2", "h2>=4", "wsproto>=1.2")
SITE_PACKAGES = f"lib/python{sys.version_info.major}.{sys.version_info.minor}/site-packages"


class Failed(Exception):
    """A registry or its client did not give a package: what it said."""


@dataclass(frozen=True)
class Environment:
    """A Python, and where npm has put its packages."""

    python: Path
    node: Path | None = None


class Environments:
    """The environments in one directory, and nothing anywhere else. Threads may ask at once, each for another bug."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._shared = threading.Lock()

    def of(self, bug: Bug, version: str) -> Environment:
        """What that version is played in, made where it is not there yet. Raises `Failed`."""
        shared = self._common()
        here = self._directory / f"{bug.name}-{version}"
        wanted = [f"{bug.library}{'==' if bug.registry == 'PyPI' else '@'}{version}", *bug.beside]
        stamp = here / "made.json"
        made = json.dumps([sys.version, *wanted])
        if not stamp.exists() or stamp.read_text() != made:
            shutil.rmtree(here, ignore_errors=True)
            if bug.registry == "npm":
                here.mkdir(parents=True)
                (here / "package.json").write_text("{}")
                npm = ("npm", "install", "--no-audit", "--no-fund", "--ignore-scripts")
                _run(*npm, "--cache", self._directory / "npm", "--prefix", here, *wanted)
            else:
                _run(sys.executable, "-m", "venv", "--without-pip", here)
                self._install(here, *wanted)
                (here / SITE_PACKAGES / "shared.pth").write_text(f"{shared / SITE_PACKAGES}\n{ROOT}\n")
            stamp.write_text(made)
        if bug.registry == "npm":
            return Environment(shared / "bin/python", here)
        return Environment(here / "bin/python")

    def _common(self) -> Path:
        here = self._directory / "shared"
        stamp = here / "made.json"
        with self._shared:
            made = json.dumps([sys.version, *PLUGINS, (ROOT / "setup.cfg").read_text()])
            if not stamp.exists() or stamp.read_text() != made:
                shutil.rmtree(here, ignore_errors=True)
                _run(sys.executable, "-m", "venv", "--without-pip", here)
                self._install(here, "--editable", f"{ROOT}[pytest]", *PLUGINS)
                stamp.write_text(made)
        return here

    def _install(self, environment: Path, *wanted: str) -> None:
        pip = (sys.executable, "-m", "pip", "--python", environment / "bin/python")
        _run(*pip, "install", "--quiet", "--no-cache-dir", "--disable-pip-version-check", *wanted)


def _run(*command: str | Path) -> None:
    try:
        ended = subprocess.run(command, capture_output=True, text=True)
    except FileNotFoundError as error:
        raise Failed(f"{command[0]} is not here: it comes with Node 20") from error
    if ended.returncode:
        told = (ended.stderr or ended.stdout).strip().splitlines() or [f"exit {ended.returncode}"]
        raise Failed(f"{' '.join(map(str, command))}: {told[-1]}")

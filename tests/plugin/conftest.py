from __future__ import annotations

import pytest

from tests.plugin.project import ROOT, Project


@pytest.fixture
def project(pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch) -> Project:
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("COLUMNS", "200")
    for name in ("CI", "BUILD_NUMBER"):  # pytest writes at greater length where it sees them
        monkeypatch.delenv(name, raising=False)
    return Project(pytester)

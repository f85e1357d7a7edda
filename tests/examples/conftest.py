from __future__ import annotations

# tests/plugin/test_docs.py runs them as their reader does, in a project of their own.
collect_ignore_glob = ["test_*.py"]

from __future__ import annotations

# Under trio_mode every async test is Trio's: a test of the plugin runs this one, with pytest-asyncio.
collect_ignore = ["test_in_asyncio.py"]

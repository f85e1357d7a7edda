from __future__ import annotations

# Under trio_mode every async test is Trio's, and a firewall and a plan that refuses are had in a sandbox only: tests of the
# plugin run these.
collect_ignore = ["test_in_asyncio.py", "test_firewall.py", "test_refused.py"]

"""Our own tests have the plugin once: an installed faultkit registers it by itself, a checkout on the path does not."""

from __future__ import annotations

import pytest

from faultkit import pytest_plugin

pytest_plugins = ("pytester",)


def pytest_configure(config: pytest.Config) -> None:
    if not config.pluginmanager.is_registered(pytest_plugin):
        config.pluginmanager.register(pytest_plugin, "faultkit")

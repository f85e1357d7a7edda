"""The `firewall` fixture: rules in the sandbox that the tests run in, and one sentence elsewhere."""

from __future__ import annotations

import re
import sys
from textwrap import dedent

import pytest

from tests import readme
from tests.boxes import every_user
from tests.plugin.project import CLIENT, Project
from tests.shell import ENVIRONMENT, everybodys_directory, faultkit

TESTS = """
    import pytest

    def connects(server):
        with socket.socket() as client:
            client.settimeout(1)
            try:
                client.connect(server.address)
            except OSError as error:
                return type(error).__name__
            return "connected"

    def test_dropped(fault_server, firewall):
        server = fault_server()
        assert connects(server) == "connected"
        firewall.drop(server.port)
        assert connects(server) == "TimeoutError"
        firewall.lift()
        assert connects(server) == "connected"

    def test_rejected(fault_server, firewall):
        server = fault_server()
        firewall.reject(server.port)
        assert connects(server) == "ConnectionRefusedError"

    def test_a_recipe_by_its_name(fault_server, firewall):
        server = fault_server()
        with socket.create_connection(server.address) as client:
            client.sendall(b"x")
            assert client.recv(1) == b"x"
            firewall.apply("idle-firewall", port=server.port)
            client.settimeout(1)
            client.sendall(b"y")
            with pytest.raises(TimeoutError):
                client.recv(1)

    PORT = 47113

    @pytest.mark.xdist_group("port")
    def test_a_rule_that_is_left(fault_server, firewall):
        server = fault_server(port=PORT)
        firewall.drop(PORT)
        assert connects(server) == "TimeoutError"

    @pytest.mark.xdist_group("port")
    def test_is_gone_in_the_next(fault_server):
        assert connects(fault_server(port=PORT)) == "connected"
"""


@every_user
@pytest.mark.parametrize("workers", [(), ("-n", "2", "--dist", "loadgroup")], ids=["alone", "xdist"])
def test_in_a_sandbox(project: Project, user: str, workers: tuple[str, ...]) -> None:
    with everybodys_directory() as directory:
        (directory / "test_it.py").write_text(dedent(CLIENT) + dedent(TESTS))
        (directory / "test_example.py").write_text((readme.EXAMPLES / "test_firewall.py").read_text())
        (directory / "test_refused.py").write_text((readme.EXAMPLES / "test_refused.py").read_text())
        (directory / "pytest.ini").write_text("[pytest]\naddopts = -p no:cacheprovider -p no:asyncio\n")
        ended = faultkit(
            *("sandbox", "--", sys.executable, "-m", "pytest", "-q", *project.named, *workers, str(directory)),
            user=user,
            cwd=directory,
            env={**ENVIRONMENT, "PYTHONPATH": str(readme.ROOT)},
        )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert "7 passed" in ended.stdout


def test_elsewhere_it_fails_the_test_in_one_sentence(project: Project) -> None:
    result = project.run("def test_it(firewall): pass")
    result.assert_outcomes(errors=1)
    result.stdout.fnmatch_lines(
        ["firewall rules work only inside a private namespace: run the tests with faultkit sandbox -- pytest ..."]
    )
    assert "Traceback" not in str(result.stdout)


def test_misuse_shows_the_line_and_a_sentence(project: Project) -> None:
    project.write("def test_it(firewall):\n    firewall.apply('no-such', port=80)")
    sandbox = [sys.executable, "-m", "faultkit", "sandbox", "--", sys.executable, "-m", "pytest", *project.named]
    result = project.pytester.run(*sandbox, timeout=60)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["> * firewall.apply('no-such', port=80)", "E * faultkit.errors.Misuse: *no-such*"])
    # The error came from another thread's Trio loop; none of that is shown.
    assert not re.search(r"^\S*/(faultkit|trio|concurrent)/", result.stdout.str(), re.MULTILINE)

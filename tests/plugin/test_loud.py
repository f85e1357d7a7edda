"""What goes wrong fails the test, in one sentence, with the test's own lines and none of ours."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

from tests.plugin.project import Project


def report(result: pytest.RunResult) -> str:
    """What is said of the one test that failed, from its headline to the summary, without the section of ours."""
    text = result.stdout.str()
    said = re.search(r"= (?:FAILURES|ERRORS) =+\n_+ .* _+\n(.*?)\n=+ short test summary", text, re.DOTALL)
    assert said, text
    return re.split(r"^-+ faultkit -+$", said[1], flags=re.MULTILINE)[0].strip()


def section(result: pytest.RunResult) -> str:
    found = re.search(r"^-+ faultkit -+\n(.*?)\n[=_]+ ", result.stdout.str(), re.DOTALL | re.MULTILINE)
    assert found, result.stdout.str()
    return found[1]


MISUSES = {
    "fault_server('lingr')": "there is no fault 'lingr': did you mean linger?",
    "fault_server('linger', after_bytes=-1)": "after_bytes=-1 never comes: take 0 or more",
    "fault_server('linger', plan=['ok'])": "fault 'linger' and a plan: the plan says what each connection gets; "
    "leave one of them out",
    "fault_server('linger', seed=7)": "seed=7 decides nothing without random: add random=0.3, or leave it out",
    "fault_server(plan=['listener-closed'])": "listener-closed keeps clients from connecting at all, "
    "so no server can count them: serve it alone, and heal() it",
    "fault_server(port=fault_server().port)": "port * is in use on 127.0.0.1: leave it out to get a free one",
    "fault_server().client_context": "this server does not speak TLS, so there is nothing to trust: serve it with tls=True",
    "asyncio.run(wait(fault_server('linger')))": "this would block the asyncio loop, in which the client may have to run: "
    "await the await_... method instead",
}


@pytest.mark.parametrize("line", MISUSES)
def test_misuse_shows_the_line_and_a_sentence(line: str, project: Project) -> None:
    result = project.run(
        f"""
        import asyncio

        async def wait(server):
            server.wait_for_connection()  # in asyncio

        def test_it(fault_server):
            {line}
        """
    )
    result.assert_outcomes(failed=1)
    said = report(result)
    shown = "server.wait_for_connection()  # in asyncio" if "asyncio" in line else line
    result.stdout.fnmatch_lines([f"> * {shown.replace('[', '[[]')}", f"E * faultkit.errors.Misuse: {MISUSES[line]}"])
    assert len(re.findall("^E ", said, re.MULTILINE)) == 1
    assert "faultkit" not in re.sub(r"<faultkit\S+ object|faultkit.errors.Misuse", "", said)


def test_a_keyword_that_is_none_shows_the_line(project: Project) -> None:
    result = project.run("def test_it(fault_server):\n    fault_server('linger', after_byte=1)")
    result.stdout.fnmatch_lines(
        ["> * fault_server('linger', after_byte=1)", "E * unexpected keyword argument 'after_byte'*"]
    )
    assert "/faultkit/" not in report(result)


def test_a_default_that_is_no_keyword(project: Project) -> None:
    result = project.run(
        """
        import pytest

        @pytest.fixture
        def fault_server_defaults():
            return {"anwser": "http"}

        def test_it(fault_server):
            pass
        """
    )
    result.assert_outcomes(errors=1)
    assert report(result) == "fault_server_defaults: faultkit.serve takes no 'anwser': did you mean answer?"


@pytest.mark.parametrize("given", ["None", "['answer']"])
def test_defaults_that_are_none(given: str, project: Project) -> None:
    result = project.run(
        f"""
        import pytest

        @pytest.fixture
        def fault_server_defaults():
            return {given}

        def test_it(fault_server):
            pass
        """
    )
    result.assert_outcomes(errors=1)
    assert report(result) == f"fault_server_defaults={given}: it gives a dict of keywords, such as {{'ipv6': True}}"


def test_misuse_in_a_trio_test(project: Project) -> None:
    result = project.run(
        """
        import pytest

        @pytest.mark.trio
        async def test_it(trio_fault_server):
            trio_fault_server("lingr")
        """
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["* faultkit.errors.Misuse: there is no fault 'lingr': did you mean linger?"])
    assert "/faultkit/" not in report(result)


def test_a_wait_that_took_too_long_shows_the_line(project: Project) -> None:
    result = project.run(
        "def test_it(fault_server):\n    fault_server('refuse').wait_for_connection(timeout_seconds=0.01)"
    )
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["> * fault_server('refuse').wait_for_connection(timeout_seconds=0.01)"])
    assert "/faultkit/" not in report(result) and "FaultNotMet" not in report(result)


UNMET = {
    "fault_server('linger')": "linger on port * was never met: no connection came",
    "hang_up(fault_server('linger', after_bytes=9, answer=silent))": "linger on port * was never met: it was to set in after "
    "9 bytes received, and 1 connection came: connection 1 had 1 byte in, 0 out, peer closed",
    # Not refuse: that a client was refused is counted for the whole host.
    "fault_server('connect-hang')": "connect-hang on port * was never met: no client tried to connect",
    "reset(fault_server(plan=['linger', 'linger', 'ok']))": "linger on port * was never met: it was planned for connection 2, "
    "and 1 connection came",
    "fault_server(random=0.5)": "a random fault on port * was never met: no connection came",
}


@pytest.mark.parametrize("line", UNMET)
def test_a_fault_that_nobody_met_fails_the_test_in_a_sentence(line: str, project: Project) -> None:
    result = project.run(
        f"""
        import pytest

        def reset(server):
            with pytest.raises(ConnectionResetError):
                talk(server)

        def hang_up(server):
            with socket.create_connection(server.address) as client:
                client.sendall(b"x")

        async def silent(conn):
            while await conn.receive():
                pass

        def test_it(fault_server):
            {line}
        """
    )
    result.assert_outcomes(failed=1)
    assert re.fullmatch(re.escape(f"FaultNotMet: {UNMET[line]}").replace(r"\*", r"\d+"), report(result))


def test_each_server_has_its_sentence(project: Project) -> None:
    result = project.run("def test_it(fault_server):\n    fault_server('linger')\n    fault_server('unread')")
    result.assert_outcomes(failed=1)
    assert re.fullmatch(r"FaultNotMet: linger .* came\nFaultNotMet: unread .* came", report(result))


def test_a_fault_that_need_not_be_met(project: Project) -> None:
    project.run("def test_it(fault_server):\n    fault_server('linger', must_be_met=False)").assert_outcomes(passed=1)


CRASH = """
    async def handler(conn):
        assert await conn.receive() == b"y"

    def test_it(fault_server):
        assert talk(fault_server(answer=handler)) == {expected}
"""


def test_a_handler_that_crashed_fails_the_test_in_a_sentence(project: Project) -> None:
    result = project.run(CRASH.format(expected="b''"))
    result.assert_outcomes(failed=1)
    assert report(result) == "HandlerCrashed: connection 1: AssertionError: assert b'x' == b'y'"
    told = section(result)
    assert 'assert await conn.receive() == b"y"' in told
    assert "/faultkit/" not in told and "/trio/" not in told


def test_a_handler_that_crashes_after_the_test_said_its_last(project: Project) -> None:
    result = project.run(
        """
        async def handler(conn):
            assert await conn.receive() == b"hello"
            assert await conn.receive() == b"bye", "no goodbye"

        def test_it(fault_server):
            with socket.create_connection(fault_server(answer=handler).address) as client:
                client.sendall(b"hello")
        """
    )
    result.assert_outcomes(failed=1)
    assert report(result) == "HandlerCrashed: connection 1: AssertionError: no goodbye"


def test_a_handler_that_crashes_when_a_fixture_hangs_up(project: Project) -> None:
    result = project.run(
        """
        import pytest

        async def handler(conn):
            assert await conn.receive(), "hung up"

        @pytest.fixture
        def client(fault_server):
            with socket.create_connection(fault_server(answer=handler).address) as client:
                yield client

        def test_it(client):
            pass
        """
    )
    result.assert_outcomes(passed=1, errors=1)
    assert report(result) == "HandlerCrashed: connection 1: AssertionError: hung up"


def test_a_test_that_failed_by_itself_gets_a_section_and_nothing_on_top(project: Project) -> None:
    result = project.run(CRASH.format(expected="b'z'"))
    result.assert_outcomes(failed=1)
    assert "E       AssertionError: assert b'' == b'z'" in report(result)
    assert "HandlerCrashed" not in result.stdout.str()
    told = section(result).splitlines()
    assert re.fullmatch(r"fault_server\(answer=handler\) on port \d+", told[0])
    assert re.fullmatch(r"  <connection 1 from 127.0.0.1:\d+: ok, 1 byte in, 0 out, failed>", told[1])
    assert told[-4:][0] == "AssertionError: assert b'x' == b'y'"


def test_the_section_says_what_each_server_saw(project: Project) -> None:
    result = project.run(
        """
        def test_it(fault_server):
            talk(fault_server(answer=b"fixed" * 20))  # which `talk` takes whole: what is left unread is a RST of its own
            fault_server("refuse")
            assert False
        """
    )
    result.assert_outcomes(failed=1)
    assert re.fullmatch(
        r"fault_server\(answer=b'fixedfixed.*\.\.\..*fixed'\) on port \d+\n"
        r"  <connection 1 from 127.0.0.1:\d+: ok, 1 byte in, 100 out, .*>\n"
        r"fault_server\('refuse'\) on port \d+: no connection came",
        section(result),
    )


def test_a_failing_test_prints_the_seed_and_the_seed_repeats_it(project: Project) -> None:
    tests = """
        import re

        def faults(server):
            for _ in range(20):
                try:
                    talk(server)
                except OSError:
                    pass
            return [connection.fault for connection in server.connections]

        def test_it(fault_server):
            print("had", faults(fault_server(random=0.5 SEED)))
            assert False
    """
    first = project.run(tests.replace("SEED", ""))
    first.assert_outcomes(failed=1)
    [seed] = re.findall(r"^  seed=(\d+) repeats these faults$", section(first), re.MULTILINE)
    again = project.run(tests.replace("SEED", f", seed={seed}"))
    had = [[line for line in result.outlines if line.startswith("had ")] for result in (first, again)]
    assert had[0] and had[0] == had[1]


def test_a_passing_test_says_nothing(project: Project) -> None:
    result = project.run("def test_it(fault_server):\n    talk(fault_server(random=1e-9, must_be_met=False))", "-rA")
    result.assert_outcomes(passed=1)
    assert "seed" not in result.stdout.str()


def test_skip_and_xfail_stay_what_they_are(project: Project) -> None:
    project.run(
        """
        import pytest

        def test_skip(fault_server):
            fault_server("linger")
            pytest.skip("not here")

        @pytest.mark.xfail(strict=True)
        def test_xfail(fault_server):
            fault_server("linger")
        """
    ).assert_outcomes(skipped=1, xfailed=1)


def test_outside_of_the_fixture_too(project: Project) -> None:
    result = project.run(
        """
        import faultkit

        async def handler(conn):
            raise ValueError("no")

        def test_not_met():
            with faultkit.serve("linger"):
                pass

        def test_crash():
            with faultkit.serve(answer=handler) as server:
                with socket.create_connection(server.address):
                    pass
        """
    )
    result.assert_outcomes(failed=2)
    result.stdout.fnmatch_lines(
        [
            '> * with faultkit.serve("linger"):',
            "E * faultkit.serving.server.FaultNotMet: linger on port * was never met: no connection came",
            '> * raise ValueError("no")',
            "E * ValueError: no",
            "The above exception was the direct cause of the following exception:",
            "> * with faultkit.serve(answer=handler) as server:",
            "E * faultkit.serving.server.HandlerCrashed: connection 1: ValueError: no",
        ]
    )
    assert "/faultkit/serving/" not in result.stdout.str()


@pytest.mark.parametrize("name", ["connect-hang", "refuse"])
def test_who_met_a_closed_door_is_told_of(name: str, project: Project) -> None:
    result = project.run(f"def test_it(fault_server):\n    talk(fault_server({name!r}))")
    result.assert_outcomes(failed=1)
    assert re.fullmatch(rf"fault_server\('{name}'\) on port \d+: clients met the closed door", section(result))


def test_a_server_that_a_forked_child_asks_the_tests_fixture_for(project: Project) -> None:
    project.run(
        """
        import os
        import warnings
        import faultkit

        def test_it(fault_server):
            parents = fault_server()
            reader, writer = os.pipe()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", DeprecationWarning)
                child = os.fork()
            if child == 0:
                for ask in (lambda: fault_server("linger"), parents.wait_for_connection):
                    try:
                        ask()
                    except faultkit.Misuse as refusal:
                        os.write(writer, f"{refusal}\\n".encode())
                with faultkit.serve() as own:
                    os.write(writer, talk(own, b"its own"))
                os._exit(0)
            os.close(writer)
            with open(reader) as pipe:
                first, second, third = pipe.read().splitlines()
            os.waitpid(child, 0)
            assert first == (
                "this process was forked from the test's, which checks and closes what fault_server opens: "
                "open one here by `with faultkit.serve(...)`"
            )
            assert second == (
                f"the server runs in process {os.getpid()}, which this one was forked from: use it there"
            )
            assert third == "its own"
            assert talk(parents) == b"x"
        """
    ).assert_outcomes(passed=1)


CONTEXTS = """
    import unittest
    import faultkit

    class Test(unittest.{case}):
        {test}def test_its_own_failure(self):
            {enter}(faultkit.serve("linger"))
            self.fail("its own")

        {test}def test_skipped(self):
            {enter}(faultkit.serve("linger"))
            self.skipTest("for its own reason")

        {test}def test_not_met(self):
            {enter}(faultkit.serve("linger"))

        {test}def test_met(self):
            server = {enter}(faultkit.serve("linger"))
            with self.assertRaises(ConnectionResetError):
                talk(server)

    class Old(unittest.TestCase):
        def setUp(self):
            self.serving = faultkit.serve("linger")
            self.serving.__enter__()

        def tearDown(self):
            self.serving.__exit__(None, None, None)

        def test_its_own_failure(self):
            self.fail("its own")
"""
CASES = {
    "TestCase": {"case": "TestCase", "test": "", "enter": "self.enterContext"},
    "IsolatedAsyncioTestCase": {
        "case": "IsolatedAsyncioTestCase",
        "test": "async ",
        "enter": "await self.enterAsyncContext",
    },
}


@pytest.mark.parametrize("case", CASES)
def test_a_unittest_that_fails_by_itself_has_nothing_put_on_top(case: str, project: Project) -> None:
    tests = CONTEXTS.format(**CASES[case])
    result = project.run(tests)
    result.assert_outcomes(passed=1, failed=3, skipped=1)
    assert result.stdout.str().count("FaultNotMet: linger on port") == 2  # of the test, and in the summary
    ended = subprocess.run(
        [sys.executable, "-m", "unittest", "test_it"],
        cwd=project.pytester.path,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ended.stderr.count("FaultNotMet: linger on port") == 1, ended.stderr
    assert "Ran 5 tests" in ended.stderr
    assert "FAILED (failures=3, skipped=1)" in ended.stderr

"""The gallery's files say what they show, and docs/bugs.md says the same."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests import readme
from tests.gallery import bug, rounds

WHOLE = '# /// bug\n# field = "HTTP"\n# library = "a"\n# buggy = "1"\n# fixed = "2"\n# report = "a/b#7"\n# seen = "EOF"\n# ///\n'


@pytest.mark.parametrize("shown", bug.known(), ids=lambda shown: shown.name)
def test_a_head_is_whole(shown: bug.Bug) -> None:
    assert shown.buggy != shown.fixed
    assert re.fullmatch(r"[\w.-]+/[\w.-]+#\d+", shown.report)
    assert shown.name.endswith("_" + shown.report.partition("#")[2])
    assert all([shown.field, shown.library, shown.buggy, shown.fixed, shown.seen])
    assert shown.registry in ("PyPI", "npm")
    assert shown.summary.endswith(".")
    assert "def test_" in shown.file.read_text()


def test_the_ordinary_suite_leaves_them_alone() -> None:
    assert not [*bug.BUGS.glob("test_*.py"), *bug.BUGS.glob("*_test.py")]


def test_the_page_has_each_of_them() -> None:
    page = (readme.ROOT / "docs/bugs.md").read_text()
    for shown in bug.known():
        assert page.count(f"](../tests/bugs/{shown.file.name})") == 1


@pytest.mark.parametrize(
    "text",
    [
        '"""Nothing but a docstring."""\n',
        WHOLE,
        WHOLE.replace('# seen = "EOF"\n', "") + '"""It says too little."""\n',
        WHOLE.replace("# seen", "# sighted") + '"""It says something else."""\n',
    ],
)
def test_a_file_without_a_whole_head_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "a_7.py"
    file.write_text(text)
    with pytest.raises(ValueError, match=r"^a_7\.py"):
        bug.read(file)


def test_a_head_is_read(tmp_path: Path) -> None:
    file = tmp_path / "a_7.py"
    file.write_text(WHOLE + '"""EOF comes too early.\n\nAnd more."""\n')
    told = bug.read(file)
    assert told == bug.Bug(file, "EOF comes too early.", "a", "1", "2", "a/b#7", "EOF", "HTTP")
    assert (told.name, told.address) == ("a_7", "https://github.com/a/b/issues/7")


def test_what_fails_of_something_else_is_not_counted(pytester: pytest.Pytester) -> None:
    """Six times two tests: both pass, both fail as they should, one of them fails, both fail otherwise, and with an error
    after the test, once without a word of the bug."""
    pytester.makepyfile(
        """
        import pytest

        @pytest.fixture(params=range(6), ids=lambda time: f"time {time + 1}")
        def time(request):
            yield request.param
            assert request.param != 4

        @pytest.mark.parametrize("half", [1, 2])
        def test_it(time, half):
            if time == 1 or (time, half) == (2, 1) or time == 4:
                raise EOFError("too early")
            if time == 3:
                raise ImportError("no module")
        """
    )
    pytester.runpytest_subprocess("--junit-xml=report.xml", "-p", "no:randomly")
    count = rounds.counted(pytester.path / "report.xml", "EOFError")
    assert (count.passed, count.failed) == (2, 1)
    assert "no module" in count.other


def test_what_a_bug_leaves_waiting_does_not_keep_the_process(
    pytester: pytest.Pytester, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PYTHONPATH", str(bug.ROOT))
    pytester.makepyfile(
        """
        import threading

        def test_it():
            threading.Thread(target=threading.Event().wait).start()
            assert False, "hangs"
        """
    )
    ended = pytester.runpytest_subprocess(
        "-p", "tests.gallery.plugin", "--times", "3", "--junit-xml=report.xml", timeout=60
    )
    assert ended.ret == pytest.ExitCode.TESTS_FAILED
    assert rounds.counted(pytester.path / "report.xml", "hangs") == rounds.Count(0, 3)

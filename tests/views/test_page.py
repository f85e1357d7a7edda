"""The page and the picture: self-contained, readable without colours and without a mouse, and drawn by a real browser."""

from __future__ import annotations

import re
import shutil
import subprocess
import xml.etree.ElementTree as ElementTree
from html.parser import HTMLParser
from pathlib import Path

import pytest

import faultkit
from faultkit.explaining.explain import Seen
from faultkit.views import page
from faultkit.views.drawing import Event, placed
from tests.explaining.made import RESET, framed, pcap
from tests.shell import faultkit as typed

SVG = "{http://www.w3.org/2000/svg}"


def made() -> str:
    found = faultkit.explain(pcap(framed(RESET)))
    return page.diagnoses(found, Seen(packets=6), "a <capture>.pcap")


class Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.ids: list[str] = []
        self.targets: list[str] = []
        self.tags: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self.tags.add(tag)
        if named.get("id"):
            self.ids.append(str(named["id"]))
        if "href" in named:
            self.targets.append(str(named["href"]))


def test_nothing_is_asked_of_anywhere() -> None:
    document = made()
    links = Links()
    links.feed(document)
    assert not {"script", "link", "img", "iframe", "object"} & links.tags
    assert set(re.findall(r"https?://[^\"' >]+", document)) == {"http://www.w3.org/2000/svg"}
    assert "url(" not in document and "@import" not in document
    assert len(document) < 300_000


def test_every_link_leads_to_something_on_the_page() -> None:
    links = Links()
    links.feed(made())
    assert links.targets
    assert {target.removeprefix("#") for target in links.targets} <= set(links.ids)
    assert len(links.ids) == len(set(links.ids))
    assert "c1-p6" in {target.removeprefix("#") for target in links.targets}


def test_what_was_read_is_never_markup() -> None:
    assert "a &lt;capture&gt;.pcap" in made()
    assert "<capture>" not in made()


def test_a_picture_has_words_for_who_does_not_see_it() -> None:
    found = faultkit.explain(pcap(framed(RESET)))
    root = ElementTree.fromstring(page.ladder_file(found[0]))
    assert root.get("role") == "img"
    assert (root.findtext(f"{SVG}title"), root.findtext(f"{SVG}desc")) == (
        "Connection 1: reset by the server",
        "A ladder of 6 segments between client 10.0.0.1:40000 and server 10.0.0.2:8080",
    )
    shown = [text.text for text in root.iter(f"{SVG}text")]
    assert shown[:4] == ["client", "server", "10.0.0.1:40000", "10.0.0.2:8080"]  # none over the edge or another's place


def test_segments_are_told_apart_by_their_form() -> None:
    found = faultkit.explain(pcap(framed(RESET)))
    root = ElementTree.fromstring(page.ladder_file(found[0]))
    groups = {group.get("class", ""): group for group in root.iter(f"{SVG}g")}
    assert {"segment syn", "segment data", "segment ack", "segment rst"} <= set(groups)
    assert groups["segment syn"].find(f"{SVG}circle") is not None
    cross = groups["segment rst"].find(f"{SVG}path")
    assert cross is not None and "tip" not in cross.get("class", "")


def test_time_is_to_scale_and_what_is_idle_is_folded() -> None:
    moments = (0, 1, 2, 4, 2_000_000)
    drawing = placed([Event(at * 1000, "segment", "x", number=at + 1) for at in moments])
    steps = [b.y - a.y for a, b in zip(drawing.rows, drawing.rows[1:], strict=False)]
    assert steps[0] == steps[1] < steps[2]
    assert [row.pause for row in drawing.rows] == ["", "", "", "", "2.00 s"]
    assert drawing.height < 500


@pytest.mark.parametrize("file", ["page.html", "ladder.svg"])
def test_a_browser_draws_it_without_a_word(file: str, tmp_path: Path) -> None:
    found = faultkit.explain(pcap(framed(RESET)))
    target = tmp_path / file
    target.write_text(made() if file == "page.html" else page.ladder_file(found[0]), encoding="utf-8")
    browser = shutil.which("chromium")
    assert browser, "apt-get install chromium"
    ended = subprocess.run(
        [
            *(
                browser,
                "--headless",
                "--no-sandbox",
                "--disable-gpu",
                "--disable-background-networking",
                "--no-first-run",
            ),
            *(f"--user-data-dir={tmp_path / 'profile'}", "--enable-logging=stderr", "--log-level=0", "--dump-dom"),
            target.as_uri(),
        ],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert "RST,ACK seq=1 ack=6" in ended.stdout
    assert "CONSOLE" not in ended.stderr


def test_a_run_is_a_page_too(tmp_path: Path) -> None:
    html, svg = tmp_path / "run.html", tmp_path / "run.svg"
    ended = typed("linger", "--quiet", "--html", str(html), "--svg", str(svg))
    assert (ended.returncode, ended.stderr) == (0, "")
    document = html.read_text(encoding="utf-8")
    assert "Produced as promised" in document
    assert "recv → ECONNRESET" in document
    assert ElementTree.fromstring(svg.read_text(encoding="utf-8")).tag == f"{SVG}svg"


def test_a_file_that_cannot_be_written_is_said() -> None:
    ended = typed("linger", "--quiet", "--html", "/nowhere/run.html")
    assert ended.returncode == 2
    assert "/nowhere/run.html cannot be written (No such file or directory)" in ended.stderr

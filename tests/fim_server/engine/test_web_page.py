"""The page at the engine's address: over HTTP, and in a real browser where one is installed."""

from __future__ import annotations

import base64
import hashlib
import http.server
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from html.parser import HTMLParser
from pathlib import Path

import httpx2
import pytest
from browser import Tab, browser_program, browsing
from engine_home import EngineHome, TcpEngine

needs_browser = pytest.mark.skipif(
    browser_program() is None, reason="Chromium or Chrome is not installed"
)


class Links(HTMLParser):
    """What a page would load, and the names of its elements."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []
        self.handlers: list[str] = []
        self.ids: list[str] = []

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        for name, value in attributes:
            if name in ("src", "href", "action", "srcset", "data", "poster"):
                self.loaded.append(value or "")
            if name.startswith("on") or name == "style":
                self.handlers.append(f"{tag} {name}")
            if name == "id":
                self.ids.append(value or "")


def policy_of(answer: httpx2.Response) -> dict[str, list[str]]:
    parts = (part.split() for part in answer.headers["content-security-policy"].split(";"))
    return {name: values for name, *values in parts}


def test_the_page_loads_nothing_else(keyless: str) -> None:
    answer = httpx2.get(keyless)
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    links = Links()
    links.feed(answer.text)
    assert links.loaded == ["data:,"]
    assert links.handlers == [], "the policy allows no inline handlers or styles"
    assert len(links.ids) == len(set(links.ids))
    assert not re.findall(r"\binnerHTML|\beval\(|document\.write|https?://", answer.text)
    for used in re.findall(r"\$\('(\w+)'\)", answer.text):
        assert used in links.ids


def test_the_policy_allows_this_script_and_style_alone(keyless: str) -> None:
    answer = httpx2.get(keyless)
    policy = policy_of(answer)
    assert policy["default-src"] == policy["base-uri"] == policy["form-action"] == ["'none'"]
    assert policy["frame-ancestors"] == ["'none'"]
    assert policy["connect-src"] == ["'self'"]
    for kind in ("script", "style"):
        found = re.findall(rf"<{kind}>(.*?)</{kind}>", answer.text, re.S)
        digests = [base64.b64encode(hashlib.sha256(text.encode()).digest()) for text in found]
        assert policy[f"{kind}-src"] == [f"'sha256-{digest.decode()}'" for digest in digests]
        assert len(found) == 1


def test_the_page_holds_nothing_of_the_engine(tcp: TcpEngine) -> None:
    answer = httpx2.get(tcp.url)
    assert answer.status_code == 200, "it asks for the key itself"
    assert tcp.home.model.name not in answer.text
    assert httpx2.get(tcp.url + "/v1/status").status_code == 401


def test_the_status_agrees_with_what_was_done(engine: httpx2.Client) -> None:
    def status() -> dict:
        return engine.get("/v1/status").json()

    hole = {"prefix": "status = ", "suffix": "\n", "mode": "ar", "max_tokens": 5, "session": "s"}
    before = status()
    answers = [engine.post("/v1/fim", json=hole).json()["stats"] for _ in range(2)]
    after = status()
    start = before["speed"].get("ar", {"requests": 0, "tokens": 0, "forwards": 0})
    grown = {name: after["speed"]["ar"][name] - start[name] for name in start if name in start}
    assert grown["requests"] == 2
    assert grown["tokens"] == 10
    assert grown["forwards"] == sum(stats["forwards"] for stats in answers)
    reused = after["prompt"]["reused"] - before["prompt"]["reused"]
    assert reused == sum(stats["reused_tokens"] for stats in answers) > 0
    assert 0 < after["latency"]["sample"] <= 200
    assert after["latency"]["median_ms"] <= after["latency"]["p90_ms"]
    assert after["sessions"]["count"] >= 1
    assert after["loaded"]["threads"] == 1
    assert after["loaded"]["auto"] in after["loaded"]["modes"]
    assert set(after["suggestions"]) >= {"shown", "accepted"}
    assert "status =" not in engine.get("/v1/status").text


def test_the_accepted_suggestions_are_those_that_editors_counted(home: EngineHome) -> None:
    counts = home.folder / "state" / "fim-server" / "statistics.jsonl"
    counts.parent.mkdir(parents=True)
    counts.write_text(
        '{"day": "2026-11-01", "shown": 5, "accepted": 2}\n'
        '{"day": "2026-11-02", "shown": 4, "accepted": 1}\n'
    )
    home.start()
    home.wait_until_ready()
    with home.client() as client:
        suggestions = client.get("/v1/status").json()["suggestions"]
    assert (suggestions["shown"], suggestions["accepted"]) == (9, 3)


# In a real browser.


@pytest.fixture(scope="module")
def tab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    program = browser_program()
    assert program is not None
    rules = "--host-resolver-rules=MAP rebound.example 127.0.0.1"
    with browsing(program, tmp_path_factory.mktemp("profile"), rules) as opened:
        yield opened


def text_of(tab: Tab, selector: str) -> str:
    return str(tab.run(f"document.querySelector('{selector}').textContent"))


@needs_browser
def test_a_hole_is_filled_on_the_page_step_by_step(
    tab: Tab, keyless: str, tcp: TcpEngine, tmp_path: Path
) -> None:
    tab.requests.clear()
    tab.logged.clear()
    tab.goto(keyless)
    tab.until("!document.querySelector('#open').hidden")
    tab.until("document.querySelector('#state').textContent === 'ready'")
    assert text_of(tab, "#model") == tcp.home.model.name
    modes = tab.run("[...document.querySelector('#mode').options].map((option) => option.text)")
    assert {"auto", "ar", "diffusion", "self_speculation"} <= set(modes)

    tab.run("document.querySelector('#prefix').value = ''")
    tab.type("#prefix", "def add(first, second):\n    return ")
    tab.run("document.querySelector('#mode').value = 'diffusion'")
    tab.run("document.querySelector('#tokens').value = 12")
    # What is drawn while the answer is still coming.
    tab.run(
        "globalThis.drawn = []; new MutationObserver(() => drawn.push("
        "document.querySelectorAll('#hole .mask').length))"
        ".observe(document.querySelector('#hole'), { childList: true })"
    )
    tab.run("document.querySelector('#fill').click()")
    tab.until("document.querySelector('#result').textContent.includes('forward')")
    result = text_of(tab, "#result")
    assert "12 tokens in" in result
    assert "mode diffusion" in result
    assert "ended by: length" in result
    assert max(tab.run("drawn")) > 0, "masks were shown"
    assert len(tab.run("drawn")) > 5, "one drawing for each forward"
    assert tab.run("document.querySelectorAll('#hole .mask').length") == 0

    asked = {
        "prefix": "def add(first, second):\n    return ",
        "suffix": "\n\n\nprint(mean([1, 2, 3]))\n",
        "mode": "diffusion",
        "max_tokens": 12,
    }
    answer = httpx2.post(keyless + "/v1/fim", json=asked).json()
    assert answer["items"][0]["text"] in text_of(tab, "#hole")
    last = int(tab.run("document.querySelector('#step').max"))
    assert last == answer["stats"]["forwards"] - 1

    tab.run(
        "document.querySelector('#step').value = 2;"
        "document.querySelector('#step').dispatchEvent(new Event('input'))"
    )
    assert tab.run("document.querySelectorAll('#hole .mask').length") > 0, "the slider goes back"
    assert f"forward 3 of {last + 1}: draft" in text_of(tab, "#where")
    tab.until("document.querySelector('#speed').textContent.includes('diffusion')")
    assert {httpx2.URL(url).host for url in tab.requests} == {"127.0.0.1"}
    assert tab.logged == [], "no error, and nothing that the policy refused"
    tab.picture(tmp_path / "page.png")
    assert (tmp_path / "page.png").stat().st_size > 10_000


@needs_browser
def test_the_page_asks_for_the_key(tab: Tab, tcp: TcpEngine) -> None:
    def refused() -> int:
        status = httpx2.get(tcp.url + "/v1/status", headers={"X-Api-Key": tcp.key}).json()
        return int((status["refused"] or {"count": 0})["count"])

    before = refused()
    tab.goto(tcp.url)
    tab.until("!document.querySelector('#locked').hidden")
    assert tab.run("document.querySelector('#open').hidden") is True
    assert "asks for a key" in text_of(tab, "#state")
    tab.run("new Promise((done) => setTimeout(done, 2500))")
    assert refused() == before, "a page that waits for the key is no refused client"
    for key, opened in (("wrong", False), (tcp.key, True)):
        tab.run("document.querySelector('#key').value = ''")
        tab.type("#key", key)
        tab.run("document.querySelector('#unlock button').click()")
        if not opened:
            tab.until("document.querySelector('#state').textContent.includes('wrong')")
    tab.until("!document.querySelector('#open').hidden")
    tab.until(f"document.querySelector('#model').textContent === '{tcp.home.model.name}'")
    tab.goto(tcp.url)
    tab.until("!document.querySelector('#open').hidden")


@contextmanager
def other_site() -> Iterator[str]:
    """Another server of this machine, whose pages are of another origin."""

    class Empty(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "text/html")
            self.end_headers()
            self.wfile.write(b"<title>other</title>")

        def log_message(self, format: str, *args: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Empty)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@needs_browser
def test_pages_of_other_sites_cannot_use_the_engine(tab: Tab, keyless: str) -> None:
    """What browsers let a page send is refused by the engine, and no answer can be read."""

    def told() -> tuple[int, int]:
        status = httpx2.get(keyless + "/v1/status").json()
        done = sum(sum(outcomes.values()) for outcomes in status["requests"].values())
        return done, (status["refused"] or {"count": 0})["count"]

    with other_site() as site:
        tab.goto(site)
        tab.until("document.title === 'other'")
        done, refused = told()
        hole = '{"prefix": "x", "suffix": ""}'
        for options in (
            f"{{method: 'POST', body: '{hole}'}}",
            f"{{method: 'POST', mode: 'no-cors', body: '{hole}'}}",
            "{method: 'POST', headers: {'Content-Type': 'application/json'}, body: '{}'}",
        ):
            read = tab.run(
                f"fetch('{keyless}/v1/fim', {options}).then((a) => a.text(), () => 'blocked')"
            )
            assert read in ("blocked", ""), read
        read = tab.run(
            f"new Promise((done) => {{ const made = document.createElement('script');"
            f"made.src = '{keyless}/metrics'; made.onload = () => done('loaded');"
            "made.onerror = () => done('blocked'); document.body.append(made) })"
        )
        assert read == "blocked"
        assert told()[0] == done, "the model was not asked"
        assert told()[1] >= refused + 4


@needs_browser
def test_a_name_that_was_rebound_cannot_use_the_engine(tab: Tab, keyless: str) -> None:
    """The browser takes the page for one of rebound.example, whose name points to this machine."""
    port = keyless.rpartition(":")[2]
    tab.goto(f"http://rebound.example:{port}/")
    assert "must name this machine" in text_of(tab, "body")
    read = tab.run("fetch('/v1/status').then((answer) => answer.status)")
    assert read == 403

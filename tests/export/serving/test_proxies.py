"""A server behind a reverse proxy: its page works, or the refusal says what to do; other sites stay out."""

import json
import re
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

import pytest
from support.reverse_proxy import NGINX, Proxied, free_port, imitation, nginx, nginx_of
from support.waiting import wait_until

from export import Bundle, Predictor
from export.serving.server import GracefulServer, _listen
from export.serving.service import Service
from export.serving.settings import Settings

FORWARDED = {"X-Forwarded-Host": "$http_host", "X-Forwarded-Proto": "https"}
CASES = {
    "plain": (Proxied(), "shop.example", ["shop.example"]),
    "host passed on": (Proxied(host="$http_host"), "shop.example", ["shop.example"]),
    "under a path": (Proxied(prefix="/ask/"), "shop.example", ["shop.example"]),
    "forwarded headers": (Proxied(headers=FORWARDED), "shop.example", ["shop.example"]),
    "another port": (Proxied(), "shop.example:8443", ["shop.example:8443"]),
    "another port, passed on": (Proxied(host="$http_host"), "shop.example:8443", ["shop.example"]),
    "another port, lost": (Proxied(host="$host"), "shop.example:8443", ["shop.example", "shop.example:8443"]),
    "an address": (Proxied(host="$http_host"), "192.0.2.7:8080", []),
}
"""Configuration, site as the browser sees it, names that the refusals ask for."""
PROXIES = [
    pytest.param(imitation, id="imitation"),
    pytest.param(nginx, id="nginx", marks=pytest.mark.skipif(NGINX is None, reason="nginx is not installed")),
]


@contextmanager
def served(bundle: Bundle, *hosts: str) -> Iterator[int]:
    """The port of a server in this process."""
    settings = Settings(port=0, hosts=hosts, timeout_seconds=120)
    service = Service(bundle.folder, settings, load=lambda folder: Predictor.load(folder, device="cpu", threads=1))
    server = GracefulServer(service)
    with _listen(settings) as sock:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]})
        thread.start()
        try:
            wait_until(lambda: service.state == "ready", "ready")
            yield sock.getsockname()[1]
        finally:
            server.should_exit = True
            thread.join()


def ask(port: int, path: str, site: str, body: bytes | None = None, **headers: str) -> tuple[int, Any]:
    """Status and content of what the server responds to a browser that sees ``site``."""
    sent = {"Host": site, "Connection": "close"} | {name.replace("_", "-"): value for name, value in headers.items()}
    if body is not None:
        sent |= {"Content-Type": "application/json"}
    with closing(HTTPConnection("127.0.0.1", port, timeout=240)) as connection:
        connection.request("GET" if body is None else "POST", path, body, sent)
        reply = connection.getresponse()
        content = reply.read()
        is_json = reply.headers["Content-Type"] == "application/json"
        return reply.status, json.loads(content) if is_json else content


BODY = b'{"text": "red"}'


@pytest.mark.parametrize("proxy", PROXIES)
@pytest.mark.parametrize("case", CASES)
def test_the_refusals_behind_a_proxy_lead_to_a_page_that_works(
    proxy: Any, case: str, bundle: Bundle, tmp_path: Path
) -> None:
    proxied, site, expected = CASES[case]
    names: list[str] = []
    while True:
        with served(bundle, *names) as upstream, proxy(proxied, upstream, tmp_path) as port:
            status, content = ask(port, f"{proxied.prefix}predict", site, BODY, Origin=f"http://{site}")
            if status == 200:
                assert ask(port, proxied.prefix, site)[1].startswith(b"<!doctype html>")
                assert ask(port, f"{proxied.prefix}model", site)[0] == 200
                break
        host = {"$http_host": site, "$host": site.partition(":")[0]}.get(proxied.host, f"127.0.0.1:{upstream}")
        assert repr(host) in content["error"]
        assert "(Host)" in content["error"]
        assert ("named" in content["error"]) or (repr(f"http://{site}") in content["error"])
        found = re.search(r"--allow-host ([^ ,]+)", content["error"])
        assert found is not None
        assert found[1] not in names
        names.append(found[1])
    assert names == expected


OTHERS = [
    "http://evil.example",
    "http://shop.example.evil.example",
    "http://shop.example:8080",
    "http://shop.example@evil.example",
    "http://127.0.0.1:3000",
    "null",
    "http://[::1",
    "shop.example",
]


@pytest.mark.parametrize("proxy", PROXIES)
@pytest.mark.parametrize("host", ["$proxy_host", "$http_host", "$host"])
def test_other_sites_stay_out_whatever_headers_they_send(proxy: Any, host: str, bundle: Bundle, tmp_path: Path) -> None:
    with served(bundle, "shop.example") as upstream, proxy(Proxied(host=host), upstream, tmp_path) as port:
        assert ask(port, "/predict", "shop.example", BODY, Origin="https://shop.example")[0] == 200
        for origin in OTHERS:
            claims = {"X_Forwarded_Host": origin.removeprefix("http://"), "Forwarded": f"host={origin}"}
            for site in ("cross-site", "same-site", "none", "same-origin, same-origin"):
                reply = ask(port, "/predict", "shop.example", BODY, Origin=origin, Sec_Fetch_Site=site, **claims)
                assert (reply[0], reply[1]["error"][:22]) == (403, "pages of other sites m"), origin


@pytest.mark.parametrize("proxy", PROXIES)
@pytest.mark.parametrize("prefix", ["/", "/ask/"])
def test_over_tls_the_browser_tells_its_own_page_from_others(
    proxy: Any, prefix: str, bundle: Bundle, tmp_path: Path
) -> None:
    with served(bundle) as upstream, proxy(Proxied(prefix=prefix), upstream, tmp_path) as port:
        for site, expected in (("same-origin", 200), ("same-site", 403), ("cross-site", 403)):
            sent = {"Origin": "https://shop.example", "Sec_Fetch_Site": site}
            assert ask(port, f"{prefix}predict", "shop.example", BODY, **sent)[0] == expected


GUIDE = Path(__file__).parents[3] / "docs" / "deployment.md"
RECIPES = re.findall(r"```nginx\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)


@pytest.mark.skipif(NGINX is None, reason="nginx is not installed")
@pytest.mark.parametrize("number", range(len(RECIPES)))
def test_the_recipes_for_nginx_work(number: int, bundle: Bundle, tmp_path: Path) -> None:
    port, recipe = free_port(), RECIPES[number]
    path = re.search(r"location (\S+)", recipe)
    assert path is not None
    photo = json.dumps({"text": "red", "photo": "A" * 3_000_000}).encode()  # above what nginx takes by default
    with served(bundle, "shop.example") as upstream:
        server = recipe.replace("127.0.0.1:8000", f"127.0.0.1:{upstream}").replace("listen 80", f"listen {port}")
        with nginx_of(server, port, tmp_path):
            assert ask(port, path[1], "shop.example")[0] == 200
            assert ask(port, path[1].rstrip("/") or "/", "shop.example")[0] == (200 if path[1] == "/" else 301)
            assert ask(port, f"{path[1]}predict", "shop.example", BODY, Origin="http://shop.example")[0] == 200
            assert ask(port, f"{path[1]}predict", "shop.example", photo)[0] == 415  # of our server: it is no image


@pytest.mark.parametrize(
    "name",
    ["https://shop.example", "shop.example/ask", "*.shop.example", "größe.example", "", "a b", "a:123456", "a@b"],
)
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match=r"give a name, or a name and its port, as a browser sends it"):
        Settings(hosts=(name,))


@pytest.mark.parametrize(
    "name", ["shop.example", "Shop.Example:8443", "localhost", "::1", "[::1]:8000", "a_b", "10.0.0.1"]
)
def test_names_are_taken_with_and_without_a_port(name: str) -> None:
    assert Settings(hosts=(name,)).hosts == (name,)

"""Reverse proxies before a server: nginx where it is installed, and one that behaves as nginx does by default."""

import shutil
import socket
import subprocess
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from support.waiting import wait_until

NGINX = shutil.which("nginx")


@dataclass(frozen=True)
class Proxied:
    """Configuration of a proxy."""

    prefix: str = "/"
    """Path under which the server is found; it is cut off."""
    host: str = "$proxy_host"
    """Host that is sent on: nginx's default, $http_host (as it came) or $host (without the port)."""
    headers: dict[str, str] = field(default_factory=dict)
    """Sent on besides; a value may be $http_host."""


def server_block(proxied: Proxied, port: int, upstream: int) -> str:
    """Server of nginx's configuration."""
    lines = [f"proxy_set_header {name} {value};" for name, value in proxied.headers.items()]
    if proxied.host != "$proxy_host":
        lines.append(f"proxy_set_header Host {proxied.host};")
    return f"""
        server {{
            listen 127.0.0.1:{port};
            location {proxied.prefix} {{ proxy_pass http://127.0.0.1:{upstream}/; {" ".join(lines)} }}
        }}
    """


@contextmanager
def nginx(proxied: Proxied, upstream: int, folder: Path) -> Iterator[int]:
    """The port on which nginx listens."""
    port = free_port()
    with nginx_of(server_block(proxied, port, upstream), port, folder):
        yield port


@contextmanager
def nginx_of(server: str, port: int, folder: Path) -> Iterator[None]:
    """Runs nginx with this server, which listens on that port."""
    assert NGINX is not None
    kinds = ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    temporary = " ".join(f"{kind}_temp_path {folder}/{kind};" for kind in kinds)
    (folder / "nginx.conf").write_text(
        f"daemon off; master_process off; pid {folder}/pid; error_log {folder}/error.log; events {{ }}\n"
        f"http {{ access_log off; {temporary} {server} }}\n"
    )
    process = subprocess.Popen([NGINX, "-p", str(folder), "-c", "nginx.conf", "-e", str(folder / "error.log")])
    try:
        wait_until(lambda: _listens(port), "nginx")
        yield
    finally:
        process.terminate()
        process.wait()


@contextmanager
def imitation(proxied: Proxied, upstream: int, folder: Path) -> Iterator[int]:
    """The port on which a proxy of Python's own library listens."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            came = self.headers["Host"]
            values = {"$proxy_host": f"127.0.0.1:{upstream}", "$http_host": came, "$host": came.partition(":")[0]}
            headers = {name: value for name, value in self.headers.items() if name.lower() != "connection"}
            headers |= {"Host": values[proxied.host], "Connection": "close"}
            headers |= {name: values.get(value, value) for name, value in proxied.headers.items()}
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            with closing(HTTPConnection("127.0.0.1", upstream, timeout=240)) as connection:
                connection.request(self.command, "/" + self.path.removeprefix(proxied.prefix), body, headers)
                reply = connection.getresponse()
                content = reply.read()
            self.send_response(reply.status)
            for name, value in reply.getheaders():
                if name.lower() not in ("connection", "date"):
                    self.send_header(name, value)
            self.end_headers()
            self.wfile.write(content)

        do_POST = do_GET  # noqa: N815, as the base class has it

        def log_message(self, format: str, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def free_port() -> int:
    """A port on which nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


def _listens(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port)).close()
    except ConnectionRefusedError:
        return False
    return True

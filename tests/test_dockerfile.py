"""Parts of the server's image, as far as it shows without Docker; `make image-check` runs its commands."""

import http.server
import json
import re
import subprocess
import sys
import threading
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import typer
from support.dockerfile import ROOT, Stage, is_in_context, read_dockerfile
from support.installed import distributions

from multimodal.cli import app

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
TRAIN_ONLY = {"torch", "torchvision", "torchaudio", "transformers", "onnx", "onnxscript", "pyarrow", "scikit-learn"}


@pytest.fixture(scope="module")
def stages() -> list[Stage]:
    return read_dockerfile()


@pytest.fixture(scope="module")
def image(stages: list[Stage]) -> Stage:
    return stages[-1]


def test_a_stage_builds_the_wheel_and_another_installs_it_on_the_same_slim_python(stages):
    assert [stage.base for stage in stages] == ["python:${PYTHON}-slim AS wheel", "python:${PYTHON}-slim"]
    assert "--require-hashes --requirement requirements-build.txt" in stages[0].one("RUN")
    packages, wheel, check = stages[1].one("RUN").split("&&")
    assert "--require-hashes" in packages
    assert '--requirement "/dist/requirements-$(echo "${EXTRAS}" | tr , -).txt"' in packages
    assert "--no-deps --no-index /dist/*.whl" in wheel
    assert check.strip() == "python -m pip check"


@pytest.mark.parametrize("extras", ["build", "serve", "serve,cuda"])
def test_every_package_of_the_image_has_its_version_and_its_hashes(extras):
    text = (ROOT / f"requirements-{extras.replace(',', '-')}.txt").read_text(encoding="utf-8")
    constraints = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text(encoding="utf-8").split())
    versions = {}
    for entry in text.replace("\\\n", " ").splitlines():
        found = re.fullmatch(r"([a-z0-9-]+)==(\S+)(?: ; [^-]+?)?((?: +--hash=sha256:[0-9a-f]{64})+) *", entry)
        assert found is not None, entry
        versions[found[1]] = found[2]
    different = {name: version for name, version in versions.items() if constraints.get(name, version) != version}
    assert different == {}
    needed = ["build", "setuptools", "wheel"] if extras == "build" else distributions(extras)
    assert {name for name in needed if name != "multimodal-transfer"} <= set(versions)


def test_the_extras_exist_and_bring_no_torch(image):
    name, extras = image.one("ARG").split("=")
    assert (name, extras) == ("EXTRAS", "serve")
    for chosen in (extras, "serve,cuda"):
        assert set(chosen.split(",")) <= set(PROJECT["project"]["optional-dependencies"])
        assert not TRAIN_ONLY & set(distributions(chosen))


def test_an_environment_for_training_has_what_the_image_lacks():
    assert set(distributions("train")) >= TRAIN_ONLY


def test_the_wheel_is_built_from_what_it_needs(stages):
    copied = stages[0].copied()
    project, packages = PROJECT["project"], PROJECT["tool"]["setuptools"]["packages"]["find"]["include"]
    assert {"pyproject.toml", project["readme"], *project["license-files"]} <= set(copied)
    assert {package.rstrip("*") for package in packages} <= set(copied)
    assert [name for name in copied if not (ROOT / name).exists()] == []


def test_docker_is_sent_what_is_copied_and_nothing_else(stages):
    copied = stages[0].copied()
    assert [name for name in copied if not is_in_context(name)] == []
    assert is_in_context("encoders/compact/tokenizer.json")
    others = {path.name for path in ROOT.iterdir()} - set(copied) | {".git", "runs", "encoders/__pycache__"}
    assert [name for name in sorted(others) if is_in_context(name)] == []


def test_what_it_starts_is_a_command_line_of_ours(image):
    program, command, *arguments = json.loads(image.one("ENTRYPOINT"))
    assert program in PROJECT["project"]["scripts"]
    serve = typer.main.get_command(app).commands[command]
    given = serve.make_context(command, [*arguments, "--max-batch", "8"]).params
    assert (str(given["bundle"]), given["host"], given["max_batch"]) == ("/bundle", "0.0.0.0", 8)
    assert str(given["port"]) == image.one("EXPOSE")


def test_it_is_nobody_in_particular_and_ends_as_serve_wants_it(image):
    assert image.one("USER") == "10001:10001"
    assert image.one("STOPSIGNAL") == "SIGTERM"


@contextmanager
def answering(status: int) -> Iterator[int]:
    """A server that answers everything so; gives its port."""

    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status if self.path == "/v2/health/ready" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_address[1]
        server.shutdown()


@pytest.mark.parametrize(("status", "healthy"), [(200, True), (503, False), (500, False)])
def test_it_is_healthy_where_serve_says_that_it_is_ready(image, status, healthy):
    program, *arguments = json.loads(image.one("HEALTHCHECK").partition("CMD ")[2])
    assert program == "python"
    assert image.one("EXPOSE") in arguments[-1]
    with answering(status) as port:
        code = arguments[-1].replace(image.one("EXPOSE"), str(port))
        done = subprocess.run([sys.executable, *arguments[:-1], code], capture_output=True, check=False)
    assert (done.returncode == 0) is healthy

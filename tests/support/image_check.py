"""Runs what the Dockerfile runs, without Docker: builds, installs in fresh environments, serves a bundle, asks it.

    make image-check BUNDLE=bundle

It needs a package registry. Folders in a temporary one stand in for those of the image.
"""

import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from support.dockerfile import ROOT, read_dockerfile
from support.installed import distributions, megabytes
from support.waiting import wait_until

PORT = "18000"
SECONDS = 120


def main() -> None:
    """Reads the command line: the bundle to serve."""
    bundle = Path(sys.argv[1]).resolve()
    wheel, image = read_dockerfile()
    with tempfile.TemporaryDirectory(prefix="multimodal.image.") as name:
        folder = Path(name)
        source = folder / "source"
        source.mkdir()
        for copied in wheel.copied():
            copy = shutil.copytree if (ROOT / copied).is_dir() else shutil.copyfile
            copy(ROOT / copied, source / copied)
        run(wheel.one("RUN"), folder, "wheel", source)
        run(image.one("RUN"), folder, "image", folder)
        check_packages(folder / "image")
        check_answers(json.loads(image.one("ENTRYPOINT")), image.one("HEALTHCHECK"), folder / "image", bundle)


def run(command: str, folder: Path, name: str, place: Path) -> None:
    """One RUN, in an environment of its own."""
    subprocess.run([sys.executable, "-m", "venv", folder / name], check=True)
    command = ["sh", "-ec", command.replace("/dist", str(folder / "dist"))]
    print(f"running what makes the {name} ...")
    done = subprocess.run(
        command, cwd=place, env=environment(folder / name), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def environment(venv: Path) -> dict[str, str]:
    """As the image has it: its programs first, its own default extras, and no code of this folder."""
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return kept | {"PATH": f"{venv / 'bin'}:{os.environ['PATH']}", "EXTRAS": "serve"}


def check_packages(venv: Path) -> None:
    """torch is absent, and the environment is small."""
    done = subprocess.run([venv / "bin" / "python", "-c", "import torch"], capture_output=True, text=True, check=False)
    assert "No module named 'torch'" in done.stderr, done.stderr
    size = sum(path.stat().st_size for path in venv.rglob("site-packages/**/*") if path.is_file()) / 1e6
    training = megabytes(distributions("train"))
    print(f"installed: {size:.0f} MB, without torch; an environment for training: {training:.0f} MB")
    assert size <= training / 8 or "nvidia-cublas" not in distributions("train")  # torch for CPUs is small, too


def check_answers(entrypoint: list[str], health: str, venv: Path, bundle: Path) -> None:
    """Serves the bundle as the image does, until its health check is content, asks, and ends it."""
    command = [{"/bundle": str(bundle), "8000": PORT}.get(part, part) for part in entrypoint]
    token = "a token of this check"
    server = subprocess.Popen(command, cwd=venv, env=environment(venv) | {"MULTIMODAL_TOKEN": token})
    try:
        python, *check = json.loads(health.partition("CMD ")[2].replace("8000", PORT))

        def is_healthy() -> bool:
            assert server.poll() is None, "the server ended"
            return not subprocess.run([venv / "bin" / python, *check], capture_output=True, check=False).returncode

        wait_until(is_healthy, "healthy", seconds=SECONDS, every=0.2)
        model = ask("GET", "/model", token)
        (text,) = [name for name, modality in model["inputs"].items() if modality == "text"]
        print(json.dumps(ask("POST", "/predict", token, {text: "organic oat drink"}))[:500])
    finally:
        server.send_signal(signal.SIGTERM)
        status = server.wait(60)
    assert status == 0, f"the server ended with {status}"
    print("served, healthy, answered, ended")


def ask(method: str, path: str, token: str, content: object = None) -> dict[str, object]:
    """The answer, JSON."""
    connection = http.client.HTTPConnection("127.0.0.1", int(PORT), timeout=30)
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/json"}
    connection.request(method, path, None if content is None else json.dumps(content), headers)
    answer = connection.getresponse()
    assert answer.status == 200, answer.read()
    return json.loads(answer.read())


if __name__ == "__main__":
    main()

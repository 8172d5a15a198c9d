"""Raw values of golden records: kept only when asked for, and preprocessed again by ``verify``."""

import io
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image
from support.bundle_faults import rewrite
from support.bundles import StubRun

from export import Bundle, bundle_writer, export_bundle, verify_bundle


@pytest.fixture
def with_media(run: StubRun, bundle: Bundle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The run's bundle again, with the raw values."""
    content = bundle.path("model.onnx").read_bytes()
    monkeypatch.setattr(bundle_writer, "to_onnx", lambda model, opset, embedding: content)
    return export_bundle(run, tmp_path / "media_bundle", embedding=True, golden_media=True).folder


def media_of(folder: Path, suffix: str) -> list[Path]:
    return sorted((folder / "golden" / "media").glob(f"*{suffix}"))


def test_raw_values_are_kept_when_they_are_asked_for(with_media: Path, bundle: Bundle, media: Path) -> None:
    assert not any(name.startswith("golden/media") for name in bundle.files)
    pictures = media_of(with_media, ".png")
    originals = {path.read_bytes() for path in media.glob("*.png")}
    assert pictures
    assert all(path.read_bytes() in originals for path in pictures)
    assert media_of(with_media, ".txt")
    assert media_of(with_media, ".wav")
    assert verify_bundle(with_media) == []


def test_other_preprocessing_is_a_problem(with_media: Path) -> None:
    picture, text = media_of(with_media, ".png")[0].name, media_of(with_media, ".txt")[0].name
    file = io.BytesIO()
    Image.new("RGB", (20, 20), (1, 2, 3)).save(file, "PNG")
    rewrite(with_media, f"golden/media/{picture}", file.getvalue())
    rewrite(with_media, f"golden/media/{text}", b"other words entirely")
    problems = verify_bundle(with_media)
    assert any(f"{picture} is preprocessed to other pixels than where" in problem for problem in problems)
    assert any(f"{text} is preprocessed to other input_ids than where" in problem for problem in problems)


def test_a_golden_file_that_cannot_be_read_is_a_problem(with_media: Path) -> None:
    picture = media_of(with_media, ".png")[0].name
    rewrite(with_media, f"golden/media/{picture}", b"no picture")
    (problem,) = verify_bundle(with_media)
    assert f"{picture} cannot be read here" in problem


def test_a_plug_in_is_not_loaded_to_check_golden_media(with_media: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rewrite(with_media, "inputs/photo/preprocess.json", {"kind": "satellite/v1", "distribution": "satellite-encoders"})
    (problem,) = verify_bundle(with_media)  # as predict rejects it
    assert "allow it with --allow-plugin satellite/v1" in problem


def test_there_are_no_media_of_synthetic_records(run: StubRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle_writer, "to_onnx", lambda model, opset, embedding: b"")
    monkeypatch.setattr(bundle_writer, "check_parity", lambda *_, **__: {})
    with pytest.raises(ValueError, match="golden media are asked for, but the golden records are synthetic"):
        export_bundle(replace(run, records=None), tmp_path / "new", golden_media=True)


def test_a_value_that_is_no_file_cannot_be_kept(run: StubRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bundle_writer, "to_onnx", lambda model, opset, embedding: b"")
    monkeypatch.setattr(bundle_writer, "check_parity", lambda *_, **__: {})
    picture = Image.new("RGB", (20, 20))
    with pytest.raises(ValueError, match=r"records, row 1, column .* is a Image, which cannot be kept as a file"):
        export_bundle(run, tmp_path / "new", records=[{"image": picture}], golden_media=True)

"""Heads made of class names: the original model's answers without training, and a probe that starts there."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from support.assertions import assert_close
from support.checkpoints import tokenizer
from support.image_checkpoints import write_image_model
from support.tiny_models import COLORS, make_rows

import multimodal as mm
from encoders import create_encoder
from multimodal.check.job import check_job
from multimodal.config import ConfigError, ZeroShot, parse_job
from multimodal.data.dataset import collate
from multimodal.job import TrainingSetup
from multimodal.job.alignment import fill_zero_shot_heads
from multimodal.model.contrastive import WIDTH
from multimodal.model.heads import ClassificationHead
from multimodal.model.zero_shot import PullToNames, ZeroShotHead, class_embeddings, zero_shot_heads
from multimodal.run import Run
from multimodal.splits.tables import read_tables
from multimodal.training import fit

PROMPTS = ["a photo of {}", "{} thing"]
LABELS = sorted(COLORS)


@pytest.fixture(scope="module", params=["clip", "siglip"])
def towers(request, tmp_path_factory) -> tuple[Path, Any]:
    """A model of two modalities in a folder, and as transformers has it."""
    folder = tmp_path_factory.mktemp(request.param)
    model = write_image_model(folder, request.param)
    tokenizer("mpnet").save(str(folder / "tokenizer.json"))
    return folder, model


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("only_clip")
    write_image_model(folder, "clip")
    tokenizer("mpnet").save(str(folder / "tokenizer.json"))
    return folder


@pytest.fixture(scope="module")
def media(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("media")
    make_rows(folder, 12)
    return folder


def rows(media: Path, *, labelled: bool = True) -> list[dict[str, Any]]:
    keep = ("image", "color") if labelled else ("image",)
    return [{key: row[key] for key in keep} for row in make_rows(media, 12)]


def make_job(folder: Path, **changes: Any) -> dict[str, Any]:
    values = {
        "name": "names",
        "data": {"workers": 0},
        "inputs": {
            "image": {
                "modality": "image",
                "encoder": f"transformers/{folder}",
                "options": {"tower": "image", "pooling": "projected"},
                "augment": {"enabled": False},
            }
        },
        "fusion": {"name": "late"},
        "tasks": {"color": {"head": "zero_shot", "zero_shot": {"prompts": PROMPTS}}},
        "transfer": {"strategy": "none"},
        "train": {"batch_size": 6, "epochs": 1},
    }
    return {**values, **changes}


def train(values: dict[str, Any], media: Path, out: Path, *, labelled: bool = True) -> Run:
    given = rows(media, labelled=labelled)
    return fit(parse_job(values), train=given, valid=given, root=media, out=out, cache=False)


def logits_of(run: Run, media: Path) -> np.ndarray:
    data = run.dataset(mm.read_records(rows(media), root=media))
    batch = collate([data[0, row] for row in range(12)], data.readers, data.targets)
    with torch.no_grad():
        return run.model(batch.inputs).outputs["color"].numpy()


def original(folder: Path, model: Any, media: Path) -> np.ndarray:
    """Scaled cosines of the model's own image and text features, [12 3]."""
    image = create_encoder(f"transformers/{folder}", tower="image", pooling="projected").preprocessor
    text = create_encoder(f"transformers/{folder}", tower="text", pooling="projected").preprocessor
    names = [prompt.replace("{}", label) for label in LABELS for prompt in PROMPTS]
    arrays = {name: torch.from_numpy(a) for name, a in text.stack([text(name) for name in names]).items()}
    if model.config.model_type == "siglip":
        arrays.pop("attention_mask")  # it is never given one
    pixels = image.stack([image(media / row["image"]) for row in rows(media)])["pixels"]
    normalised = create_encoder(f"transformers/{folder}", tower="image").normalize(torch.from_numpy(pixels))
    with torch.no_grad():
        words = torch.nn.functional.normalize(model.get_text_features(**arrays).pooler_output, dim=1)
        photos = torch.nn.functional.normalize(model.get_image_features(normalised).pooler_output, dim=1)
    classes = words.unflatten(0, (len(LABELS), -1)).mean(dim=1)
    classes = classes / classes.norm(dim=1, keepdim=True)
    return (model.logit_scale.exp() * photos @ classes.T).detach().numpy()


def test_without_training_its_logits_are_those_of_the_original_model(towers, media, tmp_path):
    folder, model = towers
    run = train(make_job(folder), media, tmp_path / "run")
    expected = original(folder, model, media)
    assert expected.std() > 0.01
    assert_close(logits_of(run, media), expected, "log mel")
    assert run.metrics["training"]["steps"] == 0
    right = [LABELS.index(row["color"]) for row in rows(media)] == expected.argmax(axis=1)
    assert run.metrics["tasks"]["color"]["accuracy"]["value"] == pytest.approx(right.mean())


def test_no_label_is_needed_beyond_the_names_of_the_classes(towers, media, tmp_path):
    folder, model = towers
    tasks = {"color": {"head": "zero_shot", "zero_shot": {"prompts": PROMPTS, "labels": LABELS}}}
    run = train(make_job(folder, tasks=tasks), media, tmp_path / "run", labelled=False)
    assert run.metrics["tasks"]["color"]["n"] == 0
    assert_close(logits_of(run, media), original(folder, model, media), "log mel")
    bundle = run.export(tmp_path / "bundle", records=mm.read_records(rows(media), root=media))
    answers = mm.Predictor.load(bundle.folder).predict([{"image": media / row["image"]} for row in rows(media)])
    found = [LABELS.index(answer["color"].label) for answer in answers]
    assert found == original(folder, model, media).argmax(axis=1).tolist()


def test_a_probe_starts_there_and_learns(clip, media, tmp_path):
    probe = {"transfer": {"strategy": "linear_probe"}, "train": {"batch_size": 6, "epochs": 8, "learning_rate": 3e-2}}
    zero, trained = (
        train(make_job(clip), media, tmp_path / "zero"),
        train(make_job(clip, **probe), media, tmp_path / "probe"),
    )
    before, after = (run.metrics["tasks"]["color"]["accuracy"]["value"] for run in (zero, trained))
    assert after > before
    assert after == 1.0
    start = zero.model.head("color").head.linear.weight
    assert not torch.equal(trained.model.head("color").head.linear.weight, start)
    assert torch.equal(
        trained.model.encoder("image").model.visual_projection.weight,
        zero.model.encoder("image").model.visual_projection.weight,
    )


def test_a_pull_holds_the_head_at_the_names(clip, media, tmp_path):
    moved = []
    for pull in (0.0, 1e4):
        tasks = {"color": {"head": "zero_shot", "zero_shot": {"prompts": PROMPTS, "pull": pull}}}
        values = make_job(clip, tasks=tasks, transfer={"strategy": "linear_probe"})
        values["train"] |= {
            "optimizer": "sgd",
            "learning_rate": 1e-4,
            "epochs": 4,
            "weight_decay": 0.0,
            "clip_norm": None,
        }
        run = train(values, media, tmp_path / str(pull))
        start = TrainingSetup.build(parse_job(values), tables(media), media).model
        before, after = (model.head("color").head.linear.weight for model in (start, run.model))
        moved.append((after - before).norm().item())
        assert not any("objectives" in name for name in run.model.state_dict())
    assert 0 < moved[1] < moved[0] / 2


def tables(media: Path, **options: Any) -> Any:
    job = parse_job(make_job(Path("unused")))
    return read_tables(job, train=rows(media, **options), valid=rows(media, **options), test=None, root=media)


def test_check_asks_for_no_labels_where_the_classes_are_named(clip, media):
    tasks = {"color": {"head": "zero_shot", "zero_shot": {"labels": LABELS}}}
    pd.DataFrame(rows(media, labelled=False)).to_csv(media / "photos.csv", index=False)
    assert check_job(parse_job(make_job(clip, tasks=tasks, data={"train": "photos.csv"})), media) == []
    pd.DataFrame([{**row, "color": ""} for row in rows(media)]).to_csv(media / "empty.csv", index=False)
    assert check_job(parse_job(make_job(clip, tasks=tasks, data={"train": "empty.csv"})), media) == []
    (problem,) = check_job(parse_job(make_job(clip, data={"train": "photos.csv"})), media)
    assert (problem.severity, problem.column) == ("error", "color")


# --- the parts ---------------------------------------------------------------------------------------------------


def test_a_class_is_the_normalised_mean_of_the_directions_of_its_texts():
    texts = torch.tensor([[[2.0, 0.0], [0.0, 3.0]], [[0.0, 1.0], [0.0, 5.0]]])
    assert_close(class_embeddings(texts), [[0.5**0.5, 0.5**0.5], [0.0, 1.0]])


def make_head(projection: torch.nn.Linear | None = None) -> ZeroShotHead:
    torch.manual_seed(0)
    return ZeroShotHead({"text": 3, "image": 4}, "image", ClassificationHead(4, LABELS), projection=projection)


def test_logits_are_scaled_cosines_with_the_part_of_its_input():
    head, tokens = make_head(), torch.randn(5, 7, generator=torch.Generator().manual_seed(1))
    classes = torch.nn.functional.normalize(torch.randn(3, 4, generator=torch.Generator().manual_seed(2)), dim=1)
    head.fill(classes, 20.0, None)
    assert_close(head(tokens), 20 * torch.nn.functional.cosine_similarity(tokens[:, None, 3:], classes[None], dim=2))


def test_what_the_loss_adds_to_the_logits_is_that_of_its_linear_head():
    frequencies = [1 / len(LABELS)] * len(LABELS)
    linear = ClassificationHead(4, LABELS, frequencies=frequencies, logit_adjustment=True)
    head = ZeroShotHead({"image": 4}, "image", linear)
    assert_close(head.loss_offsets, np.log(frequencies))


def test_class_embeddings_of_another_width_are_refused():
    with pytest.raises(
        ValueError, match=r"embeddings are \[3, 5\], and the head compares \[3, 4\]; take both encoders"
    ):
        make_head().fill(torch.ones(3, 5), 1.0, None)


def test_at_the_start_the_pull_is_zero_and_so_is_its_gradient():
    head = make_head()
    pull = PullToNames("color", head, 0.5)
    heads = torch.nn.ModuleDict({"color": head})
    seen: Any = type("StepContext", (), {"model": type("Model", (), {"heads": heads})()})()
    pull(seen).backward()
    assert pull(seen).item() == 0
    assert not head.head.linear.weight.grad.any()
    with torch.no_grad():
        head.head.linear.weight += 2.0
    assert_close(pull(seen), 0.5 / 2 * 4 * 12)


def test_prompts_call_a_class_by_its_words_or_its_name_without_dashes():
    settings = ZeroShot(prompts=["a {}", "{}!"], words={"b1": "red apple"})
    assert settings.texts("b1") == ["a red apple", "red apple!"]
    assert settings.texts("Granny-Smith_x") == ["a Granny Smith x", "Granny Smith x!"]


# --- from an earlier run -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def captions(media, tmp_path_factory) -> Run:
    """A run that aligned pictures with texts, and knows nothing of classes."""
    values = {
        "name": "captions",
        "data": {"workers": 0},
        "inputs": {
            "photo": {"column": "image", "encoder": "compact/image", "weights": None, "options": {"image_size": 32}},
            "text": {"encoder": "compact/text", "weights": None, "augment": {"enabled": False}},
        },
        "fusion": {"name": "late"},
        "tasks": {"match": {"type": "contrastive"}},
        "train": {"epochs": 6, "batch_size": 12, "learning_rate": 3e-3},
    }
    pairs = [{"image": row["image"], "text": f"a photo of {row['color']}"} for row in make_rows(media, 12)]
    out = tmp_path_factory.mktemp("runs") / "captions"
    return fit(parse_job(values), train=pairs * 4, valid=pairs, root=media, out=out)


def from_run(run: Run, **settings: Any) -> dict[str, Any]:
    image = {"encoder": "compact/image", "weights": str(run.folder), "options": {"image_size": 32}}
    names = {"source": str(run.folder), "prompts": ["a photo of {}"], **settings}
    return make_job(Path(), inputs={"image": image}, tasks={"color": {"head": "zero_shot", "zero_shot": names}})


def test_an_earlier_run_s_encoders_and_projections_answer_without_a_label(captions, media, tmp_path):
    run = train(from_run(captions, labels=LABELS), media, tmp_path / "run", labelled=False)
    texts = [{"image": row["image"], "text": f"a photo of {label}"} for row in rows(media) for label in LABELS]
    data = captions.dataset(mm.read_records(texts, root=media))
    batch = collate([data[0, row] for row in range(len(texts))], data.readers, data.targets)
    with torch.no_grad():
        photo, text = captions.model(batch.inputs).outputs["match"].chunk(2, dim=1)
        expected = captions.model.head("match").log_scale.exp() * (photo * text).sum(dim=1)
    assert photo.shape[1] == WIDTH
    assert_close(logits_of(run, media), expected.reshape(12, 3), "log mel")
    again = run.evaluate(mm.read_records(rows(media), root=media))
    assert again["tasks"]["color"]["accuracy"]["value"] > 1 / 2


def test_a_run_without_the_pair_is_refused(clip, media, tmp_path):
    plain = train(make_job(clip), media, tmp_path / "plain")
    with pytest.raises(ConfigError, match="has 0 contrastive tasks between a text and an input of modality image"):
        train(from_run(plain) | {"inputs": make_job(clip)["inputs"]}, media, tmp_path / "run")


def test_an_encoder_that_was_not_aligned_is_refused(captions, media, tmp_path):
    values = from_run(captions)
    values["inputs"]["image"]["weights"] = None
    with pytest.raises(
        ConfigError, match=r"is not the one that was aligned .* set inputs.image.encoder: compact/image"
    ):
        train(values, media, tmp_path / "run")


def test_a_source_that_is_no_run_is_refused(captions, media, tmp_path):
    with pytest.raises(ConfigError, match=r"tasks.color.zero_shot.source: .* is not a finished training run"):
        train(from_run(captions, source=str(media)), media, tmp_path / "run")


# --- what is refused ---------------------------------------------------------------------------------------------


def refused(values: dict[str, Any], match: str, media: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=match):
        train(values, media, tmp_path / "run")


def test_an_encoder_without_a_text_tower_is_refused(media, tmp_path):
    values = make_job(Path(), inputs={"image": {"encoder": "compact/image"}})
    refused(values, r"inputs.image: .* aligned with texts; give a CLIP or SigLIP", media, tmp_path)


def test_random_weights_are_aligned_with_nothing(clip, media, tmp_path):
    values = make_job(clip)
    values["inputs"]["image"]["weights"] = None
    refused(values, r"its weights \(random\) come without the text tower", media, tmp_path)


def test_a_checkpoint_without_a_scale_is_refused(tmp_path, media):
    from safetensors.torch import load_file, save_file

    folder = tmp_path / "clip"
    write_image_model(folder, "clip")
    tokenizer("mpnet").save(str(folder / "tokenizer.json"))
    state = load_file(folder / "model.safetensors")
    save_file({k: v for k, v in state.items() if k != "logit_scale"}, folder / "model.safetensors", {"format": "pt"})
    refused(make_job(folder), "hold no logit_scale", media, tmp_path)


@pytest.mark.parametrize(
    ("changes", "match"),
    [
        ({"tasks": {"color": {}}}, "transfer.strategy is none, which leaves the head of color with random weights"),
        (
            {"tasks": {"color": {"zero_shot": {"labels": ["a", "b"]}}}},
            "zero_shot belongs to head: zero_shot",
        ),
        (
            {"tasks": {"color": {"head": "zero_shot", "tower": [4]}}},
            "tower belongs to head: linear",
        ),
        ({"tasks": {"color": {"head": "zero_shot", "zero_shot": {"input": "text"}}}}, "'text' names no one input"),
        (
            {"tasks": {"color": {"head": "zero_shot", "zero_shot": {"prompts": ["a photo"]}}}},
            "has no single {} for the",
        ),
        ({"tasks": {"color": {"head": "zero_shot", "zero_shot": {"labels": ["a", "a"]}}}}, "are given twice"),
    ],
    ids=["strategy", "head", "tower", "input", "prompt", "labels"],
)
def test_settings_that_cannot_be_are_refused(changes, match):
    with pytest.raises(ConfigError, match=match):
        parse_job(make_job(Path("clip"), **changes))


def test_of_an_image_and_a_text_the_image_is_compared():
    inputs = {**make_job(Path("clip"))["inputs"], "text": {"encoder": "compact/text", "modality": "text"}}
    assert parse_job(make_job(Path("clip"), inputs=inputs)).zero_shot_input("color") == "image"


def test_only_zero_shot_heads_are_filled(clip, media):
    job = parse_job(make_job(clip, tasks={"color": {}}, transfer={"strategy": "finetune"}))
    model = TrainingSetup.build(job, tables(media), media).model
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    fill_zero_shot_heads(job, model, media)
    assert zero_shot_heads(model) == {}
    assert all(torch.equal(before[name], tensor) for name, tensor in model.state_dict().items())

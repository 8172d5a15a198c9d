"""The source task of a compact encoder, from labelled or unlabelled records."""

from pathlib import Path

import multimodal as mm

METHODS = ("supervised", "contrastive")


def source_job(data: Path, modality: str, method: str, *, augment: mm.Augment, epochs: int) -> mm.Job:
    """Labels of records, or which two views are of one record."""
    encoder = mm.Input(encoder=f"compact/{modality}", weights=None, augment=augment)
    contrastive = method == "contrastive"
    other = {"other": mm.Input(column=modality, share=modality, augment=augment)} if contrastive else {}
    return mm.Job(
        name=f"pretrain_{modality}",
        data=mm.Data(train=str(data / "train.csv"), valid=str(data / "val.csv")),
        inputs={modality: encoder, **other},
        fusion=mm.Fusion(name="late") if contrastive else mm.Fusion(name="concat", dropout=0.2),
        tasks={"match": mm.Task(type="contrastive")} if contrastive else {"label": mm.Task()},
        transfer=mm.Transfer(strategy="finetune"),
        train=mm.Train(epochs=epochs, batch_size=128 if contrastive else 32, learning_rate=2e-3, weight_decay=0.05),
    )

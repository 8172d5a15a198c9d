"""Scores of a task, with intervals. Never imports torch."""

from multimodal.metrics.task_metrics import Metrics, retrieval_metrics, selection_score, task_metrics

__all__ = ["Metrics", "retrieval_metrics", "selection_score", "task_metrics"]

"""The built job, and one training of it."""

from multimodal.job.setup import TrainingSetup

__all__ = ["TrainingSetup"]

"""The built job, and one training of it."""

from multimodal.job.setup import Job

__all__ = ["Job"]

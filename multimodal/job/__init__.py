"""The built job, and one training of it."""

from multimodal.job.job import Job

__all__ = ["Job"]

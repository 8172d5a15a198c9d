"""The one place that turns a job description into objects."""

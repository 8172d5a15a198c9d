"""Scores that rank encoders or models without training them; to be shown beside a probe."""

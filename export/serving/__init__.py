"""Predictions over HTTP, without torch; needs the extra ``serve``. ``export.serving.server`` starts it."""

"""The one place for training scripts: ``python -m multimodal.recipes.NAME --data FOLDER --out RUN``.

A recipe is a function that gives a task for a folder of manifests. The YAML beside it is the same job for
``multimodal train``, to be copied next to the data.
"""

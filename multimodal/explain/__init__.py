"""Why a model answers as it does: what each input, region, word and second contributed. Never imports torch.

Every method sees the model as a ``BlackBox``, records in and raw outputs out, which a run and a bundle both give.
"""

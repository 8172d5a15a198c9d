"""From a trained run to a bundle, and from a bundle to answers. Importing it loads neither torch nor transformers."""

import encoders as encoders  # before onnxruntime, which it keeps from telling its maker what it runs
from encoders.lazy import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)

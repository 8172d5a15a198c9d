"""Transfer learning over images, text and audio; ``__init__.pyi`` lists every public name.

Importing this package loads neither torch nor transformers, and ``Predictor`` never does.
"""

from encoders.lazy import attach_stub
from multimodal.runtime.threads import set_omp_wait_policy

__version__ = "0.1.0"
__getattr__, __dir__, __all__ = attach_stub(__name__, __file__, before=set_omp_wait_policy)

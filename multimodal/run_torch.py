"""One pass of the trained model in torch, arrays in and arrays out."""

from collections.abc import Mapping

import numpy as np
import torch

from encoders.preprocessing import Arrays
from multimodal.decoding import EMBEDDING
from multimodal.model import MultimodalModel
from multimodal.model.modes import evaluating
from multimodal.runtime.torch_state import own_state


@own_state()
def run_torch(model: MultimodalModel, batch: Mapping[str, Arrays], *, embedding: bool = False) -> dict[str, np.ndarray]:
    """Raw outputs of the model, in eval mode, by name.

    Args:
        batch: input -> its arrays and ``present``, as ``stack_inputs`` gives them.
        embedding: adds the fused vector at length 1.
    """
    device = next(model.parameters()).device
    tensors = {
        name: {key: torch.from_numpy(array).to(device) for key, array in arrays.items()}
        for name, arrays in batch.items()
    }
    with evaluating(model), torch.inference_mode():
        result = model(tensors)
    outputs = {**result.outputs, EMBEDDING: result.embedding} if embedding else result.outputs
    return {name: values.float().cpu().numpy() for name, values in outputs.items()}

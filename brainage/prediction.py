"""From prepared arrays to ages: what training, inference and the app share."""

import numpy as np
import torch
from numpy.typing import NDArray

from brainage.lfnn.blocks import BlockStack
from brainage.lfnn.losses import Target
from brainage.types import HalfArray


@torch.no_grad()
def predict_ages(
    model: BlockStack, target: Target, arrays: HalfArray, batch_size: int = 8
) -> NDArray[np.float64]:
    """Predicted ages in years (N,) of prepared scans (N, I, J, K), in float32.

    Scans go through one by one in effect: batch statistics are frozen, so that a prediction
    does not depend on its neighbours.
    """
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    predicted = []
    for start in range(0, len(arrays), batch_size):
        batch = np.ascontiguousarray(arrays[start : start + batch_size], dtype=np.float32)
        volumes = torch.from_numpy(batch)[:, None].to(device)
        predicted.append(target.predict(model(volumes)).cpu().double().numpy())
    model.train(was_training)
    return np.concatenate(predicted) if predicted else np.zeros(0)

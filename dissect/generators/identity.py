"""What makes two networks the same: a hash over what they are and over their tensors."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

import numpy as np
from torch import Tensor


def identity_of(told: object, tensors: Mapping[str, Tensor]) -> str:
    """Return SHA-256, in hexadecimal, over plain values and tensors in the order of their names.

    Floating-point tensors count as float32, wherever they are: the same numbers, the same hash.
    """
    digest = hashlib.sha256(json.dumps(told, sort_keys=True).encode())
    for key, tensor in sorted(tensors.items()):
        exact = tensor.detach().cpu()
        array = np.ascontiguousarray((exact.float() if exact.is_floating_point() else exact).numpy())
        array = array.astype(array.dtype.newbyteorder("<"), copy=False)
        digest.update(f"{key}{list(array.shape)}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()

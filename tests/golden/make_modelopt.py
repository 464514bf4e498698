"""Recipe of ``modelopt_nvfp4.npz``: a layer quantised and dequantised by nvidia-modelopt 0.47.0.

The library wants a GPU's dependencies to be installed; its Python routines run on a CPU.

    python make_modelopt.py modelopt_nvfp4.npz
"""

import sys

import numpy as np
import torch
from modelopt.torch.quantization.qtensor import NVFP4QTensor

torch.manual_seed(0)
weight = torch.randn(32, 64)
packed, scale, outer = NVFP4QTensor.quantize(weight, 16)
truth = packed.dequantize(scale=scale, double_scale=outer, block_sizes={-1: 16})
np.savez_compressed(
    sys.argv[1],
    weight=packed._quantized_data.numpy(),
    weight_scale=scale.view(torch.uint8).numpy(),
    weight_scale_2=outer.numpy(),
    truth=truth.numpy(),
    original=weight.half().numpy(),
)

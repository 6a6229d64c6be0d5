"""Lists what Python's safetensors finds in a checkpoint.

    pip install safetensors numpy
    python check_checkpoint.py CHECKPOINT
"""

import sys

from safetensors import safe_open

with safe_open(sys.argv[1], framework="numpy") as checkpoint:
    for key, value in sorted((checkpoint.metadata() or {}).items()):
        print(f"{key}: {value}")
    for name in checkpoint.keys():
        tensor = checkpoint.get_tensor(name)
        print(f"{name:40} {tensor.dtype} {list(tensor.shape)}")

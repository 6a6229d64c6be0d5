"""Writes the weights of a small network in every form in which PyTorch and safetensors keep them.

    pip install torch torchvision safetensors numpy
    python imported_files.py              # writes fixtures/files/*

The values are the formula's with seed 1 for the names of the tensors; variances lie around 1.
"""

import pathlib
from collections import OrderedDict

import numpy as np
import safetensors.torch
import torch
from torch import nn
from torchvision.models.resnet import BasicBlock, conv1x1

import formula


class SmallResNet(nn.Module):
    """Two stages of one basic block each."""

    def __init__(self):
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(3, 4, 3, padding=1, bias=False), nn.BatchNorm2d(4)
        self.layer1 = nn.Sequential(BasicBlock(4, 4))
        down = nn.Sequential(conv1x1(4, 8, 2), nn.BatchNorm2d(8))
        self.layer2 = nn.Sequential(BasicBlock(4, 8, 2, down))
        self.fc = nn.Linear(8, 3)


def values(name, tensor):
    """float32 values by the formula."""
    if tensor.dtype == torch.int64:
        return tensor
    value = formula.uniform(1, name, tuple(tensor.shape)) * np.float32(0.5)
    return torch.from_numpy(value + np.float32(name.endswith("running_var")))


class Hostile:
    """What a pickle can do to whoever runs it."""

    def __reduce__(self):
        import os

        return os.system, ("echo the pickle was run > pickle-was-run",)


def main():
    out = pathlib.Path(__file__).parent / "fixtures" / "files"
    out.mkdir(exist_ok=True)
    model = SmallResNet()
    model.load_state_dict({k: values(k, v) for k, v in model.state_dict().items()})
    state = model.state_dict()
    torch.save(state, out / "state.pth")
    torch.save(dict(model.named_parameters()) | dict(model.named_buffers()), out / "parameters.pth")
    wrapped = OrderedDict((f"module.{name}", tensor) for name, tensor in state.items())
    torch.save({"epoch": 3, "state_dict": wrapped, "best": 0.5}, out / "training.pth")
    # Strided as a GPU likes it, and all tensors in one storage.
    flat = torch.cat([tensor.reshape(-1) for tensor in state.values() if tensor.is_floating_point()])
    views, start = OrderedDict(), 0
    for name, tensor in state.items():
        if tensor.is_floating_point():
            views[name] = flat[start : start + tensor.numel()].view(tensor.shape)
            start += tensor.numel()
    torch.save(views, out / "one-storage.pth")
    last = {k: v.to(memory_format=torch.channels_last) if v.dim() == 4 else v for k, v in state.items()}
    torch.save(last, out / "channels-last.pth")
    for dtype in ("float16", "bfloat16", "float64"):
        other = {k: v.to(getattr(torch, dtype)) if v.is_floating_point() else v for k, v in state.items()}
        torch.save(other, out / f"{dtype}.pth")
        safetensors.torch.save_file(other, out / f"{dtype}.safetensors")
    torch.save(state, out / "legacy.pth", _use_new_zipfile_serialization=False)
    torch.save(model, out / "whole-model.pth")
    torch.save({"state_dict": Hostile()}, out / "hostile.pth")
    torch.save(state | {"fc.bias": Hostile()}, out / "hostile-entry.pth")
    for file in sorted(out.iterdir()):
        print(file.name, file.stat().st_size)


if __name__ == "__main__":
    main()

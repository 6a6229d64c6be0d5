"""PyTorch's side of `cargo xtask bench --curves`: trains on the batches that it is sent.

    pip install torch numpy safetensors

The first line on stdin is a JSON document: `network`, `batch`, `threads`, `learning_rate` and
`weights`, a checkpoint of ours to start from; it is answered by one line with the version. Then come batches,
each as labels (int32 [N]) and images (float32 [N, 3, 32, 32]), little endian; each is answered by one line with
its loss before the step: {"loss": ...}.

Training is that of our trainer: mean cross-entropy, SGD with momentum 0.9 and weight decay 1e-4
on the weights of convolutions and of the classifier alone.
"""

import json
import sys

import torch
from safetensors.torch import load_file
from torch.nn import functional

from networks import ResidualNetwork, tensors

IMAGE = (3, 32, 32)


def prepare(task):
    """The network at the checkpoint's weights, and its optimiser."""
    torch.set_num_threads(task["threads"])
    network = ResidualNetwork(task["network"])
    weights, own = load_file(task["weights"]), tensors(network)
    if weights.keys() != own.keys():
        raise SystemExit(f"other tensors than ours: {sorted(weights.keys() ^ own.keys())}")
    with torch.no_grad():
        for name, tensor in own.items():
            tensor.copy_(weights[name])
    network = network.to(memory_format=torch.channels_last).train()
    parameters = list(network.parameters())
    groups = [
        {"params": [p for p in parameters if p.dim() > 1], "weight_decay": 1e-4},
        {"params": [p for p in parameters if p.dim() == 1], "weight_decay": 0.0},
    ]
    return network, torch.optim.SGD(groups, lr=task["learning_rate"], momentum=0.9)


def receive(dtype, shape):
    """A tensor from stdin; None at its end."""
    size = torch.Size(shape).numel() * dtype.itemsize
    data = bytearray(sys.stdin.buffer.read(size))
    return torch.frombuffer(data, dtype=dtype).reshape(shape) if len(data) == size else None


def step(network, sgd, images, labels):
    sgd.zero_grad(set_to_none=True)
    loss = functional.cross_entropy(network(images), labels.long())
    loss.backward()
    sgd.step()
    return loss.item()


def answer(document):
    print(json.dumps(document), flush=True)


def main():
    task = json.loads(sys.stdin.buffer.readline())
    network, sgd = prepare(task)
    answer({"version": torch.__version__})
    while (labels := receive(torch.int32, (task["batch"],))) is not None:
        images = receive(torch.float32, (task["batch"], *IMAGE))
        answer({"loss": step(network, sgd, images, labels)})


if __name__ == "__main__":
    main()

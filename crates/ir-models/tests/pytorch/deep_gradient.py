"""Writes fixtures/resnet-110-gradient.json: the gradient of one training step of resnet-110 in
float64, so digested that it fits in a small file.

    pip install torch numpy
    python deep_gradient.py

The network is untrained: weights as by He, from the formula (formula.py), gamma 1, biases 0. Its betas are
not quite 0: each is moved by at most BETA_RANGE to where the inputs of its ReLU leave the widest
gap around 0, so that rounding moves none across the kink, where the gradient jumps and no bound
holds.

Of the gradient g of each tensor the file has the norm and the products <g, r_k> with vectors r_k
of the formula, uniform in [-1, 1): the mean of 3 <d, r_k>^2 over k estimates |d|^2 for the
difference d of two gradients. The file also has how far PyTorch's own float32 run is from the float64 one.
The biases of convolutions are left out. A batch norm follows each of them, so their gradient is 0.
"""

import json
import pathlib

import numpy as np
import torch
from torch import nn
from torch.nn import functional

import formula
from networks import Network, Specification

SEED, IMAGES, PROJECTIONS = 1, 4, 4
BETA_RANGE = 0.02
RESNET_110 = Specification(16, ((18, 16), (18, 32), (18, 64)), "stride")


def untrained():
    """The network in float64."""
    network = Network(RESNET_110).double().train()
    with torch.no_grad():
        for name, tensor in network.named_parameters():
            shape = tuple(tensor.shape)
            if len(shape) > 1:
                scale = np.float32(formula.weight_scale(shape))
                tensor.copy_(torch.from_numpy(formula.uniform(SEED, name, shape) * scale))
            elif name.endswith(".bias"):
                tensor.zero_()
    return network


def widest_gap(values):
    """The middle of the widest gap between values within BETA_RANGE of 0, and half its width."""
    near = values[values.abs() < BETA_RANGE].sort().values
    bounds = torch.tensor([-BETA_RANGE, BETA_RANGE], dtype=values.dtype)
    edges = torch.cat([bounds[:1], near, bounds[1:]])
    gaps = edges.diff()
    widest = gaps.argmax()
    return (edges[widest] + edges[widest + 1]) / 2, gaps[widest] / 2


def avoid_kinks(network, x):
    """Moves each beta; returns the smallest |input| of any ReLU."""
    distances = []

    def move(norm, _, output):
        channels = output.detach().transpose(0, 1).flatten(1)
        found = [widest_gap(values) for values in channels]
        distances.extend(distance.item() for _, distance in found)
        # Betas are float32 on both sides.
        beta = torch.stack([-middle for middle, _ in found]).float().double()
        with torch.no_grad():
            norm.bias.copy_(beta)
        return output + beta[:, None, None]

    norms = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    hooks = [norm.register_forward_hook(move) for norm in norms]
    with torch.no_grad():
        network(x)
    for hook in hooks:
        hook.remove()
    return min(distances)


def gradients(network, x, labels):
    """The loss, and the gradient of every tensor whose gradient is not 0."""
    loss = functional.cross_entropy(network(x), labels)
    loss.backward()
    wanted = {}
    for name, parameter in network.named_parameters():
        layer, kind = name.split(".")[-2:]
        if kind == "weight" or layer in ("bn", "bn1", "bn2", "fc"):
            wanted[name] = parameter.grad.double().numpy()
    return loss.item(), wanted


def projections(name, gradient):
    vectors = (formula.uniform(SEED, f"projection.{k}/{name}", gradient.shape) for k in range(PROJECTIONS))
    return [float(np.sum(gradient * vector.astype(np.float64))) for vector in vectors]


def main():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    x = torch.from_numpy(formula.images(SEED, "step", IMAGES))
    labels = torch.arange(IMAGES) * 3 % 10
    network = untrained()
    distance = avoid_kinks(network, x.double())
    # The shortest decimals that give the same float32.
    betas = {
        name: [float(str(beta)) for beta in tensor.detach().float().numpy()]
        for name, tensor in network.named_parameters()
        if name.split(".")[-2].startswith("bn") and name.endswith(".bias")
    }
    single = Network(RESNET_110).train()
    single.load_state_dict(network.state_dict())
    loss, exact = gradients(network, x.double(), labels)
    _, own = gradients(single, x, labels)

    def error(names):
        difference = sum(np.sum((own[name] - exact[name]) ** 2) for name in names)
        return float(np.sqrt(difference / sum(np.sum(exact[name] ** 2) for name in names)))

    record = {
        "torch": torch.__version__.split("+")[0],
        "seed": SEED,
        "labels": labels.tolist(),
        "smallest_relu_input": distance,
        "loss": loss,
        "pytorch_error": error(exact),
        "pytorch_largest_error": max(error([name]) for name in exact),
        "betas": betas,
        "gradients": {
            name: {"norm": float(np.linalg.norm(g)), "projections": projections(name, g)}
            for name, g in exact.items()
        },
    }
    path = pathlib.Path(__file__).parent / "fixtures" / "resnet-110-gradient.json"
    path.write_text(json.dumps(record, indent=0, separators=(",", ":")).replace(",\n", ",") + "\n")
    found = {name: record[name] for name in ("smallest_relu_input", "pytorch_error", "pytorch_largest_error")}
    print(f"{path.name}: {path.stat().st_size} bytes, {len(exact)} tensors, {found}")


if __name__ == "__main__":
    main()

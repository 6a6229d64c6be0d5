"""Other people's networks, as their own libraries build them, with the formula's weights.

    pip install torch torchvision timm transformers numpy safetensors
    python imported.py [CASE...]              # writes fixtures/imported-CASE.safetensors
    python imported.py --search CASE...       # finds the seeds of their images

Each is taken apart into the functions that measures.py reads, from its own layers, and put
together again: what the whole computes must be what the library's network computes.
"""

import argparse
import copy
import functools
import json
import pathlib
import re
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Callable

import numpy as np
import timm
import torch
import torchvision
import transformers
from safetensors.numpy import save
from torch import nn
from torchvision.models.resnet import BasicBlock, conv1x1, conv3x3

import cases
import formula
import make_fixtures
import measures
import rounding
import seeds_search


class CifarResNet(nn.Module):
    """The networks of chenyaofo/pytorch-cifar-models: three stages behind a 3x3 convolution."""

    def __init__(self, blocks, classes):
        super().__init__()
        self.conv1, self.bn1, self.relu = conv3x3(3, 16), nn.BatchNorm2d(16), nn.ReLU()
        channels = 16
        for stage, width in enumerate((16, 32, 64), start=1):
            layer = []
            for index in range(blocks):
                stride, down = (2 if stage > 1 and index == 0 else 1), None
                if stride != 1:
                    down = nn.Sequential(conv1x1(channels, width, stride), nn.BatchNorm2d(width))
                layer.append(BasicBlock(channels, width, stride, down))
                channels = width
            setattr(self, f"layer{stage}", nn.Sequential(*layer))
        self.avgpool, self.fc = nn.AdaptiveAvgPool2d((1, 1)), nn.Linear(64, classes)

    def forward(self, x):
        h = self.relu(self.bn1(self.conv1(x)))
        h = self.layer3(self.layer2(self.layer1(h)))
        return self.fc(self.avgpool(h).flatten(1))


def hugging_face(**configuration):
    return transformers.ResNetForImageClassification(transformers.ResNetConfig(**configuration))


@dataclass(frozen=True)
class Case:
    """A network, the side of its images, how many of them, and their seed."""

    build: Callable
    side: int
    count: int
    seed: int
    classifier_scale: float = 1.0
    config: str | None = None  # the config.json that our program needs


CASES = {
    "timm-resnet18": Case(lambda: timm.create_model("resnet18", num_classes=10), 64, 4, 17, 0.25),
    "timm-resnet50": Case(lambda: timm.create_model("resnet50", num_classes=10), 40, 2, 64, 0.25),
    "torchvision-resnet34": Case(lambda: torchvision.models.resnet34(num_classes=10), 64, 4, 19, 0.25),
    "chenyaofo-resnet20": Case(lambda: CifarResNet(3, 100), 32, 4, 23),
    "hugging-face-resnet50": Case(
        lambda: hugging_face(num_labels=10, downsample_in_bottleneck=True),
        40,
        2,
        704,
        0.125,
        config='{"downsample_in_bottleneck": true}',
    ),
    "torchvision-resnext50": Case(
        lambda: torchvision.models.resnext50_32x4d(num_classes=10), 40, 2, 543, 0.25
    ),
}


class Taken(nn.Module):
    """A network of one of the libraries, as measures.py reads one."""

    def __init__(self, model):
        super().__init__()
        self.model = model
        for layer in model.modules():
            if hasattr(layer, "inplace"):
                layer.inplace = False  # else an input that is looked at later has changed
        if hasattr(model, "resnet"):
            embedder, stages = model.resnet.embedder, model.resnet.encoder.stages
            self.entrance = lambda x: embedder.pooler(embedder.embedder(x))
            self.head = lambda h: model.classifier(model.resnet.pooler(h))
            stages = [stage.layers for stage in stages]
            self.blocks = [self.hugging_face(block) for stage in stages for block in stage]
        else:
            activation = getattr(model, "relu", None) or model.act1
            pool = getattr(model, "maxpool", nn.Identity())
            self.entrance = lambda x: pool(activation(model.bn1(model.conv1(x))))
            average = getattr(model, "avgpool", None) or model.global_pool
            self.head = lambda h: model.fc(average(h).flatten(1))
            names = [name for name in ("layer1", "layer2", "layer3", "layer4") if hasattr(model, name)]
            stages = [getattr(model, name) for name in names]
            self.blocks = [self.torchvision(block) for stage in stages for block in stage]
        self.stage_of = [index for index, stage in enumerate(stages) for _ in stage]

    @staticmethod
    def torchvision(block):
        layers = [n for n in (1, 2, 3) if hasattr(block, f"conv{n}")]

        def activation(n):
            return getattr(block, "relu", None) or getattr(block, f"act{n}")

        def branch(h):
            for n in layers:
                h = activation(n - 1)(h) if n > 1 else h
                h = getattr(block, f"bn{n}")(getattr(block, f"conv{n}")(h))
            return h

        down = block.downsample
        return SimpleNamespace(
            transition=down is not None,
            skip=down if down is not None else lambda h: h,
            branch=branch,
            last=activation(layers[-1]),
        )

    @staticmethod
    def hugging_face(block):
        return SimpleNamespace(
            transition=not isinstance(block.shortcut, nn.Identity),
            skip=block.shortcut,
            branch=block.layer,
            last=block.activation,
        )

    def stem(self, x):
        """No measure asks for a gradient before h_0, where the record begins."""
        with torch.no_grad():
            h = self.entrance(x)
        return h.requires_grad_() if torch.is_grad_enabled() else h

    def after(self, j, h):
        return self.blocks[j].last(h)

    def from_block(self, first, h):
        """Logits from h_first."""
        for j in range(first, len(self.blocks)):
            h = self.after(j, self.blocks[j].skip(h) + self.blocks[j].branch(h))
        return self.head(h)

    def whole(self, x):
        """What the library computes."""
        logits = self.model(x)
        return getattr(logits, "logits", logits)


def entries(model, classifier_scale):
    """How the formula makes each floating-point tensor: {name: [shape, offset, scale]}.

    A norm's gamma and variance lie around 1. The last convolution of a block is damped by four,
    as in formula.py.
    """
    last, found = last_convolutions(model), {}
    for name, tensor in model.state_dict().items():
        shape, kind = list(tensor.shape), name.rsplit(".", 1)[1]
        if kind == "num_batches_tracked":
            continue
        offset, scale = 0.0, 0.125
        if len(shape) == 4:
            scale = formula.weight_scale(shape) * (0.25 if name in last else 1.0)
        elif len(shape) == 2:
            scale = formula.weight_scale(shape) * classifier_scale
        elif kind == "running_var":
            offset, scale = 1.0, 0.5
        elif kind == "weight":
            offset, scale = 1.0, 0.25
        found[name] = [shape, offset, scale]
    return found


def last_convolutions(model):
    """Names of the weights of each branch's last convolution."""
    by_block = {}
    for name, tensor in model.state_dict().items():
        block = re.match(r".*?(layer\d|layers)\.\d+", name)
        if block and tensor.dim() == 4 and "downsample" not in name and "shortcut" not in name:
            by_block[block[0]] = name
    return set(by_block.values())


@functools.cache
def formulated(name):
    """The library's network with the formula's weights."""
    case = CASES[name]
    model = case.build()
    state = model.state_dict()
    for key, (shape, offset, scale) in entries(model, case.classifier_scale).items():
        value = formula.uniform(cases.WEIGHT_SEED, key, shape)
        value = np.float32(offset) + value * np.float32(scale)
        state[key].copy_(torch.from_numpy(value))
    return model.eval()


def build(name, dtype):
    return Taken(copy.deepcopy(formulated(name)).to(dtype))


def disturbed(name, seed):
    network = build(name, torch.float64)
    rounding.disturb_network(network, seed)
    return network


def images(case, seed, dtype):
    return torch.from_numpy(formula.images(seed, "evaluation", case.count, case.side)).to(dtype)


def results(network, x, labels):
    """Every measure; the margins only decide who is borderline."""
    found = measures.all_measures(network, x, labels)
    recorded = {name: value for name, value in found.items() if not name.endswith("_margin")}
    return {name: value.double().numpy() for name, value in recorded.items()}


def distance(name, seed):
    """How far the images of a seed keep from any kink; see seeds_search.evaluation_distance."""
    seen, x, labels = [], images(CASES[name], seed, torch.float64), None
    for network in (build(name, torch.float64), disturbed(name, 0)):
        labels = cases.evaluation_labels(network, x) if labels is None else labels
        inputs = rounding.ReluInputs(network)
        found = measures.all_measures(network, x, labels)
        if not seen and not seeds_search.well_decided(network, found):
            return 0.0
        seen.append(inputs)
    return rounding.distance_from_kinks(*seen)


def search(name):
    """Prints the first seed whose images keep far enough away. Errors of rounding hardly depend on
    the images, so those of one seed tell, from a forward pass, which others are worth a look."""
    wanted, case = cases.DISTANCES["evaluation"], CASES[name]
    network, other = build(name, torch.float64), disturbed(name, 0)
    watched = [rounding.ReluInputs(network), rounding.ReluInputs(other)]

    def inputs(seed, networks):
        for one, seen in zip(networks, watched):
            seen.seen = []
            one.from_block(0, one.stem(images(case, seed, torch.float64)))
        return [seen.seen for seen in watched]

    exact, disturbed_inputs = inputs(0, (network, other))
    errors = [(a - b).square().mean().sqrt() for a, b in zip(exact, disturbed_inputs)]
    for seed in range(seeds_search.SEEDS_TRIED):
        exact = inputs(seed, (network,))[0]
        if min(a.abs().min() / error for a, error in zip(exact, errors)) < wanted:
            continue
        found = distance(name, seed)
        print(f"{name}: seed {seed}: {found:.2f}", flush=True)
        if found >= wanted:
            return


def make(name, out):
    case = CASES[name]
    if (found := distance(name, case.seed)) < cases.DISTANCES["evaluation"]:
        raise SystemExit(f"{name}: seed {case.seed} has distance {found}; run with --search")
    network, x = build(name, torch.float64), images(case, case.seed, torch.float64)
    labels = cases.evaluation_labels(network, x)
    exact = results(network, x, labels)
    # In float64 the network that was put together again is the library's own.
    whole = network.whole(x).detach().numpy()
    np.testing.assert_allclose(exact["logits"], whole, rtol=1e-12, atol=1e-12)
    own = results(build(name, torch.float32), x.float(), labels)
    trials = [
        results(disturbed(name, 1 + trial), x, labels) for trial in range(make_fixtures.TRIALS)
    ]
    weights = build(name, torch.float32).model.state_dict()
    tensors = entries(formulated(name), case.classifier_scale)
    record = {
        "versions": {library.__name__: library.__version__ for library in LIBRARIES},
        "weight_seed": cases.WEIGHT_SEED,
        "seeds": {"evaluation": case.seed},
        "side": case.side,
        "config": case.config,
        "entries": tensors,
        "weights_checksum": formula.checksum(weights[key].numpy() for key in sorted(tensors)),
        "images_checksum": formula.checksum([x.float().numpy()]),
        "labels": {"evaluation": labels.tolist()},
        "unroll_scales": list(measures.UNROLL_SCALES),
        "unroll_steps": measures.UNROLLED_STEPS,
        "quantities": {
            key: make_fixtures.describe(value, own[key], [trial[key] for trial in trials])
            for key, value in exact.items()
        },
    }
    stored = {key: make_fixtures.thin(value) for key, value in sorted(exact.items())}
    metadata = json.dumps(record, sort_keys=True, separators=(",", ":"), allow_nan=False)
    path = out / f"imported-{name}.safetensors"
    path.write_bytes(save(stored, {"fixture": metadata}))
    print(f"{path.name}: {len(exact)} quantities, {path.stat().st_size} bytes, seed {case.seed}")


LIBRARIES = (torch, torchvision, timm, transformers)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    here = pathlib.Path(__file__).parent / "fixtures"
    parser.add_argument("--out", type=pathlib.Path, default=here)
    parser.add_argument("--search", action="store_true")
    parser.add_argument("cases", nargs="*", default=list(CASES))
    arguments = parser.parse_args()
    # The order of float32 sums, and with it the recorded errors, depends on the threads.
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    for name in arguments.cases:
        search(name) if arguments.search else make(name, arguments.out)


if __name__ == "__main__":
    main()

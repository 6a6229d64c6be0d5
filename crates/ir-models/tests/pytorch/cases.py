"""The networks that fixtures are made of, and the images that each of them sees."""

import torch

import formula
import measures
import rounding
from networks import Network, Sharing, Specification

RESNET_32 = ((5, 16), (5, 32), (5, 64))


def shared(norms):
    """A small network in each of whose stages one block takes all steps but the first."""
    stages, sharing = ((3, 8), (3, 16), (4, 24)), Sharing(1, norms)
    return Specification(8, stages, "stride", sharing=sharing, classifier_damping=0.25)


SPECIFICATIONS = {
    "resnet-32": Specification(16, RESNET_32, "stride"),
    "single-representation-small": Specification(20, ((3, 20),), "none"),
    "avg-pooling-small": Specification(12, ((2, 12), (2, 12), (2, 12)), "pool"),
    # A transition of stride 1, and numbers of channels that fill no vector.
    "wide-small": Specification(8, ((2, 10), (2, 18), (2, 29)), "stride", classes=100),
    "shared-unshared-batch-norm": shared("each its own"),
    "shared-unshared-statistics": shared("one gamma and beta"),
    "shared-naive": shared("one"),
}

WEIGHT_SEED = 1
EVALUATED, TRAINED = 4, 6

# Distances from a kink, see rounding.distance_from_kinks; by the second step the errors of the
# first have grown, and images that keep further away are rare.
DISTANCES = {"evaluation": 3.0, "step.1": 3.0, "step.2": 2.0}

# The seeds of the images, found by seeds_search.py.
SEEDS = {
    "resnet-32": {"evaluation": 24, "step.1": 208, "step.2": 7},
    "single-representation-small": {"evaluation": 259, "step.1": 1, "step.2": 1},
    "avg-pooling-small": {"evaluation": 32, "step.1": 0, "step.2": 0},
    "wide-small": {"evaluation": 470, "step.1": 0, "step.2": 0},
    "shared-unshared-batch-norm": {"evaluation": 2, "step.1": 1, "step.2": 4},
    "shared-unshared-statistics": {"evaluation": 33, "step.1": 1, "step.2": 0},
    "shared-naive": {"evaluation": 10, "step.1": 1, "step.2": 0},
}

# Decisions (right or wrong, borderline or not) hang on no difference of probabilities below this.
DECIDED_BY = 1e-3


def build(specification, dtype):
    """The network with the formula's weights."""
    network = Network(specification)
    with torch.no_grad():
        for name, tensor in network.tensors().items():
            shape, damping = tuple(tensor.shape), specification.classifier_damping
            tensor.copy_(torch.from_numpy(formula.parameter(WEIGHT_SEED, name, shape, damping)))
    return network.to(dtype)


def images(seed, name, count, dtype):
    return torch.from_numpy(formula.images(seed, name, count)).to(dtype)


def evaluation_labels(network, x):
    """Labels that make the groups of Fig. 6 differ: by turns the first or second choice of the
    final exit and of the first exit shown."""
    traced, points = measures.trace(network, x, torch.zeros(len(x), dtype=torch.int64))
    states = [points[j] for j in measures.last_stage(network)] + [traced[f"h.{len(points)}"]]
    reference = measures.reference_exits(network)
    with torch.no_grad():
        choices = [network.head(states[reference[name]]).argsort(1, True) for name in ("first", "final")]
    return torch.stack([choices[i // 2 % 2][i, i % 2] for i in range(len(x))])


def training_labels(seed, name, count, classes):
    """Labels by the formula of the weights: the top bits modulo the number of classes."""
    value = formula.uniform(seed, name, (count,))
    return torch.from_numpy(((value.astype("float64") + 1.0) * 2.0**23).astype("int64") % classes)


def training_batches(specification, seeds, dtype):
    """(images, labels) of each step, from the seed of its images."""
    return [
        (
            images(seed, f"step.{step}", TRAINED, dtype),
            training_labels(seed, f"step.{step}.labels", TRAINED, specification.classes),
        )
        for step, seed in enumerate(seeds, start=1)
    ]


def disturbed(specification, seed):
    """The network in float64 with errors of float32's size, see rounding.py."""
    network = build(specification, torch.float64)
    rounding.disturb_network(network, seed)
    return network

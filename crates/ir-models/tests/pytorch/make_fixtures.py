"""Writes the fixtures: what PyTorch finds for the networks of cases.py.

    pip install torch numpy safetensors
    python make_fixtures.py [--out FOLDER] [CASE...]

One safetensors file per network. Its tensors are float64 results rounded to float32, a large
one thinned to every k-th element; its metadata says for each quantity the shape, k, the norm and
two errors (root mean square over the elements) that a comparison may be measured by:

    PyTorch    its own float32 run against the float64 one
    rounding   the largest of several float64 runs with errors of float32's size put in, see
               rounding.py
"""

import argparse
import json
import pathlib

import numpy as np
import torch
from safetensors.numpy import save

import cases
import formula
import measures
import seeds_search
import training


# A tensor is thinned by the first of these that leaves at most so many elements. Primes, so that
# every channel, row and kernel position is met.
STRIDES, STORED = (1, 7, 13, 29, 61, 127, 251, 503, 1009, 4001, 16001, 64007), 192
TRIALS = 4


def results(network, specification, seeds, labels, dtype):
    """Everything that is recorded, of one network in one type."""
    network.eval()
    x = cases.images(seeds["evaluation"], "evaluation", cases.EVALUATED, dtype)
    found = measures.all_measures(network, x, labels)
    steps = [seeds["step.1"], seeds["step.2"]]
    found |= training.steps(network, cases.training_batches(specification, steps, dtype))
    # Margins only decide who is borderline.
    recorded = {name: value for name, value in found.items() if not name.endswith("_margin")}
    return {name: value.double().numpy() for name, value in recorded.items()}


def root_mean_square(x):
    return float(np.sqrt(np.mean(np.square(x)))) if x.size else 0.0


def stride_of(x):
    return next(stride for stride in STRIDES if x.size <= STORED * stride)


def thin(x):
    return np.ascontiguousarray(x.astype(np.float32).reshape(-1)[:: stride_of(x)])


def describe(exact, own, trials):
    """Shape, stride, norm, PyTorch's error, the error of rounding."""
    rounded = exact.astype(np.float32).astype(np.float64)
    errors = [root_mean_square(other - rounded) for other in [own, *trials]]
    norm = float(np.float32(np.linalg.norm(exact)))
    yardsticks = [float(f"{error:.2e}") for error in (errors[0], max(errors[1:]))]
    return [list(exact.shape), stride_of(exact), norm, *yardsticks]


def architecture(name, specification):
    """The plain-data description that our program reads."""
    stages, channels = [], specification.stem
    for index, (blocks, width) in enumerate(specification.stages):
        stage = {"blocks": blocks, "channels": width}
        if specification.between == "stride" and (index > 0 or width != channels):
            stage["entrance"] = {"transition": {"stride": 2 if index > 0 else 1}}
        elif specification.between == "pool" and index > 0:
            stage["entrance"] = "average_pooling"
        if specification.sharing:
            scope = {True: "shared", False: "step"}
            stage["sharing"] = {
                "first": specification.sharing.first,
                "statistics": scope[specification.sharing.norms == "one"],
                "affine": scope[specification.sharing.norms != "each its own"],
                "initial_gamma": 1.0,
            }
        stages.append(stage)
        channels = width
    return {
        "name": name,
        "classes": specification.classes,
        "stem_channels": specification.stem,
        "stages": stages,
    }


def metadata(name, specification, seeds, labels, quantities):
    network = cases.build(specification, torch.float32)
    tensors = network.tensors()
    weights = {key: value.detach().numpy() for key, value in tensors.items()}
    x = formula.images(seeds["evaluation"], "evaluation", cases.EVALUATED)
    batches = cases.training_batches(specification, [seeds["step.1"], seeds["step.2"]], torch.float32)
    record = {
        "torch": torch.__version__.split("+")[0],
        "weight_seed": cases.WEIGHT_SEED,
        "classifier_damping": specification.classifier_damping,
        "seeds": seeds,
        "architecture": architecture(name, specification),
        "trainable": sum(p.numel() for p in network.parameters()),
        "tensors": {key: list(value.shape) for key, value in tensors.items()},
        "weights_checksum": formula.checksum(weights[key] for key in sorted(weights)),
        "images_checksum": formula.checksum([x, *(images.numpy() for images, _ in batches)]),
        "labels": {
            "evaluation": labels.tolist(),
            "step.1": batches[0][1].tolist(),
            "step.2": batches[1][1].tolist(),
        },
        "unroll_scales": list(measures.UNROLL_SCALES),
        "unroll_steps": measures.UNROLLED_STEPS,
        "quantities": quantities,
    }
    return {"fixture": json.dumps(record, sort_keys=True, separators=(",", ":"), allow_nan=False)}


def make(name, out):
    specification = cases.SPECIFICATIONS[name]
    seeds = cases.SEEDS[name]
    seeds_search.verify(specification, seeds)
    network = cases.build(specification, torch.float64).eval()
    x = cases.images(seeds["evaluation"], "evaluation", cases.EVALUATED, torch.float64)
    labels = cases.evaluation_labels(network, x)

    exact = results(network, specification, seeds, labels, torch.float64)
    own = results(
        cases.build(specification, torch.float32), specification, seeds, labels, torch.float32
    )
    trials = [
        results(cases.disturbed(specification, 1 + trial), specification, seeds, labels, torch.float64)
        for trial in range(TRIALS)
    ]
    quantities = {
        key: describe(value, own[key], [trial[key] for trial in trials])
        for key, value in exact.items()
    }
    stored = {key: thin(value) for key, value in sorted(exact.items())}
    path = out / f"{name}.safetensors"
    path.write_bytes(save(stored, metadata(name, specification, seeds, labels, quantities)))
    print(f"{path.name}: {len(exact)} quantities, {path.stat().st_size} bytes, seeds {seeds}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    here = pathlib.Path(__file__).parent / "fixtures"
    parser.add_argument("--out", type=pathlib.Path, default=here)
    parser.add_argument("cases", nargs="*", default=list(cases.SPECIFICATIONS))
    arguments = parser.parse_args()
    # The order of float32 sums, and with it the recorded errors, depends on the threads.
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    arguments.out.mkdir(exist_ok=True)
    for name in arguments.cases:
        make(name, arguments.out)


if __name__ == "__main__":
    main()

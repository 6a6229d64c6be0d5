"""PyTorch as the peer of `cargo xtask bench`: the same networks, one step at a time.

    pip install torch numpy
    cargo xtask bench --python PYTHON        # PYTHON is the interpreter that has them

The process reads one JSON document a line and answers each with one line:

    {"network": "resnet-32", "batch": 128, "mode": "train", "layout": "channels_last", "threads": 4}
        what is measured; answered by {"version": ..., "instruction_set": ..., "peak_memory_mib": ...},
        the memory being that of the process before its first step
    {"warm_up": 1, "steps": 3}
        runs so many steps untimed, then so many timed; answered by
        {"milliseconds": [...], "peak_memory_mib": ...}

Between two lines it sleeps. `train` is an optimiser step as usual: gradients set to none, forward,
cross-entropy, backward, SGD with momentum 0.9 and weight decay 1e-4 (the fused update, the fastest
of PyTorch's). `evaluate` is a forward pass in inference mode. The learning rate is so small
that the loss stays finite however often the batch is seen.
"""

import json
import resource
import sys
import time

import torch
from torch.nn import functional

from networks import ResidualNetwork

CLASSES = 10
LAYOUTS = {"contiguous": torch.contiguous_format, "channels_last": torch.channels_last}


def training_step(network, images, labels):
    """The function that is timed for `train`."""
    sgd = torch.optim.SGD(
        network.parameters(), lr=1e-6, momentum=0.9, weight_decay=1e-4, fused=True
    )
    network.train()

    def step():
        sgd.zero_grad(set_to_none=True)
        functional.cross_entropy(network(images), labels).backward()
        sgd.step()

    return step


def evaluation(network, images):
    """The function that is timed for `evaluate`."""
    network.eval()

    @torch.inference_mode()
    def step():
        network(images)

    return step


def prepare(task):
    """The step that a task asks for."""
    torch.set_num_threads(task["threads"])
    torch.manual_seed(0)
    layout = LAYOUTS[task["layout"]]
    network = ResidualNetwork(task["network"], CLASSES).to(memory_format=layout)
    images = torch.randn(task["batch"], 3, 32, 32).contiguous(memory_format=layout)
    labels = torch.arange(task["batch"]) % CLASSES
    if task["mode"] == "train":
        return training_step(network, images, labels)
    return evaluation(network, images)


def peak_memory_mib():
    """Largest resident size that this process ever had."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 1024 if sys.platform == "linux" else peak / 1024**2


def measure(step, request):
    """Milliseconds of each timed step."""
    for _ in range(request["warm_up"]):
        step()
    milliseconds = []
    for _ in range(request["steps"]):
        start = time.perf_counter()
        step()
        milliseconds.append(1e3 * (time.perf_counter() - start))
    return {"milliseconds": milliseconds, "peak_memory_mib": peak_memory_mib()}


def answer(document):
    print(json.dumps(document), flush=True)


def main():
    step = prepare(json.loads(sys.stdin.readline()))
    capability = torch.backends.cpu.get_cpu_capability()
    answer(
        {
            "version": torch.__version__,
            "instruction_set": capability,
            "peak_memory_mib": peak_memory_mib(),
        }
    )
    for line in sys.stdin:
        answer(measure(step, json.loads(line)))


if __name__ == "__main__":
    main()

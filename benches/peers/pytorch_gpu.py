"""PyTorch as the peer of `cargo xtask bench --device cuda`: the same networks, one run of steps at a time.

    pip install torch numpy
    cargo xtask bench --device cuda --python PYTHON        # PYTHON is the interpreter that has them

The process reads one JSON document a line and answers each with one line:

    {"network": "resnet-110", "batch": 128, "steps": 32, "precision": "bf16", "compiled": true}
        what is measured: runs of so many steps; answered by {"version": ..., "instruction_set": ...,
        "peak_memory_mib": ..., "cuda_graphs": ...}, the name of the GPU, the memory that it holds, and in words whether what
        was compiled runs as CUDA graphs
    {"warm_up": 1, "steps": 3}
        makes so many runs untimed, then so many timed; answered by {"milliseconds": [...], ...}, the mean of a step
        over each run

What fails is answered by {"error": "..."}, its traceback goes to stderr, and the process ends.

Everything is as PyTorch's users are told to do it: channels_last, bf16 by autocast, cuDNN's choice of
algorithms by measuring, the fused update, and if `compiled` torch.compile with CUDA graphs
(mode="reduce-overhead"). f32 is PyTorch's own, whose convolutions round to TF32. All steps see one batch, which lies
on the GPU: nothing is spent on taking batches. A run is timed from one synchronisation of the device to the next.
"""

import json
import sys
import time
import traceback

import torch
from torch.nn import functional

from networks import ResidualNetwork

CLASSES = 10
DEVICE = "cuda"


def training_step(task):
    """The function that takes one step."""
    torch.manual_seed(0)
    torch.backends.cudnn.benchmark = True
    layout = torch.channels_last
    network = ResidualNetwork(task["network"], CLASSES).to(DEVICE, memory_format=layout).train()
    sgd = torch.optim.SGD(network.parameters(), lr=1e-6, momentum=0.9, weight_decay=1e-4, fused=True)
    images = torch.randn(task["batch"], 3, 32, 32, device=DEVICE).contiguous(memory_format=layout)
    labels = torch.arange(task["batch"], device=DEVICE) % CLASSES
    logits = torch.compile(network, mode="reduce-overhead") if task["compiled"] else network

    def step():
        sgd.zero_grad(set_to_none=True)
        with torch.autocast(DEVICE, torch.bfloat16, enabled=task["precision"] == "bf16"):
            loss = functional.cross_entropy(logits(images), labels)
        loss.backward()
        sgd.step()

    return step


def peak_memory_mib():
    """What the allocator of the GPU ever held."""
    return torch.cuda.max_memory_reserved() / 1024**2


def cuda_graphs(task):
    """How often compiling went without CUDA graphs, in words; None where nothing was compiled or PyTorch does not count."""
    if not task["compiled"]:
        return None
    try:
        from torch._dynamo.utils import counters

        return f"CUDA graphs skipped {int(counters['inductor']['cudagraph_skips'])} times"
    except (ImportError, LookupError, TypeError, ValueError):
        return None


def once(step, steps):
    """Milliseconds of a step, the mean over one run."""
    torch.cuda.synchronize()
    start = time.perf_counter()
    for _ in range(steps):
        step()
    torch.cuda.synchronize()
    return 1e3 * (time.perf_counter() - start) / steps


def measure(step, steps, request):
    """Milliseconds of each timed run."""
    for _ in range(request["warm_up"]):
        once(step, steps)
    milliseconds = [once(step, steps) for _ in range(request["steps"])]
    return {"milliseconds": milliseconds, "peak_memory_mib": peak_memory_mib()}


def answer(document):
    print(json.dumps(document), flush=True)


def serve():
    task = json.loads(sys.stdin.readline())
    step = training_step(task)
    # Compiling and choosing algorithms takes place here.
    once(step, 3)
    answer(
        {
            "version": f"{torch.__version__}, cuDNN {torch.backends.cudnn.version()}",
            "instruction_set": torch.cuda.get_device_name(),
            "peak_memory_mib": peak_memory_mib(),
            "cuda_graphs": cuda_graphs(task),
        }
    )
    for line in sys.stdin:
        answer(measure(step, task["steps"], json.loads(line)))


def main():
    try:
        serve()
    except Exception as error:
        traceback.print_exc()
        answer({"error": f"{type(error).__name__}: {error}"})
        sys.exit(1)


if __name__ == "__main__":
    main()

"""What the paper measures on a trained network, in evaluation mode, per sample.

Every function takes the network, images and labels in any floating-point type and returns
a dictionary from a quantity's name to a tensor of that type whose first dimension is the
sample, except where said otherwise.
"""

import itertools
import math
import re

import torch
from torch.nn import functional

UNROLLED_STEPS = 3
UNROLL_SCALES = (1.0, 0.25)

# Fig. 6 shows the last five exits; its groups may be decided at the first or the last of them.
EXITS_SHOWN = 5
BORDERLINE = 0.1

# Numbers of deleted blocks that are tried, and how many sets of one size are taken; larger
# collections of sets are left to random draws, which are not compared.
DELETED = (1, 2, 3, 5, 8, 12)
MOST_SETS = 29

# Whatever is averaged over all samples and not over the groups.
AVERAGED = {
    *("cosine", "exit_cosine", "l2_ratio", "gradient_norm", "h_norm"),
    *("drop_loss", "drop_correct", "exit_loss", "taylor_predicted", "taylor_remainder"),
}


def losses(logits, labels):
    """Cross-entropy of each sample, in nats."""
    return functional.cross_entropy(logits, labels, reduction="none")


def norms(x):
    return x.flatten(1).norm(dim=1)


def dots(a, b):
    return (a.flatten(1) * b.flatten(1)).sum(dim=1)


def cosines(a, b):
    return dots(a, b) / (norms(a) * norms(b))


def judgement(logits, labels):
    """Loss, correctness, entropy and p_correct - max_other p of each sample."""
    probabilities = logits.softmax(dim=1)
    own = probabilities.gather(1, labels[:, None])[:, 0]
    others = probabilities.scatter(1, labels[:, None], -1.0).max(dim=1).values
    return {
        "loss": losses(logits, labels),
        "correct": (logits.argmax(dim=1) == labels).to(logits.dtype),
        "entropy": -(probabilities * logits.log_softmax(dim=1)).sum(dim=1),
        "margin": own - others,
    }


def exit_gradient(network, h, labels):
    """Each sample's gradient of loss(head(h)) with respect to h."""
    h = h.detach().requires_grad_()
    return torch.autograd.grad(losses(network.head(h), labels).sum(), h)[0]


def trace(network, images, labels):
    """logits; h_j; F_j(h_j); s_j of transition blocks; the gradient of each sample's own loss
    with respect to h_j (s_j for a transition block), through all later blocks.

    Since the samples do not depend on each other, the gradient of the summed loss is that of
    every sample's own.
    """
    found, points = {}, []
    h = network.stem(images)
    for j, block in enumerate(network.blocks):
        found[f"h.{j}"] = h
        point = block.skip(h)
        if block.transition:
            found[f"shortcut.{j}"] = point
        points.append(point)
        branch = block.branch(h)
        found[f"branch.{j}"] = branch
        h = network.after(j, point + branch)
    found[f"h.{len(points)}"] = h
    found["logits"] = network.head(h)
    gradients = torch.autograd.grad(losses(found["logits"], labels).sum(), points)
    found.update((f"gradient.{j}", gradient) for j, gradient in enumerate(gradients))
    return {name: tensor.detach() for name, tensor in found.items()}, [p.detach() for p in points]


def per_block(network, traced, points, labels):
    """Fig. 2, 3 and 4, each as [blocks, samples]."""
    rows = {name: [] for name in ("cosine", "l2_ratio", "gradient_norm", "h_norm")}
    dropped = {"drop_loss": [], "drop_correct": []}
    for j, point in enumerate(points):
        branch, gradient = traced[f"branch.{j}"], traced[f"gradient.{j}"]
        rows["cosine"].append(cosines(branch, gradient))
        rows["l2_ratio"].append(norms(branch) / norms(point))
        rows["gradient_norm"].append(norms(gradient))
        rows["h_norm"].append(norms(point))
        with torch.no_grad():
            logits = network.from_block(j + 1, network.after(j, point))
        dropped["drop_loss"].append(losses(logits, labels))
        dropped["drop_correct"].append((logits.argmax(dim=1) == labels).to(logits.dtype))
    return {name: torch.stack(values) for name, values in (rows | dropped).items()}


def last_stage(network):
    """The blocks of the last stage."""
    return [j for j, stage in enumerate(network.stage_of) if stage == network.stage_of[-1]]


def exits(network, points, final, labels):
    """Fig. 5 and 6 as [exits, samples]: the head read before the first block of the last stage
    (at s_j where that block is a transition), then after each block."""
    states = [points[j] for j in last_stage(network)] + [final]
    with torch.no_grad():
        judged = [judgement(network.head(state), labels) for state in states]
    return {f"exit_{name}": torch.stack([one[name] for one in judged]) for name in judged[0]}


def taylor(network, traced, points, exit_loss, labels):
    """Section 3, and the cosine with the exit gradient, as [blocks of the last stage, samples]."""
    rows = {"exit_cosine": [], "taylor_predicted": [], "taylor_remainder": []}
    for row, j in enumerate(last_stage(network)):
        gradient, branch = exit_gradient(network, points[j], labels), traced[f"branch.{j}"]
        predicted = dots(branch, gradient)
        rows["exit_cosine"].append(cosines(branch, gradient))
        rows["taylor_predicted"].append(predicted)
        rows["taylor_remainder"].append(exit_loss[row + 1] - exit_loss[row] - predicted)
    return {name: torch.stack(values) for name, values in rows.items()}


def unroll(network, points, final, labels, scale):
    """Fig. 7 as [1 + steps, samples]. Step 0 is the network's own last block; step k applies
    h <- after(h + scale * F(h)) once more. Cosine and ratio belong to the h a step starts from."""
    last, h, after = len(points) - 1, points[-1], final
    block = network.blocks[last]
    rows = []
    for step in range(1 + UNROLLED_STEPS):
        with torch.no_grad():
            branch = block.branch(h) * (scale if step else 1.0)
            after = network.after(last, h + branch) if step else final
            judged = judgement(network.head(after), labels)
        rows.append(
            judged
            | {
                "cosine": cosines(branch, exit_gradient(network, h, labels)),
                "l2_ratio": norms(branch) / norms(h),
                "h_norm": norms(after),
            }
        )
        h = after
    return {f"unroll_{scale}_{name}": torch.stack([row[name] for row in rows]) for name in rows[0]}


def reference_exits(network):
    """The exits at which groups are decided, by name."""
    count = len(last_stage(network)) + 1
    return {"first": max(0, count - EXITS_SHOWN), "final": count - 1}


def group_averages(rows, reference):
    """Accuracy, loss and entropy as [states, groups] for the groups all, correct, borderline,
    decided in the row `reference`; mean and standard deviation over the group's samples."""
    members = [
        torch.ones_like(rows["correct"][reference], dtype=torch.bool),
        rows["correct"][reference] == 1,
        rows["margin"][reference].abs() < BORDERLINE,
    ]
    found = {"samples": torch.stack([member.sum() for member in members]).to(rows["loss"].dtype)}
    for name in ("correct", "loss", "entropy"):
        # An empty group has no average; 0 stands for it.
        chosen = [rows[name][:, m] if m.any() else 0 * rows[name][:, :1] for m in members]
        found[f"{name}_mean"] = torch.stack([values.mean(dim=1) for values in chosen], dim=1)
        if name != "correct":
            found[f"{name}_std"] = torch.stack([values.std(dim=1, correction=0) for values in chosen], dim=1)
    return found


def summary(network, found):
    """Averages over the samples, as the results of an analysis hold them."""
    made = {}
    for name, values in found.items():
        quantity = re.sub(r"^unroll_[\d.]+_", "", name)
        if quantity in AVERAGED:
            made[f"{name}.mean"] = values.mean(dim=1)
            if quantity != "drop_correct" and not name.endswith("_h_norm"):
                made[f"{name}.std"] = values.std(dim=1, correction=0)
    states = {f"exit_{name}": at for name, at in reference_exits(network).items()}
    states |= {f"unroll_{scale}_start": 0 for scale in UNROLL_SCALES}
    for name, reference in states.items():
        prefix = name.rsplit("_", 1)[0]
        rows = {key: found[f"{prefix}_{key}"] for key in ("correct", "loss", "entropy", "margin")}
        averages = group_averages(rows, reference)
        made.update((f"groups.{name}.{key}", value) for key, value in averages.items())
    return made


def subsets(blocks, sizes):
    """All subsets of each size, smallest first, sizes with too many of them left out."""
    for size in sizes:
        if math.comb(len(blocks), size) <= MOST_SETS:
            yield list(itertools.combinations(blocks, size))


def deletions(network, images, labels):
    """Loss and correctness without several blocks, as [sets of ordinary blocks, samples]."""
    ordinary = [j for j, block in enumerate(network.blocks) if not block.transition]
    rows = {"delete_loss": [], "delete_correct": []}
    sizes = [size for size in DELETED if size <= len(ordinary)]
    for deleted in itertools.chain.from_iterable(subsets(ordinary, sizes)):
        with torch.no_grad():
            h = network.stem(images)
            for j, block in enumerate(network.blocks):
                branch = 0.0 if j in deleted else block.branch(h)
                h = network.after(j, block.skip(h) + branch)
            logits = network.head(h)
        rows["delete_loss"].append(losses(logits, labels))
        rows["delete_correct"].append((logits.argmax(dim=1) == labels).to(logits.dtype))
    return {name: torch.stack(values) for name, values in rows.items()}


def path_gradient(network, images, labels, path):
    """Each sample's gradient at h_0 through the branches of the blocks on the path and the
    shortcuts of the others. The values are those of the whole network; what is not on the path
    is a constant to autograd."""
    first = network.stem(images).detach().requires_grad_()
    h = first
    for j, block in enumerate(network.blocks):
        constant = h.detach()
        if j in path:
            total = block.skip(constant).detach() + block.branch(h)
        else:
            total = block.skip(h) + block.branch(constant).detach()
        h = network.after(j, total)
    return torch.autograd.grad(losses(network.head(h), labels).sum(), first)[0]


def paths(network, images, labels):
    """Norm of the gradient through one path, averaged over all paths of a length, as [lengths,
    samples]."""
    blocks = range(len(network.blocks))
    rows = []
    for same_length in subsets(blocks, range(len(blocks) + 1)):
        gradients = [path_gradient(network, images, labels, path) for path in same_length]
        rows.append(torch.stack([norms(gradient) for gradient in gradients]).mean(dim=0))
    return {"path_norm": torch.stack(rows)}


def estimations(network, traced, points):
    """Difference of each point to its stage's end, as [blocks, samples]: mean and standard
    deviation over its elements, and its norm over that of the end."""
    rows = {"estimation_mean": [], "estimation_std": [], "estimation_distance": []}
    for j, point in enumerate(points):
        last = max(i for i, stage in enumerate(network.stage_of) if stage == network.stage_of[j])
        end = points[last] + traced[f"branch.{last}"]
        error = point - end
        rows["estimation_mean"].append(error.flatten(1).mean(dim=1))
        rows["estimation_std"].append(error.flatten(1).std(dim=1, correction=0))
        rows["estimation_distance"].append(norms(error) / norms(end))
    return {name: torch.stack(values) for name, values in rows.items()}


def neighbours(network, images, labels, traced, points):
    """The measures of Veit et al. 2016 and Greff et al. 2017."""
    found = deletions(network, images, labels) | paths(network, images, labels)
    found |= estimations(network, traced, points)
    return {f"neighbours.{name}": value for name, value in found.items()}


def all_measures(network, images, labels):
    """Everything above for one batch."""
    traced, points = trace(network, images, labels)
    final = traced[f"h.{len(points)}"]
    found = traced | per_block(network, traced, points, labels)
    found |= exits(network, points, final, labels)
    found |= taylor(network, traced, points, found["exit_loss"], labels)
    for scale in UNROLL_SCALES:
        found |= unroll(network, points, final, labels, scale)
    return found | summary(network, found) | neighbours(network, images, labels, traced, points)

"""Steps of training as the paper does them: mean cross-entropy, SGD with momentum 0.9,
weight decay 1e-4 on the weights of convolutions and the classifier, learning rate 0.1."""

import torch
from torch.nn import functional

LEARNING_RATE, MOMENTUM, WEIGHT_DECAY = 0.1, 0.9, 1e-4


def optimiser(network):
    """Biases, and the scale and shift of batch norm, do not decay: all vectors."""
    parameters = list(network.parameters())
    return torch.optim.SGD(
        [
            {"params": [p for p in parameters if p.dim() > 1], "weight_decay": WEIGHT_DECAY},
            {"params": [p for p in parameters if p.dim() == 1], "weight_decay": 0.0},
        ],
        lr=LEARNING_RATE,
        momentum=MOMENTUM,
    )


def steps(network, batches):
    """Per step k: `step.k.loss`, `step.k.logits`, `step.k.gradient.NAME` of every parameter, and
    `step.k.tensor.NAME` of every tensor of the checkpoint after the step (weights moved, running
    statistics updated)."""
    network.train()
    found, sgd = {}, optimiser(network)
    for step, (images, labels) in enumerate(batches, start=1):
        sgd.zero_grad()
        logits = network(images)
        loss = functional.cross_entropy(logits, labels)
        loss.backward()
        found[f"step.{step}.logits"], found[f"step.{step}.loss"] = logits.detach(), loss.detach()
        for name, parameter in network.named_parameters():
            found[f"step.{step}.gradient.{name}"] = parameter.grad.clone()
        sgd.step()
        for name, tensor in network.tensors().items():
            found[f"step.{step}.tensor.{name}"] = tensor.detach().clone()
    return found

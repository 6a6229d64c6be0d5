"""How far any careful float32 computation may stray from the exact one.

A comparison needs a bound, and a worst-case bound through thirty layers is useless. So the
network is run in float64 with random errors of the size that float32 rounding makes, put in
wherever a float32 program rounds (Monte Carlo arithmetic, Parker 1997): a sum of K products
of rounded terms is off by about sqrt(K) u, u = 2^-24, relative to its own size (Higham and
Mary 2019), forward and backward. Whatever the network does to such errors it does to
anyone's: what comes out is the sensitivity of each quantity times the rounding of its parts.
"""

import torch
from torch import nn

UNIT_ROUNDOFF = 2.0**-24

# A batch norm rounds a handful of times per element, whatever its size.
ELEMENTWISE_ROUNDINGS = 8


def disturb(x, terms, generator):
    """x with a random error of sqrt(terms) u of its root mean square."""
    size = x.square().mean().sqrt() * (UNIT_ROUNDOFF * terms**0.5)
    return x + size * torch.randn(x.shape, generator=generator, dtype=x.dtype)


class Disturb(torch.autograd.Function):
    """Disturbs the value on the way forward and the gradient on the way back."""

    @staticmethod
    def forward(context, x, forward_terms, backward_terms, generator):
        context.terms, context.generator = backward_terms, generator
        return disturb(x, forward_terms, generator) if forward_terms else x.view_as(x)

    @staticmethod
    def backward(context, gradient):
        if context.terms:
            gradient = disturb(gradient, context.terms, context.generator)
        return gradient, None, None, None


def disturb_network(network, seed):
    """Puts the errors into every convolution, batch norm and linear layer, and into the
    gradient of every parameter. Works on the network in place."""
    generator = torch.Generator().manual_seed(seed)

    def terms_of(layer):
        if isinstance(layer, (nn.Conv2d, nn.Linear)):
            shape = layer.weight.shape
            area = shape[2:].numel()
            return shape[1] * area, shape[0] * area
        return ELEMENTWISE_ROUNDINGS, ELEMENTWISE_ROUNDINGS

    def before(layer, inputs):
        return (Disturb.apply(inputs[0], 0, terms_of(layer)[1], generator),)

    def behind(layer, _, output):
        layer.summed_over = output.numel() // output.shape[1]
        return Disturb.apply(output, terms_of(layer)[0], 0, generator)

    for layer in network.modules():
        if isinstance(layer, (nn.Conv2d, nn.BatchNorm2d, nn.Linear)):
            layer.register_forward_pre_hook(before)
            layer.register_forward_hook(behind)
            for parameter in layer.parameters(recurse=False):
                parameter.register_hook(
                    lambda gradient, layer=layer: disturb(gradient, layer.summed_over, generator)
                )


class ReluInputs:
    """Collects the inputs of every ReLU of the passes that a gradient is taken of, in order."""

    def __init__(self, network):
        self.seen = []
        for layer in network.modules():
            if isinstance(layer, nn.ReLU):
                layer.register_forward_hook(self._keep)

    def _keep(self, _, inputs, __):
        if torch.is_grad_enabled():
            self.seen.append(inputs[0].detach())


def distance_from_kinks(exact, disturbed):
    """How near the exact run comes to a kink of the loss, in standard deviations of the
    disturbed run's error in the same layer: the smallest |input| of all ReLUs.

    Where rounding moves the input of a ReLU across 0, the gradient jumps and no bound holds.
    The fixtures use images for which none comes near.
    """
    errors = [(a - b).square().mean().sqrt() for a, b in zip(exact.seen, disturbed.seen, strict=True)]
    distances = [a.abs().min() / error for a, error in zip(exact.seen, errors, strict=True)]
    return min(distances).item()

"""Tensors given by a formula instead of a file.

A fixture that shipped the weights of resnet-32 would weigh two megabytes. Instead every
number is computed from its tensor's name and its place in it, by integer arithmetic and at
most two float32 operations, so that another language gets the same bits:

    value(name, i) = ((splitmix64(fnv1a64(name) + i) >> 40) - 2^23) * 2^-23       in [-1, 1)

The name is "{seed}/{tensor name}"; i counts the elements in row-major order.
"""

import hashlib

import numpy as np

MASK = (1 << 64) - 1


def fnv1a64(name):
    """The 64-bit FNV-1a hash of a string's UTF-8 bytes."""
    hashed = 0xCBF29CE484222325
    for byte in name.encode():
        hashed = ((hashed ^ byte) * 0x100000001B3) & MASK
    return hashed


def splitmix64(state):
    """The output of splitmix64 for an array of states."""
    with np.errstate(over="ignore"):
        z = state + np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return z ^ (z >> np.uint64(31))


def uniform(seed, name, shape):
    """float32 values in [-1, 1), multiples of 2^-23, hence exact."""
    count = int(np.prod(shape))
    with np.errstate(over="ignore"):
        state = np.uint64(fnv1a64(f"{seed}/{name}")) + np.arange(count, dtype=np.uint64)
    top = (splitmix64(state) >> np.uint64(40)).astype(np.int64) - (1 << 23)
    return (top.astype(np.float32) * np.float32(2.0**-23)).reshape(shape)


def weight_scale(shape):
    """The power of two nearest to sqrt(6 / fan_in), which gives a uniform variable
    He's variance 2 / fan_in: 2^-e with the smallest e such that fan_in <= 12 * 4^e."""
    fan_in = int(np.prod(shape[1:]))
    exponent = 0
    while fan_in > 12 * 4**exponent:
        exponent += 1
    return 2.0**-exponent


def parameter(seed, name, shape, classifier_damping=1.0):
    """One tensor of a checkpoint, its scale chosen by what the name says it is.

    Normalisations stay away from their initial 1 and 0, so that every one of their
    parameters matters. The second convolution of a block is damped by four, so that a network
    whose running statistics are not those of its data keeps its activations sane; the classifier
    where one class would have nearly all of the probability.
    """
    value = uniform(seed, name, shape)
    layer, kind = name.split(".")[-2:]
    one = np.float32(1.0)
    if layer.startswith("bn"):
        if kind == "weight":
            return one + value * np.float32(0.25)
        if kind == "running_var":
            return one + value * np.float32(0.5)
        return value * np.float32(0.125)
    if kind == "bias":
        return value * np.float32(0.125)
    damping = {"conv2": 0.25, "fc": classifier_damping}.get(layer, 1.0)
    return value * np.float32(weight_scale(shape) * damping)


def images(seed, name, count, side=32):
    """Normalised images [count, 3, side, side]: uniform in [-2, 2), standard deviation 1.15."""
    return uniform(seed, name, (count, 3, side, side)) * np.float32(2.0)


def checksum(arrays):
    """SHA-256 of the arrays' bytes, one after the other, little endian."""
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(np.ascontiguousarray(array, dtype="<f4").tobytes())
    return digest.hexdigest()

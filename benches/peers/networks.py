"""The paper's networks in PyTorch, as their users would write them, for comparisons of speed and
of training curves. Tensors have the names of our checkpoints, so that weights can be exchanged."""

from torch import nn
from torch.nn import functional

# Channels of the stem, (blocks, channels) of each stage, what happens between stages.
TABLE = {
    "resnet-32": (16, ((5, 16), (5, 32), (5, 64)), "stride"),
    "resnet-38": (16, ((6, 16), (6, 32), (6, 64)), "stride"),
    "resnet-56": (16, ((9, 16), (9, 32), (9, 64)), "stride"),
    "resnet-110": (16, ((18, 16), (18, 32), (18, 64)), "stride"),
    "single-representation": (100, ((10, 100),), "nothing"),
    "avg-pooling": (150, ((10, 150), (10, 150), (10, 150)), "pool"),
    "wide": (16, ((4, 160), (5, 320), (5, 640)), "stride"),
}

IMAGE_SIDE, HEAD_POOLING = 32, 8


class Block(nn.Module):
    """shortcut(h) + conv2(relu(bn2(conv1(relu(bn1(h)))))), then 2x2 mean pooling if `pooled`."""

    def __init__(self, channels_in, channels, stride, pooled):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels, kernel_size=3, stride=stride, padding=1)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, kernel_size=3, padding=1)
        if stride != 1 or channels != channels_in:
            self.shortcut = nn.Conv2d(channels_in, channels, kernel_size=1, stride=stride)
        else:
            self.shortcut = None
        self.pooled = pooled

    def forward(self, h):
        inner = self.conv1(functional.relu(self.bn1(h), inplace=True))
        branch = self.conv2(functional.relu(self.bn2(inner), inplace=True))
        total = branch + (h if self.shortcut is None else self.shortcut(h))
        return functional.avg_pool2d(total, 2) if self.pooled else total


class Head(nn.Module):
    """BN-ReLU-AvgPool-Flatten-Linear."""

    def __init__(self, channels, side, classes):
        super().__init__()
        self.bn = nn.BatchNorm2d(channels)
        self.fc = nn.Linear(channels * (side // HEAD_POOLING) ** 2, classes)

    def forward(self, h):
        active = functional.relu(self.bn(h), inplace=True)
        return self.fc(functional.avg_pool2d(active, HEAD_POOLING).flatten(1))


class ResidualNetwork(nn.Module):
    """A pre-activation residual network of the paper by name."""

    def __init__(self, name, classes=10):
        super().__init__()
        channels, stages, between = TABLE[name]
        side, blocks = IMAGE_SIDE, []
        self.stem = nn.Conv2d(3, channels, kernel_size=3, padding=1)
        for number, (count, width) in enumerate(stages):
            first_stride = 2 if between == "stride" and number > 0 else 1
            is_last = number + 1 == len(stages)
            for index in range(count):
                stride = first_stride if index == 0 else 1
                pooled = between == "pool" and index + 1 == count and not is_last
                blocks.append(Block(channels, width, stride, pooled))
                channels = width
            side //= 1 if is_last or between == "nothing" else 2
        self.blocks = nn.Sequential(*blocks)
        self.head = Head(channels, side, classes)

    def forward(self, images):
        return self.head(self.blocks(self.stem(images)))


def tensors(network):
    """Every tensor of a checkpoint by name: parameters and running statistics."""
    state = network.state_dict()
    return {name: tensor for name, tensor in state.items() if not name.endswith("num_batches_tracked")}

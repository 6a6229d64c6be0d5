"""The paper's networks in PyTorch, written from its text (section 2 of the paper and appendix A).

Attribute names are chosen so that `named_parameters` and `named_buffers`, which list a
shared module once, under its first name, give the names of the checkpoint format.
"""

from dataclasses import dataclass

from torch import nn


@dataclass(frozen=True)
class Specification:
    """A pre-activation residual network for 32x32 images."""

    stem: int
    stages: tuple  # of (blocks, channels)
    between: str  # "stride": transition blocks; "pool": 2x2 mean pooling; of no account for one stage
    classes: int = 10
    sharing: "Sharing | None" = None
    classifier_damping: float = 1.0  # of its weights in the formula


@dataclass(frozen=True)
class Sharing:
    """In every stage, block `first` and those after it are steps of one block."""

    first: int
    norms: str  # "each its own", "one gamma and beta" (but statistics for each), or "one"


class Block(nn.Module):
    """BN-ReLU-Conv3x3-BN-ReLU-Conv3x3, with a biased 1x1 shortcut where shapes change."""

    def __init__(self, channels_in, channels, stride):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(channels_in)
        self.conv1 = nn.Conv2d(channels_in, channels, 3, stride, padding=1)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv2 = nn.Conv2d(channels, channels, 3, padding=1)
        self.transition = stride != 1 or channels_in != channels
        if self.transition:
            self.shortcut = nn.Conv2d(channels_in, channels, 1, stride)
        self.relu1, self.relu2 = nn.ReLU(), nn.ReLU()

    def skip(self, h):
        return self.shortcut(h) if self.transition else h

    def branch(self, h):
        return self.conv2(self.relu2(self.bn2(self.conv1(self.relu1(self.bn1(h))))))

    def share(self, first, sharing):
        """Makes this block a further step of `first`."""
        self.conv1, self.conv2 = first.conv1, first.conv2
        if sharing.norms == "one":
            self.bn1, self.bn2 = first.bn1, first.bn2
        elif sharing.norms == "one gamma and beta":
            for own, owner in ((self.bn1, first.bn1), (self.bn2, first.bn2)):
                own.weight, own.bias = owner.weight, owner.bias


class Head(nn.Module):
    """BN-ReLU-AvgPool(8,8)-Flatten-Linear."""

    def __init__(self, channels, side, classes):
        super().__init__()
        self.bn, self.relu, self.pool = nn.BatchNorm2d(channels), nn.ReLU(), nn.AvgPool2d(8)
        self.fc = nn.Linear(channels * (side // 8) ** 2, classes)

    def forward(self, h):
        return self.fc(self.pool(self.relu(self.bn(h))).flatten(1))


class Network(nn.Module):
    """A stack of blocks: h_0 = stem(x); h_{j+1} = after_j(skip_j(h_j) + branch_j(h_j))."""

    def __init__(self, specification):
        super().__init__()
        channels, side = specification.stem, 32
        self.stem = nn.Conv2d(3, channels, 3, padding=1)
        self.blocks, self.stage_of, self.pooled_after = nn.ModuleList(), [], set()
        for stage, (count, width) in enumerate(specification.stages):
            strided = stage > 0 and specification.between == "stride"
            if stage > 0:
                side //= 2
            for index in range(count):
                block = Block(channels, width, 2 if strided and index == 0 else 1)
                channels = width
                sharing = specification.sharing
                if sharing and index > sharing.first:
                    block.share(self.blocks[sharing.first - index], sharing)
                self.blocks.append(block)
                self.stage_of.append(stage)
            if specification.between == "pool" and stage + 1 < len(specification.stages):
                self.pooled_after.add(len(self.blocks) - 1)
        self.pool = nn.AvgPool2d(2)
        self.head = Head(channels, side, specification.classes)

    def after(self, j, h):
        return self.pool(h) if j in self.pooled_after else h

    def forward(self, x):
        return self.from_block(0, self.stem(x))

    def from_block(self, first, h):
        """Logits from h_first."""
        for j in range(first, len(self.blocks)):
            h = self.after(j, self.blocks[j].skip(h) + self.blocks[j].branch(h))
        return self.head(h)

    def tensors(self):
        """Every tensor of the checkpoint by name."""
        found = dict(self.named_parameters())
        found.update((name, b) for name, b in self.named_buffers() if "num_batches" not in name)
        return found

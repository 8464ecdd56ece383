"""Small networks for small images, to be trained from scratch."""

from torch import Tensor, nn


class CifarCnn(nn.Sequential):
    """Three convolutions and two linear layers, as in the CIFAR-10 tutorials.

    float32 (B, 3, S, S) -> logits (B, classes). 541,094 parameters for 32 pixels and ten classes.
    """

    def __init__(self, classes: int, size: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for before, after in ((3, 16), (16, 32), (32, 64)):
            layers += [nn.Conv2d(before, after, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2, 2)]
        self.features = nn.Sequential(*layers)
        self.flatten = nn.Flatten()
        self.classifier = nn.Sequential(
            nn.Dropout(0.25),
            nn.Linear(64 * (size // 8) ** 2, 500),
            nn.ReLU(),
            nn.Dropout(0.25),
            nn.Linear(500, classes),
        )


def _block(before: int, after: int, pool: bool = False) -> nn.Sequential:
    layers = [nn.Conv2d(before, after, 3, padding=1, bias=False), nn.BatchNorm2d(after), nn.ReLU()]
    return nn.Sequential(*layers, *([nn.MaxPool2d(2)] if pool else []))


class _Residual(nn.Module):
    def __init__(self, channels: int) -> None:
        super().__init__()
        self.blocks = nn.Sequential(_block(channels, channels), _block(channels, channels))

    def forward(self, images: Tensor) -> Tensor:
        residual: Tensor = self.blocks(images)
        return images + residual


class ResNet9(nn.Sequential):
    """Eight convolutions, two pairs of them residual, and a linear layer; from 16 pixels.

    float32 (B, 3, S, S) -> logits (B, classes). Source: David Page, "How to train your ResNet"
    (2018). `width` is the number of channels after the first layer: 64 there and in `resnet9`; 32
    in `resnet9_narrow`, a quarter of the work.
    """

    def __init__(self, classes: int, width: int) -> None:
        super().__init__()
        self.stem = _block(3, width)
        self.layer1 = nn.Sequential(_block(width, 2 * width, pool=True), _Residual(2 * width))
        self.layer2 = _block(2 * width, 4 * width, pool=True)
        self.layer3 = nn.Sequential(_block(4 * width, 8 * width, pool=True), _Residual(8 * width))
        self.pool = nn.AdaptiveMaxPool2d(1)
        self.flatten = nn.Flatten()
        self.fc = nn.Linear(8 * width, classes)

"""`pipeline layers`."""

from typing import Annotated

import typer

from pipeline.core import program
from pipeline.core.progress import show_activity
from pipeline.core.terminal import print_line, print_table


def layers(
    backbone: Annotated[
        str, typer.Argument(metavar="[BACKBONE]", help="By default that of params.yaml.")
    ] = "",
    depth: Annotated[int, typer.Option(min=1, help="Levels of modules to list.")] = 2,
    size: Annotated[int, typer.Option(help="Side of the images in pixels; 0: images.size.")] = 0,
) -> None:
    """List where a network can be cut: everything from there on trains, the rest runs once.

    Names go into model.trainable, and those that end the network into model.replace.

    Examples:

        pipeline layers resnet18

        pipeline layers timm/convnext_tiny --depth 3
    """
    show_activity("layers")
    with program.imports():
        from pipeline.commands.layers.layers import layers as list_layers
        from pipeline.network.assembly import trainable
        from pipeline.network.backbones import build
        from pipeline.params import load_params

    params = load_params()
    side = size or params.images.size
    changes = {"weights": "none"} | ({"backbone": backbone} if backbone else {})
    network = build(params.model.model_copy(update=changes), side, seed=0).network
    rows = [
        [
            trainable(layer.name),
            layer.kind,
            " + ".join(" x ".join(map(str, shape)) for shape in layer.shapes),
            f"{layer.values * 4 / 1e3:,.1f}",
            f"{layer.trainable / 1e6:,.2f}",
        ]
        for layer in list_layers(network, side, depth)
    ]
    print_table(["model.trainable", "class", "input", "kB", "M trained"], rows)
    print_line(
        "input: per image; kB: stored per image and view as float32 (half with "
        "features.dtype=float16); M trained: million parameters from there on"
    )

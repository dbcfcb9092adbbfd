"""Commands about encoders that others published: look into a file of weights, and import it."""

from pathlib import Path
from typing import Annotated

import typer

encoder = typer.Typer(help="Begin with weights that others published.", no_args_is_help=True)

Weights = Annotated[Path, typer.Argument(metavar="FILE", help="Weights, as torch saves them.")]


@encoder.command("inspect")
def inspect(file: Weights) -> None:
    """Say what a file holds and which encoder it fits; runs nothing that it may hold."""
    from medmtl.build.encoders import inspect_weights

    print(inspect_weights(file))


@encoder.command("import")
def import_weights(
    file: Weights,
    config: Annotated[
        Path, typer.Option(help="YAML of an experiment or a pretraining: whose encoder it is.")
    ],
    out: Annotated[Path, typer.Option(help="Checkpoint for start.weights; replaced if there.")],
    seen: Annotated[
        str, typer.Option(help="What the weights have seen, in words; the report shows them.")
    ],
    partly: Annotated[
        bool, typer.Option("--partly", help="Let what the file does not have stay random.")
    ] = False,
) -> None:
    """Make of published weights a checkpoint that experiments can begin with."""
    from medmtl.build.encoders import import_encoder

    print(import_encoder(file, config=config, out=out, seen=seen, partly=partly))

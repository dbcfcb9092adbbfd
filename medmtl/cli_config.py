"""Commands about configurations: what a file may say, for editors and for readers."""

import json
from typing import Annotated

import typer

configuration = typer.Typer(help="What a configuration may say.", no_args_is_help=True)


@configuration.command("schema")
def schema(
    pretraining: Annotated[
        bool, typer.Option("--pretraining", help="Of a file for 'medmtl pretrain'.")
    ] = False,
) -> None:
    """Print the JSON Schema of a configuration file, for editors.

    In Visual Studio Code, with the extension "YAML" of Red Hat: write it to a file,

        medmtl config schema > medmtl.schema.json

    and name that file in the first line of the configuration, seen from its folder:

        # yaml-language-server: $schema=medmtl.schema.json
    """
    from medmtl.config_schema import file_schema, pretraining_file_schema

    print(json.dumps(pretraining_file_schema() if pretraining else file_schema(), indent=2))


@configuration.command("reference")
def reference() -> None:
    """Print every key with its values, default and meaning, as Markdown."""
    from medmtl.config_reference import config_reference

    print(config_reference(), end="")

"""Commands about learning without labels."""

from contextlib import nullcontext
from pathlib import Path
from typing import Annotated

import typer


def pretrain(
    config: Annotated[Path, typer.Argument(help="A YAML file, see configs/.")],
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="key=value, laid on top of the file.")
    ] = None,
) -> None:
    """Learn an encoder from scans without labels; under torchrun, on several processes."""
    from medmtl.config_file import load_pretraining

    loaded = load_pretraining(config, set_ or [])
    from medmtl.build.pretraining import build_pretraining
    from medmtl.build.tracking import tracked
    from medmtl.reporting.pretraining_display import StepDisplay
    from medmtl.run_folder import RunFolder
    from medmtl.training.memory import keep_freed_memory
    from medmtl.training.ranks import join_ranks

    keep_freed_memory()
    ranks = join_ranks()
    try:
        with StepDisplay(loaded.training.steps, watched=ranks.rank == 0) as display:
            job = build_pretraining(loaded, ranks=ranks, tell=display.show)
            run = RunFolder(job.folder.path)
            display.say(job.describe())
            with tracked(loaded, run) if ranks.rank == 0 else nullcontext():
                job.run()
    finally:
        ranks.leave()
    if ranks.rank == 0:
        print(f"steps:       {job.folder.steps}\nencoder:     {job.folder.encoder}")

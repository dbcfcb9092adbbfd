"""The command `medmtl`: one command a stage. Heavy imports wait inside the commands."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer
from typer._click.exceptions import ClickException  # typer's own copy; it has no public name

from medmtl.cli_build import build_manifest
from medmtl.cli_config import configuration
from medmtl.cli_data import audit, importing, manifests, phantom
from medmtl.cli_encoder import encoder
from medmtl.cli_pretraining import pretrain
from medmtl.cli_privacy import deidentify, forget, secret
from medmtl.cli_scan import scan
from medmtl.errors import MedmtlError

BAD_INPUT, INTERRUPTED = 2, 130

app = typer.Typer(
    help="From a folder of scans to cross-validated AUC and Dice that can be believed.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
manifests.command("build")(build_manifest)
app.add_typer(importing, name="import")
app.add_typer(manifests, name="manifest")
app.add_typer(configuration, name="config")
app.add_typer(scan, name="scan")
app.add_typer(encoder, name="encoder")
app.command()(phantom)
app.command()(pretrain)
app.command()(audit)
app.command()(deidentify)
app.command()(forget)
app.command()(secret)

Set = Annotated[list[str] | None, typer.Option("--set", help="key=value, laid on top of the file.")]


@app.command("describe")
def describe_configuration(
    config: Annotated[Path, typer.Argument(help="A YAML file, see configs/.")],
    set_: Set = None,
) -> None:
    """Show parameters, arithmetic and memory a part, beside separate networks; train nothing."""
    from medmtl.config_file import load_config

    loaded = load_config(config, set_ or [])
    from medmtl.build.architecture import describe_network

    print(describe_network(loaded))


@app.command("cross-validate")
def cross_validate(
    config: Annotated[Path, typer.Argument(help="A YAML file, see configs/.")],
    set_: Set = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show plan, sizes and costs; train nothing.")
    ] = False,
    prepare: Annotated[
        bool, typer.Option("--prepare", help="Freeze the plan, check every scan; train nothing.")
    ] = False,
) -> None:
    """Train and test every arm on every fold; then evaluate and report."""
    from medmtl.config_file import load_config

    loaded = load_config(config, set_ or [])
    if not dry_run and not prepare:
        from medmtl.experiment.engines.nursery import make_nursery

        # Imports the libraries of the cells on another core while this one imports its own.
        make_nursery(loaded.engine.threads_per_worker).warm_up()
    from medmtl.build.experiment import build_cross_validation
    from medmtl.build.report import build_report

    experiment = build_cross_validation(loaded)
    if dry_run:
        from medmtl.build.estimate import describe_plan

        print(describe_plan(loaded, experiment))
        return
    if prepare:
        experiment.prepare()
        print(f"plan:        {experiment.run.plan}, {len(experiment.plan)} cells for 'medmtl cell'")
        return
    from medmtl.build.tracking import tracked

    with tracked(loaded, experiment.run):
        experiment.run_all()
        report = build_report(experiment.run.path)
    print(f"run:         {experiment.run.path}\nreport:      {report}")


@app.command()
def cell(
    run: Annotated[Path, typer.Argument(help="Folder of a run.")],
    cell_id: Annotated[str, typer.Argument(metavar="ID", help="See plan.csv.")],
    with_parent: Annotated[bool, typer.Option("--with-parent", hidden=True)] = False,
    pretraining: Annotated[str, typer.Option(help="Of an engine's job.", hidden=True)] = "",
) -> None:
    """Train and test one cell, alone; goes on where it was stopped."""
    if with_parent:
        from medmtl.experiment.parent import exit_with_parent

        exit_with_parent()
    from medmtl.build.first_weights import make_first_weights
    from medmtl.experiment.plan import planned_cell
    from medmtl.run_folder import RunFolder

    folder = RunFolder(run).cell(planned_cell(RunFolder(run), cell_id).cell_id)
    if pretraining:
        make_first_weights(RunFolder(run), cell_id, job_id=pretraining)
        return
    if not folder.done.is_file():
        make_first_weights(RunFolder(run), cell_id)
        from medmtl.build.cell import build_cell
        from medmtl.experiment.lock import cell_lock

        job = build_cell(RunFolder(run), cell_id)
        with cell_lock(folder.lock):
            if not folder.done.is_file():
                job.run()
    print(f"cell:    {folder.path}")


@app.command()
def report(run: Annotated[Path, typer.Argument(help="Folder of a finished run.")]) -> None:
    """Evaluate the finished cells again and write the report."""
    from medmtl.build.experiment import build_from_run
    from medmtl.build.report import build_report

    build_from_run(run).evaluate()
    print(f"report:  {build_report(run)}")


@app.command()
def compare(
    runs: Annotated[list[Path], typer.Argument(help="Finished runs; the first is the reference.")],
    reference: Annotated[
        str | None, typer.Option(help="With one run: the arm that others are compared with.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="CSV to write, a row a difference.")] = None,
) -> None:
    """Say whether an arm, or a run, helped: paired over the same patients and folds."""
    from medmtl.build.compare import build_comparisons
    from medmtl.reporting.comparison import HOW_TO_READ, comparison_table, comparison_text
    from medmtl.run_folder import write_table

    found = build_comparisons(runs, reference=reference)
    for each in found:
        print(comparison_text(each.first, each.reference, each.comparison))
    print(HOW_TO_READ)
    if out is not None:
        named = [(each.first, each.reference, each.comparison) for each in found]
        write_table(out, comparison_table(named))
        print(f"table:       {out}")


@app.command()
def track(
    run: Annotated[Path, typer.Argument(help="Folder of a run, finished or not.")],
    follow: Annotated[
        bool, typer.Option("--follow", help="Go on until standard input is closed.")
    ] = False,
) -> None:
    """Upload to MLflow what is missing there; MLFLOW_TRACKING_URI says where."""
    from medmtl.build.tracking import build_tracker
    from medmtl.run_folder import RunFolder
    from medmtl.tracking.follower import follow as follow_run
    from medmtl.tracking.follower import upload_lock, wait_for_input
    from medmtl.tracking.store import public_name

    with upload_lock(RunFolder(run)):
        if follow:
            follow_run(RunFolder(run), lambda: build_tracker(run), ended=wait_for_input, say=print)
            return
        tracker = build_tracker(run)
        count = tracker.upload()
    print(f"tracking:    {public_name(tracker.uri)}, {count} values were missing")


@app.command()
def ui(
    runs: Annotated[Path, typer.Argument(help="Folder of the runs.")] = Path("runs"),
    port: Annotated[int, typer.Option(min=1, max=65535)] = 5000,
) -> None:
    """Open MLflow on the tracked runs, for this machine only."""
    from medmtl.tracking.server import serve

    serve(runs, port)


@app.command()
def predict(
    run: Annotated[Path, typer.Argument(help="Folder of a finished run.")],
    manifest: Annotated[Path, typer.Option(help="Of the new cases.")],
    out: Annotated[Path, typer.Option(help="Folder for predictions.csv, masks/ and organs/.")],
    arm: Annotated[
        list[str] | None, typer.Option(help="Only these arms; default: all that see the image.")
    ] = None,
) -> None:
    """Ask the fold ensemble about new cases."""
    from medmtl.build.predictor import build_prediction

    build_prediction(run, manifest, arm or []).run(out)
    print(f"predictions:  {out / 'predictions.csv'}")
    for name in ("masks", "organs"):
        if (out / name).is_dir():
            print(f"{name + ':':<14}{out / name}")


def main() -> None:
    """Runs the command; turns faults into one message and an exit code."""
    os.environ.setdefault("KMP_WARNINGS", "off")
    try:
        code = app(standalone_mode=False)
    except MedmtlError as error:
        if "--with-parent" in sys.argv:
            from medmtl.experiment.engines.local import FAULT_LINE

            print(FAULT_LINE, file=sys.stderr)
        print(f"{error}" if "--with-parent" in sys.argv else f"medmtl: {error}", file=sys.stderr)
        sys.exit(BAD_INPUT)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except ClickException as error:
        error.show()
        sys.exit(BAD_INPUT)
    if code == INTERRUPTED:  # typer turns Ctrl-C into this code
        print("\nmedmtl: interrupted; the same command goes on from here", file=sys.stderr)
    sys.exit(code or 0)

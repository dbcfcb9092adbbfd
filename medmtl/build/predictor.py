"""The fold ensemble of a finished run, pointed at new cases."""

from collections.abc import Sequence
from pathlib import Path

from medmtl.build.cell import build_organ_segmenter, build_segmenter
from medmtl.build.data import build_dataset, build_loader, build_manifest
from medmtl.build.learning import build_model, build_tasks
from medmtl.build.start import read_exposure
from medmtl.config import Config
from medmtl.config_file import load_config, resolve_arm
from medmtl.data.manifest import Manifest
from medmtl.data.manifest_check import require_positions, require_sound
from medmtl.data.manifest_files import read_manifest
from medmtl.data.privacy.secret import find_secret
from medmtl.data.tasks import OrganTask, organ_tasks
from medmtl.errors import ConfigError, ManifestError, RunError
from medmtl.experiment.plan import Cell, read_plan
from medmtl.inference.ensemble import ArmEnsemble, load_weights
from medmtl.inference.prediction import Prediction
from medmtl.inference.scope import Scope, joined_scope
from medmtl.run_folder import RunFolder, require_begun
from medmtl.training.checkpoint import load_tensors


def build_prediction(path: Path, manifest_path: Path, arms: Sequence[str]) -> Prediction:
    """Loads the models of some arms.

    Args:
        path: Folder of the run.
        manifest_path: Of the new cases. What readers have added to it is taken away first, so
            that nothing of it can reach a prediction.
        arms: Names; none: all arms that see the image.

    Raises:
        RunError: The run is not finished.
        ManifestError: The manifest of the new cases has faults.
        ConfigError: There is no such arm.
    """
    run = RunFolder(path)
    require_begun(run)
    config = load_config(run.config)
    chosen = list(arms) or [name for name, arm in config.arms.items() if arm.input == "image"]
    if not chosen:
        raise ConfigError("every arm of this run is a control; name one with --arm")
    for name in chosen:
        if name not in config.arms:
            raise ConfigError(f"--arm {name}: not in this run; allowed: {', '.join(config.arms)}")
    blind = read_manifest(manifest_path, blind=True)
    require_sound(blind)
    require_positions(blind.included())
    card = build_manifest(config).card
    asked = [task for name in chosen for task in build_tasks(resolve_arm(config, name), card)]
    if not organ_tasks(asked) and not blind.included().lesions:
        raise ManifestError(
            f"{blind.card.name}: has no lesion; a prediction is made of a lesion at a position: "
            "add a row a lesion with x_mm, y_mm and z_mm"
        )
    plan = read_plan(run.plan)
    return Prediction(
        arms=[_arm(run, resolve_arm(config, name), plan, blind.included()) for name in chosen],
        manifest=blind,
        seen=[read_exposure(run.cell(cell.cell_id).model) for cell in plan if cell.arm in chosen],
        secret=find_secret(),
    )


def _arm(run: RunFolder, config: Config, plan: Sequence[Cell], manifest: Manifest) -> ArmEnsemble:
    (arm,) = config.arms
    cells = [cell.cell_id for cell in plan if cell.arm == arm]
    unfinished = [cell for cell in cells if not run.cell(cell).done.is_file()]
    if unfinished:
        raise RunError(
            f"{run.path.name}: {', '.join(unfinished)} are not finished; run "
            "'medmtl cross-validate' with the run's configuration first"
        )
    tasks = build_tasks(config, build_manifest(config).card)
    saved = [load_tensors(run.cell(cell).model) for cell in cells]
    return ArmEnsemble(
        arm=arm,
        tasks=tasks,
        models=[load_weights(build_model(config, tasks), each["state"]) for each in saved],
        calibrations=[each["calibration"] for each in saved],
        scopes={
            task.name: joined_scope([Scope.from_dict(each["scopes"][task.name]) for each in saved])
            for task in tasks
        },
        loaders={
            task.window: build_loader(
                config, manifest, task.window if isinstance(task, OrganTask) else None
            )
            for task in tasks
        },
        dataset=lambda lesions, cases: build_dataset(
            config, manifest=manifest, lesions=lesions, cases=cases, tasks=tasks, training=False
        ),
        segmenter=lambda models, task: build_segmenter(config, models, task),
        organ_segmenter=lambda models, task, offsets: build_organ_segmenter(
            config, models, task, offsets
        ),
        average_views=config.inference.average_views,
        precision=config.training.precision,
    )

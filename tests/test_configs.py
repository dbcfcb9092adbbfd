"""The configurations that come with the project can be used as they stand."""

from pathlib import Path

import pytest

from medmtl.build.data import build_patches, build_windows
from medmtl.config_file import load_config, resolve_arm

CONFIGS = sorted((Path(__file__).parents[1] / "configs").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_arm_resolves_to_whole_voxels(path: Path) -> None:
    config = load_config(path)
    for arm in config.arms:
        own = resolve_arm(config, arm)
        for name, head in own.heads.items():
            shapes = build_patches(own) if head.kind == "organs" else build_windows(own)
            place = head.patch if head.kind == "organs" else head.window
            assert shapes[place].size >= (1, 4, 4), name


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_the_reference_is_an_arm_or_baseline_and_every_head_is_used(path: Path) -> None:
    config = load_config(path)
    assert config.evaluation.reference in {*config.arms, *config.baselines}
    assert {head for arm in config.arms.values() for head in arm.heads} == set(config.heads)

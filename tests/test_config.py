"""Ranges and cross-references of the knobs."""

from pathlib import Path

import pytest
import yaml

from medmtl.config import Config
from medmtl.config_file import load_config
from medmtl.errors import ConfigError
from tests.small_experiment import CONFIG, REPOSITORY, write_config


def refusal(tmp_path: Path, *overrides: str) -> str:
    with pytest.raises(ConfigError) as refused:
        load_config(write_config(tmp_path), list(overrides))
    return str(refused.value)


def test_shipped_configuration_is_accepted() -> None:
    config = load_config(REPOSITORY / "configs" / "lidc.yaml")
    assert set(config.arms) >= {"malignancy", "joint", "outline", "padding-only"}


def test_without_arms_one_arm_has_all_heads(tmp_path: Path) -> None:
    values = yaml.safe_load(CONFIG)
    del values["arms"], values["baselines"]["outline-volume"]
    config = load_config(write_config(tmp_path, yaml.safe_dump(values)))
    (arm,) = config.arms.values()
    assert arm.heads == ["malignancy", "nodule"]


def test_configuration_cannot_be_changed(tmp_path: Path) -> None:
    config = load_config(write_config(tmp_path))
    with pytest.raises(ValueError, match="frozen"):
        config.seed = 3  # type: ignore[misc]


@pytest.mark.parametrize(
    "override",
    [
        "training.epochs=0",
        "training.epochs=2.5",
        "training.epochs=many",
        "training.batch_size=1",
        "training.learning_rate=0",
        "training.learning_rate=-1e-3",
        "training.learning_rate=.nan",
        "training.weight_decay=2",
        "training.precision=fp16",
        "folds.count=1",
        "folds.inner_fraction=0",
        "folds.inner_fraction=0.9",
        "spacing_mm=[1.0, 1.0]",
        "spacing_mm=[1.0, 1.0, 0.0]",
        "spacing_mm=1.0",
        "windows.slab.size_mm=[3.0, -12.0, 12.0]",
        "seed=-1",
        "engine.workers=0",
        "engine.kind=ray",
        "evaluation.bootstrap_samples=99",
        "evaluation.sensitivity=1",
        "cache.max_gb=0",
        "name=Small Run",
        "name=../elsewhere",
        "name=",
        "encoder.widths=[8]",
        "encoder.widths=[8, 12]",
    ],
)
def test_value_out_of_range_is_refused_by_its_key(tmp_path: Path, override: str) -> None:
    key = override.partition("=")[0]
    message = refusal(tmp_path, override)
    assert message.startswith(f"--set: {key}"), message
    assert len(message.splitlines()) == 1, message


@pytest.mark.parametrize("key", ["training.epochs", "engine.workers", "training.weight_decay"])
def test_yes_is_no_number(tmp_path: Path, key: str) -> None:
    # YAML reads yes, on and true as True, which Python counts as 1.
    assert key in refusal(tmp_path, f"{key}=yes")


@pytest.mark.parametrize(
    "key",
    ["training.gradient_clip", "cache.max_gb", "evaluation.subgroups.large.at_least"],
)
@pytest.mark.parametrize("value", [".inf", ".nan"])
def test_infinity_and_nan_are_no_settings(tmp_path: Path, key: str, value: str) -> None:
    # Neither survives the resolved configuration, which stores them as nothing at all.
    assert key in refusal(tmp_path, f"{key}={value}")


def test_low_hu_must_be_below_high_hu(tmp_path: Path) -> None:
    assert "low_hu must be below high_hu" in refusal(tmp_path, "intensity.low_hu=500")


@pytest.mark.parametrize(
    ("override", "wrong", "known"),
    [
        ("heads.malignancy.window=slap", "slap", "slab"),
        ("arms.joint.heads=[malignancy, nodul]", "nodul", "nodule"),
        ("baselines.diameter.task=malignant", "malignant", "malignancy"),
        ("baselines.outline-volume.arm=jiont", "jiont", "joint"),
        ("evaluation.reference=diametre", "diametre", "diameter"),
    ],
)
def test_unknown_name_is_told_with_those_that_there_are(
    tmp_path: Path, override: str, wrong: str, known: str
) -> None:
    message = refusal(tmp_path, override)
    assert repr(wrong) in message
    assert known in message
    assert override.partition("=")[0] in message


def test_baseline_of_an_outline_is_refused(tmp_path: Path) -> None:
    assert "'nodule' is no classification head" in refusal(
        tmp_path, "baselines.diameter.task=nodule"
    )


def test_volume_baseline_needs_an_arm_that_outlines(tmp_path: Path) -> None:
    # Otherwise it would be told after the last cell has been trained.
    message = refusal(tmp_path, "baselines.outline-volume.arm=class-only")
    assert "outline-volume" in message


def test_arm_and_baseline_must_not_share_a_name(tmp_path: Path) -> None:
    message = refusal(
        tmp_path, "baselines.joint={kind: lesion_column, task: malignancy, column: a}"
    )
    assert "'joint' names an arm too" in message


@pytest.mark.parametrize("name", ["Joint", "a b", "../x", "a.b", "-a"])
def test_arm_whose_name_is_no_folder_name_is_refused(tmp_path: Path, name: str) -> None:
    values = yaml.safe_load(CONFIG)
    values["arms"][name] = {"heads": ["malignancy"]}
    with pytest.raises(ConfigError, match="use small letters"):
        load_config(write_config(tmp_path, yaml.safe_dump(values)))


@pytest.mark.parametrize("name", ["a.b", "", "keys", "forward", "items"])
def test_head_whose_name_torch_cannot_take_is_refused_or_works(tmp_path: Path, name: str) -> None:
    from medmtl.build.learning import build_model
    from medmtl.data.tasks import ClassificationTask

    values = yaml.safe_load(CONFIG)
    values["heads"] = {name: {"kind": "classification", "label": "malignant", "window": "slab"}}
    values |= {"arms": {"only": {"heads": [name]}}, "baselines": {}, "evaluation": {}}
    try:
        config = load_config(write_config(tmp_path, yaml.safe_dump(values)))
        task = ClassificationTask(name=name, label="malignant", classes=("a", "b"), window="slab")
        build_model(config, [task])
    except ConfigError as error:
        assert "heads" in str(error)


def test_every_knob_with_a_unit_says_so_in_its_name() -> None:
    schema = Config.model_json_schema()
    for model in schema["$defs"].values():
        for name, knob in model.get("properties", {}).items():
            if "mm" in knob.get("description", "").split():
                assert name.endswith("_mm"), name

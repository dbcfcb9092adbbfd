"""The schema and the reference of a configuration say what the loader does."""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args, get_origin

import pytest
import yaml
from pydantic import BaseModel

from medmtl.config import Config
from medmtl.config_file import OF_ONE_ARM, load_config
from medmtl.config_pretraining import Pretraining
from medmtl.config_reference import config_reference
from medmtl.config_schema import file_schema
from medmtl.errors import ConfigError
from tests.json_schema import fits
from tests.small_experiment import CONFIG, REPOSITORY, Medmtl, write_config

CONFIGS = sorted((REPOSITORY / "configs").glob("*.yaml"))
SCHEMA = file_schema()


def changed(key: str, value: Any) -> dict[str, Any]:
    """The small configuration with one key, of parts with slashes, set to another value."""
    values = copy.deepcopy(yaml.safe_load(CONFIG))
    *parents, last = key.split("/")
    group = values
    for part in parents:
        group = group.setdefault(part, {})
    group[last] = value
    return values


def is_loaded(values: dict[str, Any], folder: Path) -> bool:
    try:
        load_config(write_config(folder, yaml.safe_dump(values)))
    except ConfigError:
        return False
    return True


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_configuration_of_the_project_keeps_the_schema(path: Path) -> None:
    assert fits(yaml.safe_load(path.read_text(encoding="utf-8")), SCHEMA)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("manifest", ["cohort/manifest", "cohort/manifest"]),
        ("heads/malignancy/loss", {"kind": "focal"}),
        ("encoder", {"kind": "monai_segresnet", "norm": "instance"}),
        ("folds/table", "folds.csv"),
        ("folds/table", None),
        ("arms/joint/set", {"training": {"epochs": 3}}),
        ("arms/joint/set", {"encoder.widths": [8, 8], "heads.nodule.weight": 2.0}),
        ("baselines/readers", {"kind": "table", "task": "malignancy", "path": "r.csv"}),
    ],
)
def test_what_the_loader_accepts_keeps_the_schema(key: str, value: Any, tmp_path: Path) -> None:
    assert is_loaded(changed(key, value), tmp_path)
    assert fits(changed(key, value), SCHEMA)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("trainin", {"epochs": 2}),
        ("training/epoch", 2),
        ("training/epochs", 0),
        ("training/epochs", "many"),
        ("training/precision", "fp16"),
        ("spacing_mm", [1.0, 1.0]),
        ("encoder", {"widths": [8, 16]}),
        ("encoder/widths", [8, 12]),
        ("heads/malignancy/loss", {"gamma": 2.0}),
        ("heads/nodule/kind", "segmentaton"),
        ("heads/nodule", {"kind": "segmentation", "window": "patch"}),
        ("heads/Nodule", {"kind": "segmentation", "structure": "nodule", "window": "patch"}),
        ("arms/joint/set", {"training.epoch": 3}),
        ("arms/joint/set", {"training.epochs": 0}),
        ("arms/joint/set", {"folds.count": 3}),
        ("evaluation/subgroups/large/at_leat", 8),
        ("name", "Small Run"),
        ("manifest", []),
    ],
)
def test_what_the_loader_refuses_breaks_the_schema(key: str, value: Any, tmp_path: Path) -> None:
    assert not is_loaded(changed(key, value), tmp_path)
    assert not fits(changed(key, value), SCHEMA)


def test_what_must_be_given_may_stand_in_the_base() -> None:
    for key in ("name", "manifest", "heads"):
        values = yaml.safe_load(CONFIG)
        del values[key]
        assert not fits(values, SCHEMA)
        assert fits({**values, "base": "other.yaml"}, SCHEMA)
    assert fits({"base": "other.yaml", "heads": {"nodule": {"weight": 3.0}}}, SCHEMA)
    assert fits({"base": "other.yaml", "encoder": {"dropout": 0.1}}, SCHEMA)


@pytest.mark.parametrize(
    "values",
    [
        {"heads": {"nodule": {"wieght": 3.0}}},
        {"trainin": {"epochs": 3}},
        {"training": {"epochs": 0}},
        {"arms": {"joint": {"set": {"training.epoch": 3}}}},
    ],
)
def test_a_mistake_is_seen_above_a_base_too(values: dict[str, Any]) -> None:
    assert not fits({"base": "other.yaml", **values}, SCHEMA)


def test_arms_may_set_in_the_schema_what_they_may_set_in_the_loader() -> None:
    allowed = SCHEMA["$defs"]["Departures"]["properties"]
    assert {name.partition(".")[0] for name in allowed} == set(OF_ONE_ARM)
    assert "training.epochs" in allowed and "inference.overlap" in allowed


def test_the_command_prints_the_schema(medmtl: Medmtl) -> None:
    answer = medmtl("config", "schema")
    assert (answer.code, answer.err) == (0, "")
    printed = json.loads(answer.out)
    assert printed == SCHEMA
    assert printed["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_help_of_the_schema_says_how_an_editor_finds_it(medmtl: Medmtl) -> None:
    assert "# yaml-language-server: $schema=" in medmtl("config", "schema", "--help").out


def keys_of(annotation: Any, path: str) -> Iterator[str]:
    """Every key below a type, by way of the models themselves, with NAME for names of users."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        for name, knob in annotation.model_fields.items():
            key = f"{path}.{name}" if path else name
            yield key
            within = {dict: ".NAME", list: ".NUMBER"}.get(get_origin(knob.annotation), "")
            if key != "start.pretraining":  # named by its own file, told apart
                yield from keys_of(knob.annotation, key + within)
        return
    for each in get_args(annotation):
        yield from keys_of(each, path)


def test_every_knob_of_every_group_has_a_row_that_says_what_it_means() -> None:
    lines = config_reference().splitlines()
    titles = [line.removeprefix("## ") for line in lines if line.startswith("## ")]
    sections = {title.removeprefix("pretraining: ") for title in titles}
    rows = [line.split(" | ") for line in lines if line.startswith("| `")]
    meanings = {cells[0].strip("| `"): cells[-1].strip("| ") for cells in rows}
    keys = {*keys_of(Config, ""), *keys_of(Pretraining, "")}
    assert len(keys) > 90
    assert keys | {"base", "The experiment"} == set(meanings) | sections
    assert [key for key, meaning in meanings.items() if len(meaning) < 5] == []


@pytest.mark.parametrize(
    "row",
    [
        "| `name` | text | must be given |",
        "| `manifest` | path or list of at least 1: path | must be given |",
        "| `intensity.low_hu` | number from -1024 to 3000 HU | `-1000.0` |",
        "| `training.learning_rate` | number above 0, at most 1 | `0.002` |",
        "| `training.precision` | `bf16` or `fp32` | `bf16` |",
        "| `training.evaluate_every` | whole number, at least 1 | `2` |",
        "| `encoder.widths` | list of 2 to 6: whole number from 8 to 1024, a multiple of 8 |",
        "| `windows.NAME.size_mm` | [depth, height, width]: number above 0, at most 1000 mm |",
        "| `heads.NAME.kind` | `organs` | must be given |",
        "| `heads.NAME.loss.gamma` | number from 0 to 10 | `2.0` |",
        "| `folds.table` | path or `null` | none |",
        "| `patches.NAME.augmentation.flip_width` | `true` or `false` | `true` |",
    ],
)
def test_a_row_says_what_may_stand_there_and_the_default(row: str) -> None:
    assert row in config_reference()


def test_the_committed_reference_is_what_the_command_prints(medmtl: Medmtl) -> None:
    answer = medmtl("config", "reference")
    assert (answer.code, answer.err) == (0, "")
    committed = (REPOSITORY / "docs" / "reference.md").read_text(encoding="utf-8")
    assert answer.out == committed, "docs/reference.md is old; write it anew: make docs"

"""What `medmtl describe` prints: read back from the text, beside the real networks."""

import re
from pathlib import Path

import pytest
import torch

from medmtl.build.architecture import describe_network
from medmtl.build.data import build_manifest
from medmtl.build.learning import build_model, build_tasks
from medmtl.config import Config
from medmtl.config_file import load_config, resolve_arm
from medmtl.errors import ConfigError, ManifestError
from tests.small_experiment import write_config
from tests.synthetic import write_cohort

torch.set_num_threads(1)
CONFIG = """\
name: three
manifest: cohort/manifest
windows:
  slab: {size_mm: [3.0, 12.0, 12.0]}
  patch: {size_mm: [4.0, 16.0, 16.0]}
patches:
  body: {size_mm: [16.0, 32.0, 32.0], spacing_mm: [2.0, 2.0, 2.0], batch_size: 2}
encoder: {kind: lean_residual, widths: [8, 16]}
heads:
  grade: {kind: classification, label: malignant, window: slab}
  nodule: {kind: segmentation, structure: nodule, window: patch}
  organs: {kind: organs, patch: body}
arms:
  alone: {heads: [grade]}
  together: {heads: [grade, nodule, organs], title: "All [three]"}
training: {batch_size: 4}
"""
PARAMETERS, FORWARD, STEP, STATE, KEPT, MEMORY, FILE = range(7)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("three")
    write_cohort(home / "cohort", patients=2, side=8, organs=True)
    return write_config(home, CONFIG)


@pytest.fixture(scope="module")
def text(path: Path) -> str:
    return describe_network(load_config(path))


def describe(path: Path, *overrides: str) -> str:
    return describe_network(load_config(path, overrides))


def row(text: str, name: str) -> list[str]:
    """The numbers of the one row of that name."""
    (line,) = [each for each in text.splitlines() if re.match(rf" *{name}  ", each)]
    return line.strip().removeprefix(name).split()


def real_parameters(config: Config, arm: str, *tasks: str) -> int:
    own = resolve_arm(config, arm)
    built = [each for each in build_tasks(own, build_manifest(own).card) if each.name in tasks]
    return sum(each.numel() for each in build_model(own, built).parameters())


def test_parameters_are_exactly_those_of_the_networks_that_are_trained(
    path: Path, text: str
) -> None:
    config = load_config(path)
    heads = ["grade", "nodule", "organs"]
    whole = real_parameters(config, "together", *heads)
    each = [real_parameters(config, "together", head) for head in heads]
    assert row(text, "whole network")[PARAMETERS] == f"{whole:,}"
    assert [row(text, f"{head} alone")[PARAMETERS] for head in heads] == [f"{n:,}" for n in each]
    assert row(text, "sum of separate")[PARAMETERS] == f"{sum(each):,}"
    assert row(text, "shared : sum")[PARAMETERS] == f"{whole / sum(each):.2f}"
    assert whole < sum(each)


def test_rows_of_a_network_add_up_to_it(text: str) -> None:
    parts = ["encoder", "head grade", "head nodule", "head organs"]
    counts = [int(row(text, part)[PARAMETERS].replace(",", "")) for part in parts]
    assert f"{sum(counts):,}" == row(text, "whole network")[PARAMETERS]


def test_encoder_is_counted_for_each_kind_of_window_with_its_own_batch(text: str) -> None:
    assert "4 of slab (3 x 12 x 12 voxels)" in " ".join(text.split())
    assert "4 of patch (4 x 16 x 16 voxels)" in " ".join(text.split())
    assert "2 of body (8 x 16 x 16 voxels)" in " ".join(text.split())
    slab, patch, body = (row(text, f"on {each}") for each in ("slab", "patch", "body"))
    # FLOPs and kept bytes go with the voxels, norms and copies of weights aside.
    assert float(body[0]) == pytest.approx(2 * float(patch[0]), abs=0.0016)  # as rounded
    assert float(body[1]) == pytest.approx(float(patch[1]), abs=0.011)
    assert float(slab[0]) < float(patch[0])


def test_windows_of_several_kinds_are_said_to_save_no_flops(text: str) -> None:
    ratios = row(text, "shared : sum")
    assert (ratios[FORWARD], ratios[STEP], ratios[KEPT]) == ("1.00", "1.00", "1.00")
    assert "slab, patch and body go through the encoder each on their own" in text
    assert "Norms are not shared" in text


def test_one_window_is_said_to_save_flops(path: Path) -> None:
    text = describe(path, "heads.grade.window=patch", "arms.together.heads=[grade, nodule]")
    ratios = row(text, "shared : sum")
    assert float(ratios[FORWARD]) < 0.9 and float(ratios[KEPT]) < 0.9
    assert "On patch, grade and nodule share each pass" in text
    assert "each on their own" not in text and "Norms" not in text


def test_only_arms_of_several_heads_are_described(text: str) -> None:
    assert "together: All [three] ===" in text
    assert not re.search(r"^alone\b", text, re.MULTILINE)
    assert text.count("whole network") == 1


def test_without_several_heads_every_arm_is_described(path: Path) -> None:
    text = describe(path, "arms.together.heads=[organs]")
    assert text.count("whole network") == 2
    assert "alone ===" in text and "together: All [three] ===" in text
    assert text.count("nothing is shared") == 2
    assert "sum of separate" not in text


def test_departures_of_an_arm_are_followed(path: Path, text: str) -> None:
    other = describe(path, "arms.together.set={encoder.widths: [16, 32], training.batch_size: 8}")
    assert "8 of slab" in other
    assert row(other, "encoder") != row(text, "encoder")


def test_structures_are_all_of_the_card_by_default(path: Path, text: str) -> None:
    assert describe(path, "heads.organs.structures=[right_side, left_side]") == text


def test_text_fits_a_terminal(text: str) -> None:
    assert max(map(len, text.splitlines())) <= 80
    assert "…" not in text


def test_something_small_is_not_shown_as_nothing(text: str) -> None:
    assert row(text, "head grade")[FORWARD] == "<0.001"


def test_missing_manifest_is_told(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match=r"card\.yaml is missing"):
        describe(write_config(tmp_path, CONFIG))


def test_label_that_is_not_on_the_card_is_told(path: Path) -> None:
    with pytest.raises(ConfigError, match=r"heads\.grade\.label"):
        describe(path, "heads.grade.label=stage")

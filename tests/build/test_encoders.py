"""Every kind of encoder, from its knobs to a step of training."""

from pathlib import Path

import pytest
import torch

from medmtl.build.architecture import describe_network
from medmtl.build.data import build_manifest, build_windows
from medmtl.build.learning import ENCODERS, build_encoder, build_model, build_tasks
from medmtl.config_file import load_config, resolve_arm
from medmtl.errors import ConfigError
from tests.small_experiment import write_config
from tests.synthetic import write_cohort

torch.set_num_threads(1)
CONFIG = """\
name: encoders
manifest: cohort/manifest
windows:
  slab: {size_mm: [3.0, 15.0, 18.0]}
  patch: {size_mm: [9.0, 16.0, 20.0]}
encoder: ENCODER
heads:
  grade: {kind: classification, label: malignant, window: slab}
  nodule: {kind: segmentation, structure: nodule, window: patch}
"""
VIT = "kind: monai_vit, hidden_size: 48, mlp_dim: 64, num_layers: 4, num_heads: 4"
KINDS = {
    "monai_segresnet": "{kind: monai_segresnet, init_filters: 8, norm: group}",
    "monai_resnet": "{kind: monai_resnet, depth: 10, conv1_t_size: 3}",
    "monai_densenet": "{kind: monai_densenet, dropout: 0.1}",
    "monai_efficientnet": "{kind: monai_efficientnet}",
    "monai_vit": f"{{{VIT}, patch_size: [4, 8, 8], image_size: [8, 16, 16]}}",
    "monai_swin_unetr": "{kind: monai_swin_unetr, feature_size: 12}",
    "nnunet_resenc": "{kind: nnunet_resenc, widths: [8, 16, 16], blocks: [1, 2, 1]}",
}


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("encoders")
    write_cohort(home / "cohort", patients=2, side=8)
    return home


@pytest.mark.parametrize("kind", KINDS)
def test_a_step_of_training_changes_the_encoder(home: Path, kind: str) -> None:
    config = load_config(write_config(home, CONFIG.replace("ENCODER", KINDS[kind])))
    config = resolve_arm(config, "all-heads")
    torch.manual_seed(0)
    model = build_model(config, build_tasks(config, build_manifest(config).card)).train()
    before = {name: p.clone() for name, p in model.encoder.named_parameters() if p.requires_grad}
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, weight_decay=0.0)
    with torch.autocast("cpu", torch.bfloat16):
        for task, window in (("grade", "slab"), ("nodule", "patch")):
            size = build_windows(config)[window].size
            logits = model(torch.randn(4, 1, *size), [task])[task]
            assert task == "grade" or logits.shape == (4, 1, *size)
            logits.square().mean().backward()
    optimizer.step()
    after = dict(model.encoder.named_parameters())
    changed = [name for name, old in before.items() if not torch.equal(old, after[name])]
    assert len(changed) > 0.9 * len(before)
    assert all(torch.isfinite(each).all() for each in after.values())


def test_networks_with_attention_are_described(home: Path) -> None:
    config = load_config(write_config(home, CONFIG.replace("ENCODER", KINDS["monai_vit"])))
    text = describe_network(config)
    assert "monai_vit" in text and "whole network" in text


def test_every_kind_of_encoder_is_known_and_tried() -> None:
    assert set(ENCODERS) == {*KINDS, "lean_residual"}


def test_an_encoder_is_built_from_its_knobs_alone(home: Path) -> None:
    knobs = "{kind: lean_residual, widths: [8, 16], norm: group}"
    windows = CONFIG.replace("ENCODER", knobs)
    encoder = build_encoder(load_config(write_config(home, windows)).encoder)
    assert encoder.channels == [8, 16]


@pytest.mark.parametrize("kind", ["lean_residual, widths: [8, 16]", "lean_residual, norm: group"])
def test_our_own_needs_windows_of_whole_stems(home: Path, kind: str) -> None:
    config = load_config(write_config(home, CONFIG.replace("ENCODER", f"{{kind: {kind}}}")))
    with pytest.raises(ConfigError, match="multiples of 4"):
        build_windows(config)


def test_a_window_that_instance_norm_would_make_zero_is_refused(home: Path) -> None:
    knobs = "{kind: monai_segresnet, init_filters: 8, norm: instance}"
    path = write_config(home, CONFIG.replace("ENCODER", knobs))
    taken = load_config(path, ["windows.slab.size_mm=[1.0, 8.0, 9.0]"])
    assert build_windows(taken)["slab"].size == (1, 8, 9)
    build_encoder(taken.encoder)(torch.randn(2, 1, 1, 8, 9))
    small = load_config(path, ["windows.slab.size_mm=[2.0, 8.0, 8.0]"])
    with pytest.raises(ValueError, match="more than 1 spatial element"):
        build_encoder(small.encoder)(torch.randn(2, 1, 2, 8, 8))
    with pytest.raises(ConfigError, match=r"windows.slab.size_mm: 2 x 8 x 8 voxels.*norm: group"):
        build_windows(small)


@pytest.mark.parametrize(
    ("knobs", "told"),
    [
        ("num_heads: 5", "multiple of num_heads"),
        ("image_size: [96, 96, 100]", "whole patches"),
        ("patch_size: [1, 1, 1]", "above 1"),
        ("patch_size: [3, 8, 8]", "patch_size"),
    ],
)
def test_a_transformer_that_does_not_fit_is_refused(home: Path, knobs: str, told: str) -> None:
    asked = f"{{kind: monai_vit, {knobs}}}"
    with pytest.raises(ConfigError, match=told):
        load_config(write_config(home, CONFIG.replace("ENCODER", asked)))

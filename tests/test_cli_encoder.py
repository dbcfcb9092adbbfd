"""`medmtl encoder`: weights that others published, from their files to an experiment."""

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from monai.networks import nets
from monai.networks.nets.segresnet_ds import SegResEncoder
from torch import Tensor, nn

from medmtl.build.cell import build_cell
from medmtl.build.encoders import KNOBS, read_encoder_knobs
from medmtl.build.experiment import build_cross_validation
from medmtl.build.learning import build_encoder
from medmtl.build.start import read_exposure
from medmtl.config_file import load_config
from medmtl.experiment.guard import tell
from medmtl.models.encoder import level_steps
from medmtl.models.norm import shared_name
from medmtl.training.checkpoint import load_tensors, save_tensors
from tests.small_experiment import Answer, Medmtl, assert_refused, write_config
from tests.small_pretraining import CONFIG as PRETRAINING
from tests.small_pretraining import MOCO
from tests.synthetic import write_cohort

torch.set_num_threads(1)
SEEN = "two hospitals of ours, about 5,000 CT"
RESNET = "{kind: monai_resnet, depth: 10}"


def under(before: str, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {before + name: value for name, value in state.items()}


def resnet() -> Any:
    return under("module.", nets.resnet10(spatial_dims=3, n_input_channels=1).state_dict())


def self_supervised_swin() -> Any:
    whole = nets.SwinUNETR(in_channels=1, out_channels=2, feature_size=12).state_dict()
    older = {name.replace("linear", "fc"): value for name, value in whole.items()}
    own = {n: v for n, v in older.items() if n.startswith("swinViT.")}
    renamed = {f"module.{name.removeprefix('swinViT.')}": value for name, value in own.items()}
    return {"epoch": 3, "state_dict": renamed}


def unetr() -> Any:
    return nets.UNETR(
        in_channels=1,
        out_channels=2,
        img_size=(32, 32, 32),
        hidden_size=96,
        mlp_dim=64,
        num_heads=4,
    ).state_dict()


def segresnet() -> Any:
    made = SegResEncoder(
        spatial_dims=3, init_filters=8, norm="batch", blocks_down=(1, 2, 2, 4),
        anisotropic_scales=[*level_steps(4), (1, 1, 1)],
    )  # fmt: skip
    return under("encoder.", made.state_dict())


def densenet() -> Any:
    return {"model": nets.DenseNet121(spatial_dims=3, in_channels=1, out_channels=2).state_dict()}


def efficientnet() -> Any:
    made = nets.EfficientNetBN("efficientnet-b0", spatial_dims=3, in_channels=1, pretrained=False)
    return {"model_state_dict": under("backbone.", made.state_dict())}


def nnssl() -> Any:
    torch.manual_seed(0)
    small = {"kind": "nnunet_resenc", "widths": [8, 16, 16], "blocks": [1, 2, 1]}
    state = build_encoder(KNOBS.validate_python(small)).state_dict()
    doubled = {n.replace(".conv.", ".all_modules.0."): v for n, v in state.items()}
    return {
        "network_weights": {
            **under("encoder.", state),
            **under("encoder.", doubled),
            **under("decoder.encoder.", state),
            "decoder.seg_layers.0.weight": torch.zeros(2),
        },
        "citations": ["Wald"],
        "nnssl_adaptation_plan": {"key_to_encoder": "encoder.stages", "spacing": None},
    }


# A file, what its encoder is under, and the settings that it was made with.
PUBLISHED: dict[str, tuple[Callable[[], Any], str, Any]] = {
    "resnet": (resnet, "module.", {"kind": "monai_resnet", "depth": 10, "bias_downsample": True}),
    "swin": (self_supervised_swin, "", {"kind": "monai_swin_unetr", "feature_size": 12}),
    "vit": (
        unetr, "vit.",
        {"kind": "monai_vit", "hidden_size": 96, "mlp_dim": 64, "num_heads": 1,
         "image_size": [32, 32, 32]},
    ),
    "segresnet": (segresnet, "encoder.", {"kind": "monai_segresnet", "init_filters": 8}),
    "densenet": (densenet, "", {"kind": "monai_densenet"}),
    "efficientnet": (efficientnet, "backbone.", {"kind": "monai_efficientnet"}),
    "nnssl": (
        nnssl, "encoder.",
        {"kind": "nnunet_resenc", "widths": [8, 16, 16], "blocks": [1, 2, 1]},
    ),
}  # fmt: skip


def save(path: Path, content: object) -> Path:
    torch.save(content, path)
    return path


def config_of(home: Path, encoder: str) -> Path:
    text = "{kind: lean_residual, widths: [8, 16]}"
    path = write_config(home)
    path.write_text(path.read_text("utf-8").replace(text, encoder), encoding="utf-8")
    return path


def imported(medmtl: Medmtl, file: Path, config: Path, *more: str) -> Answer:
    out = config.parent / "begin.pt"
    return medmtl(
        "encoder", "import", file, "--config", config, "--out", out, "--seen", SEEN, *more
    )


@pytest.fixture(scope="module")
def resnet_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tmp_path_factory.mktemp("published") / "resnet10.pth", {"state_dict": resnet()})


@pytest.mark.parametrize("kind", PUBLISHED)
def test_with_the_settings_that_inspect_shows_every_tensor_arrives_as_it_was(
    medmtl: Medmtl, tmp_path: Path, kind: str
) -> None:
    make, before, expected = PUBLISHED[kind]
    content = make()
    file = save(tmp_path / "published.pt", content)
    answer = medmtl("encoder", "inspect", file)
    assert answer.code == 0, answer.err
    assert "100 % of" in answer.out and "does not say which scans" in answer.out
    assert max(map(len, answer.out.splitlines())) <= 80
    shown = yaml.safe_load(answer.out[answer.out.index("\nencoder:\n") :])["encoder"]
    assert {**shown, **expected} == shown

    config = config_of(tmp_path, json.dumps(shown))
    answer = imported(medmtl, file, config)
    assert answer.code == 0, answer.err
    assert "stay random" not in answer.out or "no published network has" in answer.out
    assert max(map(len, answer.out.replace(str(tmp_path), "").splitlines())) <= 80
    own = next((v for v in content.values() if isinstance(v, dict)), content)
    state = load_tensors(tmp_path / "begin.pt")["state"]
    encoder = build_encoder(read_encoder_knobs(config)).state_dict()
    assert list(state) == [f"encoder.{name}" for name in encoder]
    same = 0
    for name, value in state.items():
        core = name.removeprefix("encoder.").removeprefix("network.")
        old = core.replace("linear", "fc")
        names = [start + each for start in (before, "module.", "") for each in (core, old)]
        found = [own[each] for each in names if each in own]
        assert found or "raising" in name, name
        assert not found or torch.equal(found[0], value)
        same += bool(found)
    assert same > 0.8 * len(state)


def test_a_pretraining_names_an_encoder_too(
    medmtl: Medmtl, tmp_path: Path, resnet_file: Path
) -> None:
    config = tmp_path / "pretraining.yaml"
    text = PRETRAINING.format(methods=MOCO)
    config.write_text(
        text.replace("{kind: lean_residual, widths: [8, 16]}", RESNET), encoding="utf-8"
    )
    answer = imported(medmtl, resnet_file, config)
    assert answer.code == 0 and "matched:" in answer.out, answer.err


def test_an_image_of_several_channels_is_added_up_and_told(
    medmtl: Medmtl, tmp_path: Path, resnet_file: Path
) -> None:
    state = torch.load(resnet_file, weights_only=True)["state_dict"]
    first = torch.randn(64, 3, 7, 7, 7)
    file = save(tmp_path / "a.pt", {**state, "module.conv1.weight": first})
    answer = imported(medmtl, file, config_of(tmp_path, RESNET))
    assert answer.code == 0 and "added up:" in answer.out
    saved = load_tensors(tmp_path / "begin.pt")["state"]["encoder.network.conv1.weight"]
    assert torch.allclose(saved[:, 0], first.sum(1))


def test_less_than_most_of_an_encoder_is_refused_unless_partly(
    medmtl: Medmtl, tmp_path: Path, resnet_file: Path
) -> None:
    state = torch.load(resnet_file, weights_only=True)["state_dict"]
    some = {name: value for name, value in state.items() if "layer4" not in name}
    file, config = save(tmp_path / "a.pt", some), config_of(tmp_path, RESNET)
    refused = imported(medmtl, file, config)
    assert_refused(refused, "of 60 tensors of monai_resnet were found", "layer4", "--partly")
    assert not (tmp_path / "begin.pt").exists()
    answer = imported(medmtl, file, config, "--partly")
    assert answer.code == 0 and "15 stay random: network.layer4" in answer.out
    first = load_tensors(tmp_path / "begin.pt")["state"]
    assert imported(medmtl, file, config, "--partly").code == 0
    again = load_tensors(tmp_path / "begin.pt")["state"]
    assert all(torch.equal(first[name], again[name]) for name in first)


def test_another_shape_is_refused_with_both(medmtl: Medmtl, tmp_path: Path) -> None:
    file = save(tmp_path / "a.pt", unetr())
    knobs = {**PUBLISHED["vit"][2], "image_size": [48, 48, 48]}
    answer = imported(medmtl, file, config_of(tmp_path, json.dumps(knobs)))
    assert_refused(answer, "position_embeddings: 1 x 8 x 96 in the file, 1 x 27 x 96 here")


def test_files_that_cannot_be_used_are_one_message(
    medmtl: Medmtl, tmp_path: Path, resnet_file: Path
) -> None:
    config = config_of(tmp_path, RESNET)
    state = torch.load(resnet_file, weights_only=True)["state_dict"]
    other = save(tmp_path / "other.pt", nn.Linear(2, 2).state_dict())
    assert_refused(imported(medmtl, other, config), "holds nothing of monai_resnet")
    spoiled = {**state, "module.conv1.weight": state["module.conv1.weight"] / 0}
    answer = imported(medmtl, save(tmp_path / "nan.pt", spoiled), config)
    assert_refused(answer, "not all is finite in module.conv1.weight")
    assert_refused(imported(medmtl, tmp_path / "none.pt", config), "there is no such file")
    assert_refused(medmtl("encoder", "inspect", tmp_path / "none.pt"), "there is no such file")
    config.write_text("name: x\nheads: 3\n", encoding="utf-8")
    assert_refused(imported(medmtl, resnet_file, config), "config.yaml")
    answer = medmtl("encoder", "inspect", other)
    assert "no encoder of this project resembles it" in answer.out


def test_a_note_must_be_given(medmtl: Medmtl, tmp_path: Path, resnet_file: Path) -> None:
    config = config_of(tmp_path, RESNET)
    base = ("encoder", "import", resnet_file, "--config", config, "--out", tmp_path / "o.pt")
    assert medmtl(*base).code == 2
    assert_refused(medmtl(*base, "--seen", "  "), "say in words")
    assert not (tmp_path / "o.pt").exists()


def test_our_own_checkpoints_keep_their_lists(
    medmtl: Medmtl, tmp_path: Path, resnet_file: Path
) -> None:
    config = config_of(tmp_path, RESNET)
    assert imported(medmtl, resnet_file, config).code == 0
    assert_refused(imported(medmtl, tmp_path / "begin.pt", config), "which an import would forget")
    answer = medmtl("encoder", "inspect", tmp_path / "begin.pt")
    assert "it says which scans its weights have" in answer.out


def test_an_experiment_begins_with_them_and_says_what_is_not_known(
    medmtl: Medmtl, tmp_path: Path, resnet_file: Path
) -> None:
    manifest = write_cohort(tmp_path / "cohort", patients=12)
    config = config_of(tmp_path, RESNET)
    assert imported(medmtl, resnet_file, config).code == 0
    saved = load_tensors(tmp_path / "begin.pt")
    begun = ["arms={joint: {heads: [malignancy, nodule]}}"]
    experiment = build_cross_validation(
        load_config(config, [*begun, f"start.weights={tmp_path / 'begin.pt'}"])
    )
    experiment.prepare()
    found = json.loads(experiment.run.audit.read_text())
    assert found["weights"]["joint"] == {
        "images": 0, "seen": 0, "unchecked_lists": 0, "unknown": [SEEN],
    }  # fmt: skip
    (caution,) = [line for line in tell(found) if "arm joint begins with" in line]
    assert "is not known by us" in caution and f"imported with the words: {SEEN}" in caution
    encoder = build_cell(experiment.run, "joint_r0_f0").model.encoder.state_dict()
    for name, value in encoder.items():
        assert torch.equal(value, saved["state"][f"encoder.{shared_name(name)}"])

    cache = ("--cache", tmp_path / "cache")
    audited = medmtl("audit", manifest.folder, "--weights", tmp_path / "begin.pt", *cache)
    assert audited.code == 0 and f"imported with the words: {SEEN}" in audited.out
    assert "has seen none of these scans" not in audited.out


def test_a_list_emptied_of_its_note_is_not_believed(
    medmtl: Medmtl, tmp_path: Path, resnet_file: Path
) -> None:
    assert imported(medmtl, resnet_file, config_of(tmp_path, RESNET)).code == 0
    saved = load_tensors(tmp_path / "begin.pt")
    assert read_exposure(tmp_path / "begin.pt").notes == [SEEN]
    manifest = write_cohort(tmp_path / "cohort", patients=2)
    for note, message in (("", "is empty"), (3, "damaged")):
        spoiled = {**saved, "exposure": {**saved["exposure"], "note": note}}
        save_tensors(tmp_path / "other.pt", spoiled)
        answer = medmtl("audit", manifest.folder, "--weights", tmp_path / "other.pt")
        assert_refused(answer, message)


def test_a_checkpoint_names_no_folder(medmtl: Medmtl, tmp_path: Path, resnet_file: Path) -> None:
    assert imported(medmtl, resnet_file, config_of(tmp_path, RESNET)).code == 0
    saved = load_tensors(tmp_path / "begin.pt")
    assert saved["imported"]["file"] == "resnet10.pth"
    content = (tmp_path / "begin.pt").read_bytes()
    for folder in (tmp_path, resnet_file.parent):
        assert str(folder).encode() not in content

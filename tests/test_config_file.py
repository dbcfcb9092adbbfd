"""Every mistake in a configuration file, told by file, line and key."""

from pathlib import Path

import pytest
import yaml
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from medmtl.config import Config
from medmtl.config_file import arm_digest, dump_config, load_config, resolve_arm
from medmtl.errors import ConfigError
from tests.small_experiment import CONFIG, write_config
from tests.small_pretraining import write_pretraining

LINES = CONFIG.splitlines()


def line_of(start: str) -> int:
    """The number of the line of the small configuration that begins so."""
    (number,) = [n for n, line in enumerate(LINES, 1) if line.strip().startswith(start)]
    return number


def refusal(path: Path, *overrides: str) -> str:
    with pytest.raises(ConfigError) as refused:
        load_config(path, list(overrides))
    return str(refused.value)


def changed(tmp_path: Path, old: str, new: str) -> Path:
    assert CONFIG.count(old) == 1, old
    return write_config(tmp_path, CONFIG.replace(old, new))


def test_mistyped_key_is_told_with_file_line_and_suggestion(tmp_path: Path) -> None:
    path = changed(tmp_path, "training: {epochs: 2,", "training: {epoch: 2,")
    message = refusal(path)
    assert message.startswith(f"{path}:{line_of('training:')}: training.epoch: no such key")
    assert "did you mean 'epochs'?" in message


def test_mistyped_key_at_the_top_is_told(tmp_path: Path) -> None:
    path = changed(tmp_path, "baselines:", "baseline:")
    message = refusal(path)
    assert f"{path}:{line_of('baselines:')}: baseline: no such key" in message
    assert "did you mean 'baselines'?" in message


def test_mistyped_key_in_a_head_is_told_among_that_kinds_keys(tmp_path: Path) -> None:
    path = changed(tmp_path, "structure: nodule, window: patch", "structur: nodule, window: patch")
    message = refusal(path)
    line = line_of("nodule: {kind")
    assert f"{path}:{line}: heads.nodule.structur: no such key" in message
    assert "did you mean 'structure'?" in message
    assert f"{path}:{line}: heads.nodule.structure: is missing" in message


def test_mistyped_kind_is_told_with_those_that_there_are(tmp_path: Path) -> None:
    path = changed(tmp_path, "nodule: {kind: segmentation", "nodule: {kind: segmentaton")
    message = refusal(path)
    assert message.startswith(f"{path}:{line_of('nodule: {kind')}: heads.nodule")
    assert "'classification', 'segmentation'" in message
    assert "did you mean 'segmentation'?" in message


@pytest.mark.parametrize("group", ["kind: lean_residual, ", "kind: segmentation, "])
def test_forgotten_kind_is_told_with_those_that_there_are(tmp_path: Path, group: str) -> None:
    message = refusal(changed(tmp_path, group, ""))
    assert "kind" in message
    assert group.split()[1].rstrip(",") in message, message


def test_every_mistake_is_told_at_once_each_with_its_own_line(tmp_path: Path) -> None:
    text = CONFIG.replace("epochs: 2,", "epochs: two,").replace("workers: 2", "workers: 0")
    text = text.replace("label: malignant", "lable: malignant").replace("count: 2", "cuont: 2")
    path = write_config(tmp_path, text)
    lines = refusal(path).splitlines()
    told = {line.removeprefix(f"{path}:").partition(":")[0] for line in lines}
    starts = ("training:", "engine:", "malignancy:", "folds:")
    assert told == {str(line_of(start)) for start in starts}
    assert len(lines) == 5  # lable is unknown, label is missing


def test_every_unknown_name_is_told_at_once_each_with_its_own_line(tmp_path: Path) -> None:
    text = CONFIG.replace("window: slab", "window: slap").replace("window: patch", "window: ptach")
    path = write_config(tmp_path, text)
    message = refusal(path)
    assert f"{path}:{line_of('malignancy:')}: heads.malignancy.window" in message, message
    assert f"{path}:{line_of('nodule: {kind')}: heads.nodule.window" in message, message


@pytest.mark.parametrize(
    ("old", "new", "start"),
    [
        ("arm: joint}", "arm: jiont}", "outline-volume:"),
        ("heads: [malignancy, nodule]", "heads: [malignancy, nodul]", "heads: [malignancy, nodul"),
        ("reference: diameter", "reference: diametre", "reference:"),
    ],
)
def test_unknown_name_is_told_with_its_line(tmp_path: Path, old: str, new: str, start: str) -> None:
    path = changed(tmp_path, old, new)
    message = refusal(path)
    assert message.startswith(f"{path}:{line_of(start)}:"), message


def test_key_given_twice_is_refused(tmp_path: Path) -> None:
    path = write_config(tmp_path, CONFIG + "seed: 1\nseed: 2\n")
    assert refusal(path) == f"{path}:{len(LINES) + 2}: seed: is given twice; keep one"


def test_key_given_twice_deep_inside_is_refused(tmp_path: Path) -> None:
    path = changed(tmp_path, "training: {epochs: 2,", "training: {epochs: 2, epochs: 3,")
    assert refusal(path).startswith(f"{path}:{line_of('training:')}: training.epochs: is given tw")


def test_mistake_in_a_base_is_told_with_the_bases_line(tmp_path: Path) -> None:
    base = tmp_path / "base.yaml"
    base.write_text("# one\n# two\ntraining:\n  epochs: 2\n  bach_size: 3\n", encoding="utf-8")
    text = CONFIG.replace("count: 2", "cuont: 2") + "base: base.yaml\n"
    path = write_config(tmp_path, text)
    lines = refusal(path).splitlines()
    assert any(line.startswith(f"{base}:5: training.bach_size: no such key") for line in lines)
    assert any(line.startswith(f"{path}:{line_of('folds:')}: folds.cuont") for line in lines)


def test_value_of_a_base_is_told_where_it_was_last_written(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("training: {epochs: 4}\nseed: 3\n", encoding="utf-8")
    path = write_config(tmp_path, CONFIG.replace("epochs: 2", "epochs: 0") + "base: base.yaml\n")
    assert refusal(path).startswith(f"{path}:{line_of('training:')}: training.epochs")


def test_item_of_a_replaced_list_is_told_where_it_was_replaced(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("spacing_mm: [1.0, 1.0, 1.0]\n", encoding="utf-8")
    text = CONFIG.replace("spacing_mm: [1.5, 1.0, 1.0]", "spacing_mm: [1.5, 1.0]")
    path = write_config(tmp_path, text + "base: base.yaml\n")
    assert refusal(path).startswith(f"{path}:{line_of('spacing_mm:')}: spacing_mm")


def test_file_wins_over_base_and_set_over_both(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text(
        "seed: 3\ntraining: {epochs: 7, weight_decay: 0.5}\n", encoding="utf-8"
    )
    path = write_config(tmp_path, CONFIG + "base: base.yaml\n")
    config = load_config(path, ["training.batch_size=16"])
    assert (config.seed, config.training.weight_decay) == (3, 0.5)
    assert (config.training.epochs, config.training.batch_size) == (2, 16)


def test_paths_are_relative_to_the_file_that_names_them(tmp_path: Path) -> None:
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "base.yaml").write_text("cache: {folder: here}\n", encoding="utf-8")
    text = CONFIG.replace("cache: {folder: cache}\n", "base: deep/base.yaml\n")
    config = load_config(write_config(tmp_path, text))
    assert config.cache.folder == tmp_path / "deep" / "here"
    assert config.manifest == [tmp_path / "cohort" / "manifest"]
    config = load_config(write_config(tmp_path, text), ["cache.folder=elsewhere"])
    assert config.cache.folder == Path("elsewhere")


@pytest.mark.parametrize("written", ["start.weights: begin.pt", "start: {weights: begin.pt}"])
def test_so_are_those_that_an_arm_sets_however_it_is_written(tmp_path: Path, written: str) -> None:
    text = CONFIG.replace("training.batch_size: 4", written)
    config = load_config(write_config(tmp_path, text))
    assert resolve_arm(config, "joint").start.weights == tmp_path / "begin.pt"


@pytest.mark.parametrize("names", [("a.yaml",), ("a.yaml", "b.yaml"), ("a.yaml", "b.yaml", "c")])
def test_base_that_leads_back_to_itself_is_refused(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name, following in zip(names, [*names[1:], names[0]], strict=True):
        (tmp_path / name).write_text(f"base: {following}\n", encoding="utf-8")
    assert "leads back to itself" in refusal(tmp_path / names[0])


def test_one_base_named_by_two_files_of_a_chain_is_no_cycle(tmp_path: Path) -> None:
    (tmp_path / "base.yaml").write_text("seed: 3\n", encoding="utf-8")
    (tmp_path / "middle.yaml").write_text("base: base.yaml\n", encoding="utf-8")
    assert load_config(write_config(tmp_path, CONFIG + "base: middle.yaml\n")).seed == 3


def test_missing_base_is_told_with_the_file_that_asks_for_it(tmp_path: Path) -> None:
    path = write_config(tmp_path, CONFIG + "base: nowhere.yaml\n")
    message = refusal(path)
    assert "nowhere.yaml" in message
    assert str(path) in message, message


@pytest.mark.parametrize("base", ["[a.yaml, b.yaml]", "{a: b}", "3", "''", "true"])
def test_base_that_is_no_file_name_is_refused(tmp_path: Path, base: str) -> None:
    assert "base" in refusal(write_config(tmp_path, CONFIG + f"base: {base}\n"))


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"", "key: value"),
        (b"# only a comment\n", "key: value"),
        (b"- a\n- b\n", "key: value"),
        (b"just text\n", "key: value"),
        (bytes(range(256)), "not a text file"),
        (b"name: \x00\x01\n", "not YAML"),
        (b"name: small\n  seed: 3\n", ":2: not YAML"),
        (b"name: [1, 2\nseed: 3\n", "not YAML"),
        (b"name: 'small\n", "not YAML"),
        (b"name: small\n---\nname: other\n", "not YAML"),
        (b"name: *unknown\n", ":1: not YAML"),
        (b"arms: &a\n  a: *a\n", ":"),
        (b"arms: &a [*a]\n", ":"),
        (b"name: !!python/object:os.system ls\n", ":1:"),
        (b"name: !unknown small\n", ":1:"),
        (b"seed: 2020-13-45\n", ":1:"),
        (b"seed: !!int two\n", ":1:"),
        (b"? [a, b]\n: 3\n", ":1:"),
        (b"{}", "is missing"),
        (b"name:\n", "name"),
    ],
)
def test_file_that_is_no_configuration_is_refused(
    tmp_path: Path, content: bytes, expected: str
) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes(content)
    message = refusal(path)
    assert message.startswith(str(path))
    assert expected in message, message


def test_folder_and_missing_file_are_refused(tmp_path: Path) -> None:
    assert refusal(tmp_path).startswith(f"{tmp_path}: cannot be read")
    assert "No such file" in refusal(tmp_path / "nothing.yaml")


@pytest.mark.parametrize("mark", ["\ufeff", ""])
@pytest.mark.parametrize("line_end", ["\n", "\r\n"])
def test_files_of_other_editors_are_read(tmp_path: Path, mark: str, line_end: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_bytes((mark + CONFIG.replace("\n", line_end)).encode())
    assert load_config(path).name == "small"


@pytest.mark.parametrize("text", ["1e-3", "1.0e-3", "0.001", "1E-3"])
def test_scientific_numbers_are_numbers(tmp_path: Path, text: str) -> None:
    # YAML 1.1 takes 1e-3 for text.
    path = changed(tmp_path, "{epochs: 2,", f"{{learning_rate: {text}, epochs: 2,")
    assert load_config(path).training.learning_rate == 1e-3
    arms = changed(tmp_path, "{training.batch_size: 4}", f"{{training.learning_rate: {text}}}")
    assert resolve_arm(load_config(arms), "joint").training.learning_rate == 1e-3
    path = write_config(tmp_path)
    assert load_config(path, [f"training.learning_rate={text}"]).training.learning_rate == 1e-3


@pytest.mark.parametrize(
    "override",
    [
        "training.epochs",
        "=3",
        "",
        "training.epoch=3",
        "training=3",
        "name.x=3",
        "a..b=1",
        ".training.epochs=3",
        "name=[1",
        "name=!!python/object:os.system ls",
        "seed=2020-13-45",
        "spacing_mm.0=2.0",
    ],
)
def test_bad_override_is_told_as_such(tmp_path: Path, override: str) -> None:
    assert "--set" in refusal(write_config(tmp_path), override)


def test_override_names_keys_that_the_file_does_not_have(tmp_path: Path) -> None:
    config = load_config(write_config(tmp_path), ["augmentation.flip_width=false", "seed=5"])
    assert (config.augmentation.flip_width, config.seed) == (False, 5)


def test_later_override_wins(tmp_path: Path) -> None:
    assert load_config(write_config(tmp_path), ["seed=1", "seed=2"]).seed == 2


def test_another_kind_forgets_the_keys_of_the_first(tmp_path: Path) -> None:
    config = load_config(write_config(tmp_path), ["encoder={kind: monai_segresnet}"])
    assert config.encoder.kind == "monai_segresnet"


def test_arm_departs_where_it_says_and_nowhere_else(tmp_path: Path) -> None:
    config = load_config(write_config(tmp_path))
    joint, other = resolve_arm(config, "joint"), resolve_arm(config, "class-only")
    assert (joint.training.batch_size, other.training.batch_size) == (4, 8)
    assert joint.training.model_copy(update={"batch_size": 8}) == other.training
    assert (list(joint.heads), list(other.heads)) == (["malignancy", "nodule"], ["malignancy"])
    same = set(Config.model_fields) - {"training", "heads", "arms", "baselines", "evaluation"}
    for name in same:
        assert getattr(joint, name) == getattr(other, name) == getattr(config, name), name


def test_arm_departs_in_nested_and_in_dotted_form(tmp_path: Path) -> None:
    overrides = [
        "arms.class-only.set.training.epochs=9",
        "arms.class-only.set={encoder.dropout: 0.5}",
    ]
    arm = resolve_arm(load_config(write_config(tmp_path), overrides), "class-only")
    assert (arm.training.epochs, arm.training.batch_size) == (9, 8)
    assert arm.encoder.dropout == 0.5


def test_unknown_arm_is_told_with_those_that_there_are(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="joint, class-only"):
        resolve_arm(load_config(write_config(tmp_path)), "outline")


@pytest.mark.parametrize("departure", ["training.bach_size: 4", "training.batch_size: 1"])
def test_mistake_in_an_arms_departures_is_told_with_its_line(
    tmp_path: Path, departure: str
) -> None:
    path = changed(tmp_path, "training.batch_size: 4", departure)
    with pytest.raises(ConfigError) as refused:
        config = load_config(path)
        resolve_arm(config, "joint")
    assert f"{path}:{line_of('set:')}:" in str(refused.value), refused.value


@pytest.mark.parametrize(
    "departure",
    ["folds.count: 5", "manifest: elsewhere", "engine.workers: 9", "evaluation.sensitivity: 0.5"],
)
def test_arm_cannot_depart_where_the_experiment_is_one(tmp_path: Path, departure: str) -> None:
    # Folds, cohort and engine are the experiment's: an arm's own would be silently ignored,
    # or would compare arms on different patients.
    path = changed(tmp_path, "training.batch_size: 4", departure)
    with pytest.raises(ConfigError):
        resolve_arm(load_config(path), "joint")


@st.composite
def configurations(draw: st.DrawFn) -> dict[str, object]:
    """Valid values of knobs of every type."""
    length = st.floats(0.1, 1000)
    text = st.text(max_size=30)
    positive = st.floats(min_value=0, exclude_min=True)
    values = yaml.safe_load(CONFIG)
    values["question"] = draw(text)
    values["seed"] = draw(st.integers(0, 2**31 - 1))
    values["spacing_mm"] = draw(st.lists(length, min_size=3, max_size=3))
    values["windows"]["slab"]["size_mm"] = draw(st.lists(length, min_size=3, max_size=3))
    values["windows"][draw(text)] = {"size_mm": [1, 2, 3]}
    values["manifest"] = draw(st.sampled_from(["m", "../m", "/abs/m", "ä ö/m", "a#b", "1e-3"]))
    values["arms"]["joint"]["title"] = draw(text)
    values["arms"]["joint"]["set"] = draw(
        st.dictionaries(st.sampled_from(["seed", "training.epochs", "encoder"]), st.integers())
    )
    values["training"]["learning_rate"] = draw(st.floats(0, 1, exclude_min=True))
    values["training"]["gradient_clip"] = draw(positive)
    values["cache"]["max_gb"] = draw(positive)
    values["evaluation"]["subgroups"] = {
        draw(text): {"column": draw(text), "at_least": draw(st.floats(allow_nan=False))}
    }
    values["encoder"] = draw(
        st.sampled_from(
            [
                {"kind": "monai_segresnet", "norm": "instance"},
                {"kind": "lean_residual", "widths": [8, 64, 8], "dropout": 0.1},
            ]
        )
    )
    return values


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(values=configurations())
def test_resolved_configuration_is_read_back_as_it_was(
    tmp_path: Path, values: dict[str, object]
) -> None:
    path = write_config(tmp_path, yaml.safe_dump(values, allow_unicode=True))
    try:
        config = load_config(path)
    except ConfigError:
        return  # what is refused need not be saved
    run = tmp_path / "runs" / "small"
    run.mkdir(parents=True, exist_ok=True)
    text = dump_config(config, run)
    assert str(tmp_path) not in text
    (run / "config.yaml").write_text(text, encoding="utf-8")
    again = load_config(run / "config.yaml")
    assert dump_config(again, run) == text
    paths = {"manifest", "output", "cache"}
    assert again.model_dump(exclude=paths) == config.model_dump(exclude=paths)
    both = ([path.resolve() for path in each.manifest] for each in (again, config))
    assert next(both) == next(both)
    assert again.cache.folder.resolve() == config.cache.folder.resolve()


@pytest.mark.parametrize(
    "override",
    ["name=other", "output=elsewhere", "engine.workers=1", "cache.folder=there", "question=Why?"],
)
def test_the_digest_of_an_arm_does_not_hang_on_how_it_is_computed(
    tmp_path: Path, override: str
) -> None:
    path = write_config(tmp_path / "one")
    moved = write_config(tmp_path / "two")
    arm = next(iter(load_config(path).arms))

    changed_one = load_config(moved, [override, f"arms.{arm}.title=Another"])

    assert arm_digest(changed_one, arm) == arm_digest(load_config(path), arm)


@pytest.mark.parametrize(
    "override",
    [
        "seed=5",
        "training.epochs=3",
        "folds.count=4",
        "spacing_mm=[3.0, 2.0, 2.0]",
        "arms.{arm}.set={{training.learning_rate: 0.02}}",
        "arms.{arm}.set={{start.pretraining: {archive}}}",
        "arms.{arm}.set={{start.adaptation: frozen, start.pretraining: {archive}}}",
    ],
)
def test_the_digest_of_an_arm_tells_what_it_is_trained_with(tmp_path: Path, override: str) -> None:
    path = write_config(tmp_path)
    archive = write_pretraining(tmp_path)
    arm, other = list(load_config(path).arms)[:2]
    before = arm_digest(load_config(path), arm)
    assert before != arm_digest(load_config(path), other)

    changed_one = load_config(path, [override.format(arm=arm, archive=archive)])

    assert arm_digest(changed_one, arm) != before


def test_the_digest_of_an_arm_tells_how_its_encoder_is_pretrained(tmp_path: Path) -> None:
    path = write_config(tmp_path)
    archive = write_pretraining(tmp_path)
    arm = next(iter(load_config(path).arms))
    begun = [f"arms.{arm}.set={{start.pretraining: {archive}}}"]
    before = arm_digest(load_config(path, begun), arm)
    text = archive.read_text(encoding="utf-8")

    archive.write_text(text.replace("save_every_s: 0", "save_every_s: 9"), encoding="utf-8")
    assert arm_digest(load_config(path, begun), arm) == before
    archive.write_text(text.replace("steps: 6", "steps: 7"), encoding="utf-8")
    assert arm_digest(load_config(path, begun), arm) != before

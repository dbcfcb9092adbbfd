"""What the networks of a configuration cost, beside a network of its own for each head."""

import io
from collections.abc import Mapping
from functools import partial

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.padding import Padding
from rich.rule import Rule
from rich.table import Table

from medmtl.build.data import build_manifest, build_patches, build_windows
from medmtl.build.learning import build_model, build_tasks
from medmtl.config import Config
from medmtl.config_file import resolve_arm
from medmtl.data.manifest import DataCard
from medmtl.data.tasks import Task
from medmtl.models.cost import Cost, Feed, NetworkCost, measure_network, total_of

TEXT_WIDTH = 80
TABLE_WIDTH = 200  # a limit, so that no number is cut; tables are as wide as they need
MEGABYTE, GIGA = 10**6, 10**9
COLUMNS = (
    "parameters",
    "forward\nGFLOPs\na case",
    "step\nGFLOPs",
    "state\nMB",
    "kept\nMB",
    "memory\nMB",
    "file\nMB",
)
# 16 bytes: measured with this project's losses.
MEANING = """\
parameters  numbers learned
forward     one window or patch of each kind, once; a multiply-add is two FLOPs;
            only convolutions and matrix products are counted. A prediction
            costs a multiple: several views, and windows sliding over a scan
step        forward and backward of one training step, both counted
state       weights, gradients, AdamW's two moments: 16 bytes a parameter
kept        what a step keeps for backward; the losses of outlines and organs
            keep some 16 bytes more a voxel and structure, not counted here
memory      state + kept; libraries, data and workspaces come on top
file        the trained model on disk; all MB are 10^6 bytes"""


def describe_network(config: Config) -> str:
    """Describes the networks of a configuration: one an arm with two or more heads.

    If no arm has several heads, all arms are described. Nothing is trained, no image is opened;
    the manifests say how many classes and structures there are.

    Raises:
        ManifestError: A manifest is missing or cannot be read.
        ConfigError: A head asks for what the data card does not have, or a window does not fit.
    """
    card = build_manifest(config).card
    arms = {name: resolve_arm(config, name) for name in config.arms}
    several = {name: arm for name, arm in arms.items() if len(arm.heads) > 1}
    file = io.StringIO()
    console = Console(
        file=file, width=TABLE_WIDTH, markup=False, highlight=False, color_system=None, emoji=False
    )
    for name, arm in (several or arms).items():
        _print_arm(console, name, arm, card)
    console.print(MEANING)
    return "\n".join(line.rstrip() for line in file.getvalue().splitlines()) + "\n"


def _print_arm(console: Console, name: str, config: Config, card: DataCard) -> None:
    tasks = build_tasks(config, card)
    feeds = _feeds(config, tasks)
    measure = partial(measure_network, feeds=feeds, precision=config.training.precision)
    shared = measure(build_model(config, tasks))
    alone = {task.name: measure(build_model(config, [task])) for task in tasks}
    title = config.arms[name].title
    heading = Rule(f"{name}: {title}" if title else name, align="left", characters="=")
    console.print(heading, width=TEXT_WIDTH)
    seen = ", ".join(
        f"{feed.batch} of {window} ({' x '.join(map(str, feed.size))} voxels)"
        for window, feed in feeds.items()
    )
    kind = f"{config.encoder.kind}, {config.training.precision}"
    console.print(f"{kind}; a training step sees {seen}", width=TEXT_WIDTH, end="\n\n")
    console.print(_table(shared, alone))
    console.print()
    for note in _notes(shared, alone, tasks):
        console.print(Padding(note, (0, 0, 0, 2)), width=TEXT_WIDTH)
    console.print()


def _feeds(config: Config, tasks: list[Task]) -> dict[str, Feed]:
    windows, patches = build_windows(config), build_patches(config)
    return {
        window: Feed(batch=patches[window].batch_size, size=patches[window].size)
        if window in patches
        else Feed(batch=config.training.batch_size, size=windows[window].size)
        for window in dict.fromkeys(task.window for task in tasks)
    }


def _table(shared: NetworkCost, alone: Mapping[str, NetworkCost]) -> Table:
    """The rows above each total add up to it; a ratio below 1 says that sharing is cheaper."""
    table = Table(box=SIMPLE_HEAD, show_edge=False, pad_edge=False, padding=(0, 1))
    table.add_column("", overflow="fold", max_width=40)
    for name in COLUMNS:
        table.add_column(name, justify="right", no_wrap=True, vertical="bottom")
    table.add_row("encoder", *_owned(shared.encoder))
    for window, cost in shared.encoding.items():
        table.add_row(f"  on {window}", *_passed(cost))
    for task, cost in shared.heads.items():
        table.add_row(f"head {task}", *_numbers(cost))
    table.add_row("whole network", *_numbers(shared.total), end_section=True)
    if len(alone) > 1:
        for task, network in alone.items():
            table.add_row(f"{task} alone", *_numbers(network.total))
        separate = total_of([network.total for network in alone.values()])
        table.add_row("sum of separate", *_numbers(separate), end_section=True)
        ratios = zip(_quantities(shared.total), _quantities(separate), strict=True)
        table.add_row("shared : sum", *(f"{own / other:.2f}" for own, other in ratios))
    return table


def _quantities(cost: Cost) -> tuple[int, ...]:
    return (
        cost.parameters,
        cost.forward_flops,
        cost.step_flops,
        cost.state_bytes,
        cost.kept_bytes,
        cost.memory_bytes,
        cost.file_bytes,
    )


def _numbers(cost: Cost) -> list[str]:
    parameters, forward, step, *sizes = _quantities(cost)
    return [
        f"{parameters:,}",
        _decimal(forward / GIGA, 3),
        _decimal(step / GIGA, 2),
        *(_decimal(size / MEGABYTE, 1) for size in sizes),
    ]


def _owned(cost: Cost) -> list[str]:
    """Parameters, state and file; what it computes stands in the rows of its windows."""
    numbers = _numbers(cost)
    return [numbers[0], "", "", numbers[3], "", numbers[5], numbers[6]]


def _passed(cost: Cost) -> list[str]:
    numbers = _numbers(cost)
    return ["", numbers[1], numbers[2], "", numbers[4], numbers[5], ""]


def _decimal(value: float, digits: int) -> str:
    """Something small is never shown as nothing."""
    smallest = 10.0**-digits
    return f"<{smallest:.{digits}f}" if 0 < value < smallest / 2 else f"{value:,.{digits}f}"


def _notes(shared: NetworkCost, alone: Mapping[str, NetworkCost], tasks: list[Task]) -> list[str]:
    checkpoint_mb = shared.total.checkpoint_bytes / MEGABYTE
    notes = [f"While it trains, the checkpoint to go on from takes up to {checkpoint_mb:,.1f} MB."]
    if len(alone) == 1:
        return [*notes, "One head: nothing is shared, so there is nothing to compare."]
    together: dict[str, list[str]] = {}
    for task in tasks:
        together.setdefault(task.window, []).append(task.name)
    for window, names in together.items():
        if len(names) > 1:
            notes.append(
                f"On {window}, {_listed(names)} share each pass through the encoder: "
                "FLOPs and kept memory are saved there."
            )
    if len(together) > 1:
        notes.append(
            f"{_listed(list(together))} go through the encoder each on their own: between them "
            "sharing saves parameters, not FLOPs or kept memory."
        )
    if shared.window_norms:
        notes.append(
            "Norms are not shared: each kind of window keeps its own in the encoder, "
            f"{shared.window_norms:,} parameters."
        )
    largest = max(network.total.memory_bytes for network in alone.values()) / MEGABYTE
    own = shared.total.memory_bytes / MEGABYTE
    notes.append(
        "Separate networks trained one after another need the memory of the largest only: "
        f"{largest:,.1f} MB, beside {own:,.1f} MB for the shared one."
    )
    return notes


def _listed(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]])

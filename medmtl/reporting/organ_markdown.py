"""An organ task as Markdown: their mean first, then a row an organ."""

from medmtl.data.tasks import OrganTask
from medmtl.reporting.description import ExperimentDescription, organ_name
from medmtl.reporting.markdown import NONE, Summary, in_order, interval_text, named, table_lines
from medmtl.reporting.segmentation_tables import drawn_count


def organ_lines(task: OrganTask, summary: Summary, description: ExperimentDescription) -> list[str]:
    """A table an arm: Dice, its difference from the reference arm, surface scores, and misses.

    Args:
        task: One that the summary holds.
        summary: Of the run.
        description: Of the experiment.
    """
    means = summary["organs"][task.name]
    standard = description.manifest.card.organ_mask_reference_standard or "not stated"
    lines = [
        f"**{task.name}, organs of whole scans.** The reference: {standard.rstrip('.')}. "
        f"{means['scans']} scans of {means['patients']} patients; an organ counts on the scans on "
        "which it was drawn. In the mean each organ weighs the same.",
        "",
    ]
    for arm in in_order(means["arms"], description):
        lines += [*_arm_table(task, arm, summary, description), ""]
    return lines


def _arm_table(
    task: OrganTask, arm: str, summary: Summary, description: ExperimentDescription
) -> list[str]:
    means, structures = summary["organs"][task.name], summary["segmentation"][task.name]
    names = [name for name in task.structures if name in structures]
    against = summary["reference_arm"] if arm in means["differences"] else None
    header = [named(arm, description), "scans", "Dice, mean", "median"]
    header += [f"NSD at {description.nsd_tolerance_mm:g} mm", "HD95, median mm", "missed"]
    mean = means["arms"][arm]
    rows = [
        [
            f"mean of {len(names)} organs", str(means["scans"]), interval_text(mean["dice"]), NONE,
            interval_text(mean["nsd"]), NONE, NONE,
        ]
    ]  # fmt: skip
    rows += [_organ_row(name, structures[name]["arms"][arm]) for name in names]
    if against is not None:
        header.append(f"Dice minus {description.title_of(against)}")
        found = [means["differences"][arm]]
        found += [structures[name]["differences"][arm] for name in names]
        for row, difference in zip(rows, found, strict=True):
            row.append(interval_text(difference["dice"], signed=True))
    return table_lines(header, rows)


def _organ_row(name: str, scores: Summary) -> list[str]:
    drawn = drawn_count(scores["counts"])
    return [
        organ_name(name),
        str(drawn),
        interval_text(scores["dice"]["mean"]),
        interval_text(scores["dice"]["median"]),
        interval_text(scores["nsd"]["mean"]),
        interval_text(scores["hd95_mm"]["median"], digits=1),
        f"{scores['counts']['missed']} of {drawn}",
    ]

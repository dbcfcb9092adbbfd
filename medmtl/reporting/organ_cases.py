"""The scans of an organ task that are shown: chosen by the fixed rule, drawn, told in words."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from jaxtyping import Integer

from medmtl.data.cases import CaseLoader
from medmtl.data.manifest import Scan
from medmtl.data.reading import MaskVolume, Volume, read_mask, to_grid
from medmtl.data.tasks import OrganTask
from medmtl.errors import RunError
from medmtl.reporting.arm_styles import ArmStyle
from medmtl.reporting.case_gallery import (
    ORGAN_PIXELS,
    CaseGroup,
    CasePicture,
    Gallery,
    png_address,
    window_words,
)
from medmtl.reporting.case_selection import ORGAN_RULE, select_scans
from medmtl.reporting.description import ExperimentDescription, organ_name
from medmtl.reporting.evidence import Evidence
from medmtl.reporting.numbers import number, plural
from medmtl.reporting.organ_pictures import SOFT_TISSUE_HU, draw_organs, organ_colours
from medmtl.reporting.organ_view import organ_slices
from medmtl.run_folder import RunFolder

BLACK = "#1b1c1e"
READING = (
    f"Soft tissue window, {window_words(SOFT_TISSUE_HU)}. Above an axial, below a coronal slice: "
    "those that cut most of the drawn organs, and of these the one with most of their area. An "
    "organ that was not drawn on a scan is left out of its picture, predicted or not."
)


@dataclass(frozen=True, kw_only=True)
class OrganCases:
    """Makes the gallery of one task.

    Attributes:
        task: Which.
        run: Where the predicted masks lie.
        evidence: What the run holds.
        description: Of the experiment.
        loader: Reads scans and drawn organs as they are stored.
    """

    task: OrganTask
    run: RunFolder
    evidence: Evidence
    description: ExperimentDescription
    loader: CaseLoader

    def gallery(self) -> Gallery | None:
        """The scans of the task's main arm; None where it predicted none."""
        arm = self.description.main_arm(self.task.name)
        rows = self.evidence.segmentation
        rows = rows[(rows["arm"] == arm) & (rows["task"] == self.task.name)]
        if rows.empty or arm is None:
            return None
        return Gallery(
            title=self.task.name,
            rule=ORGAN_RULE,
            arm=self.description.title_of(arm),
            caution=self.description.caution_of(arm),
            reading=READING,
            legend=self._legend(),
            groups=[
                CaseGroup(
                    title=selection.title,
                    available=selection.available,
                    cases=[
                        self._picture(name, rows[rows["scan_id"] == name])
                        for name in selection.names
                    ],
                )
                for selection in select_scans(rows)
            ],
        )

    def _legend(self) -> Sequence[ArmStyle]:
        return [
            ArmStyle(title="drawn", colour=BLACK, stroke="solid"),
            ArmStyle(title="predicted", colour=BLACK, stroke="dashed"),
            *(
                ArmStyle(title=organ_name(name), colour=colour, stroke="solid", is_on_image=True)
                for name, colour in zip(self.task.structures, self._colours, strict=True)
            ),
        ]

    @property
    def _colours(self) -> list[str]:
        return organ_colours(len(self.task.structures))

    def _picture(self, scan_id: str, rows: pd.DataFrame) -> CasePicture:
        scan = self.loader.manifest.scan(scan_id)
        volume = self.loader.read_volume(scan)
        slices = organ_slices(
            volume,
            reference=self._drawn(scan),
            prediction=self._predicted(scan, str(rows["cell"].iloc[0]), volume),
        )
        return CasePicture(
            name=scan_id,
            source=png_address(draw_organs(slices, self._colours)),
            description=f"Axial and coronal slice of scan {scan_id}, without and with outlines",
            facts=self._facts(scan, rows),
            pixels=ORGAN_PIXELS,
        )

    def _drawn(self, scan: Scan) -> Integer[np.ndarray, "i j k"]:
        """The drawn organs, numbered by their place in the task."""
        organs = self.loader.read_organs(scan)
        if organs is None:
            raise RunError(
                f"{scan.scan_id}: the run has scores of its organs, but the manifest names no "
                "organ mask; report the run with the manifest it was run with"
            )
        values = self.loader.manifest.card_of(scan).structures
        return self._numbered(organs, {name: values[name] for name in self._names(scan)})

    def _predicted(self, scan: Scan, cell: str, volume: Volume) -> Integer[np.ndarray, "i j k"]:
        """What the cell that tested the scan found of the organs that were drawn."""
        path = self.run.cell(cell).masks / f"{self.task.name}-{scan.scan_id}.nii.gz"
        name = f"cells/{cell}/masks/{path.name}"
        mask = to_grid(read_mask(path, name=name, may_be_empty=True), volume.grid, name=name)
        places = {each: place for place, each in enumerate(self.task.structures, start=1)}
        return self._numbered(mask, {each: places[each] for each in self._names(scan)})

    def _names(self, scan: Scan) -> list[str]:
        drawn = self.loader.manifest.drawn(scan)
        return [name for name in self.task.structures if name in drawn]

    def _numbered(self, mask: MaskVolume, values: dict[str, int]) -> Integer[np.ndarray, "i j k"]:
        table = np.zeros(max(int(mask.voxels.max()), *values.values(), 0) + 1, dtype=np.int16)
        for name, value in values.items():
            table[value] = self.task.structures.index(name) + 1
        return table[mask.voxels]

    def _facts(self, scan: Scan, rows: pd.DataFrame) -> list[tuple[str, str]]:
        dice = dict(zip(rows["structure"], rows["dice"], strict=True))
        known = [name for name in self.task.structures if not pd.isna(dice.get(name))]
        mean = float(np.mean([dice[name] for name in known]))
        drawn = self.loader.manifest.drawn(scan)
        absent = [organ_name(name) for name in self.task.structures if name not in drawn]
        each = ", ".join(f"{organ_name(name)} {number(float(dice[name]), 2)}" for name in known)
        facts = [
            ("Fold", str(rows["fold"].iloc[0])),
            ("Dice, mean", f"{number(mean, 2)} of {plural(len(known), 'organ')}"),
            ("Dice", each),
        ]
        return [*facts, *([("Not drawn", ", ".join(absent))] if absent else [])]

"""The cases of the report: chosen by the fixed rules, drawn, and told in words."""

from collections.abc import Sequence
from dataclasses import dataclass

import pandas as pd
from jaxtyping import Bool
from numpy import ndarray

from medmtl.data.cases import CaseLoader
from medmtl.data.manifest import Lesion
from medmtl.data.reading import Volume, read_mask, to_grid
from medmtl.data.tasks import ClassificationTask, OrganTask, SegmentationTask
from medmtl.reporting.arm_styles import ArmStyle
from medmtl.reporting.axial_view import USUAL_SLICE, axial_view
from medmtl.reporting.case_gallery import (
    LESION_PIXELS,
    CaseGroup,
    CasePicture,
    Gallery,
    png_address,
    window_words,
)
from medmtl.reporting.case_pictures import (
    PREDICTION_COLOUR,
    REFERENCE_COLOUR,
    WINDOW_HU,
    draw_case,
)
from medmtl.reporting.case_selection import (
    CLASS_RULE,
    OUTLINE_RULE,
    Selection,
    by_lesion,
    class_probabilities,
    select_classes,
    select_outlines,
)
from medmtl.reporting.description import ExperimentDescription
from medmtl.reporting.evidence import Evidence
from medmtl.reporting.numbers import DASH, number
from medmtl.reporting.organ_cases import OrganCases
from medmtl.run_folder import RunFolder

LESION_LEGEND = [
    ArmStyle(title="reference", colour=REFERENCE_COLOUR, stroke="solid"),
    ArmStyle(title="prediction", colour=PREDICTION_COLOUR, stroke="dashed"),
]
LESION_READING = (
    f"Axial slices in the lung window, {window_words(WINDOW_HU)}. Unless another is named, the "
    "slice is that with the largest area of the reference."
)


@dataclass(frozen=True, kw_only=True)
class CaseGalleries:
    """Makes the galleries of a run.

    Attributes:
        run: Where the predicted masks lie.
        evidence: What the run holds.
        description: Of the experiment.
        loader: Of the manifest's scans and masks.
    """

    run: RunFolder
    evidence: Evidence
    description: ExperimentDescription
    loader: CaseLoader

    def all(self) -> list[Gallery]:
        """A gallery a task, of its main arm; tasks that nobody predicted are left out."""
        made = [
            *(self._outlines(task) for task in self.description.segmentations),
            *(self._classes(task) for task in self.description.classifications),
            *(self._organs(task) for task in self.description.organs),
        ]
        return [gallery for gallery in made if gallery is not None]

    def _outlines(self, task: SegmentationTask) -> Gallery | None:
        rows = self.evidence.segmentation
        arm = self.description.main_arm(task.name)
        rows = rows[(rows["arm"] == arm) & (rows["task"] == task.name) & (rows["lesion_id"] != "")]
        return self._gallery(task.name, OUTLINE_RULE, arm, rows, select_outlines(rows))

    def _classes(self, task: ClassificationTask) -> Gallery | None:
        rows = self.evidence.out_of_fold
        arm = self.description.main_arm(task.name)
        rows = rows[(rows["arm"] == arm) & (rows["task"] == task.name)]
        if rows.empty:
            return None
        selections = select_classes(rows, task.classes)
        return self._gallery(task.name, CLASS_RULE, arm, rows, selections)

    def _organs(self, task: OrganTask) -> Gallery | None:
        cases = OrganCases(
            task=task,
            run=self.run,
            evidence=self.evidence,
            description=self.description,
            loader=self.loader,
        )
        return cases.gallery()

    def _gallery(
        self,
        task: str,
        rule: str,
        arm: str | None,
        rows: pd.DataFrame,
        selections: Sequence[Selection],
    ) -> Gallery | None:
        if rows.empty or arm is None:
            return None
        known = by_lesion(rows)
        scores = self.evidence.segmentation
        outlined = (scores["arm"] == arm) & (scores["lesion_id"] != "")
        lesions = {lesion.lesion_id: lesion for lesion in self.loader.manifest.lesions}
        return Gallery(
            title=task,
            rule=rule,
            arm=self.description.title_of(arm),
            caution=self.description.caution_of(arm),
            reading=LESION_READING + ("" if outlined.any() else " This arm outlines no lesion."),
            legend=LESION_LEGEND,
            groups=[
                CaseGroup(
                    title=selection.title,
                    available=selection.available,
                    cases=[
                        self._picture(lesions[name], arm, known[name]) for name in selection.names
                    ],
                )
                for selection in selections
            ],
        )

    def _picture(self, lesion: Lesion, arm: str, row: pd.Series) -> CasePicture:
        scan = self.loader.manifest.scan(lesion.scan_id)
        volume = self.loader.read_volume(scan)
        drawn = self.loader.read_lesion_mask(scan, lesion)
        reference = None if drawn is None else drawn.voxels != 0
        prediction = self._predicted(lesion, str(row["cell"]), volume)
        view = axial_view(
            volume, position_mm=lesion.position_mm, reference=reference, prediction=prediction
        )
        facts = [
            ("Fold", str(row["fold"])),
            ("Diameter", _millimetres(lesion.diameter_mm)),
            *self._outcomes(lesion, arm),
        ]
        if view.why != USUAL_SLICE:
            facts.append(("Slice", view.why))
        if prediction is not None and view.prediction is not None and not view.prediction.any():
            facts.append(("Prediction", "not on this slice" if prediction.any() else "empty"))
        return CasePicture(
            name=lesion.lesion_id,
            source=png_address(draw_case(view)),
            description=f"Axial slice of lesion {lesion.lesion_id}, without and with outlines",
            facts=facts,
            pixels=LESION_PIXELS,
        )

    def _predicted(
        self, lesion: Lesion, cell: str, volume: Volume
    ) -> Bool[ndarray, "i j k"] | None:
        """The outline of the cell that tested the lesion; None where it has no such head."""
        outlined = (self.evidence.segmentation["cell"] == cell) & (
            self.evidence.segmentation["lesion_id"] == lesion.lesion_id
        )
        if not outlined.any():
            return None
        path = self.run.cell(cell).masks / f"{lesion.lesion_id}.nii.gz"
        name = f"cells/{cell}/masks/{path.name}"
        mask = to_grid(read_mask(path, name=name, may_be_empty=True), volume.grid, name=name)
        found: Bool[ndarray, "i j k"] = mask.voxels != 0
        return found

    def _outcomes(self, lesion: Lesion, arm: str) -> list[tuple[str, str]]:
        """What the arm said about a lesion: every class it was asked for, and its outlines."""
        facts = []
        predictions = self.evidence.out_of_fold
        predictions = predictions[
            (predictions["arm"] == arm) & (predictions["lesion_id"] == lesion.lesion_id)
        ]
        for task in self.description.classifications:
            rows = predictions[predictions["task"] == task.name]
            if len(rows):
                facts.append((task.name, _class_words(task, lesion, rows)))
        scores = self.evidence.segmentation
        scores = scores[(scores["arm"] == arm) & (scores["lesion_id"] == lesion.lesion_id)]
        for _, row in scores.iterrows():
            dice = None if pd.isna(row["dice"]) else float(row["dice"])
            facts.append((f"Dice, {row['structure']}", number(dice, 2)))
        return facts


def _class_words(task: ClassificationTask, lesion: Lesion, rows: pd.DataFrame) -> str:
    known = lesion.labels.get(task.label)
    truth = "no label" if known is None else task.classes[known]
    table = class_probabilities(rows.assign(target=rows["target"].fillna(0)), task.classes)
    if table.empty:
        return f"{truth}; no prediction"
    probability = table[list(task.classes)].iloc[0]
    shown = task.classes[1] if len(task.classes) == 2 else str(probability.idxmax())
    return f"{truth}; P({shown}) = {float(probability[shown]):.2f}"


def _millimetres(length_mm: float | None) -> str:
    return DASH if length_mm is None else f"{number(length_mm, 1)} mm"

"""Whether anything trivial tells the class. Slow: nodules are painted into whole chests.

The nodules of many patients are painted one at a time into a few chests, so that the AUC is
known to about 0.02 (standard error) without painting a chest for each. 0.60 is the bound of
the issue; the AUC is taken either way round.
"""

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from medmtl.data.phantom.canvas import Canvas
from medmtl.data.phantom.grid import Grid
from medmtl.data.phantom.nodule_paint import paint_nodule
from medmtl.data.phantom.nodule_places import place_nodules
from medmtl.data.phantom.nodules import draw_nodules
from medmtl.data.phantom.patient import draw_anatomy, make_patient
from medmtl.data.phantom.scanner import draw_scanner
from medmtl.data.phantom.tissue import paint_patient

CHESTS, PATIENTS_EACH = 4, 110
BOUND = 0.60


def around(canvas: Canvas, centre_mm: NDArray, side_mm: float) -> NDArray:
    z, y, x = ((place - side_mm / 2, place + side_mm / 2) for place in centre_mm)
    return canvas.hu[canvas.grid.box(z=z, y=y, x=x)]


def distance_to_border_mm(grid: Grid, centre_mm: NDArray) -> float:
    axes = (grid.z_mm, grid.y_mm, grid.x_mm)
    return min(
        min(place - axis.min(), axis.max() - place)
        for place, axis in zip(centre_mm, axes, strict=True)
    )


@pytest.fixture(scope="module")
def measured() -> dict[str, NDArray]:
    """What could give the class away, of each nodule."""
    rows = []
    for chest in range(1, CHESTS + 1):
        generator = np.random.default_rng((8, chest))
        anatomy = draw_anatomy(8, chest)
        grid = draw_scanner(anatomy.physique, generator).grid()
        canvas = Canvas(grid)
        paint_patient(canvas, anatomy.physique, anatomy.chest, anatomy.mediastinum, anatomy.vessels)
        for _ in range(PATIENTS_EACH):
            nodules = draw_nodules(generator)
            placed = place_nodules(nodules, anatomy.chest, anatomy.vessels, grid, generator)
            for each in placed:
                nearby = around(canvas, each.centre_mm, 90.0)  # as far as a nodule can reach
                before = nearby.copy()
                paint_nodule(canvas, each, anatomy.chest, generator)
                z, y, x = each.centre_mm.tolist()
                rows.append(
                    {
                        "malignant": each.nodule.malignant,
                        "diameter": each.nodule.diameter_mm,
                        "mean HU, 12 mm": around(canvas, each.centre_mm, 12.0).mean(),
                        "mean HU, 24 mm": around(canvas, each.centre_mm, 24.0).mean(),
                        "mean HU, 40 mm": around(canvas, each.centre_mm, 40.0).mean(),
                        "height": z,
                        "depth": y,
                        "side": x,
                        "off the midline": abs(x),
                        "distance to the border": distance_to_border_mm(grid, each.centre_mm),
                    }
                )
                nearby[...] = before
    return {name: np.array([row[name] for row in rows]) for name in rows[0]}


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    ["mean HU, 12 mm", "mean HU, 24 mm", "mean HU, 40 mm", "height", "depth", "side",
     "off the midline", "distance to the border"],
)  # fmt: skip
def test_nothing_trivial_tells_the_class(measured: dict[str, NDArray], name: str) -> None:
    auc = roc_auc_score(measured["malignant"], measured[name])
    assert max(auc, 1 - auc) < BOUND


@pytest.mark.slow
def test_windows_of_40_mm_hold_no_padding(measured: dict[str, NDArray]) -> None:
    assert measured["distance to the border"].min() > 20.0


@pytest.mark.slow
def test_the_mean_of_the_whole_scan_tells_nothing() -> None:
    scans = [make_patient(8, number) for number in range(1, 41)]
    means = [scan.voxels.mean() for scan in scans for _ in scan.nodules]
    malignant = np.array([each.nodule.malignant for scan in scans for each in scan.nodules])
    auc = roc_auc_score(malignant, means)
    # Of 40 patients the standard error is about 0.08, nodules of one patient sharing a scan.
    assert max(auc, 1 - auc) < 0.5 + 2.5 * 0.08

"""Our reader for MONAI's `LoadImage`. Apart from the others, for importing MONAI takes seconds."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Real
from monai.data.image_reader import ImageReader
from monai.utils import MetaKeys, SpaceKeys

from medmtl.data.dicom.reader import read_series
from medmtl.data.dicom.stack import Uneven
from medmtl.errors import ScanError

__all__ = ["CtSeriesReader"]


class CtSeriesReader(ImageReader):
    """Reads CT series for `monai.transforms.LoadImage(reader=CtSeriesReader())`.

    Args:
        series: A SeriesInstanceUID or the label of a list; None for the only one of a folder.
        uneven: Whether missing slices and varying steps are refused, or even slices
            interpolated.
    """

    def __init__(self, *, series: str | None = None, uneven: Uneven = "refuse") -> None:
        super().__init__()
        self.series = series
        self.uneven = uneven

    def verify_suffix(self, filename: Sequence[Path | str] | Path | str) -> bool:
        """Says whether a path may be a series: one folder, or one .dcm file."""
        paths = [filename] if isinstance(filename, Path | str) else list(filename)
        return len(paths) == 1 and (
            Path(paths[0]).is_dir() or Path(paths[0]).suffix.lower() == ".dcm"
        )

    def read(self, data: Sequence[Path | str] | Path | str, **kwargs: Any) -> list[Path]:
        """Only takes the paths, one a series.

        `LoadImage` answers an error here by asking MONAI's own readers, which read as one volume
        what we refuse. So nothing is opened before `get_data`, whose errors it passes on.
        """
        return [Path(data)] if isinstance(data, Path | str) else [Path(each) for each in data]

    def get_data(
        self, img: Sequence[Path] | Path
    ) -> tuple[Real[np.ndarray, "..."], dict[str, Any]]:
        """The voxels in i j k order, of several series stacked in front; and where they lie.

        Args:
            img: What `read` took.

        Raises:
            ScanError: As `medmtl.data.dicom.reader.read_series`, or several series do not lie on
                one grid.
        """
        paths = [img] if isinstance(img, Path) else list(img)
        volumes = [
            read_series(path, name=path.name, series=self.series, uneven=self.uneven)
            for path in paths
        ]
        first = volumes[0]
        for each in volumes[1:]:
            if each.voxels.shape != first.voxels.shape or not np.allclose(
                each.affine, first.affine, atol=1e-3
            ):
                raise ScanError("the series do not lie on one grid; load them one by one")
        meta = {
            MetaKeys.AFFINE: first.affine.copy(),
            MetaKeys.ORIGINAL_AFFINE: first.affine.copy(),
            MetaKeys.SPATIAL_SHAPE: np.array(first.voxels.shape),
            MetaKeys.SPACE: SpaceKeys.RAS,
            MetaKeys.ORIGINAL_CHANNEL_DIM: float("nan") if len(volumes) == 1 else 0,
        }
        stacked = first.voxels if len(volumes) == 1 else np.stack([each.voxels for each in volumes])
        return stacked, meta

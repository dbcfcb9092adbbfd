from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from medmtl.cli_public import register
from medmtl.data.manifest import Manifest
from medmtl.data.manifest_check import check_manifest
from tests.data.adapters.lidc_archive import Drawn, series_folder, square, write_scan, write_xml
from tests.data.adapters.test_decathlon import write_task
from tests.data.adapters.test_luna16 import A, write_mhd, write_table
from tests.data.adapters.test_nnunet import write_dataset


def call(*arguments: str | Path) -> Manifest:
    """Calls `medmtl import` with these commands; returns what it would check and show."""
    told: list[tuple[object, Path]] = []
    importing = typer.Typer()
    register(importing, lambda manifest, out: told.append((manifest, out)))
    CliRunner().invoke(importing, [str(each) for each in arguments], catch_exceptions=False)
    ((manifest, out),) = told
    assert isinstance(manifest, Manifest)
    assert manifest.folder == out.resolve()
    assert check_manifest(manifest) == []
    return manifest


def test_decathlon(tmp_path: Path) -> None:
    task = write_task(tmp_path / "Task06_Lung")
    assert len(call("decathlon", task, "--out", tmp_path / "out").scans) == 3


def test_nnunet(tmp_path: Path) -> None:
    dataset = write_dataset(tmp_path / "Dataset001_Kidneys")
    assert len(call("nnunet", dataset, "--out", tmp_path / "out").scans) == 3


@pytest.mark.parametrize(("options", "lesions"), [([], 1), (["--exclude-indeterminate"], 0)])
def test_lidc_idri(tmp_path: Path, options: list[str], lesions: int) -> None:
    root = tmp_path / "LIDC-IDRI"
    write_scan(root, "LIDC-IDRI-0003", "3")
    drawn = Drawn(rois=[square(2, 6, 4)], ratings={"malignancy": 3})
    write_xml(series_folder(root, "LIDC-IDRI-0003", "3"), "3", [[drawn]])
    manifest = call("lidc-idri", root, "--out", tmp_path / "out", *options)
    assert len(manifest.included().lesions) == lesions


def test_luna16(tmp_path: Path) -> None:
    write_mhd(tmp_path / "luna" / "subset3", A)
    write_table(tmp_path / "luna", [])
    (tmp_path / "luna" / "annotations.csv").open("a").write(f"{A},-18,12,-295,4.5\n")
    (tmp_path / "map.csv").write_text(f"seriesuid,patient_id\n{A},LIDC-IDRI-0010\n")
    manifest = call(
        "luna16", tmp_path / "luna", "--out", tmp_path / "out", "--lidc", tmp_path / "map.csv"
    )
    assert [scan.patient_id for scan in manifest.scans] == ["LIDC-IDRI-0010"]
    assert len(manifest.lesions) == 1

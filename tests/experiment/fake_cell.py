"""A cell that learns nothing: `python fake_cell.py RUN CELL [BEHAVIOUR]`.

It counts epochs with a checkpoint after each, as a real one does, and starts quickly. What it
predicts depends on every epoch in turn, so a lost or repeated epoch would show.
"""

import contextlib
import json
import os
import signal
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[2]))

from medmtl.errors import MedmtlError
from medmtl.experiment.lock import cell_lock
from medmtl.experiment.parent import exit_with_parent
from medmtl.experiment.progress import CellProgress, write_progress

EPOCHS = 12
OUT_OF_FOLD = "arm,cell,patient_id,scan_id,lesion_id,task,fold,output,target,prediction"
SEGMENTATION = (
    "arm,cell,patient_id,scan_id,lesion_id,task,structure,fold,"
    "dice,nsd,hd95_mm,volume_ml,reference_volume_ml,slices_beyond"
)


def write_tables(folder: Path, state: int) -> None:
    cell_id = folder.name
    arm, _, fold = cell_id.rsplit("_", 2)
    for column, text in ((OUT_OF_FOLD, "out_of_fold.csv"), (SEGMENTATION, "segmentation.csv")):
        rows = [column]
        for number in range(3):
            patient = f"p{fold}-{number}"
            value = ((state + number) % 1_000_003) / 1_000_003 / 3
            ids = f"{arm},{cell_id},{patient},{patient}-s,{patient}-l"
            if column == OUT_OF_FOLD:
                rows.append(f"{ids},malignancy,{fold[1:]},malignant,{number % 2},{value!r}")
            else:
                rows.append(f"{ids},outline,lesion,{fold[1:]},{value!r},,,1.5,2.5,0")
        (folder / text).write_text("\n".join(rows) + "\n")


def misbehave(folder: Path, behaviour: str, epoch: int) -> None:
    if behaviour == "die-twice" and epoch in (2, 3):
        os.kill(os.getpid(), signal.SIGKILL)
    if behaviour == "die-always" and epoch == 2:
        sys.exit(1)
    if behaviour == "bad-input" and epoch == 2:
        print("a warning that is not the fault", flush=True)
        print("--- what is wrong ---", flush=True)
        print("scans.csv: row 3: the image s.nii.gz is not there", flush=True)
        sys.exit(2)
    if behaviour == "no-result" and epoch == 2:
        sys.exit(0)
    if behaviour == "stubborn":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(60)


def run(folder: Path, behaviour: str) -> None:
    checkpoint = folder / "checkpoint.json"
    epoch, state = 0, sum(folder.name.encode())
    with contextlib.suppress(FileNotFoundError):
        epoch, state = json.loads(checkpoint.read_text())
    (folder / "pid").write_text(str(os.getpid()))
    (folder / "threads").write_text(os.environ.get("OMP_NUM_THREADS", ""))
    while epoch < EPOCHS:
        time.sleep(0.015)
        epoch, state = epoch + 1, (state * 6364136223846793005 + epoch) % 2**61
        aside = folder / f".checkpoint.json.{os.getpid()}.part"
        aside.write_text(json.dumps([epoch, state]))
        aside.replace(checkpoint)
        with (folder / "epochs.txt").open("a") as file:
            file.write(f"{epoch}\n")
        write_progress(folder / "progress.json", CellProgress("training", epoch, EPOCHS))
        misbehave(folder, behaviour, epoch)
    write_tables(folder, state)
    (folder / "done.json").write_text("{}\n")


if __name__ == "__main__":
    own_folder = Path(sys.argv[1]) / "cells" / sys.argv[2]
    try:
        with cell_lock(own_folder / "lock"):
            exit_with_parent()
            run(own_folder, sys.argv[3] if len(sys.argv) > 3 else "")
    except MedmtlError as error:
        print(error, flush=True)
        sys.exit(2)

"""A probe of a fold's encoder sees no label of whoever is tested there."""

import pytest

from medmtl.build import probe
from medmtl.build.pretraining import build_pretraining
from medmtl.config_file import load_pretraining
from medmtl.data.manifest_files import read_manifest
from medmtl.training.ranks import Ranks
from tests.small_pretraining import write_pretraining

PROBE = "probe={manifest: cohort/manifest, label: malignant, every: 3}"


@pytest.fixture
def config(tmp_path, monkeypatch):
    path = write_pretraining(tmp_path, patients=24)
    monkeypatch.chdir(tmp_path)
    return load_pretraining(path, [PROBE])


def test_it_looks_at_every_level_of_who_may_be_seen_alone(config, monkeypatch):
    asked = {}

    def note(features, classes, patients):
        asked.update(features=features, classes=classes, patients=patients)
        return {}

    monkeypatch.setattr(probe, "probe_scores", note)
    tested = {"SYN-0001", "SYN-0002", "SYN-0003"}
    job = build_pretraining(config, ranks=Ranks(), keep=lambda scan: scan.patient_id not in tested)

    job.trainer.probe(job.trainer.encoder)

    every = {scan.patient_id for scan in read_manifest(config.pool[0].manifest).scans}
    assert every - tested >= set(asked["patients"]) and len(set(asked["patients"])) >= 15
    widths = [2 * channels for channels in job.trainer.encoder.channels]
    assert [each.shape for each in asked["features"]] == [
        (len(asked["classes"]), width) for width in widths
    ]

"""A probe of a fold's encoder sees no label of whoever is tested there."""

import pytest

from medmtl.build import probe
from medmtl.build.pretraining import build_pretraining
from medmtl.config_file import load_pretraining
from medmtl.data.manifest_files import read_manifest
from medmtl.errors import RunError
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


def test_no_scan_is_opened_before_it_looks(config):
    job = build_pretraining(config, ranks=Ranks())
    assert not job.trainer.pool.sources[0].loader.cache.cases()

    job.trainer.probe(job.trainer.encoder)

    assert job.trainer.pool.sources[0].loader.cache.cases()


def test_scans_that_the_pool_has_turned_out_of_the_cache_are_opened_again(config):
    job = build_pretraining(config, ranks=Ranks())
    before = job.trainer.probe(job.trainer.encoder)
    cache = job.trainer.pool.sources[0].loader.cache
    for case in cache.cases():
        cache.remove(case)

    assert job.trainer.probe(job.trainer.encoder) == before


def test_scans_turned_out_while_it_reads_are_opened_again(config, monkeypatch):
    job = build_pretraining(config, ranks=Ranks())
    before = job.trainer.probe(job.trainer.encoder)
    cut, left = probe.LesionDataset.batch, [2]

    def gone(data, rows, window):
        if left[0]:
            left[0] -= 1
            raise FileNotFoundError
        return cut(data, rows, window)

    monkeypatch.setattr(probe.LesionDataset, "batch", gone)
    assert job.trainer.probe(job.trainer.encoder) == before

    left[0] = 3
    with pytest.raises(RunError, match="set a larger cache"):
        job.trainer.probe(job.trainer.encoder)

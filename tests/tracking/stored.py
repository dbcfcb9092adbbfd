"""What a store holds, asked with MLflow's own client."""

from collections import Counter

from mlflow.tracking import MlflowClient

from medmtl.tracking.uploader import OF_CELL, OF_RUN

EXPERIMENT = "medmtl"


def runs_of(uri):
    """All MLflow runs: those of whole runs by identity, those of cells by (parent, cell)."""
    client = MlflowClient(uri)
    experiment = client.get_experiment_by_name(EXPERIMENT)
    found = client.search_runs([experiment.experiment_id], max_results=1000)
    parents = [run for run in found if OF_RUN in run.data.tags]
    cells = [run for run in found if OF_CELL in run.data.tags]
    assert len(parents) + len(cells) == len(found)
    return parents, cells


def values_of(uri, run):
    """Every value that was ever uploaded, by key and step, and how often."""
    client = MlflowClient(uri)
    history = [
        metric for key in run.data.metrics for metric in client.get_metric_history(
            run.info.run_id, key
        )
    ]  # fmt: skip
    counts = Counter((metric.key, metric.step) for metric in history)
    return {(metric.key, metric.step): metric.value for metric in history}, counts


def assert_complete(uri, record, identity):
    """Each value of a run is there exactly once, and nothing else."""
    parents, cells = runs_of(uri)
    (parent,) = [run for run in parents if run.data.tags[OF_RUN] == identity]
    own = [run for run in cells if run.data.tags["mlflow.parentRunId"] == parent.info.run_id]
    assert sorted(run.data.tags[OF_CELL] for run in own) == sorted(record.cells)
    both = [(parent, record)] + [(run, record.cells[run.data.tags[OF_CELL]]) for run in own]
    for run, expected in both:
        found, counts = values_of(uri, run)
        wanted = {(point.key, point.step): point.value for point in expected.points}
        assert found == wanted, set(found.items()) ^ set(wanted.items())
        assert set(counts.values()) <= {1}
        assert run.data.params == expected.parameters
    return parent, own

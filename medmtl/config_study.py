"""The knobs of how it is learned, judged and run: training, folds, baselines, evaluation, cells."""

from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field

from medmtl.config_knobs import Knobs, Millimetres, SizeMm


class Training(Knobs):
    """How one model learns."""

    epochs: int = Field(
        40, ge=1, le=10_000, description="rounds over the lesions; without such heads, the scans"
    )
    batch_size: int = Field(32, ge=2, le=4096, description="lesions a step")
    learning_rate: float = Field(2e-3, gt=0, le=1, description="AdamW's, at the end of warm-up")
    weight_decay: float = Field(0.05, ge=0, le=1, description="AdamW's")
    warmup_fraction: float = Field(0.1, ge=0, lt=1, description="of all steps; then a cosine")
    gradient_clip: float = Field(5.0, gt=0, description="largest norm of the gradient")
    precision: Literal["bf16", "fp32"] = Field(
        "bf16", description="of the arithmetic; weights and losses stay in fp32"
    )
    sampling: Literal["natural", "balanced"] = Field(
        "natural", description="balanced: each class of the first classification equally often"
    )
    select_epoch: Literal["best", "last"] = Field(
        "best", description="best: by the inner split's scores; last: after the whole schedule"
    )
    evaluate_every: int = Field(2, ge=1, description="epochs between looks at the inner split")
    label_fraction: float = Field(
        1.0,
        gt=0,
        le=1,
        description="of each fold's training patients, whose labels may be looked at: for curves "
        "of label efficiency; tests stay whole",
    )


class Folds(Knobs):
    """Who is tested where. Patients are never split."""

    count: int = Field(5, ge=2, le=100, description="how many; a table has its own number")
    stratify_by: str | None = Field(None, description="a label; default: the first head's")
    inner_fraction: float = Field(
        0.2, gt=0, lt=0.6, description="of the training patients; chooses epoch and temperature"
    )
    table: Path | None = Field(None, description="your own CSV: patient_id, fold")


class LesionColumn(Knobs):
    """A column of lesions.csv used as it is, such as the diameter."""

    kind: Literal["lesion_column"]
    task: str = Field(description="name of the classification head that it is compared with")
    column: str = Field(description="diameter_mm, a measurement or a label of the data card")
    title: str = Field("", description="what the report calls it; default: its name")


class LogisticColumns(Knobs):
    """Logistic regression on columns of lesions.csv, fitted on the training patients."""

    kind: Literal["logistic"]
    task: str = Field(description="name of the classification head that it is compared with")
    columns: list[str] = Field(
        min_length=1, description="diameter_mm, measurements or labels of the data card"
    )
    title: str = Field("", description="what the report calls it; default: its name")


class PredictedVolume(Knobs):
    """The volume that an arm's segmentation head found, used as a score."""

    kind: Literal["predicted_volume"]
    task: str = Field(description="name of the classification head that it is compared with")
    arm: str = Field(description="name of an arm with a segmentation head")
    title: str = Field("", description="what the report calls it; default: its name")


class PredictionTable(Knobs):
    """Somebody else's predictions: a CSV with lesion_id and prediction."""

    kind: Literal["table"]
    task: str = Field(description="name of the classification head that it is compared with")
    path: Path = Field(description="CSV: lesion_id, prediction (higher: rather the last class)")
    title: str = Field("", description="what the report calls it; default: its name")


Baseline = Annotated[
    LesionColumn | LogisticColumns | PredictedVolume | PredictionTable,
    Field(discriminator="kind"),
]


class Subgroup(Knobs):
    """Lesions for which a number lies in a range; shown apart."""

    column: str = Field(
        description="diameter_mm, slices_beyond, reference_volume_ml, or one of the data card"
    )
    at_least: float | None = Field(None, description="give it, at_most, or both; included")
    at_most: float | None = Field(None, description="in the unit of the column; included")
    title: str = Field("", description="what the report calls it; default: its name")


class Inference(Knobs):
    """How trained models are asked."""

    average_views: bool = Field(
        True, description="average turned and mirrored views; switch off for left-right tasks"
    )
    region_mm: SizeMm = Field(
        (64.0, 64.0, 64.0), description="box around a position in which a lesion is outlined"
    )
    overlap: float = Field(
        0.5,
        ge=0,
        lt=1,
        description="of the windows laid over a whole scan, as a share of a training patch",
    )
    runtime: Literal["openvino", "torch"] = Field(
        "openvino",
        description="what computes whole scans; OpenVINO is several times faster on CPUs; "
        "transformers are computed by torch in any case",
    )


class Evaluation(Knobs):
    """How predictions are judged."""

    bootstrap_samples: int = Field(
        2000, ge=100, le=100_000, description="resamples of the patients for each interval"
    )
    nsd_tolerance_mm: Millimetres = Field(1.0, description="surfaces so far apart still agree")
    sensitivity: float = Field(
        0.9, gt=0, lt=1, description="of the thresholds, which are set on the inner split"
    )
    reference: str | None = Field(None, description="arm or baseline that others are paired with")
    subgroups: dict[str, Subgroup] = Field(
        default_factory=dict, description="lesions that are shown apart as well"
    )


class Tracking(Knobs):
    """Whether and where runs are tracked; MLFLOW_TRACKING_URI says on which server."""

    enabled: bool = Field(True, description="upload to MLflow while the run goes on")
    experiment: str = Field(
        "medmtl", min_length=1, max_length=100, description="MLflow's, that runs are filed under"
    )


class Engine(Knobs):
    """Where cells run."""

    kind: Literal["local"] = Field("local", description="processes on this machine")
    workers: int = Field(2, ge=1, le=256, description="cells at a time")
    threads_per_worker: int = Field(1, ge=1, le=256, description="CPU threads of each cell")
    retries: int = Field(2, ge=0, le=20, description="new starts of a cell that died")


class Cache(Knobs):
    """Preprocessed scans on disk, shared by all cells and runs."""

    folder: Path = Field(
        Path(".medmtl_cache"), description="may be deleted whenever nothing runs; it is made again"
    )
    max_gb: float = Field(20.0, gt=0, description="the least recently used are removed first")

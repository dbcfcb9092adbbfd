"""A pretraining from its configuration."""

import hashlib
import json
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import nn

from medmtl.build.data import voxels_of
from medmtl.build.learning import build_encoder
from medmtl.build.probe import build_probe
from medmtl.config_file import (
    FREE_OF_ITS_TRAINING,
    FREE_OF_PRETRAINING,
    binding_pretraining,
    dump_config,
)
from medmtl.config_pretraining import (
    MaskedAutoencoder,
    MoCo,
    ModelsGenesis,
    Pretraining,
    SimCLR,
)
from medmtl.data.cache import CaseCache
from medmtl.data.cases import CaseLoader
from medmtl.data.dicom.choice import split_choice
from medmtl.data.manifest import Manifest, Scan
from medmtl.data.manifest_files import read_manifest
from medmtl.data.privacy.secret import find_secret
from medmtl.errors import ConfigError, ManifestError
from medmtl.experiment.pretraining import PretrainingJob
from medmtl.models.encoder import Encoder
from medmtl.models.heads import decoder_for
from medmtl.pretraining.corruption import Corruption
from medmtl.pretraining.masked_autoencoder import MaskedAutoencoder as MaskedAutoencoderMethod
from medmtl.pretraining.method import Method
from medmtl.pretraining.moco import MoCo as MoCoMethod
from medmtl.pretraining.model import PretrainingModel
from medmtl.pretraining.models_genesis import ModelsGenesis as ModelsGenesisMethod
from medmtl.pretraining.pool import Pool, Position, Source
from medmtl.pretraining.simclr import SimCLR as SimCLRMethod
from medmtl.pretraining.views import ViewMaker
from medmtl.pretraining_folder import PretrainingFolder
from medmtl.training.pretrain import Pretrainer, PretrainingSettings, Row
from medmtl.training.ranks import Ranks


def build_pretraining(
    config: Pretraining,
    *,
    ranks: Ranks,
    folder: PretrainingFolder | None = None,
    keep: Callable[[Scan], bool] = lambda scan: True,
    withheld: frozenset[str] = frozenset(),
    tell: Callable[[Sequence[Row], float], None] = lambda rows, waiting: None,
) -> PretrainingJob:
    """Puts together everything that a pretraining needs; opens no scan.

    Args:
        config: Of the pretraining.
        ranks: The processes that train together.
        folder: Where it is written; default: where the configuration says.
        keep: Which scans of the pool may be seen.
        withheld: Content hashes of images that must not be seen, under whatever name.
        tell: See `PretrainingJob`.

    Raises:
        ManifestError: A manifest cannot be read, or the pool is empty.
        ConfigError: Views or cells do not fit the network, or the batch the processes.
        PrivacyError: The secret cannot be used.
    """
    knobs = config.training
    parts = ranks.count * knobs.accumulate
    if knobs.batch_size % parts or knobs.batch_size < 2 * parts:
        raise ConfigError(
            f"training.batch_size: {knobs.batch_size} places cannot be shared by {ranks.count} "
            f"processes in {knobs.accumulate} parts of two or more; take a multiple of {parts}, "
            f"from {2 * parts} on"
        )
    folder = folder or PretrainingFolder(config.output / config.name)
    sources = build_sources(config, keep)
    torch.set_num_threads(knobs.threads)
    torch.manual_seed(config.seed)
    model = build_pretraining_model(config)
    trainer = Pretrainer(
        model=model,
        pool=Pool(sources=sources, size=_size(config), seed=config.seed, withheld=withheld),
        maker=_build_maker(config),
        settings=PretrainingSettings(
            **knobs.model_dump(exclude=set(FREE_OF_ITS_TRAINING)),
            probe_every=config.probe.every if config.probe else knobs.steps,
            seed=config.seed,
        ),
        ranks=ranks,
        checkpoint=folder.checkpoint,
        fingerprint=pretraining_fingerprint(config, sources, withheld),
        save_every_s=knobs.save_every_s,
        probe=build_probe(config, config.probe, keep) if config.probe and ranks.rank == 0 else None,
    )
    return PretrainingJob(
        folder=folder,
        config_text=dump_config(config, folder.path),
        binding=binding_pretraining,
        encoder_text=config.encoder.model_dump_json(),
        trainer=trainer,
        secret=find_secret(),
        tell=tell,
    )


def build_sources(
    config: Pretraining, keep: Callable[[Scan], bool] = lambda scan: True
) -> list[Source]:
    """The scans of the pool, without those excluded in their manifests' cards.

    Raises:
        ManifestError: A manifest cannot be read, or no scan is left.
    """
    cache = CaseCache(folder=config.cache.folder, max_gb=config.cache.max_gb)
    sources = []
    for each in config.pool:
        manifest = read_manifest(each.manifest).included()
        # Masks are neither read nor part of the cached cases.
        unlabelled = replace(manifest.without_annotations(), lesions=())
        loader = CaseLoader(manifest=unlabelled, cache=cache, spacing_mm=config.spacing_mm)
        positions_mm = _positions(manifest) if each.aim == "lesions" else {}
        scans = [
            scan
            for scan in unlabelled.scans
            if keep(scan) and (each.aim != "lesions" or scan.scan_id in positions_mm)
        ]
        sources.append(
            Source(
                loader=loader,
                scans=scans,
                aim=each.aim,
                visits=each.visits,
                positions_mm=positions_mm,
            )
        )
    if not any(source.scans for source in sources):
        names = ", ".join(map(str, (each.manifest for each in config.pool)))
        aimed = any(each.aim == "lesions" for each in config.pool)
        why = " (aim: lesions needs positions in lesions.csv)" if aimed else ""
        raise ManifestError(f"pool: no scan is left of {names}{why}; add a manifest")
    return sources


def _positions(manifest: Manifest) -> dict[str, list[Position]]:
    """Of each scan the positions of its lesions; nothing else of them is looked at."""
    found: dict[str, list[Position]] = {}
    for lesion in manifest.lesions:
        if lesion.position_mm is not None:
            found.setdefault(lesion.scan_id, []).append(lesion.position_mm)
    return found


def build_pretraining_model(config: Pretraining) -> PretrainingModel:
    """Encoder and methods, untrained. Seed torch before: the weights are drawn here."""
    encoder = build_encoder(config.encoder)
    return PretrainingModel(
        encoder=encoder,
        methods={name: _build_method(config, name, encoder) for name in config.methods},
        weights={name: knobs.weight for name, knobs in config.methods.items()},
    )


def _build_method(config: Pretraining, name: str, encoder: Encoder) -> Method:
    knobs, channels = config.methods[name], encoder.channels
    if isinstance(knobs, MoCo):
        own = knobs.model_dump(exclude={"kind", "weight"})
        return MoCoMethod(encoder=encoder, channels=channels[-1], **own)
    if isinstance(knobs, SimCLR):
        own = knobs.model_dump(exclude={"kind", "weight"})
        return SimCLRMethod(channels=channels[-1], **own)
    if isinstance(knobs, MaskedAutoencoder):
        _require_convolutional(name, encoder)
    decoder = decoder_for(encoder)
    if isinstance(knobs, ModelsGenesis):
        own = knobs.model_dump(exclude={"kind", "weight"})
        return ModelsGenesisMethod(decoder=decoder, corruption=Corruption(**own))
    return MaskedAutoencoderMethod(
        channels=channels,
        decoder=decoder,
        cell=_cell(config, name, knobs, encoder),
        share=knobs.share,
        normalise_cells=knobs.normalise_cells,
    )


def _require_convolutional(name: str, encoder: Encoder) -> None:
    """A norm over the channels of tokens, as transformers have, cannot leave hidden ones out."""
    if any(isinstance(module, nn.LayerNorm) for module in encoder.modules()):
        raise ConfigError(
            f"methods.{name}: masked_autoencoder hides voxels from convolutions; this encoder is a "
            "transformer: take models_genesis, or a convolutional encoder"
        )


def _cell(
    config: Pretraining, name: str, knobs: MaskedAutoencoder, encoder: Encoder
) -> tuple[int, int, int]:
    ratios = [mm / own for mm, own in zip(knobs.cell_mm, config.spacing_mm, strict=True)]
    depth, height, width = (max(1, round(ratio)) for ratio in ratios)
    fits = all(
        abs(ratio - round(ratio)) < 0.01 and round(ratio) % stride == 0
        for ratio, stride in zip(ratios, encoder.strides[0], strict=True)
    )
    if not fits:
        raise ConfigError(
            f"methods.{name}.cell_mm: {list(knobs.cell_mm)} mm is "
            f"{[round(ratio, 2) for ratio in ratios]} voxels; the network needs multiples of "
            f"{list(encoder.strides[0])} voxels"
        )
    cell = (depth, height, width)
    if all(own >= side for own, side in zip(cell, _size(config), strict=True)):
        raise ConfigError(
            f"methods.{name}.cell_mm: {list(knobs.cell_mm)} mm hide the whole view of "
            f"{list(config.views.size_mm)} mm; take smaller cells, or larger views.size_mm"
        )
    return cell


def _size(config: Pretraining) -> tuple[int, int, int]:
    return voxels_of("views", config.views.size_mm, config.spacing_mm, config.encoder)


def _build_maker(config: Pretraining) -> ViewMaker:
    views = config.views
    return ViewMaker(
        size=_size(config),
        spacing_mm=config.spacing_mm,
        low_hu=config.intensity.low_hu,
        high_hu=config.intensity.high_hu,
        rotation_degrees=views.rotation_degrees,
        scaling=views.scaling,
        flips=(views.flip_depth, views.flip_height, views.flip_width),
        shift_mm=views.shift_mm,
        window_hu=views.window_hu,
        noise_hu=views.noise_hu,
        kernel=views.kernel,
    )


def pretraining_fingerprint(
    config: Pretraining, sources: Sequence[Source], withheld: frozenset[str] = frozenset()
) -> str:
    """Names a pretraining by what it learns from, what it must not see, and how it learns.

    Of images it takes size and time of change: to hash a whole archive would take hours.
    """
    values: dict[str, Any] = json.loads(
        config.model_dump_json(exclude={"name", *FREE_OF_PRETRAINING})
    )
    for key in FREE_OF_ITS_TRAINING:
        values["training"].pop(key)
    for each in values["pool"]:
        each.pop("manifest")
    scans = [
        [_stamps(source.loader.manifest, source.scans), dict(source.positions_mm)]
        for source in sources
    ]
    text = json.dumps([values, scans, sorted(withheld)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _stamps(manifest: Manifest, scans: Collection[Scan]) -> list[list[object]]:
    """Of each scan who it is, and of its file or folder size and time of change."""
    stamps: list[list[object]] = []
    for scan in scans:
        path = split_choice(manifest.resolve(scan.image))[0]
        facts = path.stat() if path.exists() else None
        own = [] if facts is None else [facts.st_size, facts.st_mtime_ns]
        stamps.append([scan.patient_id, scan.scan_id, scan.image, *own])
    return stamps

"""The knobs of the shared encoder: ours, and MONAI's networks, a kind each."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from medmtl.config_knobs import Fraction, Knobs

Voxels = Annotated[int, Field(ge=1, le=1024)]
Edge = Literal[1, 2, 4, 8, 16, 32]


class LeanResidual(Knobs):
    """Our own encoder: space-to-depth stem, residual blocks; made for AMX CPUs."""

    kind: Literal["lean_residual"] = "lean_residual"
    widths: list[Annotated[int, Field(ge=8, le=1024, multiple_of=8)]] = Field(
        [32, 64, 96, 128],
        min_length=2,
        max_length=6,
        description="channels a level; 32 or more keep a matrix unit busy",
    )
    dropout: Fraction = Field(0.0, description="share of feature channels dropped in training")
    norm: Literal["batch", "group"] = Field(
        "batch",
        description="normalise over the batch, or groups of 8 channels within each case, which "
        "needs no large batches",
    )


class MonaiSegResNet(Knobs):
    """MONAI's SegResNet encoder (Myronenko 2018), anisotropic strides as our own."""

    kind: Literal["monai_segresnet"]
    init_filters: int = Field(
        16, ge=8, le=128, multiple_of=8, description="channels of the first level, then doubled"
    )
    blocks_down: list[Annotated[int, Field(ge=1, le=8)]] = Field(
        [1, 2, 2, 4], min_length=2, max_length=6, description="residual blocks of each level"
    )
    norm: Literal["batch", "instance", "group"] = Field(
        "batch",
        description="normalise over the batch, or each channel, or 8 groups of them (as "
        "published), within each case",
    )


class MonaiResNet(Knobs):
    """MONAI's ResNet (He 2016), which takes MedicalNet's weights; halves all axes."""

    kind: Literal["monai_resnet"]
    depth: Literal[10, 18, 34, 50] = Field(18, description="layers with weights")
    shortcut_type: Literal["A", "B"] = Field(
        "B",
        description="where sizes change, repeat what goes past a block, or project it; "
        "MedicalNet: A for depths 18 and 34, else B",
    )
    bias_downsample: bool = Field(
        False, description="whether the projections of B have a bias; MedicalNet's have none"
    )
    conv1_t_size: Literal[3, 5, 7] = Field(
        7, description="edge of the first convolution, voxels; MedicalNet: 7"
    )
    conv1_t_stride: Literal[1, 2] = Field(
        2, description="of the first convolution; 1 costs 8 times as much; MedicalNet: 2"
    )


class MonaiDenseNet(Knobs):
    """MONAI's DenseNet (Huang 2017), few parameters and much memory; halves all axes."""

    kind: Literal["monai_densenet"]
    depth: Literal[121, 169] = Field(121, description="layers with weights")
    dropout: float = Field(
        0.0, ge=0, lt=1, description="share of each layer's new channels dropped in training"
    )


class MonaiEfficientNet(Knobs):
    """MONAI's EfficientNet (Tan 2019), the least arithmetic; halves all axes."""

    kind: Literal["monai_efficientnet"]
    size: Literal["b0", "b1", "b2"] = Field("b0", description="widths and depths together")


class MonaiViT(Knobs):
    """MONAI's vision transformer (Dosovitskiy 2021), with a pyramid for heads that outline."""

    kind: Literal["monai_vit"]
    patch_size: tuple[Edge, Edge, Edge] = Field(
        (16, 16, 16),
        description="voxels of a patch; small ones for small windows; published networks: 16",
    )
    image_size: tuple[Voxels, Voxels, Voxels] = Field(
        (96, 96, 96),
        description="voxels that the position embeddings are made for, whole patches; "
        "interpolated for windows of other sizes",
    )
    hidden_size: int = Field(768, ge=8, le=4096, multiple_of=8, description="channels of a patch")
    mlp_dim: int = Field(3072, ge=8, le=16384, description="channels inside each block")
    num_layers: int = Field(12, ge=4, le=48, description="blocks")
    num_heads: int = Field(12, ge=1, le=64, description="attention heads; divide hidden_size")
    feature_size: int = Field(
        16,
        ge=8,
        le=128,
        multiple_of=8,
        description="half the channels of the pyramid's finest map, then doubled",
    )
    dropout: float = Field(0.0, ge=0, lt=1, description="share of activations dropped in training")

    @model_validator(mode="after")
    def _fitting(self) -> "MonaiViT":
        if self.hidden_size % self.num_heads:
            raise ValueError("hidden_size must be a multiple of num_heads")
        pairs = zip(self.image_size, self.patch_size, strict=True)
        if any(side % edge for side, edge in pairs):
            raise ValueError("image_size must be whole patches of patch_size along each axis")
        if max(self.patch_size) == 1:
            raise ValueError("patch_size must be above 1 along some axis")
        return self


class MonaiSwinUNETR(Knobs):
    """Swin UNETR's encoder (Hatamizadeh 2022), attention in small windows; halves all axes."""

    kind: Literal["monai_swin_unetr"]
    feature_size: int = Field(
        48,
        ge=12,
        le=96,
        multiple_of=12,
        description="channels of the finest map, then doubled; published weights: 48",
    )


class NnunetResEnc(Knobs):
    """nnU-Net's residual encoder (Isensee 2024), which takes nnssl's weights; halves all axes."""

    kind: Literal["nnunet_resenc"]
    widths: list[Annotated[int, Field(ge=8, le=1024, multiple_of=8)]] = Field(
        [32, 64, 128, 256, 320, 320],
        min_length=2,
        max_length=8,
        description="channels of each stage; the default is ResEnc-L's",
    )
    blocks: list[Annotated[int, Field(ge=1, le=12)]] = Field(
        [1, 3, 4, 6, 6, 6],
        min_length=2,
        max_length=8,
        description="residual blocks of each stage, as many as there are widths",
    )

    @model_validator(mode="after")
    def _as_many(self) -> "NnunetResEnc":
        if len(self.widths) != len(self.blocks):
            raise ValueError("widths and blocks must have as many entries, one a stage")
        return self


Encoder = Annotated[
    LeanResidual
    | MonaiSegResNet
    | MonaiResNet
    | MonaiDenseNet
    | MonaiEfficientNet
    | MonaiViT
    | MonaiSwinUNETR
    | NnunetResEnc,
    Field(discriminator="kind"),
]

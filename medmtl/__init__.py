"""medmtl: one shared 3D encoder, honest cross-validation, few labelled scans."""

__version__ = "0.1.0"

"""From the layouts that data come in to manifests: one file a layout."""

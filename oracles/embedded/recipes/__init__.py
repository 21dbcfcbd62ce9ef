"""Programs that train the embedded models from public data, one per model."""

"""What the files and folders of a run are called; its report reads them without what trains."""

from __future__ import annotations

RUN_NAME = "run.json"
RESULTS_NAME = "results.jsonl"
WATERFALL_NAME = "waterfall.json"
PARITY_CROPS_NAME = "parity_crops.npy"
"""Real crops (N, S, S, 3) uint8, kept so that later exports are checked on them too."""
ARCHITECTURE_NAME = "architecture.json"
CASCADE_NAME = "cascade.json"
"""The shape of a run's cascade with all stages."""
STAGES_NAME = "stages.json"
"""What each stage of a cascade is worth."""
IMPORTANCES_NAME = "importances.json"
PREDICTIONS_NAME = "predictions.jpg"
BUNDLES = "bundles"

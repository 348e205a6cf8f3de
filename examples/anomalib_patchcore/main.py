"""PatchCore (Roth et al., 2022) of anomalib: the distance to the nearest remembered pretrained feature."""

from __future__ import annotations

from typing import Any

import anomalib_detector
from anomalib.models.image.patchcore.torch_model import PatchcoreModel

SETTINGS: dict[str, Any] = {
    "layers": ["blocks.2", "blocks.4"],  # an eighth and a sixteenth of the image's resolution
    "coreset": 0.02,  # part of the training features that is remembered; time grows with it
    "neighbours": 9,
}


def make(config: dict[str, Any]) -> anomalib_detector.AnomalibDetector:
    model = PatchcoreModel(
        backbone=anomalib_detector.BACKBONE,
        layers=config["layers"],
        pre_trained=False,  # not from the network: anomalib_detector loads the weights
        num_neighbors=config["neighbours"],
    )
    return anomalib_detector.AnomalibDetector(model, finish=lambda: model.subsample_embedding(config["coreset"]))


if __name__ == "__main__":
    anomalib_detector.run("anomalib_patchcore", SETTINGS, make)

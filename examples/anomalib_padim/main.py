"""PaDiM (Defard et al., 2020) of anomalib: a Gaussian over pretrained features for each place."""

from __future__ import annotations

from typing import Any

import anomalib_detector
from anomalib.models.image.padim.torch_model import PadimModel

SETTINGS: dict[str, Any] = {
    "layers": ["blocks.1", "blocks.2"],  # a quarter and an eighth of the image's resolution
    "features": 60,  # kept of their 64 channels, drawn at random
}


def make(config: dict[str, Any]) -> anomalib_detector.AnomalibDetector:
    model = PadimModel(
        backbone=anomalib_detector.BACKBONE,
        layers=config["layers"],
        pre_trained=False,  # not from the network: anomalib_detector loads the weights
        n_features=config["features"],
    )
    return anomalib_detector.AnomalibDetector(model, finish=model.fit)


if __name__ == "__main__":
    anomalib_detector.run("anomalib_padim", SETTINGS, make)

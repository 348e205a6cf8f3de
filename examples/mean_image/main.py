"""The baseline that every detector should beat: how far is an image from the mean of the good ones?

Brightness and contrast are made equal first, a blur forgives small shifts, and each pixel's distance is
measured in standard deviations of the good images at that place.
"""

from __future__ import annotations

from typing import Any

import ad_harness
import cv2
import numpy as np

SETTINGS: dict[str, Any] = {
    "blur": 2.0,  # of each image, standard deviation in pixels
    "smooth": 4.0,  # of the anomaly map
}


class MeanImage:
    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config

    def even(self, images: np.ndarray) -> np.ndarray:
        """Grey, blurred, mean 0 and deviation 1: (N, S, S) float32."""
        greys = [cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32) for image in images]
        blurred = np.stack([cv2.GaussianBlur(grey, (0, 0), self.config["blur"]) for grey in greys])
        centred = blurred - blurred.mean(axis=(1, 2), keepdims=True)
        return centred / np.maximum(centred.std(axis=(1, 2), keepdims=True), 1.0)

    def fit(self, images: np.ndarray) -> None:
        good = self.even(images)
        self.mean = good.mean(axis=0)
        self.deviation = good.std(axis=0) + 0.1  # never zero

    def predict(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        distances = np.abs(self.even(images) - self.mean) / self.deviation
        maps = np.stack([cv2.GaussianBlur(distance, (0, 0), self.config["smooth"]) for distance in distances])
        return maps.max(axis=(1, 2)), maps  # an image is as bad as its worst place


if __name__ == "__main__":
    ad_harness.run("mean_image", SETTINGS, MeanImage)

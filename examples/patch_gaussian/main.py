"""Anomaly detection with one Gaussian over image features, on numpy and OpenCV alone.

Every pixel gets a vector of filter responses: the brightness around it, and how strong edges and ripples of
several widths and directions are there. Good images say how these vectors spread: a mean and a covariance,
for the whole image or for each cell of a grid. A pixel is as anomalous as its vector is far from them in the
covariance's own units (the Mahalanobis distance).
"""

from __future__ import annotations

from typing import Any

import ad_harness
import cv2
import numpy as np

SETTINGS: dict[str, Any] = {
    "grid": 1,  # cells a side, each with its own Gaussian: 1 for textures, more for aligned objects
    "widths": [1.0, 2.0, 4.0],  # of the filters, standard deviations in pixels
    "directions": 4,
    "smooth": 4.0,  # blur of the anomaly map, standard deviation in pixels
    "ridge": 0.01,  # added to each variance, as a share of the mean variance
    "step": 2,  # pixels between the vectors learned from
}
FLOOR = 0.01  # below this a filter's response is noise


def ripple(width: float, angle: float, phase: float) -> np.ndarray:
    """A Gabor filter without response to plain brightness."""
    side = 2 * int(3 * width) + 1
    kernel = cv2.getGaborKernel((side, side), width, angle, 3 * width, 1.0, phase)
    kernel -= kernel.mean()
    return (kernel / np.abs(kernel).sum()).astype(np.float32)


def respond(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    return cv2.filter2D(image, -1, kernel, borderType=cv2.BORDER_REFLECT)


def blur(image: np.ndarray, width: float) -> np.ndarray:
    return cv2.GaussianBlur(image, (0, 0), width, borderType=cv2.BORDER_REFLECT)


class PatchGaussian:
    def __init__(self, config: dict[str, Any]) -> None:
        self.config = config
        turns = np.arange(config["directions"]) * np.pi / config["directions"]
        self.kernels = [
            (width, [(ripple(width, turn, 0.0), ripple(width, turn, np.pi / 2)) for turn in turns])
            for width in config["widths"]
        ]

    def features(self, image: np.ndarray) -> np.ndarray:
        """The vector of each pixel: (S, S, D) float32 of an (S, S, 3) uint8 image."""
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY).astype(np.float32)
        grey = (grey - grey.mean()) / max(float(grey.std()), 1.0)  # exposure and contrast differ
        means, strengths = [], []
        for width, kernels in self.kernels:
            mean = blur(grey, width)
            means.append(mean)
            strengths.append(np.sqrt(np.maximum(blur(grey * grey, width) - mean * mean, 0)))
            for even, odd in kernels:
                strength = np.hypot(respond(grey, even), respond(grey, odd))
                strengths.append(blur(strength, width))
        return np.dstack([*means, *np.log(np.stack(strengths) + FLOOR)])  # the logarithm is nearer normal

    def cells(self, size: int) -> np.ndarray:
        """Which Gaussian answers for each pixel: (S, S)."""
        row = np.arange(size) * self.config["grid"] // size
        return row[:, None] * self.config["grid"] + row[None, :]

    def fit(self, images: np.ndarray) -> None:
        step = self.config["step"]
        cells = self.cells(images.shape[1])[::step, ::step]
        samples = np.stack([self.features(image)[::step, ::step] for image in images])
        numbers = range(self.config["grid"] ** 2)
        self.gaussians = [self.gaussian(samples[:, cells == number]) for number in numbers]

    def gaussian(self, vectors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The mean (D,), and the matrix (D, D) that makes the vectors' covariance the identity."""
        vectors = vectors.reshape(-1, vectors.shape[-1]).astype(np.float64)
        covariance = np.cov(vectors, rowvar=False)
        covariance += np.eye(len(covariance)) * self.config["ridge"] * np.trace(covariance) / len(covariance)
        whiten = np.linalg.cholesky(np.linalg.inv(covariance))
        return vectors.mean(axis=0).astype(np.float32), whiten.astype(np.float32)

    def predict(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        maps = np.stack([self.anomaly_map(image) for image in images])
        return maps.max(axis=(1, 2)), maps  # an image is as bad as its worst place

    def anomaly_map(self, image: np.ndarray) -> np.ndarray:
        vectors, cells = self.features(image), self.cells(len(image))
        distance = np.empty(cells.shape, dtype=np.float32)
        for cell, (mean, whiten) in enumerate(self.gaussians):
            inside = cells == cell
            distance[inside] = np.linalg.norm((vectors[inside] - mean) @ whiten, axis=1)
        return blur(distance, self.config["smooth"])


if __name__ == "__main__":
    ad_harness.run("patch_gaussian", SETTINGS, PatchGaussian)

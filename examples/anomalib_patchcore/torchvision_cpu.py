"""Make `import torchvision` work beside a CPU build of torch. Import this before anomalib or timm.

PyPI's torchvision for Linux is built for CUDA: its compiled half does not load without CUDA's libraries, its
operators are then unknown, and importing its Python half fails with "operator torchvision::nms does not
exist". timm and anomalib need the Python half only. So, and only where the plain import fails, the two
operators that are asked for at import are declared here, the first with a plain torch body.

Not repaired: torchvision.io and the compiled operators (roi_align takes its slow Python path).
Each example carries its own identical copy of this file, because a submission has nothing but its own files.
"""

from __future__ import annotations

import sys

import torch

DETECTIONS = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_kept: list[torch.library.Library] = []  # the operators live as long as their library object


def nms(boxes: torch.Tensor, scores: torch.Tensor, iou_threshold: float) -> torch.Tensor:
    """Non-maximum suppression: the kept boxes' indices, best first; a box is x1 y1 x2 y2."""
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    order = scores.argsort(descending=True)
    kept = []
    while order.numel():
        best, order = order[0], order[1:]
        kept.append(best)
        low = torch.maximum(boxes[best, :2], boxes[order, :2])
        high = torch.minimum(boxes[best, 2:], boxes[order, 2:])
        shared = (high - low).clamp(min=0).prod(dim=1)
        order = order[shared / (areas[best] + areas[order] - shared) <= iou_threshold]
    return torch.stack(kept) if kept else torch.empty(0, dtype=torch.int64)


def repair() -> bool:
    """True if torchvision needed the repair."""
    try:
        import torchvision
    except RuntimeError as error:
        if "torchvision::" not in str(error):
            raise
    else:
        return False
    for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
        del sys.modules[name]  # half imported
    library = torch.library.Library("torchvision", "DEF")
    library.define(f"nms{DETECTIONS}")
    library.define(f"qnms{DETECTIONS}")
    library.impl("nms", nms, "CPU")
    _kept.append(library)
    import torchvision.ops.boxes

    torchvision.ops.boxes._assert_has_ops = lambda: None
    return True


repaired = repair()

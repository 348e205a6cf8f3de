"""Make `import torchvision` work where its compiled half does not fit torch. Run with an environment's interpreter, after pip.

    ENVIRONMENT/bin/python requirements/torchvision_hook.py

PyPI's torchvision for Linux is a CUDA build. With a CPU build of torch its library does not load, its operators are then
unknown, and importing its Python half ends with "operator torchvision::nms does not exist"; anomalib, timm and lightning
import it. Where that is so, this file copies itself into the environment, with a `.pth` file that Python reads
at every start. Nothing else happens until a program imports torchvision.

Not repaired: `torchvision.io` and the compiled operators but `nms` (`roi_align` takes its slower Python path).
"""

from __future__ import annotations

import sys
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

NAME = "leadersboard_torchvision_hook"
# Every program of the environment runs this line at its start, so it imports nothing. It may run twice.
FINDER = (
    f'import sys; sys.meta_path.insert(0, type("{NAME}", (), {{"find_spec": staticmethod(lambda name, path=None, target=None: '
    f'__import__("{NAME}").find(name) if name == "torchvision" else None)}}))\n'
)
_kept: list[Any] = []  # operators live as long as their library object


def find(name: str) -> ModuleSpec | None:
    """Return torchvision's spec with a loader that declares its operators first."""
    found = PathFinder.find_spec(name)
    if found is not None and found.loader is not None and found.submodule_search_locations:
        found.loader = _Loader(found.loader, next(iter(found.submodule_search_locations)))
    return found


class _Loader:
    def __init__(self, loader: Any, folder: str) -> None:
        self._loader, self._folder = loader, folder

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> Any:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        sys.meta_path[:] = [finder for finder in sys.meta_path if getattr(finder, "__name__", "") != NAME]
        module.__spec__.loader = module.__loader__ = self._loader  # as the program would find them without the hook
        is_missing = _declare_operators(self._folder)
        self._loader.exec_module(module)
        if is_missing:
            module.ops.boxes._assert_has_ops = lambda: None  # it asks for the compiled half, not for the operator


def _declare_operators(folder: str) -> bool:
    """Declare the two operators that torchvision asks for at import, unless its own library loads."""
    from pathlib import Path

    import torch

    for library in Path(folder).glob("_C*.so"):
        try:
            torch.ops.load_library(str(library))
            return False
        except OSError:
            continue
    made = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        made.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
    made.impl("nms", _nms, "CPU")
    _kept.append(made)
    return True


def _nms(boxes: Any, scores: Any, iou_threshold: float) -> Any:
    """Non-maximum suppression: indices (K,) of the boxes (N, 4; x1 y1 x2 y2) that are kept, best score first."""
    import torch

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


def install() -> int:
    """Copy this file into the interpreter's environment if torchvision needs it there; return an exit code."""
    import importlib.util
    import subprocess
    import sysconfig
    from pathlib import Path

    def imports() -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-c", "import torchvision"], capture_output=True, text=True, check=False)

    if importlib.util.find_spec("torchvision") is None:
        return 0
    packages = Path(sysconfig.get_path("purelib"))
    for suffix in ("py", "pth"):  # an earlier version's
        (packages / f"{NAME}.{suffix}").unlink(missing_ok=True)
    if (tried := imports()).returncode and "operator torchvision::" in tried.stderr:
        (packages / f"{NAME}.py").write_text(Path(__file__).read_text())
        (packages / f"{NAME}.pth").write_text(FINDER)
        tried = imports()
    if tried.returncode:
        sys.stderr.write(f"torchvision cannot be imported:\n{tried.stderr}")
    return tried.returncode


if __name__ == "__main__":
    sys.exit(install())

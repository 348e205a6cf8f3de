"""Who says how good a run was: the submission itself, or a scorer that compares its predictions with hidden labels.

The programs lie in scorers/ of the repository, one small file a kind, and an organizer's own below SCORER_ROOT; they run in
a sandbox (jobs/scoring.py), never here. This is what the site knows of them.
"""

import re
from dataclasses import dataclass
from pathlib import Path

from django.conf import settings
from django.core.exceptions import ValidationError
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from leaderboards.declarations import LOWER, DeclaredMetrics, MetricDeclaration, own_folder, read_declaration

OWN = "own/"
_PART = r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}"
_FOLDER = re.compile(rf"{_PART}(?:/{_PART}){{0,7}}")
_OWN_NAME = re.compile(rf"{OWN}{_PART}")


@dataclass(frozen=True)
class BuiltIn:
    """A scorer that the platform brings."""

    name: str
    label: str | Promise
    # What a run must leave below predictions/.
    leaves: str | Promise
    metrics: tuple[MetricDeclaration, ...]
    # What it imports beyond the standard library, which is looked for where it will run.
    modules: tuple[str, ...] = ()
    # It also gives CATEGORY_METRIC for each category.
    per_category: bool = False
    # Those that this release brings (scorers/registry.py), the newest last: one is added when a score can change, and a
    # board stays on its own until its organizer changes it.
    versions: tuple[int, ...] = (1,)

    @property
    def version(self) -> int:
        """The one that new score versions take."""
        return self.versions[-1]


def _share(name: str, label: str) -> MetricDeclaration:
    return MetricDeclaration(name, label, minimum=0.0, maximum=1.0)


def _error(name: str, label: str) -> MetricDeclaration:
    return MetricDeclaration(name, label, LOWER, minimum=0.0)


BUILT_IN = {
    scorer.name: scorer
    for scorer in (
        BuiltIn(
            "anomaly_detection",
            _("defects in images"),
            _(
                "predictions.csv with the columns image and score, and for pixel metrics a grey PNG in maps/ for each image"
            ),
            (
                _share("image_auc", "Image AUROC"),
                _share("image_f1", "Image F1"),
                _share("pixel_auc", "Pixel AUROC"),
                _share("pixel_pro", "Pixel PRO"),
            ),
            modules=("numpy", "cv2"),
            per_category=True,
        ),
        BuiltIn(
            "classification",
            _("classes"),
            _("predictions.csv with the columns id and label, or id and score"),
            (
                _share("accuracy", "Accuracy"),
                _share("balanced_accuracy", "Balanced accuracy"),
                _share("macro_f1", "Macro F1"),
                _share("auc", "AUROC"),
                _error("log_loss", "Log loss"),
            ),
        ),
        BuiltIn(
            "regression",
            _("numbers"),
            _("predictions.csv with the columns id and value"),
            (_error("rmse", "RMSE"), _error("mae", "MAE"), MetricDeclaration("r2", "R²", maximum=1.0)),
        ),
    )
}


def scorer_name(value: str) -> None:
    """A validator: one of the platform's, or own/NAME."""
    if value not in BUILT_IN and not _OWN_NAME.fullmatch(value):
        raise ValidationError(
            _("One of %(known)s, or own/ and the name of a folder below SCORER_ROOT."),
            params={"known": ", ".join(BUILT_IN)},
        )


def folder_name(value: str) -> None:
    """A validator: a plain path below a root, without a way out of it."""
    if not _FOLDER.fullmatch(value):
        raise ValidationError(_("A folder's path: letters, digits and . _ - between slashes, nothing that climbs."))


def leaves(scorer: str) -> str | Promise:
    """What a run must leave for the scorer; empty where only its organizer knows."""
    return BUILT_IN[scorer].leaves if scorer in BUILT_IN else ""


def declared_metrics(scorer: str) -> DeclaredMetrics | None:
    """Return the metrics that the scorer declares. Raises BadDeclaration.

    None where nothing is known: runs report their own numbers, or an organizer's scorer declares none on this machine.
    """
    if scorer in BUILT_IN:
        return DeclaredMetrics(scorer, BUILT_IN[scorer].metrics, BUILT_IN[scorer].per_category)
    if _OWN_NAME.fullmatch(scorer):
        return read_declaration(scorer, own_folder(scorer.removeprefix(OWN)))
    return None


def overlapping_roots() -> list[str]:
    """Sentences about folders that would show the hidden labels to runs or to the web; empty when all lie apart."""
    hidden = Path(settings.GROUND_TRUTH_ROOT).resolve()
    others = {
        name: Path(getattr(settings, name))
        for name in ("DATASET_ROOT", "SCORER_ROOT", "UPLOAD_ROOT", "ARTIFACT_ROOT", "WORK_ROOT", "STATIC_ROOT")
    }
    # The whole environment of the interpreter is shown to every run.
    others["RUNNER_PYTHON"] = Path(settings.RUNNER_PYTHON).parent.parent
    found = []
    for name, path in others.items():
        other = path.resolve()
        if other.is_relative_to(hidden) or hidden.is_relative_to(other):
            found.append(
                f"GROUND_TRUTH_ROOT ({hidden}) and {name} ({other}) overlap: give the hidden labels a folder apart."
            )
    return found

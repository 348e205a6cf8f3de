"""Say what of a run's files was not kept: in its notes, at the end of its log, and where a scorer missed one."""

from dataclasses import replace

from jobs.execution.collect import PREDICTIONS_NAME
from jobs.execution.spec import Result
from jobs.execution.told import Told as _
from jobs.execution.told import kept
from jobs.transitions import Evidence

# Scorers cut long names in their sentences.
_SURELY_SHOWN = 40


def unkept(evidence: Evidence, result: Result) -> Evidence:
    """Add that the run's files are not kept, because it was not completed."""
    if not result.artifacts:
        return evidence
    count = len(result.artifacts)
    told = _("The output files of this run (%(count)d) were not kept: only a completed run keeps them.", count=count)
    return replace(evidence, notes=(*evidence.notes, told))


def explained(rejection: str, left_out: tuple[str, ...]) -> str:
    """Add to a scorer's refusal the prediction that was left out: the one it names, else the first."""
    ours: dict[str, str] = {}
    for sentence in left_out:
        place, slash, path = str(kept(sentence).get("values", {}).get("path", "")).partition("/")
        if place == PREDICTIONS_NAME and slash:
            ours.setdefault(path[:_SURELY_SHOWN], sentence)
    if not ours:
        return rejection
    named = next((path for path in ours if path in rejection), next(iter(ours)))
    return _("%(rejection)s (%(left_out)s)", rejection=rejection, left_out=ours[named])

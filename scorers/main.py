"""Scores a run's predictions on hidden labels, in a sandbox of its own.

    python main.py --config scoring.json --output OUT

$PREDICTIONS_DIR is what the run left, $GROUND_TRUTH_DIR the labels; both are read-only. OUT/metrics.json gets
`{"params": {}, "metrics": {...}, "categories": {CATEGORY: {...}}}`, or `{"rejected": [...]}` with the faults of the
predictions (faults.py). Whatever else goes wrong is the scorer's own fault: an exit code and a trace, for operators alone.
"""

import argparse
import json
import os
from pathlib import Path

from faults import BadPredictions
from registry import scorer_named


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--output", type=Path, required=True)
    arguments = parser.parse_args()
    config = json.loads(arguments.config.read_text(encoding="utf-8"))
    scorer = scorer_named(config["scorer"], config.get("version"))(config.get("metrics", []))
    answer: dict[str, object]
    try:
        scores = scorer.score(Path(os.environ["PREDICTIONS_DIR"]), Path(os.environ["GROUND_TRUTH_DIR"]))
        answer = {"params": {}, "metrics": scores.metrics, "categories": scores.categories}
    except BadPredictions as refusal:
        answer = {"rejected": refusal.faults}
    (arguments.output / "metrics.json").write_text(json.dumps(answer, allow_nan=False), encoding="utf-8")
    print(json.dumps(answer, ensure_ascii=False))


if __name__ == "__main__":
    main()

"""Brain age from T1 MRI, trained by leader-follower local learning or backpropagation.

The names below are all that a Python user needs; each is loaded when it is first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from brainage import lfnn as lfnn
    from brainage.cohorts.cohort import read_cohort as read_cohort
    from brainage.errors import BrainageError as BrainageError
    from brainage.evaluation.age_bias import AgeBiasCorrector as AgeBiasCorrector
    from brainage.evaluation.conformal import ConformalInterval as ConformalInterval
    from brainage.workflows.compare import compare as compare
    from brainage.workflows.estimator import BrainAgeRegressor as BrainAgeRegressor
    from brainage.workflows.evaluate import evaluate as evaluate
    from brainage.workflows.explain import explain as explain
    from brainage.workflows.models import load_model as load_model
    from brainage.workflows.prepare import prepare as prepare
    from brainage.workflows.report import write_report as write_report
    from brainage.workflows.robustness import robustness as robustness
    from brainage.workflows.train import train as train

__version__ = "0.2.0"

_PLACES = {
    "AgeBiasCorrector": "evaluation.age_bias",
    "BrainAgeRegressor": "workflows.estimator",
    "BrainageError": "errors",
    "ConformalInterval": "evaluation.conformal",
    "compare": "workflows.compare",
    "evaluate": "workflows.evaluate",
    "explain": "workflows.explain",
    "load_model": "workflows.models",
    "prepare": "workflows.prepare",
    "read_cohort": "cohorts.cohort",
    "robustness": "workflows.robustness",
    "train": "workflows.train",
    "write_report": "workflows.report",
}
__all__ = [*sorted(_PLACES), "lfnn"]


def __getattr__(name: str) -> Any:
    if name == "lfnn":
        return import_module("brainage.lfnn")
    if name not in _PLACES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f"{__name__}.{_PLACES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])

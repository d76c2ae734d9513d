"""Old module names: resolves each to its new place with a DeprecationWarning."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from importlib import import_module
from importlib.machinery import ModuleSpec
from operator import attrgetter
from types import ModuleType
from typing import Any

# old name -> the name of now, both after "physid."
HOMES = {
    "answers": "modelling.answers",
    "classifying": "training.classifying",
    "comparison": "report.comparison",
    "declared": "modelling.declared",
    "experiment": "data.experiment",
    "expression": "modelling.expression",
    "fitting": "inference",
    "fitting.afar": "inference.search.worker_calls",
    "fitting.archive": "runs.experiments",
    "fitting.codec": "runs.codec",
    "fitting.combinations": "inference.uncertainty.identifiability",
    "fitting.continuation": "inference.search.continuation",
    "fitting.covariance": "inference.uncertainty.covariance",
    "fitting.criteria": "inference.uncertainty.information",
    "fitting.derived": "inference.uncertainty.derived",
    "fitting.descent": "inference.search.first_order",
    "fitting.determined": "inference.uncertainty.determined",
    "fitting.diagnostics": "inference.uncertainty.residual_tests",
    "fitting.early": "inference.early_inputs",
    "fitting.ensemble": "inference.batch",
    "fitting.estimates": "inference.uncertainty.estimates",
    "fitting.files": "formats",
    "fitting.grouping": "inference.noise_groups",
    "fitting.groups": "report.weight_groups",
    "fitting.holdout": "data.holdout",
    "fitting.horizon": "predict.predictability",
    "fitting.identify": "api.fit",
    "fitting.joint": "inference.parameters",
    "fitting.keep": "runs.writer",
    "fitting.lanes": "inference.batch",
    "fitting.lift": "modelling.reconstruct",
    "fitting.likelihood": "inference.uncertainty.information",
    "fitting.lm": "inference.search.levenberg_marquardt",
    "fitting.many": "inference.search.levenberg_marquardt",
    "fitting.matching": "inference.search.gradient_matching",
    "fitting.members": "predict.ensemble",
    "fitting.noise": "inference.noise",
    "fitting.observation": "modelling.observation",
    "fitting.optimise": "inference.search.optimise",
    "fitting.paper": "inference.protocols",
    "fitting.part": "inference.marginal",
    "fitting.plan": "inference.options",
    "fitting.pose": "inference.assemble",
    "fitting.probing": "inference.probing",
    "fitting.problem": "inference.problem",
    "fitting.profile": "inference.uncertainty.profile",
    "fitting.records": "inference.search.one_start",
    "fitting.restore": "runs.fits",
    "fitting.result": "api.fit",
    "fitting.runs": "runs.fits",
    "fitting.scores": "inference.uncertainty.scores",
    "fitting.segments": "inference.search.multiple_shooting",
    "fitting.settings": "settings",
    "fitting.settle": "inference.settle",
    "fitting.shares": "inference.uncertainty.contributions",
    "fitting.shrunken": "inference.uncertainty.shrunken",
    "fitting.sizes": "modelling.state_sizes",
    "fitting.smoothing": "data.smoothing",
    "fitting.starts": "inference.search.multistart",
    "fitting.statistics": "inference.uncertainty.statistics",
    "fitting.strategies": "inference.search.strategies",
    "fitting.trivial": "inference.uncertainty.baselines",
    "fitting.valley": "inference.search.geodesic_acceleration",
    "fitting.vector": "inference.parameters",
    "fitting.verdict": "inference.uncertainty.verdict",
    "fitting.verify": "runs.verify",
    "fitting.watch": "inference.search.monitor",
    "fitting.weights": "inference.residuals",
    "fitting.workers": "inference.search.workers",
    "forecast": "predict.forecast",
    "freerun": "api.networks",
    "inputs": "data.inputs",
    "latex": "report.latex",
    "modelfile": "modelling.address",
    "modules": "modelling.modules",
    "models.networks": "training.networks",
    "ode.adjoint": "ode.gradients.adjoint",
    "ode.augmented": "ode.gradients.adjoint_field",
    "ode.aware": "ode.eager.pullback_stepsize",
    "ode.binomial": "ode.eager.revolve",
    "ode.dop853": "ode.methods.dop853",
    "ode.engines": "ode.dispatch",
    "ode.failure": "ode.eager.diagnostics",
    "ode.field": "ode.rhs",
    "ode.flow": "ode.gradients.forward",
    "ode.linearise": "ode.eager.stage_jacobians",
    "ode.march": "ode.eager.march",
    "ode.outcome": "ode.eager.outcome",
    "ode.outputs": "ode.eager.dense_output",
    "ode.plan": "ode.request",
    "ode.products": "ode.eager.products",
    "ode.pullback": "ode.eager.pullback",
    "ode.replay": "ode.eager.replay",
    "ode.stages": "ode.eager.stages",
    "ode.start": "ode.eager.initial_step",
    "ode.tableau": "ode.methods.tableau",
    "ode.tableaus": "ode.methods.catalogue",
    "ode.tangents": "ode.eager.tangents",
    "ode.tape": "ode.eager.checkpoints",
    "ode.tier": "ode.eager.engine",
    "ode.transition": "ode.eager.forward_sensitivity",
    "ode.wide": "ode.eager.pullback_batched",
    "prior": "modelling.prior",
    "promotion": "discovery",
    "reproduce.shelf": "reproduce.cell_store",
    "series": "data.series",
    "seriesforecast": "predict.series_forecast",
    "smooth": "modelling.smooth",
    "spec": "modelling.model",
    "tables": "report.tables",
    "training.runs": "runs.trainings",
    "training.snapshot": "runs.trainings",
    "unknown": "modelling.unknown",
    "viewer.ensemble": "predict.draws",
}

# module, name in it -> the module that has it now, and its name there if that is another, of a class or its method
NAMES = {
    ("api.fit", "resume"): "api.fit:Fit.resume",
    ("api.train", "resume"): "api.train:Trained.resume",
    ("inference", "Fit"): "api.fit",
    ("inference", "fit"): "api.fit",
    ("inference", "Statistics"): "inference.uncertainty.statistics:FitStatistics",
    ("inference.parameters", "Joint"): "inference.parameters:JointParameterVector",
    ("inference.parameters", "Vector"): "inference.parameters:ParameterVector",
    ("reproduce", "Outcome"): "reproduce.run:Reproduction",
    ("training", "Trained"): "api.train",
    ("training", "is_training"): "runs.trainings",
    ("training", "train"): "api.train",
    ("training.result", "Trained"): "api.train",
}


def named(module: str, name: str) -> Any:
    """The former attribute `name` of a `module` of physid, for its `__getattr__`.

    Errors: AttributeError for a name that it never had.
    """
    home = NAMES.get((module.removeprefix("physid."), name))
    if home is None:
        raise AttributeError(f"module '{module}' has no attribute '{name}'")
    place, _, new = home.partition(":")
    new = new or name
    warnings.warn(
        f"{module}.{name} is now physid.{place}.{new}. Import it from there.", DeprecationWarning, stacklevel=3
    )
    return attrgetter(new)(import_module(f"physid.{place}"))


class Moved:
    """Finds modules of physid by their old names; a finder and loader for sys.meta_path."""

    @staticmethod
    def find_spec(
        fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec of an old name, None for every other."""
        old = fullname.removeprefix("physid.")
        return ModuleSpec(fullname, Moved()) if old in HOMES and old != fullname else None  # type: ignore[arg-type]

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """An empty module, which `exec_module` replaces."""
        return None

    def exec_module(self, module: ModuleType) -> None:
        """Put the module of now in the place of `module`."""
        old = module.__name__
        home = f"physid.{HOMES[old.removeprefix('physid.')]}"
        warnings.warn(f"{old} is now {home}. Import from there.", DeprecationWarning, stacklevel=2)
        sys.modules[old] = import_module(home)

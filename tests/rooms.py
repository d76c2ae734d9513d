"""Who may import whom: the rooms of physid upwards, in each the files upwards, and no exception."""

from __future__ import annotations

# A room, and its files in layers: a file may import what stands in an earlier line, of its room or of one before.
ROOMS: dict[str, list[str]] = {
    "base": [  # know nothing
        "arrays errors exits moved records",
        "door lazy machine",
        "formats option_readers store",
        "catalog",
    ],
    "ode": [  # the engine
        "ode.caching ode.eager.remembered ode.torch_internals",
        "ode.control ode.eager ode.eager.checkpoints ode.eager.products ode.eager.revolve ode.hearing "
        "ode.jumps ode.methods ode.methods.dop853 ode.methods.tableau ode.native ode.native.compiler "
        "ode.native.compiler.conversions ode.native.compiler.disk_cache ode.native.compiler.graph "
        "ode.native.compiler.ir ode.native.compiler.per_sample ode.native.compiler.scalars "
        "ode.native.compiler.simplify ode.native.places ode.native.witness ode.probes ode.recorder "
        "ode.solution ode.tolerances",
        "ode.eager.outcome ode.methods.catalogue ode.native.compiler.builder ode.native.compiler.prelude "
        "ode.native.dependencies ode.native.structures ode.rhs ode.transforms",
        "ode.eager.stages ode.native.compiler.derive ode.native.compiler.driving_inputs "
        "ode.native.compiler.detours ode.native.compiler.factors ode.native.compiler.rules ode.native.ear "
        "ode.native.tallies ode.reads ode.request",
        "ode.native.compiler.emit ode.native.compiler.moments ode.native.compiler.trace ode.native.reach "
        "ode.native.runtime ode.problem",
        "ode.directions ode.eager.dense_output ode.eager.diagnostics ode.eager.initial_step "
        "ode.backend ode.gradients.adjoint_field ode.native.compiler.build ode.native.compiler.pointwise "
        "ode.native.compiler.reduce ode.native.compiler.shapes ode.native.task ode.precision",
        "ode.conclude ode.eager.replay ode.eager.tangents ode.native.compiler.linear_solve "
        "ode.native.compiler.scan ode.native.compiler.softmax ode.odeint_options",
        "ode.eager.march ode.eager.pullback ode.eager.pullback_stepsize ode.eager.stage_jacobians "
        "ode.native.compiler.all_rules",
        "ode.eager.forward_sensitivity ode.eager.pullback_batched ode.events ode.native.compiler.lower "
        "ode.native.compiler.record",
        "ode.eager.engine ode.native.compiler.interpret ode.native.compiler.translation_unit",
        "ode.gradients.protocol ode.native.compiler.background ode.native.compiler.library",
        "ode.gradients.aca ode.gradients.naive ode.native.kernel",
        "ode.gradients.forward ode.native.code ode.native.verify",
        "ode.native.engine",
        "ode.native.cache ode.native.compile",
        "ode.native.choose",
        "ode.gradients.adjoint",
        "ode.dispatch ode.gradients.registry",
        "ode.eager_notice ode.gradients",
        "ode.odeint ode.solve",
        "ode.dense ode.gradcheck ode.misfit ode.sensitivities",
        "ode",
    ],
    "data": [
        "data data.inputs data.series",
        "data.experiment",
        "data.catalogue data.holdout data.smoothing",
    ],
    "modelling": [
        "modelling modelling.expression modelling.prior modelling.smooth",
        "modelling.declared",
        "modelling.unknown",
        "modelling.modules",
        "modelling.model",
        "modelling.address modelling.catalogue modelling.observation",
        "modelling.answers modelling.reconstruct modelling.state_sizes",
    ],
    "reading": [
        "reading.doubts reading.matfile reading.table reading.units",
        "reading.binary reading.roles reading.text",
        "reading.runs",
        "reading.describe reading.read",
        "reading",
    ],
    "inference": [
        "inference.noise inference.parameters inference.search inference.search.catalogue inference.search.monitor "
        "inference.search.one_start inference.search.worker_calls inference.uncertainty "
        "inference.uncertainty.baselines inference.uncertainty.profile_curve",
        "inference.noise_models",
        "inference.batch inference.early_inputs inference.fit_options inference.noise_groups inference.probing "
        "inference.residuals inference.search.start_points inference.uncertainty.identifiability",
        "inference.options inference.simulate settings",
        "inference.problem inference.uncertainty.contributions",
        "inference.assemble inference.derivative_check inference.search.objective inference.search.optimality "
        "inference.search.optimizer inference.uncertainty.determined "
        "inference.uncertainty.information inference.uncertainty.residual_tests inference.uncertainty.scores "
        "inference.uncertainty.shrunken",
        "inference.search.continuation inference.search.external inference.search.first_order "
        "inference.search.levenberg_marquardt inference.uncertainty.covariance inference.uncertainty.verdict",
        "inference.search.geodesic_acceleration inference.search.gradient_matching inference.uncertainty.statistics",
        "inference.search.full_horizon inference.uncertainty.estimates",
        "inference.search.growing_horizon inference.search.multiple_shooting inference.uncertainty.derived",
        "inference.search.batched_starts inference.search.strategies",
        "inference.search.workers",
        "inference.search.multistart",
        "inference.search.optimise",
        "inference.result",
        "inference.marginal inference.protocols inference.recorder inference.seeds inference.settle",
        "inference.identify",
        "inference inference.uncertainty.profile",
    ],
    "training": [
        "training.board training.learner training.recipe",
        "training.networks training.processes training.result",
        "training.loop",
        "training",
        "training.classifying",
    ],
    "predict": [
        "predict predict.draws predict.ensemble predict.predictability predict.residuals",
        "predict.forecast",
        "predict.predictor",
        "predict.networks predict.series_forecast predict.sheet predict.simulation",
    ],
    "report": [
        "report.latex report.tables report.weight_groups",
        "report.comparison report.text",
        "report",
    ],
    "runs": [
        "runs runs.codec",
        "runs.writer",
        "runs.experiments runs.format runs.models runs.optimizers",
        "runs.origin runs.trainings",
        "runs.recorder",
        "runs.fits runs.verify",
    ],
    "checks": [  # read data, models and results
        "check discovery",
    ],
    "plots": [
        "plots.bodies plots.choose plots.look",
        "plots.curves plots.fits plots.pairs plots.residuals plots.series",
        "plots.channels plots.page plots.phase",
        "plots",
    ],
    "viewer": [
        "viewer.camera viewer.figures viewer.files viewer.geometry viewer.gl viewer.tracks",
        "viewer.layers",
        "viewer.actors",
        "viewer.still",
        "viewer.movie viewer.webpage",
        "viewer.window",
        "viewer.calls",
        "viewer",
    ],
    "api": [
        "api api.forecast api.train",
        "api.fit api.networks",
        "api.opening",
        "api.export",
    ],
    "reproduce": [
        "reproduce.counting reproduce.exhibit",
        "reproduce.catalog reproduce.convolution reproduce.cost reproduce.hopper reproduce.images "
        "reproduce.cell_store reproduce.threebody reproduce.toy reproduce.vanderpol",
        "reproduce.image_errors reproduce.image_runs reproduce.run reproduce.table5",
        "reproduce reproduce.orbits",
    ],
    "physid": [  # the public names
        "physid",
    ],
}

# The file that starts the command line, `python -m physid`: it stands in the room cli.
DOOR = "physid.__main__"

# Names of files that stand twice in a room: the two engines answer the same calls, each in its engine.py.
FILE_HOMONYMS = {"physid/ode/eager/engine.py": ["physid/ode/native/engine.py"]}

"""A solver of one's own: Ralston's method of order 2 with an embedded Euler step, as a tableau for both engines.

A package offers it as `--solver ralston2` by an entry point: [project.entry-points."physid.solvers"]
ralston2 = "my_package:RALSTON2". Its name is registered here for this process alone.
"""

import torch

from physid import ode

RALSTON2 = ode.Tableau(
    name="ralston2",
    source="Ralston (1962), Math. Comp. 16, 431",
    order=2,
    c=(0.0, 2 / 3),
    a=((), (2 / 3,)),
    b=(1 / 4, 3 / 4),
    dense=((1.0, -3 / 4), (0.0, 3 / 4)),  # b_i(theta) = theta, theta^2 coefficients
    dense_order=2,
    error=(1 / 4 - 1, 3 / 4),
    error_order=1,
)
ode.METHODS["ralston2"] = RALSTON2

y0, t = torch.ones(1, dtype=torch.float64), [0.0, 0.5, 1.0]
for solver in (RALSTON2, "ralston2"):
    for engine in ("eager", "native"):
        found = ode.solve(lambda t, y: -y, y0, t, solver=solver, engine=engine, rtol=1e-6)
        print(found.solver, found.engine, round(float(found.y[-1]), 4))  # 0.3679

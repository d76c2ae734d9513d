"""Figure 5: an image carried forward by a random convolution, then back from where it ended.

Source: Zhuang et al. (2020), section 3.2 and Fig. 5.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from physid.reproduce.exhibit import Cell, Exhibit, Results, Table, Work

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SIDE = 64
HORIZONS = (1.0, 2.0, 4.0, 6.0, 7.0)
SEEDS = (0, 1, 2, 3, 4)
SHOWN = ("seed0-t2", "seed0-t6", "seed0-t7")


def picture(side: int = SIDE) -> NDArray[np.float64]:
    """A drawn image [side, side] with values on [0, 1]: three lit spheres above a chequered floor."""
    x, y = np.meshgrid(np.linspace(-1, 1, side), np.linspace(-1, 1, side))
    image = 0.85 - 0.25 * (y + 1) / 2
    depth = 0.55 / np.maximum(y - 0.25, 1e-3)  # the floor in perspective
    tiles = (np.floor(2.2 * x * depth) + np.floor(2.2 * depth)) % 2
    image = np.where(y > 0.3, 0.35 + 0.4 * tiles, image)
    light = np.array([-0.5, -0.6, 0.62])
    for cx, cy, radius, shade in ((-0.45, 0.15, 0.42, 0.95), (0.45, 0.3, 0.36, 0.6), (0.12, -0.42, 0.27, 0.8)):
        inside = (x - cx) ** 2 + (y - cy) ** 2 < radius**2
        height = np.sqrt(np.maximum(radius**2 - (x - cx) ** 2 - (y - cy) ** 2, 0.0))
        lit = np.clip((light[0] * (x - cx) + light[1] * (y - cy) + light[2] * height) / radius, 0.0, 1.0)
        image = np.where(inside, shade * (0.12 + 0.88 * lit), image)
    return np.asarray(image, dtype=np.float64)


def compute(work: Work, seed: int, horizon: float, rtol: float, atol: float, side: int) -> dict[str, Any]:
    """The image, where it is carried, and what the reverse solve makes of that."""
    import torch

    from physid.ode import Integrator

    kernel = torch.from_numpy(np.random.default_rng(seed).standard_normal((1, 1, 3, 3)))
    image = torch.from_numpy(picture(side))[None, None]

    def field(t: torch.Tensor, z: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.conv2d(z, kernel, padding=1)

    chosen = Integrator("dopri5", rtol, atol, control="paper", engine="eager")
    forward = chosen.solve(field, image, [0.0, horizon])
    end = torch.as_tensor(forward.y)[-1]
    reverse = chosen.solve(field, end, [horizon, 0.0])
    back = torch.as_tensor(reverse.y)[-1]
    tight = Integrator("dopri8", 1e-12, 1e-12, engine="eager")
    exact = torch.as_tensor(tight.solve(field, image, [0.0, horizon]).y)[-1]
    again = torch.as_tensor(tight.solve(field, exact, [horizon, 0.0]).y)[-1]
    size = image.norm()
    return {
        "image": image[0, 0].tolist(),
        "back": back[0, 0].tolist(),
        "forward_error": float((end - exact).norm() / exact.norm()),
        "mismatch": float((back - image).norm() / size),
        "tight_mismatch": float((again - image).norm() / size),
        "steps": [forward.statistics.accepted, reverse.statistics.accepted],
    }


def cells(quick: bool) -> list[Cell]:
    """One for each random kernel and horizon."""
    settings = {"rtol": 1e-3, "atol": 1e-6, "side": SIDE}
    return [
        Cell(f"seed{seed}-t{horizon:g}", compute, {"seed": seed, "horizon": horizon, **settings})
        for seed in SEEDS
        for horizon in HORIZONS
        if not quick or f"seed{seed}-t{horizon:g}" in SHOWN
    ]


def table(results: Results) -> Table:
    """The relative error of the image that comes back, by kernel and horizon."""
    columns = ["kernel", "T", "steps forward", "steps back", "error at T", "error of the image back", "at 1e-12"]
    rows = []
    for key, one in results.items():
        seed, horizon = key.removeprefix("seed").split("-t")
        rows.append(
            [int(seed), float(horizon), *one["steps"], one["forward_error"], one["mismatch"], one["tight_mismatch"]]
        )
    return Table(columns, rows, [
        "Errors are norms relative to that of the image, and at T to that of the exact z(T). The last column is the "
        "loop with dopri8 at 1e-12. A mode that decays forward grows in reverse, whatever error it has by then.",
    ])  # fmt: skip


def figure(results: Results) -> Figure | None:
    """The image, and what comes back of it from three horizons."""
    from physid.plots.look import look, new_figure

    shown = [(key, results[key]) for key in SHOWN if key in results]
    if not shown:
        return None
    with look("light"):
        made = new_figure(9.6, 2.9)
        panels = made.subplots(1, 1 + len(SHOWN))
        images = [("input z(0)", shown[0][1]["image"])]
        images += [
            (f"back from T = {key.split('-t')[1]}: {one['mismatch']:.1%} off", one["back"]) for key, one in shown
        ]
        for axes, (title, values) in zip(panels, images, strict=False):
            axes.imshow(np.array(values), cmap="gray", vmin=0.0, vmax=1.0, interpolation="nearest")
            axes.set_title(title, fontsize=10.0, fontweight="normal")
        for axes in panels:
            axes.set_axis_off()
    return made


FIG5 = Exhibit(
    "fig5",
    "Figure 5: an image, forward and back through a random convolution",
    "dz/dt = a 3x3 convolution of z with zero padding, its kernel drawn from N(0, 1), by dopri5 at the tolerances of "
    "MATLAB's ode45 (rtol 1e-3, atol 1e-6), forward to T and back. The image, the kernel's distribution and T are "
    "unstated; here the image is drawn by a formula, 64 x 64, there are five kernels, and the figure shows the first "
    "at three horizons.",
    "the kernels and horizons that the figure does not show.",
    cells,
    table,
    figure,
    {"claim": "the reconstruction differs visibly from the input (no numbers are printed)"},
)

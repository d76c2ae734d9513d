"""The Runge-Kutta methods, as data: a new one is its numbers, here or in an installed package (physid.solvers)."""

from __future__ import annotations

from dataclasses import replace

from physid.catalog import Registry
from physid.ode.methods import dop853
from physid.ode.methods.tableau import Tableau

__all__ = ["ALIASES", "METHODS", "Tableau", "lookup", "with_interpolation"]

EULER = Tableau(
    "euler",
    "Euler (1768)",
    order=1,
    c=(0.0,),
    a=((),),
    b=(1.0,),
    dense=((1.0,),),
    dense_order=1,
)

MIDPOINT = Tableau(
    "midpoint",
    "Runge (1895), the explicit midpoint method",
    order=2,
    c=(0.0, 1 / 2),
    a=((), (1 / 2,)),
    b=(0.0, 1.0),
    dense=((1.0, -1.0), (0.0, 1.0)),
    dense_order=2,
)

HEUN2 = Tableau(
    "heun2",
    "Heun (1900), the explicit trapezoidal method",
    order=2,
    c=(0.0, 1.0),
    a=((), (1.0,)),
    b=(1 / 2, 1 / 2),
    dense=((1.0, -1 / 2), (0.0, 1 / 2)),
    dense_order=2,
)

HEUN3 = Tableau(
    "heun3",
    "Heun (1900)",
    order=3,
    c=(0.0, 1 / 3, 2 / 3),
    a=((), (1 / 3,), (0.0, 2 / 3)),
    b=(1 / 4, 0.0, 3 / 4),
    dense=((1.0, -3 / 4), (0.0, 0.0), (0.0, 3 / 4)),
    dense_order=2,
)

RK4 = Tableau(
    "rk4",
    "Kutta (1901), the classical method; dense output: Hairer, Norsett and Wanner (1993), II.6",
    order=4,
    c=(0.0, 1 / 2, 1 / 2, 1.0),
    a=((), (1 / 2,), (0.0, 1 / 2), (0.0, 0.0, 1.0)),
    b=(1 / 6, 1 / 3, 1 / 3, 1 / 6),
    dense=((1.0, -3 / 2, 2 / 3), (0.0, 1.0, -2 / 3), (0.0, 1.0, -2 / 3), (0.0, -1 / 2, 2 / 3)),
    dense_order=3,
)

RK4_38 = Tableau(
    "rk4_38",
    "Kutta (1901), the 3/8 rule",
    order=4,
    c=(0.0, 1 / 3, 2 / 3, 1.0),
    a=((), (1 / 3,), (-1 / 3, 1.0), (1.0, -1.0, 1.0)),
    b=(1 / 8, 3 / 8, 3 / 8, 1 / 8),
    dense=((1.0, -15 / 8, 1.0), (0.0, 15 / 8, -3 / 2), (0.0, 3 / 8, 0.0), (0.0, -3 / 8, 1 / 2)),
    dense_order=3,
)

HEUN_EULER = Tableau(
    "heun_euler",
    "Heun (1900) with Euler's method embedded",
    order=2,
    c=(0.0, 1.0),
    a=((), (1.0,)),
    b=(1 / 2, 1 / 2),
    error=(-1 / 2, 1 / 2),
    error_order=1,
    dense=((1.0, -1 / 2), (0.0, 1 / 2)),
    dense_order=2,
)

FEHLBERG2 = Tableau(
    "fehlberg2",
    "Fehlberg (1969), order 2 with order 1 embedded",
    order=2,
    c=(0.0, 1 / 2, 1.0),
    a=((), (1 / 2,), (1 / 256, 255 / 256)),
    b=(1 / 512, 255 / 256, 1 / 512),
    error=(-1 / 512, 0.0, 1 / 512),
    error_order=1,
    dense=((1.0, -511 / 512), (0.0, 255 / 256), (0.0, 1 / 512)),
    dense_order=2,
)

BOSH3 = Tableau(
    "bosh3",
    "Bogacki and Shampine (1989); dense output: cubic Hermite",
    order=3,
    c=(0.0, 1 / 2, 3 / 4, 1.0),
    a=((), (1 / 2,), (0.0, 3 / 4), (2 / 9, 1 / 3, 4 / 9)),
    b=(2 / 9, 1 / 3, 4 / 9, 0.0),
    error=(-5 / 72, 1 / 12, 1 / 9, -1 / 8),
    error_order=2,
    dense=((1.0, -4 / 3, 5 / 9), (0.0, 1.0, -2 / 3), (0.0, 4 / 3, -8 / 9), (0.0, -1.0, 1.0)),
    dense_order=3,
)

DOPRI5 = Tableau(
    "dopri5",
    "Dormand and Prince (1980); dense output: Shampine (1986)",
    order=5,
    c=(0.0, 1 / 5, 3 / 10, 4 / 5, 8 / 9, 1.0, 1.0),
    a=(
        (),
        (1 / 5,),
        (3 / 40, 9 / 40),
        (44 / 45, -56 / 15, 32 / 9),
        (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
        (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
        (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
    ),
    b=(35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84, 0.0),
    error=(71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40),
    error_order=4,
    dense=(
        (1.0, -8048581381 / 2820520608, 8663915743 / 2820520608, -12715105075 / 11282082432),
        (0.0, 0.0, 0.0, 0.0),
        (0.0, 131558114200 / 32700410799, -68118460800 / 10900136933, 87487479700 / 32700410799),
        (0.0, -1754552775 / 470086768, 14199869525 / 1410260304, -10690763975 / 1880347072),
        (0.0, 127303824393 / 49829197408, -318862633887 / 49829197408, 701980252875 / 199316789632),
        (0.0, -282668133 / 205662961, 2019193451 / 616988883, -1453857185 / 822651844),
        (0.0, 40617522 / 29380423, -110615467 / 29380423, 69997945 / 29380423),
    ),
    dense_order=4,
)

TSIT5 = Tableau(
    "tsit5",
    "Tsitouras (2011)",
    order=5,
    c=(0.0, 0.161, 0.327, 0.9, 0.9800255409045097, 1.0, 1.0),
    a=(
        (),
        (0.161,),
        (-0.008480655492356989, 0.335480655492357),
        (2.8971530571054935, -6.359448489975075, 4.3622954328695815),
        (5.325864828439257, -11.748883564062828, 7.4955393428898365, -0.09249506636175525),
        (5.86145544294642, -12.92096931784711, 8.159367898576159, -0.071584973281401, -0.028269050394068383),
        (0.09646076681806523, 0.01, 0.4798896504144996, 1.379008574103742, -3.290069515436081, 2.324710524099774),
    ),
    b=(0.09646076681806523, 0.01, 0.4798896504144996, 1.379008574103742, -3.290069515436081, 2.324710524099774, 0.0),
    error=(
        0.0017800110522257714,
        0.0008164344596567469,
        -0.007880878010261995,
        0.1447110071732629,
        -0.5823571654525552,
        0.45808210592918697,
        -1 / 66,
    ),
    error_order=4,
    dense=(
        (1.0, -2.763706197274826, 2.9132554618219126, -1.0530884977290216),
        (0.0, 0.1317, -0.2234, 0.1017),
        (0.0, 3.9302962368947516, -5.941033872131505, 2.490627285651253),
        (0.0, -12.411077166933676, 30.33818863028232, -16.548102889244902),
        (0.0, 37.50931341651104, -88.1789048947664, 47.37952196281928),
        (0.0, -27.896526289197286, 65.09189467479366, -34.87065786149661),
        (0.0, 1.5, -4.0, 2.5),
    ),
    dense_order=4,
)

DOPRI8 = Tableau(
    "dopri8",
    "DOP853: Hairer, Norsett and Wanner (1993), II.5 and II.6",
    order=8,
    c=dop853.C,
    a=dop853.A,
    b=dop853.B,
    error=dop853.ERROR,
    error_order=7,
    error3=dop853.ERROR3,
    extra_c=dop853.EXTRA_C,
    extra_a=dop853.EXTRA_A,
    dense=dop853.DENSE,
    dense_order=7,
)

_ALL = (
    EULER,
    MIDPOINT,
    HEUN2,
    HEUN3,
    RK4,
    RK4_38,
    HEUN_EULER,
    FEHLBERG2,
    BOSH3,
    DOPRI5,
    TSIT5,
    DOPRI8,
)

METHODS: Registry[Tableau] = Registry(
    "solver",
    {tableau.name: tableau for tableau in _ALL},
    aliases={
        "rk2": "midpoint",
        "rk12": "heun_euler",
        "adaptive_heun": "heun_euler",
        "rk23": "bosh3",
        "rk45": "dopri5",
        "dop853": "dopri8",
    },
    group="physid.solvers",
    of=Tableau,
    capitals=False,
)
ALIASES = METHODS.aliases


def lookup(name: str) -> Tableau:
    """The method called `name`, small or capital, or by an alias; InputError names the nearest one."""
    return METHODS.lookup(name)


def with_interpolation(tableau: Tableau, kind: str) -> Tableau:
    """The same method with another dense output: 'linear', or 'cubic' (Hermite, with the slope at the end)."""
    b = tableau.b
    if kind == "linear":
        dense = tuple((weight,) for weight in b)
        return replace(tableau, dense=dense, dense_order=1, extra_c=(), extra_a=())
    rows = [[0.0, 3 * weight, -2 * weight] for weight in b]
    rows[0] = [rows[0][0] + 1.0, rows[0][1] - 2.0, rows[0][2] + 1.0]
    end = (0.0, -1.0, 1.0)
    if tableau.fsal:
        rows[-1] = [x + y for x, y in zip(rows[-1], end, strict=True)]
        return replace(tableau, dense=tuple(tuple(row) for row in rows), dense_order=3, extra_c=(), extra_a=())
    hermite = (*(tuple(row) for row in rows), end)
    return replace(tableau, dense=hermite, dense_order=3, extra_c=(1.0,), extra_a=(b,))

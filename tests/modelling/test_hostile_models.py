"""Models of a user's own with a mistake in them: each is told in one line, by file and line, and is no defect."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from physid import Experiment, Model, Trajectory, Unknown, fit, positive
from physid.check import FAILED, check
from physid.cli import main
from physid.errors import InputError, ModelError
from physid.modelling.model import Derived

HEAD = """import torch
from physid import Model, Unknown, positive
class M(Model):
    state_names = ("x",)
    k = Unknown(1.0, positive)
    def field(self, t, y): return -self.k * y
"""
# A seventh line -> what is said of it, after the name of the file.
CLASS: dict[str, str] = {
    "state_names = None": "line 7: M.state_names is None: expected a tuple of names",
    "state_names = (1, 2)": "line 7: M.state_names is (1, 2): expected a tuple of names",
    'state_names = ("x", "x")': "line 7: M.state_names is ('x', 'x'): expected a tuple of names, each once",
    'state_names = "x"': "Write it as in state_names = ('x',)",
    "input_names = 5": "line 7: M.input_names is 5",
    "channel_names = 7": "line 7: M.channel_names is 7",
    "units = 5": "line 7: M.units is 5: expected units by name",
    "recipe = 'x'": "line 7: M.recipe is 'x'",
    "recipe = {'bogus': 1}": "line 7: unknown keyword in M.recipe 'bogus'",
    "recipe = {'starts': 'many'}": "line 7: M.recipe is {'starts': 'many'}",
    "continuation = 3": "line 7: M.continuation is 3",
    "continuation = {'k': (1.0,), 'w': (1.0, 2.0)}": "numbers by the names of constants, as many for each",
    "continuation = {'zz': (1.0,)}": "line 7: M.continuation leads the constant 'zz', but the model has none",
    "noise = 3": "line 7: M.noise is 3",
    "penalties = {'net': 1.0}": "line 7: M.penalties is {'net': 1.0}",
    "derived = {}": "line 7: M.derived is {}: expected a method",
    "def observe(self): return 1": "line 7: M.observe(self) cannot be called with (self, y)",
    "def observe(self, t, y): return y": "line 7: M.observe(self, t, y) cannot be called with (self, y)",
    "def observe(self, y): return None": "line 7: M.observe returns None: expected real numbers",
    "def observe(self, y): return 3": "line 7: M.observe returns 3: expected real numbers",
    "def observe(self, y): return y[..., :0]": "line 7: M.observe returns [1, 0]",
    "def observe(self, y): raise SystemExit": "line 7, in observe: SystemExit. A model must not end the program",
    "def derived(self): return 3": "line 7: M.derived returns 3: expected a mapping",
    "def derived(self): return {'a<b>': None}": "line 7: M.derived returns 'a<b>': None: expected names",
    "def derived(self): raise ValueError('no')": "line 7, in derived: ValueError: no. Correct that line",
    "def parts(self, t, y): return {'all': 3.0}": "line 7: M.parts returns a float",
    "def __init__(self): pass": "line 7: M.__init__ does not call super().__init__()",
    "def __init__(self): self.net = torch.nn.Linear(1, 1)": "line 7: M.__init__ does not call super().__init__()",
    "def __init__(self): self.k = 2.0": "line 7: M.__init__ does not call super().__init__()",
    "def __init__(self, size): super().__init__()": "line 7: M.__init__ has arguments that nothing gives",
    "def __init__(self): raise SystemExit(4)": "line 7, in __init__: SystemExit: 4. A model must not end",
    "raise KeyboardInterrupt": "does not import: line 7: KeyboardInterrupt. A model must not end the program",
    "raise GeneratorExit": "does not import: line 7: GeneratorExit. A model must not end the program",
    "import sys; sys.exit(0)": "does not import: line 7: SystemExit: 0. A model must not end the program",
    "def field(self, t, y): return None": "line 7: M.field returns a NoneType",
    "def field(self, t, y): return -self.k * y * 1j": "line 7: M.field returns complex numbers",
    "def field(self, t, y): raise OSError(28, 'No space')": "line 7, in field: OSError: [Errno 28] No space. Correct",
    "def field(self, t, y): raise OSError(32, 'Broken pipe')": "line 7, in field: BrokenPipeError",
    "def field(self, t, y): raise KeyboardInterrupt": "line 7, in field: KeyboardInterrupt. A model must not end",
    "def field(self, t, y): raise SystemExit(0)": "line 7, in field: SystemExit: 0. A model must not end",
    "def field(self, t, y): raise GeneratorExit": "line 7, in field: GeneratorExit. A model must not end",
    "def field(self, t): return t": "line 7: M.field(self, t) cannot be called with (self, t, y)",
}


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data") / "decay.csv"
    times = np.linspace(0.0, 2.0, 9)
    path.write_text("t,x\n" + "".join(f"{t},{np.exp(-0.7 * t)}\n" for t in times))
    return path


@pytest.mark.parametrize("line", CLASS)
def test_a_mistake_is_the_models_by_file_and_line(
    line: str, data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "mine.py"
    path.write_text(f"{HEAD}    {line}\n")
    code = main(["fit", "--data", str(data), "--model", f"{path}:M", "--quiet", "--out", str(tmp_path / "run")])
    out, err = capfd.readouterr()
    assert (code, out) == (2, "")
    assert err.startswith("physid: error: mine.py")
    assert err.count("\n") == 1
    assert CLASS[line] in err
    assert "defect" not in err


def decay(**options: Any) -> Experiment:
    times = torch.linspace(0.0, 2.0, 9, dtype=torch.float64)
    return Experiment(
        "decay", Trajectory(times, torch.exp(-0.7 * times)[:, None]), torch.ones(1, dtype=torch.float64), **options
    )


class Decay(Model):
    """x' = -k x."""

    state_names: ClassVar[tuple[str, ...]] = ("x",)
    k = Unknown(1.0, positive)

    def field(self, t: Tensor, y: Tensor) -> Tensor:
        return -self.k * y


def test_models_made_in_python_are_told_the_same() -> None:
    with pytest.raises(ModelError, match=r"test_hostile_models.py, line \d+: Wrong.units is 3"):

        class Wrong(Decay):
            units = 3  # type: ignore[assignment]

    class Quits(Decay):
        def observe(self, y: Tensor) -> Tensor:
            raise SystemExit(0)

    class Interrupts(Decay):
        def field(self, t: Tensor, y: Tensor) -> Tensor:
            raise KeyboardInterrupt

    class Plain(Decay):
        def derived(self) -> Any:
            return {"half life": 0.7}

    class Timeless(Decay):
        input_names = ("u",)

        def observe(self, y: Tensor) -> Tensor:
            return y * self.inputs(None)[0]  # type: ignore[arg-type]

    class Unfinished(Decay):
        def __init__(self) -> None:
            pass

    for cls, said in ((Quits, "SystemExit: 0"), (Interrupts, "KeyboardInterrupt"), (Plain, "'half life': 0.7")):
        with pytest.raises(ModelError, match=rf"test_hostile_models.py, line \d+.*{said}"):
            fit(cls(), decay())
        finding = check(cls(), decay())[0]
        assert (finding.status, said in finding.sentence) == (FAILED, True)
    with pytest.raises(InputError, match="Timeless reads its inputs at None, which is no time"):
        fit(Timeless(), decay())
    with pytest.raises(ModelError, match="does not call super"):
        fit(Unfinished(), decay())


def test_an_end_in_the_middle_of_a_fit_is_the_models() -> None:
    class Later(Decay):
        calls = 0

        def field(self, t: Tensor, y: Tensor) -> Tensor:
            type(self).calls += 1
            if type(self).calls > 40:
                raise KeyboardInterrupt
            return -self.k * y

    with pytest.raises(ModelError, match="KeyboardInterrupt"):
        fit(Later(), decay(integrator={"engine": "eager"}))


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_signal_inside_of_a_model_is_no_mistake_of_it(
    name: str, code: int, data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        path = tmp_path / "mine.py"
        path.write_text(
            f"import signal\n{HEAD}    def derived(self): signal.raise_signal(signal.{name}); return {{}}\n"
        )
        assert main(["fit", "--data", str(data), "--model", f"{path}:M", "--out", str(tmp_path / "run")]) == code
        path.write_text(f"import signal\nsignal.raise_signal(signal.{name})\n{HEAD}")
        assert main(["fit", "--data", str(data), "--model", f"{path}:M", "--out", str(tmp_path / "run")]) == code
    finally:
        signal.signal(signal.SIGINT, before)
    assert capfd.readouterr().err.split("\n") == ["", "physid: interrupted."] * 2 + [""]


def test_a_right_model_is_left_as_it_is() -> None:
    class Lists(Decay):
        state_names = ["x"]  # type: ignore[assignment]  # noqa: RUF012
        units: ClassVar[dict[str, str]] = {"x": "mm"}

        def derived(self) -> dict[str, Derived]:
            return {"half life": Derived(0.6931471805599453 / self.k, "s")}

    assert vars(Lists)["state_names"] == ("x",)
    found = fit(Lists(), decay(integrator={"engine": "eager"}))
    assert found.derived[0].value == pytest.approx(np.log(2.0) / 0.7, rel=1e-5)
    with pytest.raises(InputError):
        fit(Lists, decay())  # type: ignore[arg-type]

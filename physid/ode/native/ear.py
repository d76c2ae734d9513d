"""Signals and deadlines in compiled code: its callback into the interpreter, and the exceptions that follow."""

from __future__ import annotations

import ctypes
import threading
import time
from typing import Any

from physid.ode import hearing
from physid.ode.native.structures import REASONS, Ear, Task

_api = ctypes.pythonapi
_restore = _api.PyErr_Restore
_restore.argtypes, _restore.restype = [ctypes.c_void_p] * 3, None


def _address(function: Any) -> int | None:
    return ctypes.cast(function, ctypes.c_void_p).value


_capsule = _api.PyCapsule_New
_capsule.argtypes, _capsule.restype = [ctypes.c_void_p] * 3, ctypes.py_object


def ending(capsules: Any, go: Any) -> int:
    """The address of `physid_go`, which from now on can look into capsules."""
    capsules(_address(_api.PyCapsule_GetPointer))
    return _address(go) or 0


def owner(task: Task, go: int) -> Any:
    """What gives the tape of a task back as it goes: an attribute of the task, which Python drops before its memory."""
    return _capsule(ctypes.addressof(task), None, go)


# Functions of the interpreter, which C calls with its lock taken for that long. PyErr_CheckSignals runs the handlers of
# signals that have come, whosever they are, in the main thread only.
EAR = Ear(*map(_address, (_api.PyGILState_Ensure, _api.PyGILState_Release, _api.PyErr_CheckSignals, _api.PyErr_Fetch)))
_EAR = ctypes.addressof(EAR)


def clock() -> float:
    """The clock of hear.c."""
    return time.clock_gettime(time.CLOCK_MONOTONIC)


def prick(task: Task) -> None:
    """Let a task listen to what this thread listens to: to signals in the main thread, where Python handles them."""
    task.halted, task.late, task.flag = 0, 0.0, None
    task.ear = _EAR if threading.get_ident() == threading.main_thread().ident else None
    armed = hearing.armed()
    if armed is not None:
        left, task.flag = armed
        task.late = 0.0 if left is None else clock() + left


def answer(task: Task) -> None:
    """Raise what a task that was halted has heard."""
    if not task.halted:
        return
    raised = list(task.raised)
    if raised[0]:
        task.raised[:] = [None] * len(raised)
        _restore(*raised)
    raise hearing.TimeUp if task.halted == REASONS["LATE"] else KeyboardInterrupt

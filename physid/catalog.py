"""Registry: the parts of one kind by name, of physid and of installed packages; Entry: a part that has options.

A package adds a part by an entry point in the registry's group, "physid.models" and its like. Only the names are read
until a part is used; then its module is imported, which runs that package's code, as every import does.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, MutableMapping
from contextlib import redirect_stdout
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from physid.errors import InputError, unknown_name
from physid.option_readers import Reader, Refused, folder, number, numbers_list, one_of, whole

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

__all__ = [
    "Entry",
    "Option",
    "Reader",
    "Refused",
    "Registry",
    "entry_points",
    "folder",
    "number",
    "numbers_list",
    "one_of",
    "owner",
    "whole",
]

T = TypeVar("T")


@cache
def entry_points() -> tuple[EntryPoint, ...]:
    """The entry points of all installed packages, read once in a process; `entry_points.cache_clear()` forgets them.

    Packages whose metadata cannot be read are left out.
    """
    from importlib import metadata

    found: dict[str, list[EntryPoint]] = {}
    for distribution in metadata.distributions():
        try:
            ours = [one for one in distribution.entry_points if one.group.startswith("physid.")]
            if ours:
                found.setdefault(distribution.name, ours)  # the first on the path is the one that is imported
        except Exception:  # of any package on the machine, which need not know physid
            continue
    return tuple(one for ours in found.values() for one in ours)


def owner(found: EntryPoint) -> str:
    """The package of an entry point with its version, as in "springs 1.2"."""
    return "" if found.dist is None else f"{found.dist.name} {found.dist.version}"


class Registry(MutableMapping[str, T]):
    """The parts of one kind by name: those of physid, then those of installed packages.

    As a mapping it has every name once, aliases apart; a part of an installed package is imported when it is taken.
    `lookup` is how names that a user typed are resolved. A package never replaces a part of physid, nor one of two
    packages the other: such names are refused, and `faults` lists them.
    """

    def __init__(
        self,
        kind: str,
        parts: Mapping[str, T] | None = None,
        *,
        places: Mapping[str, str] | None = None,
        aliases: Mapping[str, str] | None = None,
        group: str | None = None,
        of: type | None = None,
        classes: bool = False,
        filled_by: str | None = None,
        capitals: bool = True,
    ) -> None:
        """`kind` names a part in messages, as in "solver".

        `places` are parts as "module:attribute", imported when they are taken. `group` is that of the entry points,
        whose parts must be instances of `of`, with `classes` subclasses of it. The module `filled_by` adds parts when
        it is imported, which happens at the first use. `capitals=False`: names are small, whatever was typed.
        """
        self.kind, self.group, self.aliases = kind, group, dict(aliases or {})
        self._own: dict[str, T] = dict(parts or {})
        self._places, self._of, self._classes = dict(places or {}), of, classes
        self._filled_by, self._capitals = filled_by, capitals
        self._taken: dict[str, tuple[EntryPoint, T]] = {}
        self._beside: list[Registry[Any]] = []

    def place(self, places: Mapping[str, str]) -> None:
        """Add parts of physid that are imported when they are taken, each as "module:attribute"."""
        self._places.update(places)

    def beside(self, other: Registry[Any]) -> None:
        """Share typed names with another registry: packages may add only names that neither has."""
        self._beside.append(other)
        other._beside.append(self)

    def owns(self, name: str) -> bool:
        """Whether physid itself, or this process, has a part of that name or alias. No metadata are read for it."""
        self._fill()
        return self._plain(name) in self._own or self._plain(name) in self._places

    def lookup(self, name: str) -> T:
        """The part of that name or alias. Errors: InputError with the nearest name for one that is not there.

        InputError also for a part of an installed package that cannot be imported, is of another kind, or has a name
        that another package offers too.
        """
        try:
            return self[name]
        except KeyError:
            raise self.unknown(name) from None

    def unknown(self, name: object) -> InputError:
        """The error for a name that is not there, with the nearest one."""
        return unknown_name(self.kind, name, [*self, *self.aliases])

    def each(self) -> Iterator[tuple[str, T]]:
        """Name and part of every part that can be imported; `faults` lists the others."""
        for name in self:
            try:
                yield name, self[name]
            except InputError:
                continue

    def faults(self) -> list[str]:
        """One line for every offer of an installed package that cannot be taken, and why."""
        self._fill()
        found = [
            f"{self._said(one)} is not taken: {holder.kind} '{holder._plain(name)}' is of physid. Rename it there."
            for name, offers in self._offers(taken=True).items()
            for one in offers
            for holder in self._holders(name)
        ]
        for name in self:
            try:
                self[name]
            except InputError as error:
                found.append(str(error))
        return found

    def owner(self, name: str) -> str:
        """Whose the part is: "physid", or a package with its version."""
        if self.owns(name):
            return "physid"
        return " and ".join(map(owner, self._offers().get(self._plain(name), ())))

    def name_of(self, part: T) -> str | None:
        """The name under which this very part is found; None where it is not. No module is imported for it."""
        self._fill()
        for name, known in self._own.items():
            if known is part:
                return name
        place = f"{getattr(part, '__module__', '')}:{getattr(part, '__qualname__', '')}"
        for name, text in self._places.items():
            if text == place:
                return name
        for name, offers in self._offers().items():
            taken = self._taken.get(name)
            same = taken[1] is part if taken and taken[0] is offers[0] else offers[0].value.replace(" ", "") == place
            if same and len(offers) == 1:
                return name
        return None

    def __getitem__(self, name: str) -> T:
        name = self._plain(name)
        if name in self._own:
            return self._own[name]
        self._fill()
        if name not in self._own and name in self._places:
            module, _, attribute = self._places[name].partition(":")
            self._own[name] = getattr(import_module(module), attribute)
        if name in self._own:
            return self._own[name]
        offers = self._offers().get(name)
        if not offers:
            raise KeyError(name)
        return self._installed(name, offers)

    def __contains__(self, name: object) -> bool:
        """Whether there is a part of that name or alias, whether or not it can be imported."""
        if not isinstance(name, str):
            return False
        self._fill()
        name = self._plain(name)
        return name in self._own or name in self._places or name in self._offers()

    def __iter__(self) -> Iterator[str]:
        self._fill()
        own = dict.fromkeys([*self._places, *self._own])
        return iter([*own, *self._offers()])

    def __len__(self) -> int:
        return sum(1 for _ in self)

    def __setitem__(self, name: str, part: T) -> None:
        """Put a part of this process, in the place of one of that name."""
        self._own[name] = part

    def __delitem__(self, name: str) -> None:
        del self._own[name]

    def _plain(self, name: str) -> str:
        """The name behind an alias or capital letters."""
        name = name if self._capitals else name.lower()
        return self.aliases.get(name, name)

    def _fill(self) -> None:
        if self._filled_by is not None:
            import_module(self._filled_by)  # in the midst of it, when one of its own modules asks
            self._filled_by = None

    def _holders(self, name: str) -> list[Registry[Any]]:
        """Those of this registry and the ones beside it in which physid has a part of that name."""
        return [one for one in (self, *self._beside) if one.owns(name)]

    def _offers(self, *, taken: bool = False) -> dict[str, list[EntryPoint]]:
        """The entry points of the group by name, those whose names are `taken` by physid or the others.

        Where registries beside this one are offered a name too, their entry points follow.
        """
        found: dict[str, list[EntryPoint]] = {}
        groups = [self.group, *(one.group for one in self._beside)] if self.group else []
        for group in groups:
            for one in entry_points():
                name = one.name if self._capitals else one.name.lower()
                if one.group == group and (group == self.group or name in found):
                    found.setdefault(name, []).append(one)
        return {name: offers for name, offers in found.items() if bool(self._holders(name)) is taken}

    def _said(self, one: EntryPoint) -> str:
        return f"{self.kind} '{one.name}' of the installed package {owner(one)} ({one.value})"

    def _installed(self, name: str, offers: list[EntryPoint]) -> T:
        """The part of an installed package, imported. Errors: InputError, see `lookup`."""
        one = offers[0]
        if len(offers) > 1:
            both = " and by ".join(f"{owner(each)} ({each.value})" for each in offers)
            raise InputError(f"{self.kind} '{name}' is offered by {both}. Uninstall one of them, or rename it there.")
        taken = self._taken.get(name)
        if taken is not None and taken[0] is one:
            return taken[1]
        try:
            with redirect_stdout(sys.stderr):  # where results are printed, nothing else is
                part = one.load()
        except (Exception, SystemExit) as error:
            why = f"{type(error).__name__}: {error}".rstrip(".: ")
            raise InputError(f"{self._said(one)} cannot be imported: {why}. Mend or uninstall that package.") from error
        wanted = self._wrong(name, part)
        if wanted:
            raise InputError(f"{self._said(one)} is {_told(part)}: expected {wanted}. Correct it there.")
        self._taken[name] = one, part
        return part  # type: ignore[no-any-return]  # of the kind that was checked

    def _wrong(self, name: str, part: Any) -> str:
        """The kind of part expected; empty where it is of that kind."""
        kind = self._of
        if kind is not None:
            said = f"{kind.__module__}.{kind.__qualname__}"
            if self._classes and not (isinstance(part, type) and issubclass(part, kind)):
                return f"a subclass of {said}"
            if not self._classes and (isinstance(part, type) or not isinstance(part, kind)):
                return f"a {said}"
        called = None if isinstance(part, type) else getattr(part, "name", None)
        return f"the name of its entry point, '{name}'" if called not in (None, name) else ""


def _told(part: Any) -> str:
    """The part in words."""
    if isinstance(part, type):
        return f"the class {part.__qualname__}"
    called = getattr(part, "name", None)
    return f"a {type(part).__name__}" + (f" called '{called}'" if isinstance(called, str) else "")


@dataclass(frozen=True)
class Option:
    """One option of a data set: what it means, how it is read, and its value when it is not given."""

    help: str
    read: Reader
    default: Any = None


@dataclass(frozen=True)
class Entry(Generic[T]):
    """One data set, or one network: a name, a summary, options, and what is called with their values."""

    name: str
    summary: str
    options: Mapping[str, Option]
    loader: Callable[..., T]

    def load(self, *given: Any, **options: Any) -> T:
        """The thing with these options, given as values or as text; InputError for one that cannot be."""
        return self.loader(*given, **self.read(options))

    def read(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """The values of all options, read or by default; InputError for one that cannot be."""
        for name in options:
            if name not in self.options:
                raise unknown_name(f"option of {self.name}", name, self.options)
        return {name: self._read(name, options.get(name)) for name in self.options}

    def _read(self, name: str, value: Any) -> Any:
        option = self.options[name]
        if value is None:
            return option.default
        try:
            return option.read(value)
        except (ValueError, TypeError) as error:
            what = str(error) if isinstance(error, Refused) else "a value of another kind"
            raise InputError(
                f"option {name} of {self.name}: expected {what}, got {value!r}. Give another value."
            ) from None

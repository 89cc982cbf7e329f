"""A change to a module that is not imported yet, and may never be: importing some takes longer than what a job does."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any


@contextmanager
def changed_when_imported(name: str, change: Callable[[ModuleType], None]) -> Iterator[None]:
    """Within this context a module is changed: at once if it is imported, else as soon as it is."""
    if name in sys.modules:
        change(sys.modules[name])
        yield
        return
    finder = _Finder(name, change)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)


class _Finder(MetaPathFinder):
    def __init__(self, name: str, change: Callable[[ModuleType], None]) -> None:
        self._name, self._change = name, change

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        found = PathFinder.find_spec(fullname, path, target) if fullname == self._name else None
        if found is not None and found.loader is not None:
            found.loader = _Loader(found.loader, self._change)
        return found


class _Loader(Loader):
    """Loads as another loader does, and then changes the module."""

    def __init__(self, loader: Loader, change: Callable[[ModuleType], None]) -> None:
        self._loader, self._change = loader, change

    def __getattr__(self, name: str) -> Any:
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        self._change(module)

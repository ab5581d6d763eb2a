"""Results that an object keeps: what is expensive is computed once, when it is first asked for."""

import functools
from collections.abc import Callable
from typing import Any


def kept(method: Callable[..., Any]) -> Callable[..., Any]:
    """The method, with its results kept on the object, by their arguments.

    Where `functools.cached_property` serves a property, this serves a method.
    """

    @functools.wraps(method)
    def call(self: Any, *arguments: Any) -> Any:
        results = vars(self).setdefault(f"{method.__name__}, kept", {})
        if arguments not in results:
            results[arguments] = method(self, *arguments)
        return results[arguments]

    return call

"""The ``override`` mark, which the standard library has only from Python 3.12 on.

Not from typing_extensions: its import alone is a tenth of what a Tab press may cost.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from typing_extensions import override
else:
    _F = TypeVar("_F", bound=Callable)

    def override(method: _F) -> _F:
        """Mark a method that replaces one of its base class."""
        return method


__all__ = ["override"]

"""Tables, figures and reports, from Records alone; torch is not needed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cocabench.report.write import write_report

__all__ = ["write_report"]


def __getattr__(name: str) -> Any:
    """Import write_report when it is asked for: compare needs report.text, and report.write needs compare."""
    if name == "write_report":
        from cocabench.report.write import write_report

        return write_report
    raise AttributeError(f"module 'cocabench.report' has no attribute {name!r}")

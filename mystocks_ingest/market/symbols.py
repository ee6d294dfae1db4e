"""Symbols: every vendor's spelling to the canonical ``600000.SH`` and back."""

from __future__ import annotations

import pyarrow as pa


def parse_column(array: pa.Array, *, asset_type: str = "stock") -> pa.Array:
    """Canonical symbols of a vendor's column; unreadable ones become null."""
    raise NotImplementedError

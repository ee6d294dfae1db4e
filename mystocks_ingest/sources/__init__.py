"""Sources: one file or folder a vendor, and the registry that opens them by name."""

from mystocks_ingest.sources.registry import (
    BUILT_IN,
    GROUP,
    SECOND_OPINION,
    chosen,
    layouts,
    names,
    open_source,
    paces_of,
    preferred,
)

__all__ = ["BUILT_IN", "GROUP", "SECOND_OPINION", "chosen", "layouts", "names", "open_source", "paces_of", "preferred"]

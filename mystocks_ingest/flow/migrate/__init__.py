"""The schema manager's hands: compare the file with the stores' live structure, and make the difference go away."""

from mystocks_ingest.flow.migrate.manager import Compared, Loss, Result, SchemaManager, names
from mystocks_ingest.flow.migrate.startup import Ensure, Startup, ensured
from mystocks_ingest.flow.migrate.steps import UNRECORDED, Step, made, planned

__all__ = [
    "UNRECORDED",
    "Compared",
    "Ensure",
    "Loss",
    "Result",
    "SchemaManager",
    "Startup",
    "Step",
    "ensured",
    "made",
    "names",
    "planned",
]

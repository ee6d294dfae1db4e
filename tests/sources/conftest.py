"""One simulated market for the tests of the vendors' packages."""

import pytest_asyncio

from mystocks_ingest.sim.server import SimConfig, running


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def sim():
    """One simulator for all tests here; each test disarms what it armed."""
    async with running(SimConfig(seed=7, stocks=30, sessions=120)) as sim:
        yield sim

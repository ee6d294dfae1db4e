import pytest_asyncio
from vendor_child import Vendors

from mystocks_ingest.sim.server import SimConfig, running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def sim():
    async with running(SimConfig(seed=11, stocks=30, sessions=120)) as running_sim:
        yield running_sim


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def vendors(sim):
    child = await Vendors(sim.environment).open()
    yield child
    await child.aclose()

"""The flow of rows: plan, backfill, ingest, writers. asyncio, no driver."""

"""The folder of settings goes away and comes back while the service works: it goes on with what it had."""

from __future__ import annotations

from daemon_place import Place, until

WEEKLY = "- {name: weekly, when: cron 0 6 * * 6, datasets: bar_1w, paused: true}"


async def test_a_folder_of_settings_that_has_gone_leaves_jobs_paces_and_rules_as_they_were(place: Place) -> None:
    place.jobs(WEEKLY)
    place.write("pacing.yaml", "sources:\n  tushare: {calls: 100 / min}\n")
    config, elsewhere = place.folder / "config", place.folder / "elsewhere"
    async with place.service("14:50:00") as service:

        async def refused() -> set[str]:
            return {part["name"] for part in (await service.health())["parts"]["job"]} - {"weekly"}

        config.rename(elsewhere)
        for subject in ("jobs", "pacing", "quality"):
            await service.says(f"{subject}.refused")
        assert '"pacing.reloaded"' not in place.log, "no defaults in place of what the file said"
        assert await refused() == {"jobs.yaml", "pacing.yaml", "tables.yaml"}
        elsewhere.rename(config)

        async def well() -> bool:
            return not await refused()

        await until(well)
        assert await service.stop() == 0

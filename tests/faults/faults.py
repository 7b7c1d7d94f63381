"""The faults: each takes a scene where people talk, does its harm for about so many seconds, and mends it. How
often it did is what it returns."""

from __future__ import annotations

import random
import time

from tests.faults.people import pause
from tests.faults.scene import Scene


async def kill(scene: Scene, seconds: float) -> int:
    """kill -9 of the archive"""
    return await _again_and_again(seconds, 0.3, 2.0, scene.restarts)


async def stop_database(scene: Scene, seconds: float) -> int:
    """the database stops and starts"""

    async def once() -> None:
        await scene.database.stop()
        await pause(random.uniform(0.5, 4))
        await scene.database.start()

    return await _again_and_again(seconds, 0.5, 2.0, once)


async def crash_database(scene: Scene, seconds: float) -> int:
    """kill -9 of the database"""

    async def once() -> None:
        await scene.database.crash()
        await pause(random.uniform(0, 3))
        await scene.database.start()

    return await _again_and_again(seconds, 0.5, 2.0, once)


async def end_connections(scene: Scene, seconds: float) -> int:
    """its connections are ended"""
    return await _again_and_again(seconds, 0.05, 1.0, scene.database.terminate)


async def freeze_database(scene: Scene, seconds: float) -> int:
    """the database is frozen"""
    scene.database.freeze()
    await pause(seconds)
    scene.database.thaw()
    return 1


async def kill_in_outage(scene: Scene, seconds: float) -> int:
    """kill -9 of both: the archive comes back first"""

    async def once() -> None:
        await scene.database.crash()
        await pause(random.uniform(0.3, 2))
        await scene.restarts()
        await pause(random.uniform(0, 1))
        await scene.database.start()

    return await _again_and_again(seconds, 1.0, 2.0, once)


async def kill_frozen(scene: Scene, seconds: float) -> int:
    """the database is frozen, kill -9 of the archive"""

    async def once() -> None:
        scene.database.freeze()
        await pause(random.uniform(0.3, 3))
        await scene.restarts()
        await pause(random.uniform(0, 1))
        scene.database.thaw()

    return await _again_and_again(seconds, 0.5, 2.0, once)


async def fill_disk(scene: Scene, seconds: float) -> int:
    """the spool's disk is full, the database away"""
    await scene.database.stop()
    await scene.archive.order(f"limit {scene.limit()}")
    await _until_full(scene, seconds)
    await scene.archive.order("limit -1")
    await pause(1.5)
    await scene.database.start()
    return 1


async def fill_spool(scene: Scene, seconds: float) -> int:
    """the spool is full (spool_octets), the database away"""
    await scene.database.stop()
    await _until_full(scene, seconds)
    await scene.database.start()
    return 1


async def jump(scene: Scene, seconds: float) -> int:
    """the clock jumps"""
    jumps = [3600, -7200, 86400 * 30, -86400 * 31, 1, -1]

    async def once() -> None:
        await scene.archive.order(f"jump {jumps[0]}")
        jumps.append(jumps.pop(0))

    return await _again_and_again(seconds, 0.3, 1.0, once)


async def _until_full(scene: Scene, seconds: float) -> None:
    """Until it is, and then for so long."""
    for _ in range(300):
        if (await scene.archive.state())["full"]:
            break
        await pause(0.2)
    else:
        raise RuntimeError("the spool is never full")
    await pause(seconds)


async def _again_and_again(seconds: float, least: float, most: float, what) -> int:
    end, times = time.monotonic() + seconds, 0
    while time.monotonic() < end or not times:
        await pause(random.uniform(least, most))
        await what()
        times += 1
    return times

"""Makes the pictures of the console's views, in light and dark: `python docs/console/screenshots.py` from the project's root.

It needs Debian's `chromium` and the packages `playwright` and `Pillow`; the fabric in them is made up (`benchmarks/console`).
"""

from __future__ import annotations

import io
import sys
import tempfile
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from PIL import Image, ImageChops, ImageStat

from benchmarks.console.chromium import launched
from benchmarks.console.lively_pools import LivelyPools, live_an_hour
from benchmarks.console.whole_api import WholeApi
from benchmarks.console.world import make_world
from fabric.api.serve import ApiServer

FOLDER = Path(__file__).parent
SIZE = {"width": 1280, "height": 780}
TALL = {"task": 1240}
"""Views whose picture is taller: the roofline stands below the table."""
MOST_BYTES = 150_000
PALETTES = (Image.Quantize.MEDIANCUT, Image.Quantize.MAXCOVERAGE, Image.Quantize.FASTOCTREE)


def main() -> None:
    with tempfile.TemporaryDirectory() as folder, launched() as browser:
        made: list[LivelyPools] = []

        def make_pools(history: Any, seed: int) -> LivelyPools:
            made.append(LivelyPools(history, seed))
            return made[0]

        world = make_world(Path(folder), jobs=1_200, nodes=200, leases=12_000, make_api=WholeApi, make_pools=make_pools)
        live_an_hour(world, made[0])
        world.console.follower.start()
        world.life.start(2.0)
        url = ApiServer(world.console.app).start()
        for look in ("light", "dark"):
            context = browser.new_context(viewport=SIZE, color_scheme=look, reduced_motion="reduce")
            page = context.new_page()
            page.goto(f"{url}/#token={world.tokens['admin']}")
            page.wait_for_selector(".live.live")
            for name, (address, landmark) in addresses(world).items():
                page.set_viewport_size({**SIZE, "height": TALL.get(name, SIZE["height"])})
                page.evaluate("hash => { location.hash = hash }", address)
                page.wait_for_selector(landmark)
                if name == "policy":
                    page.get_by_role("button", name="Begin with the one in force").click()
                    page.get_by_role("button", name="Replay").click()
                    page.get_by_role("rowheader", name="utilisation").wait_for()
                page.mouse.move(0, 0)
                page.wait_for_timeout(1_500)
                keep(page.screenshot(), FOLDER / f"{name}-{look}.png")
        world.console.follower.close()


def addresses(world: Any) -> dict[str, tuple[str, str]]:
    """Name of the picture -> (address, what is waited for)."""
    follower = world.console.follower
    rows = [row for row in follower.model.table.rows if not row.name.startswith(("<", '"'))]
    waiting = next(row.id for row in reversed(rows) if row.state == 0)
    running = next(row.id for row in reversed(rows) if not row.is_final and row.state != 0)
    return {
        "pools": ("#/pools", "section.nodes .row .health"),
        "timeline": ("#/timeline", ".timeline-plot canvas"),
        "queue": ("#/queue?state=PENDING", ".virtual-body .state"),
        "job-waiting": (f"#/job/{waiting}", "#ways"),
        "job-running": (f"#/job/{running}", "#used"),
        "tasks": ("#/tasks", ".virtual-body .row a"),
        "task": ("#/tasks/model%3Aresnet-50.v2", ".chart-box canvas"),
        "models": ("#/models", "tbody tr"),
        "model": ("#/models/resnet-50", ".guard.satisfied"),
        "policy": ("#/policy", "pre.document"),
        "usage": ("#/usage", "tbody tr"),
    }


def keep(picture: bytes, path: Path) -> None:
    whole = Image.open(io.BytesIO(picture)).convert("RGB")
    kept = as_png(whole)
    if len(kept) > MOST_BYTES:
        kept = as_png(
            min((whole.quantize(256, method=way, dither=Image.Dither.NONE) for way in PALETTES), key=lambda one: apart(whole, one))
        )
    if len(kept) > MOST_BYTES:
        raise SystemExit(f"{path.name} has {len(kept):,} bytes, more than {MOST_BYTES:,}")
    path.write_bytes(kept)
    sys.stdout.write(f"{path.name}: {len(kept):,} bytes\n")


def apart(whole: Image.Image, one: Image.Image) -> float:
    """How far a picture with few colours is from the whole one."""
    return sum(ImageStat.Stat(ImageChops.difference(whole, one.convert("RGB"))).sum)


def as_png(picture: Image.Image) -> bytes:
    out = io.BytesIO()
    picture.save(out, "PNG", optimize=True)
    return out.getvalue()


if __name__ == "__main__":
    main()

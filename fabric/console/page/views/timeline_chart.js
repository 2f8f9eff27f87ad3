/* The chart of the timeline: one uPlot has the axis of time, which stays in sight, another the scale and the grid, into which
   `timeline_draw.js` draws the bars.
   Wheel: zoom; drag: move in time; a click on a bar opens its job. Keys: ← → move, + − zoom, ↑ ↓ rows, End now. */
import { useCell } from "../lib/cell.js";
import { html, useEffect, useMemo, useRef, useState } from "../lib/html.js";
import { go } from "../lib/route.js";
import { colour, theme } from "../lib/theme.js";
import { axis, loadPlot, whole } from "../parts/chart.js";
import { tierClass } from "../parts/signs.js";
import { draw, palette } from "./timeline_draw.js";
import { layout } from "./timeline_layout.js";
import { TimelineTip } from "./timeline_tip.js";

const AXIS = 28;
const CLICK_PX = 4;
const KEYS = "Timeline. Arrow keys move it, plus and minus zoom, End goes to now; Table shows the same as text.";

export function TimelineChart({ data, span, move, page }) {
  const top = useRef(null);
  const box = useRef(null);
  const plot = useRef(null);
  const scale = useRef(null);
  const look = useCell(theme);
  const [tip, setTip] = useState(null);
  const rows = useMemo(() => layout(data), [data]);
  const now = useRef({});
  now.current = { rows, span, move, setTip };

  useEffect(() => {
    let isOver = false;
    let watch;
    loadPlot().then((Plot) => {
      if (isOver || !box.current) return; // another view came before the library did
      const colours = palette();
      const nothing = [[0, 1], [null, null]];
      scale.current = new Plot(axisOptions(now, top.current.clientWidth), nothing, top.current);
      plot.current = new Plot(options(now, colours, box.current.clientWidth), nothing, box.current);
      listen(plot.current, now);
      watch = new ResizeObserver(([entry]) => {
        const width = Math.floor(entry.contentRect.width);
        plot.current.setSize({ width, height: now.current.rows.height });
        scale.current.setSize({ width, height: AXIS });
      });
      watch.observe(box.current);
    });
    return () => {
      isOver = true;
      watch?.disconnect();
      for (const each of [plot, scale]) {
        each.current?.destroy();
        each.current = null;
      }
    };
  }, [look]);
  useEffect(() => {
    plot.current?.setSize({ width: box.current.clientWidth, height: rows.height });
  }, [rows.height]);
  useEffect(() => plot.current?.redraw(false, false), [rows]);
  useEffect(() => {
    for (const each of [plot, scale]) each.current?.setScale("x", { min: span.from, max: span.to });
  }, [span.from, span.to]);

  const key = (event) => {
    const order = {
      ArrowLeft: () => move.pan(-0.1),
      ArrowRight: () => move.pan(0.1),
      ArrowDown: () => page(10),
      ArrowUp: () => page(-10),
      "+": () => move.zoom(0.7),
      "=": () => move.zoom(0.7),
      "-": () => move.zoom(1.4),
      End: () => move.last(span.to - span.from),
    }[event.key];
    if (!order) return;
    event.preventDefault();
    order();
  };
  return html`<div class="timeline-scroll" tabindex="0" role="group" aria-label=${KEYS} onKeyDown=${key}>
    <div class="timeline-axis" ref=${top} aria-hidden="true" />
    <div class="timeline-body">
    <div class="timeline-labels">
      ${data.rows.map((row, index) => html`<div key=${row.node_id} class="timeline-label" style=${{ height: `${rows.heights[index]}px` }} title=${`${row.host} (${row.node_id})`}>
        <span class=${`tier-bar ${tierClass(row.tier)}`} /><span class="clip">${row.host}</span> <span class="faint clip">${row.flavor}</span>
      </div>`)}
    </div>
    <div class="timeline-plot" ref=${box} style=${{ height: `${rows.height}px` }}>
      ${tip && html`<${TimelineTip} tip=${tip} />`}
    </div>
    </div>
  </div>`;
}

const bare = (now, width, height) => ({
  width,
  height,
  padding: [0, 0, 0, 0],
  legend: { show: false },
  scales: { x: { time: true, auto: false, min: now.current.span.from, max: now.current.span.to }, y: { range: () => [0, 1] } },
  series: [{}, { show: true, stroke: "transparent", paths: () => null, points: { show: false } }],
});

function axisOptions(now, width) {
  return { ...bare(now, width, AXIS), cursor: { show: false }, axes: [axis({ side: 0, values: whole, space: 72, size: AXIS, grid: { show: false } }), { show: false }] };
}

function options(now, colours, width) {
  return {
    ...bare(now, width, now.current.rows.height),
    cursor: { y: false, drag: { x: false, y: false, setScale: false }, points: { show: false } },
    axes: [axis({ side: 0, values: () => [], space: 72, size: 0 }), { show: false }],
    hooks: { draw: [(plot) => draw(plot, now.current.rows, colours)] },
  };
}

/** The pointer: hover shows, drag moves, wheel zooms, click opens. */
function listen(plot, now) {
  const { over } = plot;
  const hit = (event) => {
    const frame = over.getBoundingClientRect();
    const x = event.clientX - frame.left;
    const y = event.clientY - frame.top;
    const found = now.current.rows.at(y, plot.posToVal(x, "x"), plot.posToVal(3, "x") - plot.posToVal(0, "x"));
    return found && { ...found, x, y, width: frame.width };
  };
  let grip = null;
  over.addEventListener("pointerdown", (event) => {
    grip = { x: event.clientX, moved: 0 };
    over.setPointerCapture(event.pointerId);
  });
  over.addEventListener("pointermove", (event) => {
    if (!grip) return now.current.setTip(hit(event));
    const by = event.clientX - grip.x;
    grip = { x: event.clientX, moved: grip.moved + Math.abs(by) };
    if (grip.moved > CLICK_PX) {
      now.current.setTip(null);
      now.current.move.pan(-by / over.clientWidth);
    }
    return undefined;
  });
  over.addEventListener("pointerup", (event) => {
    const isClick = grip && grip.moved <= CLICK_PX;
    grip = null;
    const found = isClick && hit(event);
    if (!found) return;
    if (found.job) go("job", found.job);
    else if (found.num > 1) now.current.move.to(found.from - (found.to - found.from) - 1, found.to + (found.to - found.from) + 1);
  });
  over.addEventListener("pointerleave", () => now.current.setTip(null));
  over.addEventListener("wheel", (event) => {
    if (event.shiftKey) return; // scrolls the rows
    event.preventDefault();
    if (Math.abs(event.deltaX) > Math.abs(event.deltaY)) return now.current.move.pan(event.deltaX / over.clientWidth);
    const at = (event.clientX - over.getBoundingClientRect().left) / over.clientWidth;
    return now.current.move.zoom(Math.exp(Math.max(-60, Math.min(60, event.deltaY)) / 200), at);
  }, { passive: false });
}

/* A roofline: what a flavor can reach at an intensity, and what the work reaches of it. Both axes are logarithmic.
   `of`: whose it is. `lines`: `[{name, tier, peak_flops, bandwidth, intensity, reached_flops, log_sd, is_measured, run_s}]`, as `fabric profile --png` draws them. */
import { useCell } from "../lib/cell.js";
import { duration, scaled, significant } from "../lib/format.js";
import { html, useEffect, useRef } from "../lib/html.js";
import { colour, theme } from "../lib/theme.js";
import { axis, FONT, loadPlot } from "./chart.js";
import { PlainTable } from "./plain_table.js";
import { Tier, tierClass } from "./signs.js";

const HEIGHT = 320;
const STEPS = 60;

export function Roofline({ lines, of }) {
  const box = useRef(null);
  const look = useCell(theme);
  useEffect(() => {
    let plot;
    let isOver = false;
    loadPlot().then((Plot) => {
      if (!isOver && box.current) plot = new Plot(options(lines, box.current.clientWidth), points(lines), box.current);
    });
    const watch = new ResizeObserver(([entry]) => plot?.setSize({ width: Math.floor(entry.contentRect.width), height: HEIGHT }));
    watch.observe(box.current);
    return () => {
      isOver = true;
      watch.disconnect();
      plot?.destroy();
    };
  }, [lines, look]);
  return html`<div>
    <div class="chart-box" ref=${box} style=${{ height: `${HEIGHT}px` }} role="img" aria-label=${`Roofline of ${of}; its figures are in the table below`} />
    <p class="faint">Each line rises with a flavor's bandwidth to its ridge, then lies at its peak. ○ predicted, ◆ measured.</p>
    <${PlainTable}
      caption=${`Figures of the roofline of ${of}`}
      rows=${lines}
      keyOf=${(line) => line.name}
      columns=${[
        { key: "tier", title: "tier", cell: (line) => html`<${Tier} tier=${line.tier} />` },
        { key: "name", title: "flavor", isHeader: true, cell: (line) => line.name },
        { key: "reached", title: "reaches", align: "right", cell: (line) => scaled(line.reached_flops, "FLOP/s") },
        { key: "roof", title: "of", align: "right", cell: (line) => scaled(roof(line, line.intensity), "FLOP/s") },
        { key: "limit", title: "limit", cell: (line) => (line.intensity < line.peak_flops / line.bandwidth ? "memory" : "compute") },
        { key: "run", title: "time", align: "right", cell: (line) => duration(line.run_s) },
        { key: "from", title: "from", cell: (line) => (line.is_measured ? "measured" : "predicted") },
      ]}
    />
  </div>`;
}

const roof = (line, intensity) => Math.min(line.peak_flops, line.bandwidth * intensity);

/** Whole decades, around every ridge and every point. */
function span(lines) {
  const marks = lines.flatMap((line) => [line.intensity, line.peak_flops / line.bandwidth]);
  return [10 ** Math.floor(Math.log10(Math.min(...marks) / 3)), 10 ** Math.ceil(Math.log10(Math.max(...marks) * 3))];
}

function points(lines) {
  const [low, high] = span(lines);
  const xs = Array.from({ length: STEPS + 1 }, (_, step) => low * (high / low) ** (step / STEPS));
  return [xs, ...lines.map((line) => xs.map((x) => roof(line, x)))];
}

function options(lines, width) {
  const powers = (_, ticks) => ticks.map((tick) => (Math.abs(Math.log10(tick) - Math.round(Math.log10(tick))) < 1e-6 ? tick : null));
  const grid = { stroke: colour("line"), width: 1, filter: powers };
  const words = (say) => (_, ticks) => ticks.map((tick) => (tick === null ? "" : say(tick)));
  return {
    width,
    height: HEIGHT,
    legend: { show: false },
    cursor: { show: false },
    scales: { x: { time: false, distr: 3 }, y: { distr: 3 } },
    axes: [
      axis({ values: words(significant), filter: powers, grid, label: "FLOP per byte", labelFont: FONT, labelSize: 18, size: 28 }),
      axis({ values: words((tick) => scaled(tick, "FLOP/s")), filter: powers, grid, size: 76 }),
    ],
    series: [{}, ...lines.map((line) => ({ stroke: colour(tierClass(line.tier)), width: 1.5, points: { show: false } }))],
    hooks: { draw: [(plot) => drawPoints(plot, lines)] },
  };
}

function drawPoints(plot, lines) {
  const { ctx } = plot;
  const size = 5 * devicePixelRatio;
  ctx.save();
  ctx.lineWidth = 2 * devicePixelRatio;
  for (const line of lines) {
    const x = plot.valToPos(line.intensity, "x", true);
    const y = plot.valToPos(line.reached_flops, "y", true);
    ctx.strokeStyle = ctx.fillStyle = colour(tierClass(line.tier));
    ctx.beginPath();
    if (line.is_measured) {
      ctx.moveTo(x, y - size);
      ctx.lineTo(x + size, y);
      ctx.lineTo(x, y + size);
      ctx.lineTo(x - size, y);
      ctx.fill();
    } else {
      ctx.arc(x, y, size * 0.8, 0, 7);
      ctx.stroke();
    }
  }
  ctx.restore();
}

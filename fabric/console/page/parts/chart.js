/* A chart over time, drawn by uPlot; the library is loaded when the first chart is shown. The box has its height from the start, so
   that nothing moves when the drawing comes. What the drawing shows stands in words in its label, for who cannot see it.

   `data`: `[xs, ys, …]`; `series`: `[{name, colour, dash, isFilled}]`, `colour` by its name in the style sheet. */
import { useCell } from "../lib/cell.js";
import { html, useEffect, useRef, useState } from "../lib/html.js";
import { colour, theme } from "../lib/theme.js";

const HOUR_S = 3600;
const EDGE_PX = 18;
let library;
export const loadPlot = () => (library ??= import("../vendor/uplot.js").then((module) => module.default));

export const FONT = "11px Inter, system-ui, sans-serif";

export function axis(more) {
  return {
    stroke: colour("faint"),
    grid: { stroke: colour("line"), width: 1 },
    ticks: { show: false },
    font: FONT,
    ...more,
  };
}

/** `14:05`, with seconds where the ticks are closer than a minute. */
export const hours = (_, ticks, __, ___, step) =>
  ticks.map((tick) => {
    const at = new Date(tick * 1000);
    const parts = [at.getHours(), at.getMinutes(), ...(step < 60 ? [at.getSeconds()] : [])];
    const day = step >= 86400 ? at.toLocaleDateString("en", { day: "numeric", month: "short" }) : "";
    return day || parts.map((each) => String(each).padStart(2, "0")).join(":");
  });

/** The same, but for ticks whose words the right edge would cut. */
export const whole = (plot, ticks, ...rest) => {
  const { min, max } = plot.scales.x;
  return hours(plot, ticks, ...rest).map((word, index) => ((max - ticks[index]) * plot.width < EDGE_PX * (max - min) ? "" : word));
};

export function Chart({ data, series, height, label, format, most, isSpark }) {
  const box = useRef(null);
  const plot = useRef(null);
  const shown = useRef(data);
  shown.current = data;
  const look = useCell(theme);
  const [at, setAt] = useState(null);
  const names = series.map((each) => each.name + each.colour).join();

  useEffect(() => {
    let isOver = false;
    let watch;
    loadPlot().then((Plot) => {
      if (isOver || !box.current) return; // another view came before the library did
      plot.current = new Plot(options({ width: box.current.clientWidth, height, series, format, most, isSpark, setAt }), shown.current, box.current);
      watch = new ResizeObserver(([entry]) => plot.current.setSize({ width: Math.floor(entry.contentRect.width), height }));
      watch.observe(box.current);
    });
    return () => {
      isOver = true;
      watch?.disconnect();
      plot.current?.destroy();
      plot.current = null;
    };
  }, [look, names, height]);
  useEffect(() => plot.current?.setData(data), [data]);

  return html`<figure class=${isSpark ? "chart spark" : "chart"}>
    ${!isSpark && html`<${Legend} data=${data} series=${series} at=${at} format=${format} />`}
    <div class="chart-box" ref=${box} style=${{ height: `${height}px` }} role="img" aria-label=${label} />
  </figure>`;
}

function Legend({ data, series, at, format }) {
  const index = at ?? data[0].length - 1;
  return html`<figcaption class="legend" aria-hidden="true">
    ${series.map((each, place) => html`<span key=${each.name} class="legend-item">
      <span class=${`legend-line ${each.colour}${each.dash ? " dashed" : ""}`} />${each.name} <b>${format(data[place + 1]?.[index])}</b>
    </span>`)}
  </figcaption>`;
}

function options({ width, height, series, format, most, isSpark, setAt }) {
  const lines = series.map((each) => ({
    label: each.name,
    stroke: colour(each.colour),
    width: isSpark ? 1.25 : 1.5,
    dash: each.dash,
    fill: each.isFilled ? `${colour(each.colour)}22` : undefined,
    points: { show: false },
    spanGaps: false,
  }));
  return {
    width,
    height,
    series: [{}, ...lines],
    legend: { show: false },
    padding: isSpark ? [2, 0, 2, 0] : [8, 18, 0, 0],
    cursor: { show: !isSpark, y: false, drag: { x: false, y: false }, points: { size: 5 } },
    scales: { x: { time: true, range: (_, __, last) => [last - HOUR_S, last] }, y: { range: (_, __, highest) => [0, most ?? (highest > 0 ? highest * 1.08 : 1)] } },
    axes: isSpark
      ? [{ show: false }, { show: false }]
      : [axis({ values: hours, space: 64, size: 28 }), axis({ size: 54, space: 34, values: (_, ticks) => ticks.map((tick) => format(tick)) })],
    hooks: { setCursor: [(plot) => setAt(plot.cursor.idx ?? null)] },
  };
}

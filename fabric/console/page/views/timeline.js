/* Timeline: who held which node when. A window of time over a window of rows; both are asked of the fabric as one moves, which
   answers with as many bars as there are pixels, however many leases there were. */
import { query } from "../lib/api.js";
import { useCell } from "../lib/cell.js";
import { now } from "../lib/clock.js";
import { overview } from "../lib/events.js";
import { count } from "../lib/format.js";
import { html, useEffect, useRef, useState } from "../lib/html.js";
import { useLoad } from "../lib/load.js";
import { flavorsOf } from "../lib/words.js";
import { Choice, Search, Switch } from "../parts/filters.js";
import { Empty, Problem, Waiting } from "../parts/signs.js";
import { TimelineChart } from "./timeline_chart.js";
import { TimelineLegend } from "./timeline_legend.js";
import { TimelineTable } from "./timeline_table.js";

const ROWS = 40;
const LABELS = 220; // pixels beside the chart
const SPANS = [["3600", "1 h"], ["21600", "6 h"], ["86400", "24 h"]];
const LEAST_S = 2;
const MOST_S = 7 * 86400;
const SETTLE_MS = 120;
const FOLLOW_MS = 2000;

export function Timeline() {
  const tiers = useCell(overview)?.tiers ?? [];
  const [wanted, setWanted] = useState({ tier: "", flavor: "", text: "" });
  const [offset, setOffset] = useState(0);
  const [view, setView] = useState("chart");
  const { span, move, asked, isFollowing } = useSpan();
  const width = Math.min(2400, Math.max(300, innerWidth - LABELS));
  const times = asked && { from_s: asked.from.toFixed(3), to_s: asked.to.toFixed(3) };
  const path = asked && query("/v1/console/timeline", { ...times, width, ...wanted, offset, limit: ROWS });
  const { data, problem } = useLoad(path, { events: ["jobs"], gap_ms: 1000, isKept: true });
  const set = (key) => (value) => {
    setWanted((before) => ({ ...before, [key]: value }));
    setOffset(0);
  };
  const page = (step) => setOffset((at) => Math.max(0, Math.min(at + step, Math.max(0, (data?.total_rows ?? 0) - 1))));
  const flavors = flavorsOf(tiers, wanted.tier);
  return html`<section class="section fill" aria-labelledby="timeline">
    <header class="section-head">
      <h1 id="timeline">Timeline</h1>
      <${Switch} label="Length" value=${String(Math.round(span.to - span.from))} choices=${SPANS} onChange=${(length) => move.last(Number(length))} />
      <div class="switch" role="group" aria-label="Move">
        <button type="button" aria-label="Earlier" onClick=${() => move.pan(-0.5)}>←</button>
        <button type="button" aria-label="Later" onClick=${() => move.pan(0.5)}>→</button>
        <button type="button" aria-label="Zoom in" onClick=${() => move.zoom(0.5)}>+</button>
        <button type="button" aria-label="Zoom out" onClick=${() => move.zoom(2)}>−</button>
        <button type="button" aria-pressed=${isFollowing} onClick=${() => move.last(span.to - span.from)}>now</button>
      </div>
      <div class="filters">
        <${Search} label="Search the timeline" value=${wanted.text} onChange=${set("text")} placeholder="host or job" />
        <${Choice} label="Tier" none="every tier" value=${wanted.tier} choices=${tiers.map((tier) => tier.tier)} onChange=${set("tier")} />
        <${Choice} label="Flavor" none="every flavor" value=${wanted.flavor} choices=${flavors} onChange=${set("flavor")} />
        <${Switch} label="Show as" value=${view} choices=${[["chart", "Chart"], ["table", "Table"]]} onChange=${setView} />
      </div>
    </header>
    <${Problem} problem=${problem} what="The timeline" />
    ${!data && !problem && html`<${Waiting} lines=${10} />`}
    ${data && data.total_rows === 0 && html`<${Empty} title="Nothing was held in this window">Take a filter away, or look further back.<//>`}
    ${data && data.total_rows > 0 && (view === "chart"
      ? html`<${TimelineChart} data=${data} span=${span} move=${move} page=${page} />`
      : html`<${TimelineTable} data=${data} />`)}
    ${data && data.total_rows > 0 && html`<footer class="timeline-foot">
      <${TimelineLegend} />
      <${Pager} data=${data} offset=${offset} page=${page} />
    </footer>`}
  </section>`;
}

function Pager({ data, offset, page }) {
  const last = offset + data.rows.length;
  return html`<div class="pager">
    <span>Nodes ${count(offset + 1)} to ${count(last)} of ${count(data.total_rows)}</span>
    <button type="button" class="button" disabled=${offset === 0} onClick=${() => page(-ROWS)}>Previous</button>
    <button type="button" class="button" disabled=${last >= data.total_rows} onClick=${() => page(ROWS)}>Next</button>
  </div>`;
}

/** The window of time: `span` is what is drawn, `asked` what the fabric was last asked for; it follows moves when they pause. */
function useSpan() {
  const [state, setState] = useState(() => ({ from: now() - 3600, to: now(), isFollowing: true }));
  const [asked, setAsked] = useState(null);
  const settle = useRef(null);
  useEffect(() => {
    clearTimeout(settle.current);
    settle.current = setTimeout(() => setAsked({ from: state.from, to: state.to }), asked ? SETTLE_MS : 0);
  }, [state.from, state.to]);
  useEffect(() => {
    if (!state.isFollowing) return undefined;
    const timer = setInterval(() => document.hidden || setState((at) => ({ ...at, from: now() - (at.to - at.from), to: now() })), FOLLOW_MS);
    return () => clearInterval(timer);
  }, [state.isFollowing]);
  const [move] = useState(() => moves(setState));
  return { span: state, move, asked, isFollowing: state.isFollowing };
}

function moves(setState) {
  const place = (from, to) => {
    const length = Math.min(MOST_S, Math.max(LEAST_S, to - from));
    const end = Math.min(from + length, now() + 0.1 * length);
    return { from: end - length, to: end, isFollowing: false };
  };
  return {
    last: (length) => setState({ from: now() - length, to: now(), isFollowing: true }),
    /** By a part of the window. */
    pan: (part) => setState(({ from, to }) => place(from + part * (to - from), to + part * (to - from))),
    /** So many times as long, around `at` (0 to 1 of the window). */
    zoom: (factor, at = 0.5) =>
      setState(({ from, to }) => {
        const centre = from + at * (to - from);
        return place(centre - (centre - from) * factor, centre + (to - centre) * factor);
      }),
    to: (from, to) => setState(place(from, to)),
  };
}

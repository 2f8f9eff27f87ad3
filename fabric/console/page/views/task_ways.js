/* Every way that a call of a task could take now: predicted wait, run and cost, and beside them what was measured there. */
import { band, bytes, count, duration, usd } from "../lib/format.js";
import { html } from "../lib/html.js";
import { PlainTable } from "../parts/plain_table.js";
import { Empty, Section, Tier, Twin } from "../parts/signs.js";

const REASONS = {
  NoVariant: "it has no variant for it",
  NoNodes: "no node of it",
  Resources: "no node is large enough",
  CpuHasRoom: "CPU nodes have room: the others are kept for what needs them",
};

export function TaskWays({ task }) {
  const isModel = task.key.startsWith("model:");
  const title = isModel ? "What a request would take" : "Where a call would go";
  if (!task.ways.length) return html`<${Section} id="ways" title=${title}><${Empty} title="Nowhere now">${task.problem}<//><//>`;
  return html`<${Section} id="ways" title=${title}>
    ${task.problem && html`<p class="bad">${task.problem}</p>`}
    <div class="ways"><${PlainTable}
      caption="Ways to run a call of this task"
      rows=${task.ways}
      keyOf=${(way) => `${way.flavor}/${way.variant}`}
      classOf=${(way) => (way.chosen ? "taken" : way.reason ? "out" : "")}
      columns=${[...COLUMNS, verdict(isModel)]}
    /></div>
    <p class="faint">
      ${isModel && "Requests go to the model's replicas; a replica there would take this. "}“Run” is what the next call is predicted to take, by all that was measured; ×1.3 is one standard deviation as a factor.
      “Foretold” is what would be predicted of a flavor had it never run there.
    </p>
  <//>`;
}

const timed = (run_s, logSd) => html`${duration(run_s)} <span class="faint">${band(logSd)}</span>`;

const COLUMNS = [
  { key: "tier", title: "tier", cell: (way) => (way.tier ? html`<${Tier} tier=${way.tier} />` : "–") },
  {
    key: "on", title: "on", isHeader: true,
    cell: (way) => html`${way.flavor}${!["default", "-"].includes(way.variant) && html` <span class="faint">${way.variant}</span>`} <${Twin} isTwin=${way.twin} />`,
  },
  { key: "wait", title: "wait", align: "right", cell: (way) => (way.wait_s === 0 ? "none" : duration(way.wait_s)) },
  { key: "run", title: "run", align: "right", cell: (way) => timed(way.run_s, way.run_log_sd) },
  { key: "cost", title: "$ / 1,000", align: "right", cell: (way) => usd(thousand(way.cost_usd)) },
  { key: "measured", title: "measured", align: "right", cell: (way) => timed(way.measured?.run_s, way.measured?.run_log_sd) },
  { key: "spent", title: "$ / 1,000", align: "right", cell: (way) => usd(thousand(way.measured?.cost_usd)) },
  { key: "runs", title: "runs", align: "right", cell: (way) => count(way.measured?.runs) },
  { key: "foretold", title: "foretold", align: "right", cell: (way) => timed(way.foretold_s, way.foretold_log_sd) },
  { key: "memory", title: "memory", align: "right", cell: (way) => bytes(way.measured?.peak_memory_bytes) },
];

const verdict = (isModel) => ({
  key: "why", title: "verdict",
  cell: (way) => (way.chosen
    ? html`<b>${isModel ? "ranks first" : "a call goes here"}</b>`
    : html`<span class="faint">${way.detail || REASONS[way.reason] || way.reason || "ranks behind"}</span>`),
});

const thousand = (cost) => (cost === null || cost === undefined ? null : 1000 * cost);

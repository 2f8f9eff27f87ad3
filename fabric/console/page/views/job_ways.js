/* Every way in which a job could run, with what was predicted of it, and beside the one that was taken what was measured. */
import { useNow } from "../lib/clock.js";
import { band, count, duration, usd } from "../lib/format.js";
import { html } from "../lib/html.js";
import { HOLDING, isOver, plural, WHY } from "../lib/words.js";
import { PlainTable } from "../parts/plain_table.js";
import { Section, Tier, Twin } from "../parts/signs.js";

export function JobWays({ job, ways }) {
  const now_s = useNow(job.ended_s === null ? 1 : 3600);
  if (!ways) return null;
  // Of what ended before anything was predicted of it, what it took is all that is known.
  if (!ways.length) return job.started_s !== null && job.state !== "PENDING" && html`<${Section} id="took" title="What it took"><${Measured} job=${job} now_s=${now_s} /><//>`;
  const taken = job.flavor ? ways.findIndex((way) => way.flavor === job.flavor) : -1;
  const isOn = !isOver(job.state);
  const hasMeasured = ways.some((way) => way.measured);
  return html`<${Section} id="ways" title=${isOn ? "Where it could run" : "Where it could have run"}>
    <div class="ways"><${PlainTable}
      caption="Ways to run this job"
      rows=${ways}
      keyOf=${(way, index) => `${way.flavor}.${index}`}
      classOf=${(way, index) => (index === taken ? "taken" : way.verdict === "NoFit" ? "out" : "")}
      columns=${[
        { key: "tier", title: "tier", cell: (way) => html`<${Tier} tier=${way.tier} />` },
        { key: "on", title: "on", isHeader: true, cell: (way) => html`${on(way)} <${Twin} isTwin=${way.twin} />` },
        isOn && {
          key: "wait", title: "wait", align: "right",
          cell: (way) => (way.wait_s !== null && way.wait_s < 1 ? "now" : duration(way.wait_s)),
        },
        {
          key: "run", title: "run", align: "right",
          cell: (way) => html`${duration(way.run_s)} <span class="faint">${band(way.run_log_sd)}</span>`,
        },
        { key: "cost", title: "cost", align: "right", cell: (way) => usd(way.cost_usd) },
        hasMeasured && { key: "family", title: "family took", align: "right", cell: (way) => html`<${Family} seen=${way.measured} />` },
        { key: "verdict", title: "verdict", cell: (way, index) => html`<${Verdict} way=${way} isTaken=${index === taken} job=${job} />` },
      ].filter(Boolean)}
    /></div>
    ${taken >= 0 && job.started_s !== null && job.state !== "PENDING" && html`<${Measured} job=${job} way=${ways[taken]} now_s=${now_s} />`}
  <//>`;
}

function on(way) {
  return `${way.flavor}:${Number((way.units / Math.max(1, way.num_bundles)).toFixed(2))}${way.num_bundles > 1 ? `×${way.num_bundles}` : ""}`;
}

/** What whole jobs of its family took there. */
function Family({ seen }) {
  if (!seen) return "–";
  return html`<span title=${`${plural(seen.runs, "job")} of its family, ${band(seen.run_log_sd)}`}>${duration(seen.run_s)} <span class="faint">(${count(seen.runs)})</span></span>`;
}

function Verdict({ way, isTaken, job }) {
  if (isOver(job.state)) return isTaken ? html`<b>ran here</b>` : "";
  const words = way.detail || WHY[way.reason] || "";
  const mark = isTaken ? html`<b>${HOLDING.includes(job.state) ? "runs here" : "ran here"}</b> ` : "";
  return html`${mark}<span class=${`verdict ${way.verdict}`}>${way.verdict}</span> <span class="faint" title=${way.reason}>${words || way.reason}</span>`;
}

/** Of all attempts: what it cost; of the last one: how long it waited and has run. `way`: the one that was taken, where it is known. */
function Measured({ job, way, now_s }) {
  const rows = [
    ["waited", way?.wait_s, job.started_s - job.submitted_s, duration],
    ["ran", way?.run_s, (job.ended_s ?? now_s) - job.started_s, duration],
    ["cost", way?.cost_usd, job.cost_usd, usd],
  ];
  const isOn = job.ended_s === null;
  const columns = [
    { key: "what", title: html`<span class="unseen">what</span>`, isHeader: true, cell: ([name]) => name },
    way && { key: "predicted", title: isOn ? "predicted for now" : "predicted", align: "right", cell: ([, predicted, , words]) => words(predicted) },
    { key: "measured", title: isOn ? "measured so far" : "measured", align: "right", cell: ([, , measured, words]) => words(measured) },
  ];
  return html`${way && html`<h3>Predicted and measured</h3>`}
    <div class="narrow"><${PlainTable} caption=${way ? "Predicted and measured" : "Measured"} rows=${rows} columns=${columns.filter(Boolean)} /></div>`;
}

/* Usage: dollars and hours of GPUs and CPUs by user, queue and model, and the same as a file. */
import { fetched } from "../lib/api.js";
import { useCell } from "../lib/cell.js";
import { overview } from "../lib/events.js";
import { count, fixed, percent, usd } from "../lib/format.js";
import { html, useState } from "../lib/html.js";
import { useLoad } from "../lib/load.js";
import { tellNotice } from "../lib/order.js";
import { Switch } from "../parts/filters.js";
import { PlainTable } from "../parts/plain_table.js";
import { Empty, Problem, Section, Waiting } from "../parts/signs.js";

const BY = [["user", "User"], ["queue", "Queue"], ["model", "Model"]];

export function Usage() {
  const [by, setBy] = useState("user");
  const panels = useCell(overview)?.panels ?? [];
  const { data, problem } = useLoad(`/v1/usage?by=${by}`, { every_s: 10, isKept: true });
  const rows = data?.by === by ? data.rows.toSorted((a, b) => (b.cost_usd ?? 0) - (a.cost_usd ?? 0)) : null;
  const ways = BY.filter(([key]) => key !== "model" || panels.includes("models"));
  return html`<${Section}
    isMain
    id="usage"
    title="Usage"
    aside=${html`<${Switch} label="By" value=${by} choices=${ways} onChange=${setBy} /><${Export} by=${by} />`}
  >
    <${Problem} problem=${problem} what="The usage" />
    ${!rows && !problem && html`<${Waiting} lines=${6} />`}
    ${rows?.length === 0 && html`<${Empty} title="Nothing was used yet">Rows come with the first job that runs.<//>`}
    ${rows?.length > 0 && html`<${UsageTable} by=${by} rows=${rows} />`}
  <//>`;
}

function UsageTable({ by, rows }) {
  const most = Math.max(...rows.map((row) => row.cost_usd ?? 0), 1e-9);
  const has = (key) => rows.some((row) => row[key] !== null && row[key] !== undefined);
  const columns = [
    { key: "name", title: by, isHeader: true, cell: (row) => row.name },
    { key: "cost", title: "cost", align: "right", cell: (row) => html`<b>${usd(row.cost_usd)}</b>` },
    {
      key: "bar", title: html`<span class="unseen">part of the most</span>`,
      cell: (row) => html`<span class="usage-bar" aria-hidden="true"><span style=${{ width: `${(100 * (row.cost_usd ?? 0)) / most}%` }} /></span>`,
    },
    has("accelerator_hours") && { key: "accelerators", title: "GPU-hours", align: "right", cell: (row) => fixed(row.accelerator_hours, 1) },
    has("vcpu_hours") && { key: "vcpus", title: "vCPU-hours", align: "right", cell: (row) => fixed(row.vcpu_hours, 1) },
    has("replica_hours") && { key: "replica_hours", title: "replica-hours", align: "right", cell: (row) => fixed(row.replica_hours, 1) },
    has("requests") && { key: "requests", title: "requests", align: "right", cell: (row) => count(row.requests) },
    has("errors") && {
      key: "errors", title: "errors", align: "right",
      cell: (row) => html`${count(row.errors)} <span class="faint">${row.requests ? percent(row.errors / row.requests, 2) : ""}</span>`,
    },
    has("usd_per_1000") && { key: "per1000", title: "$ / 1,000", align: "right", cell: (row) => usd(row.usd_per_1000) },
    has("replicas") && { key: "replicas", title: "replicas now", align: "right", cell: (row) => count(row.replicas) },
    has("usd_per_h") && { key: "usd_per_h", title: "$ / h now", align: "right", cell: (row) => usd(row.usd_per_h) },
    has("units") && { key: "units", title: "holds", align: "right", cell: (row) => fixed(row.units, 1) },
    has("running") && { key: "running", title: "running", align: "right", cell: (row) => count(row.running) },
    has("pending") && { key: "pending", title: "waiting", align: "right", cell: (row) => count(row.pending) },
    has("ended") && { key: "ended", title: "ended", align: "right", cell: (row) => count(row.ended) },
    has("share_frac") && { key: "share", title: "share", align: "right", cell: (row) => percent(row.share_frac) },
    has("weight") && { key: "weight", title: "weight", align: "right", cell: (row) => count(row.weight, 2) },
    has("budget_usd") && {
      key: "budget", title: "budget left", align: "right",
      cell: (row) => (row.budget_usd === null ? "–" : html`${usd(Math.max(0, row.budget_left_usd))} <span class="faint">of ${usd(row.budget_usd)}</span>`),
    },
  ];
  return html`<${PlainTable} caption=${`Usage by ${by}`} rows=${rows} keyOf=${(row) => row.name} columns=${columns.filter(Boolean)} />`;
}

function Export({ by }) {
  const [isBusy, setBusy] = useState(false);
  const save = async (format) => {
    setBusy(true);
    try {
      // A link could not carry the token: the file is fetched here and handed to the browser.
      const response = await fetched(`/v1/usage/export?by=${by}&format=${format}`);
      const link = document.createElement("a");
      link.href = URL.createObjectURL(await response.blob());
      link.download = `usage-by-${by}.${format}`;
      link.click();
      setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
    } catch (error) {
      tellNotice(error.message, true);
    } finally {
      setBusy(false);
    }
  };
  return html`<span class="export">
    <button type="button" class="button" disabled=${isBusy} onClick=${() => save("csv")}>CSV</button>
    <button type="button" class="button" disabled=${isBusy} onClick=${() => save("parquet")}>Parquet</button>
  </span>`;
}

/* Every node, with what it does, what it costs, and the orders that take it out of use and bring it back. */
import { query } from "../lib/api.js";
import { useCell } from "../lib/cell.js";
import { overview } from "../lib/events.js";
import { bytes, count, percent, usd } from "../lib/format.js";
import { html, useState } from "../lib/html.js";
import { useRows } from "../lib/rows.js";
import { flavorsOf } from "../lib/words.js";
import { Choice, Search } from "../parts/filters.js";
import { Empty, Problem, Tier, Twin } from "../parts/signs.js";
import { UnitBar } from "../parts/unit_bar.js";
import { VirtualTable } from "../parts/virtual_table.js";
import { NodeButtons } from "./node_buttons.js";

const HEALTHS = ["ready", "cordoned", "draining", "lost"];

export function NodeTable({ tiers }) {
  const [wanted, setWanted] = useState({ tier: "", flavor: "", health: "", text: "" });
  const [sort, setSort] = useState({ by: "", descending: false });
  const scopes = useCell(overview)?.who.scopes ?? [];
  const path = query("/v1/console/nodes", { ...wanted, sort: sort.by, descending: sort.descending || "" });
  const rows = useRows(path, "nodes", { events: ["nodes"], gap_ms: 1000 });
  const set = (key) => (value) => setWanted((before) => ({ ...before, [key]: value }));
  const flavors = flavorsOf(tiers, wanted.tier);
  const canOperate = scopes.includes("operate") || scopes.includes("admin");
  return html`<section class="section nodes" aria-labelledby="nodes">
    <header class="section-head">
      <h2 id="nodes">Nodes <span class="faint">${count(rows?.total)}</span></h2>
      <div class="filters">
        <${Search} label="Search nodes" value=${wanted.text} onChange=${set("text")} placeholder="host, id or job" />
        <${Choice} label="Tier" none="every tier" value=${wanted.tier} choices=${tiers.map((tier) => tier.tier)} onChange=${set("tier")} />
        <${Choice} label="Flavor" none="every flavor" value=${wanted.flavor} choices=${flavors} onChange=${set("flavor")} />
        <${Choice} label="Health" none="every health" value=${wanted.health} choices=${HEALTHS} onChange=${set("health")} />
      </div>
    </header>
    <${Problem} problem=${rows?.problem} what="The list of nodes" />
    <div class="table-box part">
      <${VirtualTable}
        label="Nodes"
        perSecond=${false}
        columns=${columns(canOperate)}
        rows=${rows}
        rowId=${(node) => node.node_id}
        sort=${sort}
        onSort=${setSort}
        empty=${html`<${Empty} title="No node is like that">Take a filter away.<//>`}
      />
    </div>
  </section>`;
}

const columns = (canOperate) => [
  {
    key: "host", title: "host", sort: "host", width: "minmax(130px, 2fr)",
    cell: (node) => html`<span class="clip" title=${node.node_id}>${node.host}</span> <${Twin} isTwin=${node.twin} /><${Slow} factor=${node.slow_factor} />`,
  },
  { key: "tier", title: "tier", width: "64px", from: 640, cell: (node) => html`<${Tier} tier=${node.tier} />` },
  {
    key: "flavor", title: "flavor", sort: "flavor", width: "minmax(90px, 1fr)",
    cell: (node) => html`<span class="clip">${node.flavor}</span>`,
  },
  { key: "health", title: "health", sort: "health", width: "98px", cell: (node) => html`<${Health} node=${node} />` },
  {
    key: "units", title: "in use", sort: "used", width: "86px", align: "right", from: 720,
    cell: (node) => html`<span>${count(node.used + node.leased, 1)}<span class="faint">/${count(node.units, 1)}</span></span>`,
  },
  { key: "bar", title: "", unseenTitle: "units", width: "84px", from: 980, cell: (node) => html`<${UnitBar} of=${node} />` },
  { key: "gpu", title: "GPU", sort: "gpu_frac", width: "62px", align: "right", from: 800, cell: (node) => percent(node.gpu_frac) },
  { key: "cpu", title: "CPU", sort: "cpu_frac", width: "62px", align: "right", from: 880, cell: (node) => percent(node.cpu_frac) },
  { key: "memory", title: "memory", sort: "memory_used_bytes", width: "132px", align: "right", from: 1290, cell: (node) => memory(node) },
  { key: "usd", title: "$ / h", sort: "usd_per_h", width: "74px", align: "right", from: 1060, cell: (node) => usd(node.usd_per_h) },
  {
    key: "idle", title: "idle $", sort: "idle_usd_per_h", width: "74px", align: "right", from: 1150,
    cell: (node) => usd(node.idle_usd_per_h),
  },
  {
    key: "jobs", title: "jobs", width: "minmax(110px, 1.4fr)", from: 1400,
    cell: (node) => html`<span class="clip faint">${node.jobs.join(", ")}</span>`,
  },
  {
    key: "orders", title: "", unseenTitle: "orders", width: "158px", from: 560, class: "orders",
    cell: (node, { isCurrent }) => html`<${NodeButtons} node=${node} canOperate=${canOperate} tabIndex=${isCurrent ? 0 : -1} />`,
  },
];

const SIGNS = { ready: "●", cordoned: "◌", draining: "◒" };

function Health({ node }) {
  return html`<span class=${`health ${node.health}`}><span aria-hidden="true">${SIGNS[node.health] ?? "▲"}</span> ${node.health}</span>`;
}

const Slow = ({ factor }) => factor > 1.05 && html`<span class="bad" title=${`${factor.toFixed(2)} times slower than its like`}>×${factor.toFixed(1)} slow</span>`;

function memory(node) {
  if (node.memory_total_bytes === null) return "–";
  return html`<span>${bytes(node.memory_used_bytes)}<span class="faint"> of ${bytes(node.memory_total_bytes)}</span></span>`;
}

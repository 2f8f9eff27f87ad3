/* Tasks: every function and model whose runs were measured, and how long it takes where. */
import { query } from "../lib/api.js";
import { count, duration } from "../lib/format.js";
import { html, useEffect, useState } from "../lib/html.js";
import { go, keepFilters, route, to } from "../lib/route.js";
import { useRows } from "../lib/rows.js";
import { Search } from "../parts/filters.js";
import { Empty, Problem } from "../parts/signs.js";
import { VirtualTable } from "../parts/virtual_table.js";

const GAP_MS = 10_000;

export function Tasks() {
  const [text, setText] = useState(() => route.get().filters.text ?? "");
  const [sort, setSort] = useState({ by: "", descending: false });
  const path = query("/v1/console/tasks", { text, sort: sort.by, descending: sort.descending || "" });
  // Nothing tells of a run: with the nodes, now and then.
  const rows = useRows(path, "tasks", { events: ["nodes"], gap_ms: GAP_MS });
  useEffect(() => keepFilters("tasks", { text }), [text]);
  return html`<section class="section fill" aria-labelledby="tasks">
    <header class="section-head">
      <h1 id="tasks">Tasks <span class="faint">${count(rows?.total)}</span></h1>
      <div class="filters"><${Search} label="Search tasks" value=${text} onChange=${setText} placeholder="name, domain, flavor" /></div>
    </header>
    <${Problem} problem=${rows?.problem} what="The list of tasks" />
    <div class="table-box">
      <${VirtualTable}
        label="Tasks"
        perSecond=${false}
        columns=${COLUMNS}
        rows=${rows}
        rowId=${(task) => task.key}
        sort=${sort}
        onSort=${setSort}
        onOpen=${(task) => go("tasks", task.key)}
        empty=${text
          ? html`<${Empty} title="No task is like that">Take the filter away.<//>`
          : html`<${Empty} title="No task has been called yet">A function becomes one by <code>@fabric.task</code>.<//>`}
      />
    </div>
  </section>`;
}

const COLUMNS = [
  {
    key: "task", title: "task", sort: "task", width: "minmax(150px, 2fr)",
    cell: (task, { isCurrent }) => html`<a class="clip" href=${to("tasks", task.key)} title=${task.key} tabindex=${isCurrent ? 0 : -1}>${task.task}</a>`,
  },
  { key: "domain", title: "domain", sort: "domain", width: "84px", from: 560, cell: (task) => task.domain },
  { key: "phase", title: "phase", sort: "phase", width: "96px", from: 720, cell: (task) => task.phase },
  { key: "runs", title: "runs", sort: "runs", width: "78px", align: "right", cell: (task) => count(task.runs) },
  { key: "fastest", title: "fastest", sort: "run_s", width: "92px", align: "right", cell: (task) => duration(fastest(task)) },
  {
    key: "flavors", title: "measured on", width: "minmax(120px, 3fr)", from: 640,
    cell: (task) => html`<span class="clip" title=${measured(task, true)}>${measured(task) || html`<span class="faint">nowhere yet</span>`}</span>`,
  },
];

function fastest(task) {
  const times = Object.values(task.flavors).map((each) => each.run_s).filter((run_s) => run_s !== null);
  return times.length ? Math.min(...times) : null;
}

function measured(task, hasRuns = false) {
  return Object.entries(task.flavors)
    .map(([flavor, { runs, run_s }]) => `${flavor} ${duration(run_s)}${hasRuns ? ` (${count(runs)} runs)` : ""}`)
    .join(", ");
}

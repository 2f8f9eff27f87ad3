/* The queue: every job with its state and its reason, and the orders that one may give. */
import { query } from "../lib/api.js";
import { useCell } from "../lib/cell.js";
import { overview } from "../lib/events.js";
import { count } from "../lib/format.js";
import { html, useEffect, useState } from "../lib/html.js";
import { useLoad } from "../lib/load.js";
import { go, keepFilters, route } from "../lib/route.js";
import { useRows } from "../lib/rows.js";
import { STATES } from "../lib/words.js";
import { Chips, Choice, Search } from "../parts/filters.js";
import { Empty, Problem } from "../parts/signs.js";
import { VirtualTable } from "../parts/virtual_table.js";
import { jobColumns } from "./job_columns.js";

export function Queue() {
  const [wanted, setWanted] = useState(() => ({ state: "", queue: "", user: "", text: "", ...route.get().filters }));
  const [sort, setSort] = useState({ by: "", descending: false });
  const who = useCell(overview)?.who;
  const path = query("/v1/console/jobs", { ...wanted, sort: sort.by, descending: sort.descending || "" });
  const rows = useRows(path, "jobs", { events: ["jobs"] });
  const queues = useNames("queue", who, wanted.queue);
  const users = useNames("user", who, wanted.user);
  useEffect(() => keepFilters("queue", wanted), [wanted]);
  const set = (key) => (value) => setWanted((before) => ({ ...before, [key]: value }));
  const states = rows?.head?.states ?? {};
  const chips = Object.entries(STATES)
    .filter(([state]) => states[state] || state === wanted.state)
    .map(([state, { sign, name }]) => ({ value: state, name: `${sign} ${name}`, num: states[state] ?? 0 }));
  const isMine = wanted.user === who?.user;
  const isNarrowed = Object.values(wanted).some(Boolean);
  return html`<section class="section fill" aria-labelledby="jobs">
    <header class="section-head">
      <h1 id="jobs">Jobs <span class="faint">${count(rows?.total)}</span></h1>
      <${Chips} label="State" value=${wanted.state} onChange=${set("state")} chips=${chips} />
      <div class="filters">
        <${Search} label="Search jobs" value=${wanted.text} onChange=${set("text")} placeholder="name, id, user" />
        <${Choice} label="Queue" none="every queue" value=${wanted.queue} choices=${queues} onChange=${set("queue")} />
        <${Choice} label="User" none="every user" value=${wanted.user} choices=${users} onChange=${set("user")} />
        ${who && html`<button type="button" class="chip" aria-pressed=${isMine} onClick=${() => set("user")(isMine ? "" : who.user)}>mine</button>`}
      </div>
    </header>
    <${Problem} problem=${rows?.problem} what="The list of jobs" />
    <div class="table-box">
      <${VirtualTable}
        label="Jobs"
        columns=${jobColumns(who)}
        rows=${rows}
        rowId=${(job) => job.id}
        sort=${sort}
        onSort=${setSort}
        onOpen=${(job) => go("job", job.id)}
        empty=${isNarrowed
          ? html`<${Empty} title="No job is like that">Take a filter away.<//>`
          : html`<${Empty} title="No job yet">Submit one: <code>fabric submit python train.py --gpus A100:4</code><//>`}
      />
    </div>
  </section>`;
}

/** Queues or users that have used something; who may not read those of others chooses among what is chosen already. */
function useNames(by, who, chosen) {
  const mayRead = who?.scopes.some((scope) => ["read", "operate", "admin"].includes(scope));
  const { data } = useLoad(mayRead ? `/v1/usage?by=${by}` : null);
  const names = (data?.rows ?? []).map((row) => row.name);
  return [...new Set([...names, ...(chosen ? [chosen] : [])])].sort();
}

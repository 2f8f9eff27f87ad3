/* The same as the chart, as text: every bar of the window, newest first. */
import { now } from "../lib/clock.js";
import { duration, moment } from "../lib/format.js";
import { html } from "../lib/html.js";
import { to } from "../lib/route.js";
import { BARS, MARKS, plural } from "../lib/words.js";
import { PlainTable } from "../parts/plain_table.js";

const MOST = 300;

export function TimelineTable({ data }) {
  const at = now();
  const bars = data.bars.map(([row, , from, until, num, job, name, user, state]) => {
    return { row, from, until, num, job, name, user, how: BARS[state]?.name ?? state, isOn: state === "running" };
  });
  const marks = data.marks.map(([row, from, kind, num, job, name]) => {
    return { row, from, until: null, num, job, name, user: "", how: `mark: ${MARKS[kind]?.name ?? kind}` };
  });
  const all = [...bars, ...marks].sort((a, b) => b.from - a.from);
  return html`<${PlainTable}
      caption="Leases and marks in this window"
      rows=${all.slice(0, MOST)}
      columns=${[
        { key: "from", title: "from", cell: (each) => moment(each.from, at) },
        { key: "to", title: "to", cell: (each) => (each.isOn ? "now" : each.until === null ? "" : moment(each.until, at)) },
        { key: "long", title: "for", align: "right", cell: (each) => (each.until === null ? "" : duration(each.until - each.from)) },
        {
          key: "job", title: "job", isHeader: true,
          cell: (each) => (each.job ? html`<a href=${to("job", each.job)}>${each.name}</a>` : each.num > 1 ? plural(each.num, "lease") : each.name || "–"),
        },
        { key: "user", title: "user", cell: (each) => each.user },
        { key: "node", title: "node", cell: (each) => data.rows[each.row].host },
        { key: "flavor", title: "flavor", cell: (each) => data.rows[each.row].flavor },
        { key: "how", title: "how it went", cell: (each) => each.how },
      ]}
    />
    ${all.length > MOST && html`<p class="faint">and ${(all.length - MOST).toLocaleString("en")} earlier ones: zoom in to see them</p>`}`;
}

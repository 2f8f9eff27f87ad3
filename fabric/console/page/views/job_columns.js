/* The columns of the table of jobs. */
import { ago, brief, moment, percent, shortId, usd } from "../lib/format.js";
import { html } from "../lib/html.js";
import { to } from "../lib/route.js";
import { HOLDING, isOver, place, reason } from "../lib/words.js";
import { State, Twin } from "../parts/signs.js";
import { JobButtons } from "./job_buttons.js";

const stop = (event) => event.stopPropagation();

export const jobColumns = (who) => [
  {
    key: "position", title: "#", unseenTitle: "position", width: "58px", align: "right", from: 620, class: "faint",
    cell: (job) => job.position?.toLocaleString("en") ?? "",
  },
  {
    key: "name", title: "job", sort: "name", width: "minmax(100px, 2.2fr)",
    cell: (job, { isCurrent }) => html`<a class="clip" href=${to("job", job.id)} onClick=${stop} tabindex=${isCurrent ? 0 : -1} title=${job.name}>${job.name}</a>`,
  },
  { key: "id", title: "id", width: "68px", from: 1290, class: "faint mono", cell: (job) => shortId(job.id) },
  { key: "state", title: "state", sort: "state", width: "98px", cell: (job) => html`<${State} state=${job.state} />` },
  {
    key: "user", title: "user", sort: "user", width: "minmax(70px, .7fr)", from: 560,
    cell: (job) => html`<span class="clip" title=${job.user}>${job.user}</span>`,
  },
  {
    key: "queue", title: "queue", sort: "queue", width: "minmax(70px, .8fr)", from: 910,
    cell: (job) => html`<span class="clip" title=${`${job.queue}, class ${job.priority}`}>${job.queue}</span>`,
  },
  {
    key: "class", title: "class", sort: "priority", width: "minmax(60px, .6fr)", from: 1180,
    cell: (job) => html`<span class="clip faint">${job.priority || "–"}</span>`,
  },
  {
    key: "on", title: "on", width: "minmax(96px, 1fr)", from: 690,
    cell: (job) => html`<span class=${job.flavor ? "clip" : "clip faint"} title=${place(job)}>${place(job)}</span> <${Twin} isTwin=${job.twin} />`,
  },
  {
    key: "age", title: "age", sort: "submitted_s", width: "62px", align: "right", from: 480,
    cell: (job, { now_s }) => html`<span title=${`submitted ${moment(job.submitted_s, now_s)}`}>${brief(now_s - job.submitted_s)}</span>`,
  },
  { key: "when", title: "starts / left", width: "104px", align: "right", from: 1020, cell: (job, { now_s }) => when(job, now_s) },
  {
    key: "usd", title: "cost", width: "72px", align: "right", from: 1110,
    cell: (job) => (job.cost_usd === null ? html`<span class="faint">–</span>` : usd(job.cost_usd)),
  },
  { key: "why", title: "why", width: "minmax(90px, 2.2fr)", from: 330, cell: (job) => html`<${Why} job=${job} />` },
  {
    key: "orders", title: "", unseenTitle: "orders", width: "132px", from: 840, class: "orders",
    cell: (job, { isCurrent }) => html`<${JobButtons} job=${job} who=${who} tabIndex=${isCurrent ? 0 : -1} isShort />`,
  },
];

function when(job, now_s) {
  if (job.state === "PENDING") {
    if (job.expected_start_s === null) return html`<span class="faint">not known</span>`;
    return html`<span title=${moment(job.expected_start_s, now_s)}>${job.expected_start_s <= now_s ? "now" : `in ${brief(job.expected_start_s - now_s)}`}</span>`;
  }
  if (HOLDING.includes(job.state)) return job.remaining_s === null ? "" : `${brief(job.remaining_s)} left`;
  return html`<span class="faint">${job.ended_s === null ? "" : ago(job.ended_s, now_s).replace(/ \d+ \w ago/, " ago")}</span>`;
}

function Why({ job }) {
  if (HOLDING.includes(job.state) && job.done !== null && job.total) {
    const done = Math.min(1, job.done / job.total);
    return html`<span class="progress" role="img" aria-label=${`${percent(done)} done`}><span style=${{ width: `${100 * done}%` }} /></span><span class="progress-text">${percent(done)}</span>`;
  }
  if (!job.why) return "";
  const words = reason(job);
  const bad = isOver(job.state) && job.state === "FAILED" ? "bad" : "";
  return html`<span class="clip" title=${`${job.why}: ${words}`}><b class=${`why ${bad}`}>${job.why}</b> <span class="faint">${words}</span></span>`;
}

/* Why a job waits: its reason, who is ahead, when it is expected to start and how sure that is, what would start it sooner. */
import { useNow } from "../lib/clock.js";
import { ago, brief, duration, moment, usd } from "../lib/format.js";
import { html } from "../lib/html.js";
import { to } from "../lib/route.js";
import { plural, WHY } from "../lib/words.js";
import { PlainTable } from "../parts/plain_table.js";
import { Problem, Section, State, Waiting } from "../parts/signs.js";

export function JobWhy({ job, form, problem }) {
  const isWaiting = job.state === "PENDING";
  if (!isWaiting && !job.why) return null;
  return html`<${Section} id="why" title=${isWaiting ? "Why it waits" : "Why"}>
    <p class="reason"><b>${job.why || "Queued"}</b> ${WHY[job.why] ?? ""}${job.detail && html`<span class="block faint">${job.detail}</span>`}</p>
    <${Problem} problem=${problem} what="The explanation" />
    ${isWaiting && !form && !problem && html`<${Waiting} lines=${4} />`}
    ${isWaiting && form && html`
      <${Start} form=${form} job=${job} />
      <${Ahead} form=${form} />
      <${Sooner} changes=${form.counterfactuals} />
    `}
  <//>`;
}

function Start({ form, job }) {
  const now_s = useNow(1);
  const { expected_start_s: at, expected_start_low_s: low, expected_start_high_s: high } = form;
  if (at === null) return html`<p>When it starts is not known.</p>`;
  const place = job.position !== null && `, number ${job.position.toLocaleString("en")} of those that wait`;
  const soon = at <= now_s ? "now" : ago(at, now_s);
  return html`<div class="start">
    <p class="start-at">Expected to start <b>${soon}</b> <span class="faint">${moment(at, now_s)}${place}</span></p>
    ${low !== null && high !== null && html`<${StartBand} now_s=${now_s} low=${low} at=${at} high=${high} />`}
  </div>`;
}

/** The doubt as a bar from now to the latest start. */
function StartBand({ now_s, low, at, high }) {
  const end = Math.max(high - now_s, 1);
  const x = (moment_s) => `${Math.min(100, Math.max(0, (100 * (moment_s - now_s)) / end))}%`;
  const width = `${Math.max(1, Math.min(100, (100 * (high - Math.max(low, now_s))) / end))}%`;
  return html`<div class="band" role="img" aria-label=${`between ${brief(low - now_s)} and ${brief(high - now_s)} from now`}>
    <div class="band-track"><span class="band-doubt" style=${{ left: x(low), width }} /><span class="band-at" style=${{ left: x(at) }} /></div>
    <div class="band-words"><span>now</span><span>between ${brief(Math.max(0, low - now_s))} and ${brief(high - now_s)} from now</span></div>
  </div>`;
}

function Ahead({ form }) {
  if (!form.num_ahead) return html`<p>No job is ahead of it.</p>`;
  const more = form.num_ahead - form.ahead.length;
  return html`<h3>${plural(form.num_ahead, "job")} ahead of it</h3>
    <${PlainTable}
      caption="Jobs ahead"
      rows=${form.ahead}
      keyOf=${(job) => job.id}
      columns=${[
        { key: "name", title: "job", isHeader: true, cell: (job) => html`<a href=${to("job", job.id)}>${job.name}</a>` },
        { key: "user", title: "user", cell: (job) => job.user },
        { key: "queue", title: "queue", cell: (job) => job.queue },
        { key: "asks", title: "asks for", cell: (job) => job.asks || "CPUs" },
        { key: "state", title: "state", cell: (job) => html`<${State} state=${job.state} />` },
        { key: "left", title: "left", align: "right", cell: (job) => brief(job.remaining_s) },
      ]}
    />
    ${more > 0 && html`<p class="faint">and ${more.toLocaleString("en")} more</p>`}`;
}

function Sooner({ changes }) {
  if (!changes.length) return null;
  const signed = (value, words) => (value === null ? "" : `${value < 0 ? "−" : "+"}${words(Math.abs(value))}`);
  return html`<h3>What would change that</h3>
    <ul class="sooner">
      ${changes.map((each) => html`<li key=${each.change}>
        <b>${each.start_s === null || each.start_s < 1 ? "starts now" : `starts in ${duration(each.start_s)}`}</b> ${each.change}
        <span class="faint"> ${[signed(each.finish_delta_s, duration), signed(each.cost_delta_usd, usd)].filter(Boolean).join(", ")}</span>
      </li>`)}
    </ul>`;
}

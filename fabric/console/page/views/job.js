/* One job: what it is, why it waits or where it runs, its alternatives, what it used, its story and its output. */
import { part } from "../lib/api.js";
import { useCell } from "../lib/cell.js";
import { useNow } from "../lib/clock.js";
import { overview } from "../lib/events.js";
import { ago, duration, moment, percent, usd } from "../lib/format.js";
import { html } from "../lib/html.js";
import { useLoad } from "../lib/load.js";
import { to } from "../lib/route.js";
import { HOLDING, isOver, place } from "../lib/words.js";
import { Empty, Fact, Problem, State, Twin, Waiting } from "../parts/signs.js";
import { JobButtons, mayTouch } from "./job_buttons.js";
import { JobEfficiency } from "./job_efficiency.js";
import { JobLogs } from "./job_logs.js";
import { JobStory } from "./job_story.js";
import { JobWays } from "./job_ways.js";
import { JobWhy } from "./job_why.js";

export function Job({ name }) {
  const who = useCell(overview)?.who;
  const isOurs = (event) => !event.ids || event.ids.some((id) => id === job?.id);
  const { data: job, problem, reload } = useLoad(`/v1/jobs/${part(name)}`, { events: ["jobs"], every_s: 15, isOurs });
  // An explanation looks ahead over the whole queue: it is asked for anew when the job changes, and now and then while it waits.
  const isEnded = job && isOver(job.state);
  const pace = { every_s: isEnded ? 0 : 20, gap_ms: 5000, version: `${job?.state}.${job?.attempt}` };
  const { data: why, problem: whyProblem } = useLoad(job && `/v1/jobs/${part(job.id)}/explain`, pace);
  if (problem?.status === 404) return html`<${Empty} title="There is no such job">Or this token may not see it. <a href="#/queue">All jobs</a><//>`;
  if (problem && !job) return html`<${Problem} problem=${problem} what="This job" />`;
  if (!job) return html`<${Waiting} lines=${8} />`;
  const isMine = mayTouch(job, who);
  const ways = html`<${JobWays} job=${job} ways=${why?.ways} />`;
  return html`
    <header class="job-head">
      <p class="crumbs"><a href="#/queue">Jobs</a> /</p>
      <h1>${job.name}</h1>
      <${State} state=${job.state} />
      <span class="mono faint">${job.id}</span>
      <div class="aside" onClick=${() => setTimeout(reload, 300)}><${JobButtons} job=${job} who=${who} /></div>
    </header>
    <${Facts} job=${job} />
    <${Progress} job=${job} />
    <div class="columns">
      <div>
        <${JobWhy} job=${job} form=${why} problem=${whyProblem} />
        ${job.attempt > 0 && ways}
        ${job.flavor && html`<${JobEfficiency} job=${job} />`}
      </div>
      <div>
        ${job.attempt === 0 && ways}
        ${isMine && job.flavor && html`<${JobLogs} job=${job} />`}
        <${JobStory} job=${job} events=${why?.events} canSeeFacts=${isMine} />
      </div>
    </div>
  `;
}

function Facts({ job }) {
  const now_s = useNow(1);
  return html`<dl class="facts">
    <${Fact} name="user">${job.user}<//>
    <${Fact} name="queue"><a href=${`#/queue?queue=${part(job.queue)}`}>${job.queue}</a><//>
    <${Fact} name="class">${job.priority || "–"}<//>
    <${Fact} name="asks for">${job.asks || "CPUs"}<//>
    <${Fact} name="submitted"><span title=${moment(job.submitted_s, now_s)}>${ago(job.submitted_s, now_s)}</span><//>
    ${job.attempt > 0 && html`<${Attempt} job=${job} now_s=${now_s} />`}
    ${job.budget_usd !== null && html`<${Fact} name="budget">${usd(job.budget_usd)}<//>`}
    ${job.deadline_s !== null && html`<${Fact} name="deadline">${ago(job.deadline_s, now_s)}<//>`}
    ${job.exit_code !== null && html`<${Fact} name="exit code">${job.exit_code}<//>`}
    ${job.nodes.length > 0 && html`<${Fact} name="nodes"><span class="clip mono" title=${job.nodes.join(", ")}>${job.nodes.map((node) => node.slice(0, 8)).join(" ")}</span><//>`}
    ${job.after.length > 0 && html`<${Fact} name="after">${job.after.map((id) => html`<a key=${id} class="mono" href=${to("job", id)}>${id.slice(-8)}</a> `)}<//>`}
    ${Object.entries(job.tags).map(([key, value]) => html`<${Fact} key=${key} name=${key}>${value}<//>`)}
    ${job.command && html`<div class="fact whole"><dt>command</dt><dd class="mono">${job.command}</dd></div>`}
  </dl>`;
}

/** What its attempt holds and has cost, or its last one held. */
function Attempt({ job, now_s }) {
  const isOn = HOLDING.includes(job.state);
  const ran_s = job.started_s === null || job.state === "PENDING" ? null : (job.ended_s ?? now_s) - job.started_s;
  return html`
    <${Fact} name=${isOn ? "runs on" : "ran on"}>${job.flavor ? html`${place(job)} <${Twin} isTwin=${job.twin} />` : "–"}<//>
    <${Fact} name="attempt">${job.attempt}<//>
    <${Fact} name=${job.state === "PENDING" ? "last started" : "started"}><span title=${moment(job.started_s, now_s)}>${ago(job.started_s, now_s)}</span><//>
    <${Fact} name=${isOn ? "has run" : "ran"}>${duration(ran_s)}<//>
    <${Fact} name="cost">${usd(job.cost_usd)}<//>
  `;
}

function Progress({ job }) {
  if (job.done === null || !job.total) return null;
  const done = Math.min(1, job.done / job.total);
  const left = job.remaining_s !== null && HOLDING.includes(job.state) && `, about ${duration(job.remaining_s)} left`;
  return html`<div class="job-progress">
    <progress max="1" value=${done} aria-label="Progress" />
    <span><b>${percent(done)}</b> ${job.done.toLocaleString("en")} of ${job.total.toLocaleString("en")} ${job.unit || "steps"}${left}</span>
  </div>`;
}

/* One task: what it is, every way that a call of it could take now with what was measured there, its roofline. */
import { part } from "../lib/api.js";
import { bytes, count } from "../lib/format.js";
import { html } from "../lib/html.js";
import { useLoad } from "../lib/load.js";
import { to } from "../lib/route.js";
import { Roofline } from "../parts/roofline.js";
import { Empty, Fact, Problem, Section, Waiting } from "../parts/signs.js";
import { TaskWays } from "./task_ways.js";

const EVERY_S = 10;

export function Task({ name }) {
  const { data: task, problem } = useLoad(`/v1/console/tasks/${part(name)}`, { every_s: EVERY_S });
  if (problem?.status === 404) return html`<${Empty} title="There is no such task">Or none of its calls has ended yet. <a href="#/tasks">All tasks</a><//>`;
  if (!task) return problem ? html`<${Problem} problem=${problem} what="This task" />` : html`<${Waiting} lines=${8} />`;
  return html`
    <header class="job-head">
      <p class="crumbs"><a href="#/tasks">Tasks</a> /</p>
      <h1>${task.task}</h1>
      <span class="mono faint">${task.key.slice(task.task.length)}</span>
    </header>
    <${Facts} task=${task} />
    <${TaskWays} task=${task} />
    <${Section} id="roofline" title="Its profile">
      ${task.lines.length > 0
        ? html`<${Roofline} lines=${task.lines} of=${task.task} />`
        : html`<p>No roofline: ${task.lines_problem}.</p>`}
      ${task.notes.length > 0 && html`<ul class="hints">${task.notes.map((note) => html`<li key=${note}>${note}</li>`)}</ul>`}
    <//>
  `;
}

function Facts({ task }) {
  const others = task.versions.filter((version) => version.key !== task.key);
  const peak = Math.max(0, ...task.ways.map((way) => way.measured?.peak_memory_bytes ?? 0));
  return html`<dl class="facts">
    <${Fact} name="domain">${task.domain}<//>
    <${Fact} name="phase">${task.phase}<//>
    <${Fact} name="measured runs">${count(task.runs)}<//>
    <${Fact} name="figures are of">${task.max_bytes === null ? "arguments of unknown size" : `arguments up to ${bytes(task.max_bytes)}`}<//>
    ${peak > 0 && html`<${Fact} name="peak memory">${bytes(peak)}<//>`}
    ${task.cheapest && html`<${Fact} name="cheapest on">${task.cheapest}<//>`}
    ${task.fastest && html`<${Fact} name="fastest on">${task.fastest}<//>`}
    ${others.length > 0 && html`<${Fact} name="other versions">
      ${others.map((version) => html`<a key=${version.key} class="mono" href=${to("tasks", version.key)}>${version.key.slice(task.task.length)}</a> `)}
    <//>`}
    ${task.evidence.length > 0 && html`<div class="fact whole"><dt>taken for ${task.domain} because of</dt><dd>${task.evidence.join("; ")}</dd></div>`}
  </dl>`;
}

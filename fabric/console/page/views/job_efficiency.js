/* What a job asked for against what it used, and what to ask for the next time. */
import { part } from "../lib/api.js";
import { bytes, percent, significant, usd } from "../lib/format.js";
import { html } from "../lib/html.js";
import { useLoad } from "../lib/load.js";
import { Problem, Section } from "../parts/signs.js";

export function JobEfficiency({ job }) {
  const { data, problem } = useLoad(`/v1/jobs/${part(job.id)}/efficiency`, { every_s: job.ended_s === null ? 30 : 0 });
  if (problem?.status === 409 || problem?.status === 404) return null; // nothing was measured
  if (!data) return html`<${Problem} problem=${problem} what="What it used" />`;
  return html`<${Section} id="used" title="Asked for, and used">
    <div class="meters">
      <${Meter} name="CPU" used=${data.cpu_frac} words=${`${significant(data.cpus_used, 2)} of ${significant(data.cpus_asked)} CPUs`} />
      <${Meter} name="memory" used=${data.memory_frac} words=${`${bytes(data.memory_peak_bytes)} of ${bytes(data.memory_asked_bytes)} at its peak`} />
      <${Meter} name="GPU" used=${data.gpu_frac} words="of the time busy" />
      <${Meter}
        name="GPU memory"
        used=${data.gpu_memory_bytes ? data.gpu_memory_peak_bytes / data.gpu_memory_bytes : null}
        words=${`${bytes(data.gpu_memory_peak_bytes)} of ${bytes(data.gpu_memory_bytes)} at its peak`}
      />
    </div>
    <p>${usd(data.cost_usd)} paid, of it <b>${usd(data.wasted_usd)}</b> for what was not used.</p>
    ${data.hints.length > 0 && html`<ul class="hints">${data.hints.map((hint) => html`<li key=${hint}>${hint}</li>`)}</ul>`}
  <//>`;
}

function Meter({ name, used, words }) {
  if (used === null || used === undefined) return null;
  return html`<div class="meter">
    <span class="meter-name">${name}</span>
    <span class="meter-bar" role="img" aria-label=${`${name}: ${percent(used)} used`}><span class=${used > 1 ? "over" : ""} style=${{ width: `${Math.min(100, 100 * used)}%` }} /></span>
    <b>${percent(used)}</b> <span class="faint">${words}</span>
  </div>`;
}

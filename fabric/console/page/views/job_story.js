/* The facts about a job, newest first, as the journal has them. */
import { part } from "../lib/api.js";
import { useNow } from "../lib/clock.js";
import { brief, moment } from "../lib/format.js";
import { html } from "../lib/html.js";
import { useLoad } from "../lib/load.js";
import { Problem, Section, Waiting } from "../parts/signs.js";

/** `facts`: shown as they are; else those of `job` are asked for. */
export function JobStory({ job, facts }) {
  const isOurs = (event) => !event.ids || event.ids.includes(job?.id);
  const { data, problem } = useLoad(job ? `/v1/jobs/${part(job.id)}/story` : null, { events: ["jobs"], isOurs, gap_ms: 1000 });
  const now_s = useNow(1);
  const told = (facts ?? data?.facts)?.toReversed();
  if (!job && !told?.length) return null;
  return html`<${Section} id="story" title="Its story">
    <${Problem} problem=${problem} what="Its story" />
    ${!told && !problem && html`<${Waiting} lines=${5} />`}
    ${told && html`<ol class="story" reversed>
      ${told.map((fact, index) => html`<li key=${told.length - index}>
        <time title=${moment(fact.wall_s, now_s)}>${brief(now_s - fact.wall_s)} ago</time>
        <span class="story-text"><b>${fact.kind}</b> ${fact.text}</span>
        ${fact.by && html`<span class="faint">by ${fact.by}</span>`}
      </li>`)}
    </ol>`}
  <//>`;
}

/* What happened to a job, newest first: in words, or as the journal has recorded it. */
import { part } from "../lib/api.js";
import { useNow } from "../lib/clock.js";
import { brief, moment } from "../lib/format.js";
import { html, useState } from "../lib/html.js";
import { useLoad } from "../lib/load.js";
import { Switch } from "../parts/filters.js";
import { Problem, Section, Waiting } from "../parts/signs.js";

const MOST_CHARS = 400;

/** `events`: those of its explanation. `canSeeFacts`: the facts themselves are for its user and for who may operate. */
export function JobStory({ job, events, canSeeFacts }) {
  const [how, setHow] = useState("words");
  const isOurs = (event) => !event.ids || event.ids.includes(job.id);
  const { data, problem } = useLoad(how === "facts" ? `/v1/jobs/${part(job.id)}/story` : null, { events: ["jobs"], isOurs, gap_ms: 1000 });
  const now_s = useNow(1);
  const told = (how === "facts" ? data?.facts : events)?.toReversed();
  const aside = canSeeFacts && html`<${Switch} label="Show" value=${how} choices=${[["words", "In words"], ["facts", "As recorded"]]} onChange=${setHow} />`;
  return html`<${Section} id="story" title="Its story" aside=${aside}>
    <${Problem} problem=${problem} what="Its story" />
    ${!told && !problem && html`<${Waiting} lines=${5} />`}
    ${told && html`<ol class="story" reversed tabindex="0" aria-label="Its story, newest first">
      ${told.map((fact, index) => html`<li key=${told.length - index}>
        <time title=${moment(fact.wall_s, now_s)}>${brief(now_s - fact.wall_s)} ago</time>
        <span class="story-text">${fact.body === undefined ? fact.text || fact.kind : html`<b>${fact.kind}</b> <code>${recorded(fact.body)}</code>`}</span>
        ${fact.by && html`<span class="faint">${fact.by}</span>`}
      </li>`)}
    </ol>`}
  <//>`;
}

function recorded(body) {
  const text = JSON.stringify(body) ?? "";
  return text.length > MOST_CHARS ? `${text.slice(0, MOST_CHARS)} …` : text;
}

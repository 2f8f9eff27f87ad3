/* Cancel a job, and raise its priority: for its user, and for those who may operate. */
import { ask, part } from "../lib/api.js";
import { html, useState } from "../lib/html.js";
import { confirmed, order } from "../lib/order.js";
import { isOver } from "../lib/words.js";
import { OrderButton } from "../parts/button.js";

const has = (who, ...scopes) => Boolean(who) && scopes.some((scope) => who.scopes.includes(scope));
export const mayTouch = (job, who) => has(who, "operate", "admin") || (who?.user === job.user && has(who, "submit"));

export function JobButtons({ job, who, tabIndex, isShort }) {
  if (isOver(job.state) || !mayTouch(job, who)) return null;
  const path = `/v1/jobs/${part(job.id)}`;
  const name = isShort ? job.name : "this job";
  return html`<span class="row-orders">
    ${(job.state === "PENDING" || !isShort) && html`<${Priority} job=${job} tabIndex=${tabIndex} />`}
    <${OrderButton}
      isBad
      tabIndex=${tabIndex}
      path=${`${path}/cancel`}
      label=${`Cancel ${name}`}
      ask=${{
        title: `Cancel ${job.name}?`,
        text: job.state === "PENDING" ? "It leaves its queue." : "It is stopped, with its grace; what it has not saved is lost.",
        verb: "Cancel the job",
        isBad: true,
      }}
      done=${(answer) => outcome(job, answer)}
    >Cancel<//>
  </span>`;
}

/** Two may press at once: the second is told what the first one's order came to. */
function outcome(job, answer) {
  if (answer?.state === "CANCELLED" || !answer?.state) return `${job.name} is cancelled`;
  return isOver(answer.state) ? `${job.name} had already ended: ${answer.state.toLowerCase()}` : `${job.name} is being stopped`;
}

function Priority({ job, tabIndex }) {
  const [isAsking, setAsking] = useState(false);
  const press = async (event) => {
    event.stopPropagation();
    setAsking(true);
    const classes = await classNames();
    const priority = await confirmed({
      title: `Priority of ${job.name}`,
      text: `Its class is ${job.priority || "the policy's default"}.`,
      verb: "Change it",
      field: { label: "Priority class", value: "", choices: classes, hint: `${classes.length ? `The policy has: ${classes.join(", ")}. ` : ""}Empty: the one that the policy gives it` },
    });
    if (priority !== null) await order(`/v1/jobs/${part(job.id)}/priority`, { body: { priority }, done: (changed) => `${job.name} is now of class ${changed.priority || "–"}` });
    setAsking(false);
  };
  return html`<button type="button" class="button" tabindex=${tabIndex} disabled=${isAsking} aria-label=${`Priority of ${job.name}`} onClick=${press}>Priority</button>`;
}

/** The names under `priorityClasses` of the policy in force, which may be YAML as its user wrote it. The fabric checks what is chosen. */
async function classNames() {
  const { document: policy } = await ask("/v1/policy").catch(() => ({}));
  if (policy && typeof policy === "object") return (policy.spec?.priorityClasses ?? []).map((each) => each.name);
  const lines = (policy ?? "").split("\n");
  const begin = lines.findIndex((line) => /^\s*priorityClasses:/.test(line));
  if (begin < 0) return [];
  const depth = lines[begin].search(/\S/);
  const length = lines.slice(begin + 1).findIndex((line) => line.trim() && line.search(/\S/) <= depth && !line.trim().startsWith("-"));
  const block = lines.slice(begin + 1, length < 0 ? undefined : begin + 1 + length);
  return block.map((line) => /^\s*(?:-\s+)?name:\s*["']?([^"'\s#]+)/.exec(line)?.[1]).filter(Boolean);
}

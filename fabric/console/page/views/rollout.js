/* A rollout: how far the new version is, what its guards have measured and how sure that is, and the orders that change its way. */
import { part } from "../lib/api.js";
import { useNow } from "../lib/clock.js";
import { ago, brief, bytes, count, duration, moment, percent, significant, usd } from "../lib/format.js";
import { html } from "../lib/html.js";
import { SCOPE_HINTS } from "../lib/words.js";
import { OrderButton } from "../parts/button.js";
import { PlainTable } from "../parts/plain_table.js";
import { Section } from "../parts/signs.js";
import { isUnderWay, RolloutState } from "./models.js";

export function Rollout({ form, may }) {
  const now_s = useNow(1);
  return html`<${Section}
    id="rollout"
    title=${html`Rollout ${form.champion} → ${form.challenger} <${RolloutState} form=${form} />`}
    aside=${isUnderWay(form) && html`<${Orders} form=${form} may=${may} />`}
  >
    <p class="reason">${form.reason}<span class="block faint">began ${ago(form.began_s, now_s)}</span></p>
    <ol class="steps" aria-label="Steps">
      ${form.spec.steps.map((step) => html`<${Step} key=${step} step=${step} at=${form.percent} />`)}
    </ol>
    <${Guards} guards=${form.guards} />
    ${form.history.length > 0 && html`<h3>What happened</h3>
      <ol class="story">
        ${form.history.toReversed().map((one) => html`<li key=${one.at_s}>
          <time title=${moment(one.at_s, now_s)}>${brief(now_s - one.at_s)} ago</time>
          <span class="story-text"><b>${one.to.replaceAll("_", " ")}</b> ${one.reason}</span>
        </li>`)}
      </ol>`}
  <//>`;
}

function Orders({ form, may }) {
  const path = `/v1/rollouts/${part(form.model)}`;
  const shared = { isDisabled: !may, title: may ? undefined : SCOPE_HINTS.operate };
  const isPaused = form.state === "paused";
  return html`
    ${isPaused
      ? html`<${OrderButton} ...${shared} path=${`${path}/resume`} done="The rollout goes on">Resume<//>`
      : html`<${OrderButton} ...${shared} path=${`${path}/pause`} done="The rollout is paused">Pause<//>`}
    <${OrderButton} ...${shared} path=${`${path}/promote`} done=${`${form.challenger} answers everything`} ask=${promoting(form)}>Promote<//>
    <${OrderButton} ...${shared} isBad path=${`${path}/abort`} done=${`${form.champion} answers everything again`} ask=${aborting(form)}>Abort<//>
  `;
}

const promoting = (form) => ({
  title: `Promote ${form.challenger} now?`,
  text: "It answers every request from now on, whatever its guards have measured.",
  verb: "Promote it",
});

const aborting = (form) => ({
  title: "Abort the rollout?",
  text: `${form.champion} answers every request again, and ${form.challenger} is ended.`,
  verb: "Abort it",
  isBad: true,
});

function Step({ step, at }) {
  const how = step === at ? "at" : step < at ? "past" : "";
  return html`<li class=${how} aria-current=${how === "at" ? "step" : undefined}>${step} %</li>`;
}

function Guards({ guards }) {
  if (!guards.length) return html`<p class="faint">It has no guards: only time and errors hold it.</p>`;
  return html`<${PlainTable}
    caption="Guards"
    rows=${guards}
    keyOf=${(each) => each.guard}
    columns=${[
      { key: "guard", title: "guard", isHeader: true, cell: (each) => html`<code>${each.guard}</code>` },
      {
        key: "verdict", title: "verdict",
        cell: (each) => html`<span class=${`guard ${each.verdict}`}><span aria-hidden="true">${{ satisfied: "✓", violated: "✕" }[each.verdict] ?? "…"}</span> ${each.verdict}</span>`,
      },
      { key: "value", title: "challenger", align: "right", cell: (each) => figure(each.guard, each.value) },
      { key: "champion", title: "champion", align: "right", cell: (each) => figure(each.guard, each.champion) },
      { key: "bound", title: "allowed", align: "right", cell: (each) => figure(each.guard, each.bound) },
      { key: "samples", title: "samples", align: "right", cell: (each) => count(each.num_samples) },
      { key: "confidence", title: "confidence", cell: (each) => html`<${Confidence} each=${each} />` },
    ]}
  />`;
}

function Confidence({ each }) {
  if (!each.leans) return html`<span class="faint">–</span>`;
  const words = `${percent(each.confidence, 1)} ${each.leans}`;
  return html`<span class="progress" role="img" aria-label=${words}><span class=${each.leans} style=${{ width: `${100 * each.confidence}%` }} /></span>
    <span class="progress-text">${words}</span>`;
}

/** In the units of its guard: `latency_p95<=1.2x` is in milliseconds. */
function figure(guard, value) {
  const metric = guard.split("=")[0].replace(/[<>]+$/, "");
  if (metric.startsWith("latency_")) return duration(value === null ? null : value / 1000);
  if (metric === "error_rate" || metric === "agreement") return value === null ? "–" : `${significant(100 * value)} %`;
  if (metric === "cost_per_1000") return usd(value);
  return metric === "memory" ? bytes(value) : significant(value);
}

export function RollBack({ model, may }) {
  if (model.versions.length < 2) return null;
  const choices = model.versions.filter((version) => version.deployment !== model.default).map((version) => String(version.version));
  return html`<${OrderButton}
    isDisabled=${!may}
    title=${may ? undefined : SCOPE_HINTS.operate}
    path=${`/v1/rollouts/${part(model.name)}/rollback`}
    done=${(answer) => `Version ${answer.version} of ${model.name} answers`}
    ask=${{
      title: `Roll ${model.name} back?`,
      text: "What is under way is ended; else the version before this one answers again.",
      verb: "Roll back",
      isBad: true,
      field: { label: "To version (left out: the one before)", value: "", choices },
      bodyOf: (to) => ({ to }),
    }}
  >Roll back<//>`;
}

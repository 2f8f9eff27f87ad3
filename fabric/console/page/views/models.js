/* Models: every served model, who answers, where, how fast, and how its rollout stands. */
import { count, duration, percent, usd } from "../lib/format.js";
import { html } from "../lib/html.js";
import { useLoad } from "../lib/load.js";
import { to } from "../lib/route.js";
import { PlainTable } from "../parts/plain_table.js";
import { Empty, Problem, Section, Tier, Twin, Waiting } from "../parts/signs.js";
import { Split } from "../parts/split.js";
import { answering, latency_s, per1000, sumOf } from "./model_figures.js";

const EVERY_S = 5;

export function Models() {
  const { data, problem } = useLoad("/v1/models", { events: ["models"], every_s: EVERY_S });
  const { data: rollouts } = useLoad("/v1/rollouts", { events: ["models"], every_s: EVERY_S });
  const { data: usage } = useLoad("/v1/usage?by=model", { events: ["models"], every_s: 15 });
  if (!data) return problem ? html`<${Problem} problem=${problem} what="The list of models" />` : html`<${Waiting} lines=${6} />`;
  if (!data.models.length) return html`<h1 class="unseen">Models</h1><${Empty} title="No model is served yet">Serve one: <code>fabric model deploy model.onnx</code><//>`;
  const costOf = (name) => usage?.rows.find((row) => row.name === name);
  const rolloutOf = (name) => rollouts?.rollouts.find((each) => each.model === name);
  return html`<${Section} isMain id="models" title=${html`Models <span class="faint">${count(data.models.length)}</span>`}>
    <${PlainTable}
      caption="Models"
      rows=${data.models}
      keyOf=${(model) => model.name}
      columns=${[
        { key: "name", title: "model", isHeader: true, cell: (model) => html`<a href=${to("models", model.name)}>${model.name}</a>` },
        { key: "split", title: "answers", cell: (model) => html`<${Split} shares=${sharesOf(model)} />` },
        { key: "state", title: "state", cell: (model) => html`<${VersionState} version=${answering(model)} />` },
        { key: "place", title: "runs on", cell: (model) => html`<${Place} placement=${answering(model).placement} />` },
        { key: "replicas", title: "replicas", align: "right", cell: (model) => count(sumOf(model, () => 1)) },
        {
          key: "rate", title: "requests / s", align: "right",
          cell: (model) => count(sumOf(model, (replica) => replica.stats.requests_per_s ?? 0), 1),
        },
        { key: "p95", title: "p95", align: "right", cell: (model) => duration(latency_s(answering(model))) },
        { key: "errors", title: "errors", align: "right", cell: (model) => html`<${Errors} row=${costOf(model.name)} />` },
        {
          key: "cost", title: "$ / 1,000", align: "right",
          cell: (model) => usd(costOf(model.name)?.usd_per_1000 ?? per1000(answering(model))),
        },
        { key: "rollout", title: "rollout", cell: (model) => html`<${RolloutState} form=${rolloutOf(model.name)} />` },
      ]}
    />
  <//>`;
}

/** Of all requests since the fabric counts them. */
function Errors({ row }) {
  if (!row?.requests) return "–";
  return html`<span title=${`${count(row.errors)} of ${count(row.requests)} requests`}>${percent(row.errors / row.requests, 2)}</span>`;
}

/** Ten-thousandths by version. */
export function sharesOf(model) {
  return Object.keys(model.split ?? {}).length ? model.split : { [model.default]: 10_000 };
}

export function VersionState({ version }) {
  const sign = { ready: "●", deploying: "◐", failed: "✕", loading: "◐", ended: "⊘" }[version.state] ?? "○";
  return html`<span class=${`health ${version.state === "failed" ? "lost" : version.state}`} title=${version.why}><span aria-hidden="true">${sign}</span> ${version.state}</span>`;
}

export function Place({ placement }) {
  if (!placement.flavor) return "–";
  return html`<${Tier} tier=${placement.tier} /> ${placement.flavor} <${Twin} isTwin=${placement.is_twin} />`;
}

const RUNNING = ["starting", "shadow", "stepping", "paused"];
export const isUnderWay = (form) => RUNNING.includes(form?.state);

export function RolloutState({ form }) {
  if (!form) return html`<span class="faint">–</span>`;
  const words = form.state.replaceAll("_", " ");
  return html`<span class=${`rollout-state ${form.state}`} title=${form.reason}>${words}${isUnderWay(form) && html` <b>${form.percent} %</b>`}</span>`;
}

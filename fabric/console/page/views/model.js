/* One model: who answers how much, its rollout, and every version with its replicas. */
import { part } from "../lib/api.js";
import { useCell } from "../lib/cell.js";
import { useNow } from "../lib/clock.js";
import { overview } from "../lib/events.js";
import { ago, brief, count, duration, percent, usd } from "../lib/format.js";
import { html } from "../lib/html.js";
import { useLoad } from "../lib/load.js";
import { plural } from "../lib/words.js";
import { PlainTable } from "../parts/plain_table.js";
import { Empty, Fact, Problem, Section, Waiting } from "../parts/signs.js";
import { Split } from "../parts/split.js";
import { latency_s, per1000, rate, replicasByFlavor } from "./model_figures.js";
import { ModelRoofline } from "./model_roofline.js";
import { Place, sharesOf, VersionState } from "./models.js";
import { RollBack, Rollout } from "./rollout.js";

/** Replicas tell of their use in percent. */
function partOf(percents) {
  return percents === undefined || percents === null ? null : percents / 100;
}

const EVERY_S = 3;

export function Model({ name }) {
  const who = useCell(overview)?.who;
  const { data: model, problem } = useLoad(`/v1/models/${part(name)}`, { events: ["models"], every_s: EVERY_S });
  const { data: rollouts } = useLoad("/v1/rollouts", { events: ["models"], every_s: EVERY_S });
  if (problem?.status === 404) return html`<${Empty} title="There is no such model"><a href="#/models">All models</a><//>`;
  if (!model) return problem ? html`<${Problem} problem=${problem} what="This model" />` : html`<${Waiting} lines=${8} />`;
  const rollout = rollouts?.rollouts.find((each) => each.model === name);
  const owners = new Set(model.versions.map((version) => version.user));
  const may = Boolean(who) && (who.scopes.includes("operate") || who.scopes.includes("admin") || (owners.size === 1 && owners.has(who.user)));
  return html`
    <header class="job-head">
      <p class="crumbs"><a href="#/models">Models</a> /</p>
      <h1>${model.name}</h1>
      ${Object.entries(model.aliases).map(([alias, key]) => html`<span key=${alias} class="alias">${alias} → ${key}</span>`)}
      <div class="aside"><${RollBack} model=${model} may=${may} /></div>
    </header>
    <div class="split-line"><${Split} shares=${sharesOf(model)} isWide /></div>
    ${model.shadow && html`<p class="faint">${model.shadow.share / 100} % of what ${model.shadow.of} answers is copied to ${model.shadow.to}.</p>`}
    ${rollout && html`<${Rollout} form=${rollout} may=${may} />`}
    ${model.versions.map((version) => html`<${Version} key=${version.deployment} version=${version} />`)}
  `;
}

function Version({ version }) {
  const now_s = useNow(5);
  const replicas = Object.entries(replicasByFlavor(version)).map(([flavor, num]) => `${num} on ${flavor}`).join(", ");
  const title = html`Version ${version.version} <${VersionState} version=${version} />`;
  const aside = html`<span class="faint">by ${version.user}, ${ago(version.created_s, now_s)}</span>`;
  return html`<${Section} id=${`v${version.version}`} title=${title} aside=${aside}>
    ${version.why && html`<p class=${version.state === "failed" ? "bad" : "faint"}>${version.why}</p>`}
    <dl class="facts">
      <${Fact} name="runs on"><${Place} placement=${version.placement} /><//>
      <${Fact} name="replicas">${replicas || "none"}<//>
      <${Fact} name="requests / s">${count(rate(version), 1)}<//>
      <${Fact} name="p95">${duration(latency_s(version))}<//>
      <${Fact} name="$ / 1,000">${usd(per1000(version))}<//>
      <${Fact} name="platform">${version.platform || "–"}<//>
      ${version.placement.why && html`<div class="fact whole"><dt>why there</dt><dd>${version.placement.why}</dd></div>`}
    </dl>
    ${version.replicas.length > 0 && html`<${Replicas} version=${version} />`}
    <${ModelRoofline} version=${version} />
    ${version.decisions?.length > 0 && html`<h3>Scaling</h3>
      <ol class="story">
        ${version.decisions.slice(-5).toReversed().map((one) => html`<li key=${one.at}>
          <time>${brief(now_s - one.at)} ago</time><span class="story-text">${one.text}</span>
        </li>`)}
      </ol>`}
  <//>`;
}

function Replicas({ version }) {
  const errors = version.replicas.some((replica) => replica.stats.errors_per_s !== undefined);
  return html`<${PlainTable}
    caption=${`${plural(version.replicas.length, "replica")} of version ${version.version}`}
    rows=${version.replicas}
    keyOf=${(replica) => replica.id}
    columns=${[
      {
        key: "id", title: "replica", isHeader: true,
        cell: (replica) => html`<span class="mono">${replica.id}</span>${replica.is_bridge && html` <span class="faint">stands in</span>`}`,
      },
      { key: "at", title: "at", cell: (replica) => html`<span class="mono">${replica.address}</span>` },
      { key: "flavor", title: "flavor", cell: (replica) => replica.flavor || "this machine" },
      { key: "ongoing", title: "ongoing", align: "right", cell: (replica) => count(replica.stats.ongoing_requests, 1) },
      { key: "rate", title: "requests / s", align: "right", cell: (replica) => count(replica.stats.requests_per_s, 1) },
      {
        key: "p95", title: "p95", align: "right",
        cell: (replica) => duration(replica.stats.latency_p95_ms ? replica.stats.latency_p95_ms / 1000 : null),
      },
      ...(errors ? [{ key: "errors", title: "errors / s", align: "right", cell: (replica) => count(replica.stats.errors_per_s, 2) }] : []),
      { key: "cpu", title: "CPU", align: "right", cell: (replica) => percent(partOf(replica.stats.cpu_utilization)) },
      { key: "gpu", title: "GPU", align: "right", cell: (replica) => percent(partOf(replica.stats.gpu_utilization)) },
    ]}
  />`;
}

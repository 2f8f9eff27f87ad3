/* Pools: what every tier and flavor does now and cost, the last hour, and every node. */
import { useCell } from "../lib/cell.js";
import { overview } from "../lib/events.js";
import { count, percent, usd } from "../lib/format.js";
import { html } from "../lib/html.js";
import { useLoad } from "../lib/load.js";
import { HOLDING } from "../lib/words.js";
import { Empty, Figure, Waiting } from "../parts/signs.js";
import { UnitLegend } from "../parts/unit_bar.js";
import { LastHour } from "./last_hour.js";
import { NodeTable } from "./node_table.js";
import { TierCard } from "./tier_card.js";

export function Pools() {
  const form = useCell(overview);
  const { data: series } = useLoad("/v1/console/series?minutes=60", { every_s: 10 });
  const nodes = form?.tiers.reduce((sum, tier) => sum + tier.nodes, 0);
  if (nodes === 0) return html`<${NoNodes} tiers=${form.tiers} />`;
  return html`
    <h1 class="unseen">Pools</h1>
    ${form ? html`<${Tiers} form=${form} nodes=${nodes} series=${series} />` : html`<${Waiting} lines=${8} />`}
    <${NodeTable} key="nodes" tiers=${form?.tiers ?? []} />
  `;
}

function Tiers({ form, nodes, series }) {
  return html`
    <${Totals} form=${form} nodes=${nodes} />
    <div class="tiers">
      ${form.tiers.map((tier) => html`<${TierCard} key=${tier.tier} tier=${tier} series=${series} />`)}
    </div>
    <${UnitLegend} />
    <${LastHour} series=${series} tiers=${form.tiers} />
  `;
}

function Totals({ form, nodes }) {
  const holding = HOLDING.reduce((sum, state) => sum + (form.jobs[state] ?? 0), 0);
  const flavors = form.tiers.flatMap((tier) => tier.flavors);
  const ready = flavors.reduce((sum, flavor) => sum + flavor.ready, 0);
  const idle = form.usd_per_h ? form.idle_usd_per_h / form.usd_per_h : null;
  return html`<dl class="figures">
    <${Figure} name="Costs now" value=${html`${usd(form.usd_per_h)}<small> / h</small>`} />
    <${Figure} name="of it idle" value=${html`${usd(form.idle_usd_per_h)}<small> / h</small>`} note=${percent(idle)} isBad=${idle > 0.5} />
    <${Figure} name="Nodes ready" value=${html`${count(ready)}<small> of ${count(nodes)}</small>`} isBad=${ready < nodes} />
    <${Figure} name="Jobs running" value=${count(holding)} />
    <${Figure} name="Jobs waiting" value=${count(form.jobs.PENDING ?? 0)} />
  </dl>`;
}

function NoNodes({ tiers }) {
  const problems = tiers.filter((tier) => tier.problem);
  return html`<h1 class="unseen">Pools</h1>
    <${Empty} title="No node has joined a tier yet">
      ${problems.length
        ? problems.map((tier) => html`<span class="block">${tier.tier} does not answer: ${tier.problem}</span>`)
        : html`Start one with <code>ray start --labels "$(fabric node labels)"</code>, or launch a cluster with <code>fabric up lab.yaml</code>.`}
    <//>`;
}

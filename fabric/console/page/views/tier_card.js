/* One tier: its dollars, what its units do, a line of the last hour, and a row for each flavor. */
import { count, percent, usd } from "../lib/format.js";
import { html } from "../lib/html.js";
import { plural } from "../lib/words.js";
import { Chart } from "../parts/chart.js";
import { Tier, Twin } from "../parts/signs.js";
import { UnitBar, USES } from "../parts/unit_bar.js";

export function TierCard({ tier, series }) {
  const sum = Object.fromEntries([["units"], ...USES].map(([key]) => [key, tier.flavors.reduce((all, each) => all + (each[key] ?? 0), 0)]));
  const idle = tier.usd_per_h ? tier.idle_usd_per_h / tier.usd_per_h : null;
  return html`<section class="card" aria-label=${`Tier ${tier.tier}`}>
    <header class="card-head">
      <h2><${Tier} tier=${tier.tier} /></h2>
      <span class="faint">${plural(tier.nodes, "node")}</span>
      <span class="card-cost"><b>${usd(tier.usd_per_h)}</b> / h</span>
    </header>
    ${tier.problem && html`<p class="problem" role="alert">Its pool does not answer: ${tier.problem}</p>`}
    <${UnitBar} of=${sum} isWide />
    <p class="card-idle">
      <span>${count(sum.leased + sum.used, 1)} of ${count(sum.units, 1)} in use</span>
      <span>idle <b>${usd(tier.idle_usd_per_h)}</b> / h${idle !== null && ` · ${percent(idle)}`}</span>
    </p>
    <${Spark} name=${tier.tier} series=${series?.tiers[tier.tier]} times=${series?.times_s} />
    <${Flavors} flavors=${tier.flavors} />
  </section>`;
}

function Spark({ name, series, times }) {
  if (!series) return html`<div class="spark-space" />`;
  const isGpu = series.gpu_frac.some((each) => each !== null);
  const busy = isGpu ? series.gpu_frac : series.cpu_frac;
  const held = series.leased_frac.map((each, index) => (each === null ? null : Math.min(1, each + (series.used_frac[index] ?? 0))));
  const kind = isGpu ? "GPU" : "CPU";
  return html`<div class="spark-line">
    <${Chart}
      isSpark
      height=${40}
      most=${1}
      data=${[times, held, busy]}
      series=${[{ name: "in use", colour: "line-strong", isFilled: true }, { name: kind, colour: name, isFilled: false }]}
      format=${percent}
      label=${`${name}, last hour: ${kind} busy ${percent(busy.at(-1))}, in use ${percent(held.at(-1))}`}
    />
    <p><b>${percent(busy.at(-1))}</b> ${kind} busy<br /><b>${percent(held.at(-1))}</b> in use</p>
  </div>`;
}

function Flavors({ flavors }) {
  return html`<table class="flavors">
    <thead>
      <tr>
        <th scope="col">flavor</th>
        <th scope="col" class="right">nodes</th>
        <th scope="col" class="right">in use</th>
        <th scope="col"><span class="unseen">units</span></th>
        <th scope="col" class="right">$ / h</th>
        <th scope="col" class="right">idle</th>
      </tr>
    </thead>
    <tbody>
      ${flavors.map((flavor) => html`<tr key=${flavor.flavor}>
        <th scope="row">${flavor.flavor} <${Twin} isTwin=${flavor.twin} /></th>
        <td class="right"><${NumNodes} flavor=${flavor} /></td>
        <td class="right">${count(flavor.leased + flavor.used, 1)}<span class="faint">/${count(flavor.units, 1)}</span></td>
        <td class="units-cell"><${UnitBar} of=${flavor} /></td>
        <td class="right">${usd(flavor.usd_per_h)}</td>
        <td class="right">${usd(flavor.idle_usd_per_h)}</td>
      </tr>`)}
    </tbody>
  </table>`;
}

/** `59/60`: ready of all, where some are not; `+3`: beside them asleep. */
function NumNodes({ flavor }) {
  const { ready, nodes, asleep } = flavor;
  const some = ready < nodes ? html`<span class="bad" title="ready of all">${count(ready)}/${count(nodes)}</span>` : count(nodes);
  return html`${some}${asleep > 0 && html` <span class="faint" title=${`${count(asleep)} asleep: work would start them`}>+${count(asleep)}</span>`}`;
}

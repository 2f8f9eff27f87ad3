/* The last hour as two charts: how busy each tier was, and what it cost, with what of it was idle. */
import { percent, usd } from "../lib/format.js";
import { html, useMemo, useState } from "../lib/html.js";
import { Chart } from "../parts/chart.js";
import { tierClass } from "../parts/signs.js";
import { Switch } from "../parts/filters.js";

const HEIGHT = 168;
const KINDS = [
  ["gpu_frac", "GPU"],
  ["cpu_frac", "CPU"],
  ["leased_frac", "Held by jobs"],
];
const DASHES = { warm: [6, 3], cold: [2, 3] };

export function LastHour({ series, tiers }) {
  const [kind, setKind] = useState("gpu_frac");
  const names = tiers.map((tier) => tier.tier);
  return html`<div class="charts">
    <section class="card" aria-labelledby="busy">
      <header class="card-head">
        <h2 id="busy">Utilisation, last hour</h2>
        <${Switch} label="Of what" value=${kind} choices=${KINDS} onChange=${setKind} />
      </header>
      <${Busy} series=${series} names=${names} kind=${kind} />
    </section>
    <section class="card" aria-labelledby="dollars">
      <header class="card-head"><h2 id="dollars">Dollars per hour, last hour</h2></header>
      <${Dollars} series=${series} names=${names} />
    </section>
  </div>`;
}

function Busy({ series, names, kind }) {
  const shown = names.filter((name) => series?.tiers[name]?.[kind]?.some((each) => each !== null));
  const data = useMemo(() => series && [series.times_s, ...shown.map((name) => series.tiers[name][kind])], [series, kind]);
  if (!series) return html`<div class="chart-space" />`;
  if (!shown.length) return html`<p class="chart-space faint">Nothing of this kind was measured in the last hour.</p>`;
  const lines = shown.map((name) => ({ name, colour: tierClass(name), dash: DASHES[name] }));
  const words = shown.map((name) => `${name} ${percent(series.tiers[name][kind].at(-1))}`).join(", ");
  return html`<${Chart} data=${data} series=${lines} height=${HEIGHT} most=${1} format=${percent} label=${`Now: ${words}`} />`;
}

function Dollars({ series, names }) {
  const data = useMemo(() => series && [series.times_s, sums(series, names, "usd_per_h"), sums(series, names, "idle_usd_per_h")], [series]);
  if (!series) return html`<div class="chart-space" />`;
  const lines = [{ name: "all", colour: "ink" }, { name: "idle", colour: "idle-line", isFilled: true, dash: [4, 3] }];
  const label = `Now ${usd(data[1].at(-1))} per hour, of it idle ${usd(data[2].at(-1))}`;
  return html`<${Chart} data=${data} series=${lines} height=${HEIGHT} format=${usd} label=${label} />`;
}

/** Of all tiers; null where none is known. */
function sums(series, names, key) {
  return series.times_s.map((_, index) => {
    const known = names.map((name) => series.tiers[name]?.[key]?.[index]).filter((each) => typeof each === "number");
    return known.length ? known.reduce((all, each) => all + each, 0) : null;
  });
}

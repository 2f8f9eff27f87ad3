/* The roofline of a served model: what its file says of one request, under the roofs of the flavors that it could run on. */
import { useCell } from "../lib/cell.js";
import { overview } from "../lib/events.js";
import { html, useMemo } from "../lib/html.js";
import { Roofline } from "../parts/roofline.js";

export function ModelRoofline({ version }) {
  const tiers = useCell(overview)?.tiers ?? [];
  const lines = useMemo(() => linesOf(version.placement, tiers.flatMap((tier) => tier.flavors)), [version.deployment, tiers.length]);
  return lines.length > 0 && html`<h3>One request, under the roofs of the flavors</h3><${Roofline} lines=${lines} of=${`version ${version.version}`} />`;
}

function linesOf({ prior, places }, flavors) {
  const cost = prior?.cost;
  if (!cost?.flops || !cost.moved_bytes) return [];
  return (places ?? []).flatMap((place) => {
    const flavor = flavors.find((each) => each.flavor === place.flavor);
    const peak = flavor?.peak_flops?.[cost.dtype];
    // What ran on a twin says nothing of the hardware that it stands for.
    if (!peak || !flavor.bandwidth_bytes_per_s || !place.p95_ms || place.twin) return [];
    const run_s = place.p95_ms / 1000;
    return [{
      name: place.flavor, tier: place.tier, peak_flops: peak, bandwidth: flavor.bandwidth_bytes_per_s, intensity: cost.flops / cost.moved_bytes,
      reached_flops: cost.flops / run_s, is_measured: place.source === "measured", run_s,
    }];
  });
}

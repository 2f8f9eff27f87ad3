/* Pure: figures of a model, from what its replicas tell of the last while. */

/** The version that answers who names none, else the newest. */
export const answering = (model) => model.versions.find((version) => version.deployment === model.default) ?? model.versions[0];

export function sumOf(model, figure) {
  return model.versions.flatMap((version) => version.replicas).reduce((sum, replica) => sum + figure(replica), 0);
}

/** Of the slowest replica. */
export function latency_s(version) {
  const known = version.replicas.map((replica) => replica.stats.latency_p95_ms).filter(Boolean);
  return known.length ? Math.max(...known) / 1000 : null;
}

export function rate(version) {
  return version.replicas.reduce((sum, replica) => sum + (replica.stats.requests_per_s ?? 0), 0);
}

/** Dollars of 1,000 requests at the present rate, by the price of the place where it runs. */
export function per1000(version) {
  const requests = rate(version) * 3600;
  const price = version.placement.places?.find((place) => place.flavor === version.placement.flavor)?.usd_per_h;
  if (!requests || price === null || price === undefined) return null;
  return (1000 * price * version.replicas.length) / requests;
}

/** `{warm: 2, cold: 1}` of the replicas. */
export function replicasByFlavor(version) {
  const counts = {};
  for (const replica of version.replicas) {
    const where = replica.flavor || "this machine";
    counts[where] = (counts[where] ?? 0) + 1;
  }
  return counts;
}

/* What codes mean in words, and which sign and class of colour a state has. A sign stands beside every colour: nobody needs to tell
   the colours apart. The reasons are those of `fabric/job_form.py`; a test holds both together. */

export const WHY = {
  Resources: "nothing that may run it has room",
  Priority: "others go first",
  QuotaExhausted: "its queue holds all that it may",
  UserLimit: "its user holds all that one user may",
  Dependency: "a job that it comes after has not succeeded yet",
  DependencyFailed: "a job that it comes after did not succeed",
  BudgetExceeded: "its budget does not cover another attempt",
  BadConstraints: "nothing in this fabric can run it",
  BackOff: "waits before it is tried again",
  Planning: "a better plan is being made",
  Reserved: "what is free is kept for a job before it",
  Waking: "its nodes are being started",
  Timeout: "an attempt ran longer than it may",
  OutOfMemory: "it ran out of memory, with more of it too",
  NodeLost: "its nodes were lost too often",
  Error: "its program failed",
  Cancelled: "it was cancelled",
};

export const STATES = {
  PENDING: { sign: "○", name: "waiting" },
  ADMITTED: { sign: "◐", name: "starting" },
  RUNNING: { sign: "▶", name: "running" },
  PREEMPTING: { sign: "↺", name: "preempting" },
  SUCCEEDED: { sign: "✓", name: "succeeded" },
  FAILED: { sign: "✕", name: "failed" },
  CANCELLED: { sign: "⊘", name: "cancelled" },
};

export const WAITING = ["PENDING"];
export const HOLDING = ["ADMITTED", "RUNNING", "PREEMPTING"];
export const isOver = (state) => !WAITING.includes(state) && !HOLDING.includes(state);

/** Of a bar in the timeline: how an attempt went. `pattern` tells them apart without colour. */
export const BARS = {
  running: { name: "running", pattern: "plain" },
  ok: { name: "succeeded", pattern: "plain" },
  error: { name: "failed", pattern: "rising" },
  oom: { name: "out of memory", pattern: "cross" },
  timeout: { name: "timed out", pattern: "falling" },
  preempted: { name: "preempted", pattern: "falling" },
  moved: { name: "moved", pattern: "plain" },
  lost: { name: "node lost", pattern: "cross" },
  cancelled: { name: "cancelled", pattern: "plain" },
  mixed: { name: "several", pattern: "plain" },
};

export const MARKS = {
  preempted: { sign: "▼", name: "preempted" },
  failed: { sign: "✕", name: "failed" },
  moved: { sign: "➜", name: "moved" },
  lost: { sign: "◆", name: "node lost" },
};

export const SCOPE_HINTS = {
  operate: "needs a token with the scope operate: fabric console --scope operate",
  admin: "needs a token with the scope admin: fabric console --scope admin",
};

/** `A100:4x2` of what a job holds, else what it asks for. */
export function place(job) {
  if (!job.flavor) return job.asks || "CPUs";
  const units = job.units / Math.max(1, job.num_bundles);
  return `${job.flavor}:${Number(units.toFixed(2))}${job.num_bundles > 1 ? `×${job.num_bundles}` : ""}`;
}

/** Why it stands where it stands, in a line. */
export function reason(job) {
  if (!job.why) return "";
  return job.detail || WHY[job.why] || "";
}

export const plural = (number, one, many = `${one}s`) => `${number.toLocaleString("en")} ${number === 1 ? one : many}`;

/** The names of a tier's flavors, or of all. */
export function flavorsOf(tiers, tier) {
  return [...new Set(tiers.filter((each) => !tier || each.tier === tier).flatMap((each) => each.flavors.map((flavor) => flavor.flavor)))];
}

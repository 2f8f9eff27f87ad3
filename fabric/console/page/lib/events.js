/* The stream of changes (`/v1/console/events`): one for the page, opened again whenever it breaks.
   `EventSource` cannot send the token in a header, so the stream is read by `fetch`. */
import { ApiError, fetched } from "./api.js";
import { cell } from "./cell.js";
import { hear } from "./clock.js";
import { useEffect } from "./html.js";
import { refuse, session } from "./session.js";

const SILENT_MS = 25_000; // the fabric beats every 10 s
const RETRY_MS = [250, 500, 1000, 2000, 3000];

/** `{state: "connecting" | "live" | "gone", since: performance.now() of the last change, why}`; `why`: what the fabric said, or "". */
export const connection = cell({ state: "connecting", since: performance.now(), why: "" });
/** The last `overview`, or null. */
export const overview = cell(null);

const listeners = new Map();

export function onEvent(kind, listener) {
  if (!listeners.has(kind)) listeners.set(kind, new Set());
  listeners.get(kind).add(listener);
  return () => listeners.get(kind).delete(listener);
}

export function useEvent(kind, listener, inputs = []) {
  useEffect(() => onEvent(kind, listener), [kind, ...inputs]);
}

function tell(kind, data) {
  hear(data.now_s);
  if (kind === "overview") overview.set(data);
  for (const listener of [...(listeners.get(kind) ?? [])]) listener(data);
}

function turn(state, why = "") {
  const before = connection.get();
  if (before.state !== state || before.why !== why) connection.set({ state, why, since: before.state === state ? before.since : performance.now() });
}

/** Reads until the stream ends or falls silent. */
async function read(stopped) {
  const quit = new AbortController();
  let timer;
  const beat = () => {
    clearTimeout(timer);
    timer = setTimeout(() => quit.abort(), SILENT_MS);
  };
  stopped.addEventListener("abort", () => quit.abort());
  beat();
  try {
    const response = await fetched("/v1/console/events", { signal: quit.signal });
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    for (let text = ""; ; ) {
      const { value, done } = await reader.read();
      if (done) return;
      beat();
      turn("live");
      const blocks = (text + value).replaceAll("\r\n", "\n").split("\n\n");
      text = blocks.pop();
      blocks.forEach(dispatch);
    }
  } finally {
    clearTimeout(timer);
  }
}

function dispatch(block) {
  let kind = "message";
  const data = [];
  for (const line of block.split("\n")) {
    if (line.startsWith("event:")) kind = line.slice(6).trim();
    if (line.startsWith("data:")) data.push(line.slice(5).trim());
  }
  if (data.length) tell(kind, JSON.parse(data.join("\n")));
}

/** Follows the stream as long as there is a token. Returns what stops it. */
export function followEvents() {
  const stop = new AbortController();
  (async () => {
    for (let failures = 0; !stop.signal.aborted && session.get().token; failures++) {
      const began = performance.now();
      let why = "";
      try {
        await read(stop.signal);
      } catch (error) {
        if (error instanceof ApiError && error.status === 401) return;
        if (error instanceof ApiError && error.status === 403) return void refuse(session.get().token, `${error.message}.`);
        if (error instanceof ApiError && error.status) why = error.message;
      }
      if (stop.signal.aborted) return;
      if (performance.now() - began > 5000) failures = 0;
      // One broken stream is nothing to speak of; the second in a row is.
      if (failures > 0 || connection.get().state === "connecting") turn("gone", why);
      await new Promise((resolve) => setTimeout(resolve, RETRY_MS[Math.min(failures, RETRY_MS.length - 1)]));
    }
  })();
  return () => stop.abort();
}

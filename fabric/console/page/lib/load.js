/* `useLoad(path)`: what stands at a path, loaded anew when it may have changed. The old answer stays until the new one is there,
   so that nothing jumps; a fabric that is gone leaves it standing, too (the banner tells). */
import { ask } from "./api.js";
import { onEvent } from "./events.js";
import { useCallback, useEffect, useRef, useState } from "./html.js";

const LEAST_GAP_MS = 500;

/** Calls `work` at once, then at most every `gap_ms`; while the page is hidden it waits until it is seen. */
export function paced(work, gap_ms = LEAST_GAP_MS) {
  let last = -Infinity;
  let timer = null;
  const run = () => {
    timer = null;
    if (document.hidden) return document.addEventListener("visibilitychange", call, { once: true });
    last = performance.now();
    work();
  };
  const call = () => {
    timer ??= setTimeout(run, Math.max(0, last + gap_ms - performance.now()));
  };
  return { call, stop: () => clearTimeout(timer) };
}

/** `path`: null loads nothing. `events`: kinds that call for loading anew; `isOurs(event)`: whether this one does. `version`: where it
    changes, the same path is loaded anew. `isKept`: what another path gave stays until this one's answer is there. */
export function useLoad(path, { events = [], every_s = 0, gap_ms = LEAST_GAP_MS, isOurs, version = "", isKept = false } = {}) {
  const [found, setFound] = useState({ path: null, data: null, problem: null });
  const again = useRef(() => {});
  const ours = useRef(isOurs);
  ours.current = isOurs;
  useEffect(() => {
    if (!path) return undefined;
    let quit = new AbortController();
    const load = async () => {
      quit.abort();
      quit = new AbortController();
      const { signal } = quit;
      try {
        const data = await ask(path, { signal });
        if (!signal.aborted) setFound({ path, data, problem: null });
      } catch (problem) {
        if (signal.aborted || problem.name === "AbortError") return;
        setFound((before) => ({ path, data: before.path === path || isKept ? before.data : null, problem }));
      }
    };
    const pace = paced(load, gap_ms);
    again.current = load;
    pace.call(); // the stream's `hello`, which may come right behind it, does not ask a second time at once
    const ends = ["hello", ...events].map((kind) => onEvent(kind, (event) => (kind === "hello" || !ours.current || ours.current(event)) && pace.call()));
    const timer = every_s ? setInterval(pace.call, every_s * 1000) : null;
    return () => {
      ends.forEach((end) => end());
      clearInterval(timer);
      pace.stop();
      quit.abort();
    };
  }, [path, version]);
  const reload = useCallback(() => again.current(), []);
  const isHere = found.path === path || (isKept && path);
  return { data: isHere ? found.data : null, problem: isHere ? found.problem : null, reload };
}

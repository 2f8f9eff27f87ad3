/* A value that several components follow: `cell.get()`, `cell.set(next)`, and `useCell(cell)` inside a component. */
import { useEffect, useState } from "./html.js";

export function cell(value) {
  const followers = new Set();
  return {
    get: () => value,
    set(next) {
      if (Object.is(next, value)) return;
      value = next;
      for (const follow of [...followers]) follow(value);
    },
    follow(follower) {
      followers.add(follower);
      return () => followers.delete(follower);
    },
  };
}

export function useCell(followed) {
  const [, redraw] = useState(0);
  useEffect(() => {
    const again = () => redraw((count) => count + 1);
    again(); // it may have changed between drawing and now
    return followed.follow(again);
  }, [followed]);
  return followed.get();
}

/* A view whose code comes when it is first shown, or a little before: the first view shall not wait for the others'. */
import { html, useEffect, useState } from "../lib/html.js";
import { Waiting } from "./signs.js";

const AGAIN_MS = 2_000;

/** The component `name` of the module that `load` brings; `bring` does so beforehand. */
export function later(load, name) {
  let View = null;
  let coming = null;
  const bring = () => (coming ??= load().then((module) => (View = module[name]), () => (coming = null)));
  function Later(props) {
    const [isThere, setThere] = useState(View !== null);
    useEffect(() => {
      if (isThere) return undefined;
      let timer = 0;
      const look = () => bring().then(() => (View ? setThere(true) : (timer = setTimeout(look, AGAIN_MS)))); // the console is away
      look();
      return () => clearTimeout(timer);
    }, []);
    return isThere ? html`<${View} ...${props} />` : html`<${Waiting} lines=${8} />`;
  }
  Later.bring = bring;
  return Later;
}

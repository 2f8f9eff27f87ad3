/* Asks the fabric: `await ask("/v1/…")` gives the JSON of the answer, or throws an `ApiError` with the fabric's own words. */
import { hear } from "./clock.js";
import { isNew, refuse, session } from "./session.js";

const NEW_TOKEN_MS = 700;

export class ApiError extends Error {
  constructor(status, { code = "", message = "", hint = "" } = {}) {
    super(message || (status ? `the fabric answered ${status}` : "the fabric does not answer"));
    Object.assign(this, { status, code, hint });
  }

  /** Nothing answered, or what answered says that it is not up. */
  get isGone() {
    return this.status === 0 || this.status === 502 || this.status === 503 || this.status === 504;
  }
}

/** The bare response, already known to be good. `body`: sent as JSON. */
export async function fetched(path, { method = "GET", body, signal } = {}) {
  const { token } = session.get();
  const headers = token ? { authorization: `Bearer ${token}` } : {};
  if (body !== undefined) headers["content-type"] = "application/json";
  const sent = { method, headers, signal, body: body === undefined ? undefined : JSON.stringify(body), cache: "no-store", credentials: "omit" };
  let response = await reached(path, sent);
  if (response.status === 401 && isNew()) {
    await new Promise((resolve) => setTimeout(resolve, NEW_TOKEN_MS)); // made a moment ago, it is not known everywhere yet
    response = await reached(path, sent);
  }
  if (response.status === 401) refuse(token, "This token opens nothing here: it is wrong, was revoked, or has expired.");
  if (!response.ok) throw new ApiError(response.status, await response.json().catch(() => ({})));
  return response;
}

async function reached(path, sent) {
  try {
    return await fetch(path, sent);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError(0);
  }
}

export async function ask(path, options) {
  const began = performance.now();
  const response = await fetched(path, options);
  const took_ms = performance.now() - began;
  if (response.status === 204) return null;
  const answer = await response.json();
  hear(answer?.now_s, took_ms);
  return answer;
}

/** `/path?a=1` of `{a: 1, b: "", c: null}`: what is empty is left out. */
export function query(path, values) {
  const given = Object.entries(values).filter(([, value]) => value !== "" && value !== null && value !== undefined);
  return given.length ? `${path}?${new URLSearchParams(given)}` : path;
}

export const part = encodeURIComponent;

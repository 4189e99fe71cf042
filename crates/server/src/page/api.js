// The server's API. The token, if there is one, comes in the part of the address that browsers do not send.

import { element } from "./ui.js";

const TOKEN = "photomend.token";

let token = null;
const given = new URLSearchParams(location.hash.slice(1)).get("token");
try {
  if (given) sessionStorage.setItem(TOKEN, given);
  token = sessionStorage.getItem(TOKEN);
} catch {
  token = given;
}
if (given) history.replaceState(null, "", location.pathname);

/** A failure with the server's own sentence. */
export class Problem extends Error {
  constructor(status, message) {
    super(message);
    this.status = status;
  }
}

export function setToken(text) {
  token = text;
  try {
    sessionStorage.setItem(TOKEN, text);
  } catch {
    // Then it lasts as long as the page.
  }
}

export const hasToken = () => Boolean(token);

function headers(more = {}) {
  return token ? { ...more, Authorization: `Bearer ${token}` } : more;
}

async function problemOf(response) {
  const body = await response.json().catch(() => null);
  return new Problem(response.status, body?.error?.message ?? `the server answered ${response.status}`);
}

async function call(path, { json, ...options } = {}) {
  if (json !== undefined) {
    options.body = JSON.stringify(json);
    options.headers = { "Content-Type": "application/json" };
  }
  options.headers = headers(options.headers);
  let response;
  try {
    response = await fetch(path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Problem(0, "The server does not answer. Is photomend serve still running?");
  }
  if (!response.ok) throw await problemOf(response);
  return response;
}

const jsonOf = async (path, options) => (await call(path, options)).json();

export const about = () => jsonOf("/api/about");
export const pictures = async () => (await jsonOf("/api/pictures")).pictures;
export const picture = (id) => jsonOf(`/api/pictures/${id}`);
export const removePicture = (id) => call(`/api/pictures/${id}`, { method: "DELETE" });
export const command = (id, choices) => jsonOf(`/api/pictures/${id}/command`, { method: "POST", json: choices });
export const submit = (id, choices) => jsonOf(`/api/pictures/${id}/jobs`, { method: "POST", json: choices });
export const cancel = (job) => jsonOf(`/api/jobs/${job}/cancel`, { method: "POST" });

export async function blob(path, signal) {
  return (await call(path, { signal })).blob();
}

export async function bytes(path, signal) {
  return new Uint8Array(await (await call(path, { signal })).arrayBuffer());
}

export const putMask = (id, body) => jsonOf(`/api/pictures/${id}/mask`, { method: "PUT", body });
export const removeMask = (id) => call(`/api/pictures/${id}/mask`, { method: "DELETE" });

/** Uploads a file and tells how far it is, 0 to 1. */
export function upload(file, progress) {
  return new Promise((resolve, reject) => {
    const request = new XMLHttpRequest();
    request.open("POST", `/api/pictures?name=${encodeURIComponent(file.name || "pasted.png")}`);
    for (const [name, value] of Object.entries(headers())) request.setRequestHeader(name, value);
    request.responseType = "json";
    request.upload.onprogress = ({ loaded, total }) => progress(total ? loaded / total : 0);
    request.onerror = () => reject(new Problem(0, "The upload was cut off."));
    request.onload = () => {
      if (request.status === 201) resolve(request.response);
      else reject(new Problem(request.status, request.response?.error?.message ?? "The upload failed."));
    };
    request.send(file);
  });
}

/** True if nothing will change about a job any more. */
export const hasEnded = ({ state }) => state !== "queued" && state !== "running";

/** Calls `tell` with every status of a job until it has ended. */
export async function watch(job, tell, signal) {
  for (let wait = 500; !signal.aborted; wait = Math.min(2 * wait, 8000)) {
    try {
      const response = await call(`/api/jobs/${job}/events`, { signal });
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      for (let text = ""; ; ) {
        const { value, done } = await reader.read();
        if (done) break;
        text += value;
        const events = text.split("\n\n");
        text = events.pop();
        for (const event of events) {
          const data = event.split("\n").find((line) => line.startsWith("data:"));
          if (!data) continue;
          const status = JSON.parse(data.slice(5));
          tell(status);
          wait = 500;
          if (hasEnded(status)) return;
        }
      }
    } catch (error) {
      if (error.name === "AbortError" || error.status === 404 || error.status === 401) return;
    }
    await new Promise((resolve) => setTimeout(resolve, wait));
  }
}

/** Saves what the server has under a name that it gives. */
export async function download(path) {
  // Straight to disk, however large it is.
  if (!token) return follow(path, "");
  const response = await call(path);
  const name = /filename\*=UTF-8''([^;]+)/.exec(response.headers.get("Content-Disposition") ?? "");
  save(await response.blob(), name ? decodeURIComponent(name[1]) : "photo");
}

/** Saves what is here already. */
export function save(blob, name) {
  const url = URL.createObjectURL(blob);
  follow(url, name);
  setTimeout(() => URL.revokeObjectURL(url), 60_000);
}

function follow(href, download) {
  const link = element("a", { href, download });
  document.body.append(link);
  link.click();
  link.remove();
}

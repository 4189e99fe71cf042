// Small things that every part of the page uses.

export const $ = (id) => document.getElementById(id);

/** An element with attributes and children. */
export function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key === "on") for (const [type, listener] of Object.entries(value)) made.addEventListener(type, listener);
    else if (value === true) made.setAttribute(key, "");
    else if (value !== false && value != null) made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

/** One of the drawings in the page. */
export function icon(name) {
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("class", "icon");
  svg.setAttribute("aria-hidden", "true");
  const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
  use.setAttribute("href", `#i-${name}`);
  svg.append(use);
  return svg;
}

/** Says something for a while; errors stay until they are closed. */
export function toast(message, { isError = false, action = null } = {}) {
  for (const shown of $("toasts").children) if (shown.firstChild.textContent === message) shown.remove();
  const close = element("button", { class: "quiet icon-only", "aria-label": "Close", on: { click: () => item.remove() } }, icon("close"));
  const item = element("div", { class: isError ? "toast error" : "toast", role: isError ? "alert" : "status" }, element("p", {}, message));
  if (action) {
    const act = () => {
      item.remove();
      action.run();
    };
    item.append(element("button", { class: "quiet", on: { click: act } }, action.label));
  }
  item.append(close);
  $("toasts").append(item);
  if (!isError) setTimeout(() => item.remove(), 6000);
  return item;
}

export const remembered = {
  get(key, otherwise) {
    try {
      return JSON.parse(localStorage.getItem(`photomend.${key}`)) ?? otherwise;
    } catch {
      return otherwise;
    }
  },
  set(key, value) {
    try {
      localStorage.setItem(`photomend.${key}`, JSON.stringify(value));
    } catch {
      // Storage is full or switched off: it lasts as long as the page.
    }
  },
};

/** `run`, once calls have stopped for a while. */
export function settled(milliseconds, run) {
  let timer = 0;
  const later = (...args) => {
    clearTimeout(timer);
    timer = setTimeout(run, milliseconds, ...args);
  };
  later.drop = () => clearTimeout(timer);
  return later;
}

export function percent(share) {
  if (share === 0) return "0\u202f%";
  if (share < 0.0001) return "<\u202f0.01\u202f%";
  return `${(share * 100).toFixed(share < 0.1 ? 2 : 1)}\u202f%`;
}

export function duration(seconds) {
  if (seconds < 1) return "less than a second";
  if (seconds < 90) return `${Math.round(seconds)} s`;
  if (seconds < 5400) return `${Math.round(seconds / 60)} min`;
  return `${(seconds / 3600).toFixed(1)} h`;
}

export function bytes(count) {
  if (count < 1e6) return `${Math.max(1, Math.round(count / 1e3))} kB`;
  return `${(count / 1e6).toFixed(count < 1e7 ? 1 : 0)} MB`;
}

/** Copies text, also where the browser has no clipboard to offer. */
export async function copy(text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const field = element("textarea", { class: "off-screen", readonly: true }, text);
    document.body.append(field);
    field.select();
    document.execCommand("copy");
    field.remove();
  }
}

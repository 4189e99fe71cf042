// The row of pictures: those on their way up, and those that the server keeps.

import * as api from "./api.js";
import { $, bytes, element, icon, toast } from "./ui.js";

const AT_A_TIME = 2;
const KINDS = /\.(png|jpe?g|jpe|jfif|webp|tiff?|btf)$/i;

/** The restoration of a picture that matters most: one on its way, else one that is done, else the last. */
export function latest({ jobs }) {
  const on = jobs.findLast((job) => !api.hasEnded(job));
  return on ?? jobs.findLast(({ state }) => state === "done") ?? jobs.at(-1);
}

export class Gallery {
  /** @param events `open(info)`, `changed()`, `closed(id)` */
  constructor(events, limits) {
    this.events = events;
    this.limits = limits;
    this.items = new Map();
    this.waiting = [];
    this.running = 0;
    this.current = null;
  }

  /** Shows what the server has kept. */
  async load() {
    for (const info of await api.pictures()) this.show(info);
    this.events.changed();
  }

  get infos() {
    return [...this.items.values()].map(({ info }) => info).filter(Boolean);
  }

  /** Uploads files, a few at a time; the first one opens. */
  add(files) {
    let opens = true;
    for (const file of files) {
      if (file.name && !KINDS.test(file.name) && !file.type.startsWith("image/")) {
        toast(`${file.name}: expected a PNG, JPEG, TIFF or WebP image.`, { isError: true });
      } else if (file.size > this.limits.upload_bytes) {
        const most = bytes(this.limits.upload_bytes);
        toast(`${file.name}: expected at most ${most}, found ${bytes(file.size)}.`, { isError: true });
      } else {
        const key = Symbol(file.name);
        const item = { key, file, opens, node: this.node(file.name || "Pasted picture") };
        opens = false;
        item.node.dataset.state = "uploading";
        this.items.set(key, item);
        $("pictures").append(item.node);
        this.waiting.push(item);
      }
    }
    this.events.changed();
    this.next();
  }

  next() {
    while (this.running < AT_A_TIME && this.waiting.length) {
      this.running++;
      this.send(this.waiting.shift()).finally(() => {
        this.running--;
        this.next();
      });
    }
  }

  async send(item) {
    const bar = item.node.querySelector("progress");
    try {
      const info = await api.upload(item.file, (share) => {
        bar.value = share;
        if (share < 1) return;
        item.node.dataset.state = "checking";
        performance.mark("sent");
      });
      performance.mark("uploaded");
      this.items.delete(item.key);
      item.node.remove();
      this.show(info);
      if (item.opens || !this.current) this.open(info.id);
    } catch (error) {
      this.items.delete(item.key);
      item.node.remove();
      toast(error.message, {
        isError: true,
        action: error.status && error.status !== 429 ? null : { label: "Try again", run: () => this.add([item.file]) },
      });
    }
    this.events.changed();
  }

  node(name) {
    return element(
      "li",
      { class: "picture" },
      element(
        "button",
        { class: "picture-open", title: name },
        element("img", { alt: "", draggable: "false" }),
        element("span", { class: "name" }, name),
        element("progress", { max: 1, value: 0, "aria-label": `Upload of ${name}` }),
        element("span", { class: "badge", "aria-hidden": "true" }),
      ),
    );
  }

  /** Shows a picture that the server keeps, or what is new about it. */
  show(info) {
    let item = this.items.get(info.id);
    if (!item) {
      item = { key: info.id, node: this.node(info.name) };
      this.items.set(info.id, item);
      const [open] = item.node.children;
      open.addEventListener("click", () => this.open(info.id));
      item.node.append(
        element(
          "button",
          { class: "picture-remove icon-only", "aria-label": `Remove ${info.name}`, title: "Remove", on: { click: () => this.remove(info.id) } },
          icon("close"),
        ),
      );
      $("pictures").append(item.node);
      api.blob(`/api/pictures/${info.id}/view?size=thumb`).then(
        (blob) => (open.querySelector("img").src = URL.createObjectURL(blob)),
        () => {},
      );
    }
    item.info = info;
    this.mark(info.id);
  }

  /** Shows how a picture's last restoration stands. */
  mark(id) {
    const { info, node } = this.items.get(id) ?? {};
    if (!info) return;
    const state = latest(info)?.state ?? "new";
    node.dataset.state = state;
    const says = { done: ", restored", running: ", being restored", queued: ", waiting", failed: ", failed" };
    node.firstChild.setAttribute("aria-label", `${info.name}${says[state] ?? ""}`);
  }

  open(id) {
    const item = this.items.get(id);
    if (!item?.info || this.current === id) return;
    this.select(id);
    this.events.open(item.info);
  }

  select(id) {
    this.current = id;
    for (const { key, node } of this.items.values()) {
      node.firstChild.setAttribute("aria-current", String(key === id));
      if (key === id) node.scrollIntoView({ block: "nearest", inline: "nearest" });
    }
  }

  step(by) {
    const ids = this.infos.map(({ id }) => id);
    const next = ids[ids.indexOf(this.current) + by];
    if (next) this.open(next);
  }

  async remove(id) {
    const { info, node } = this.items.get(id);
    if (!confirm(`Remove ${info.name} with its mask and its restorations from this server?`)) return;
    try {
      await api.removePicture(id);
    } catch (error) {
      if (error.status !== 404) return void toast(error.message, { isError: true });
    }
    const ids = this.infos.map((info) => info.id);
    const at = ids.indexOf(id);
    this.items.delete(id);
    node.remove();
    if (this.current === id) {
      this.current = null;
      this.events.closed(id);
      const next = ids[at + 1] ?? ids[at - 1];
      if (next) this.open(next);
    }
    this.events.changed();
  }
}

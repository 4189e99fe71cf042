// The picture that is open: its damage, its mask, its restoration.

import * as api from "./api.js";
import { latest } from "./gallery.js";
import { Mask } from "./mask.js";
import { decodeGrey, encodeGrey } from "./png.js";
import { $, duration, percent, settled, toast } from "./ui.js";

/** From this many pixels on, a first look at a small copy comes before the whole. */
const DRAFT_FROM = 1.5e6;

const STAGES = {
  read: "Reading the picture",
  load: "Loading the model",
  detect: "Looking for damage",
  fill: "Filling",
  refine: "Refining",
  repaint: "Repainting",
  write: "Saving",
};

export class Desk {
  constructor(viewer, choices, gallery) {
    Object.assign(this, { viewer, choices, gallery });
    this.info = null;
    this.mask = null;
    this.job = null;
    /** The last restoration that was finished. */
    this.result = null;
    this.urls = [];
    this.turns = {};
    this.saveSoon = settled(700, () => this.save());
    this.findSoon = settled(250, () => this.find());
    this.tellSoon = settled(200, () => this.tellCommand());
  }

  get sensitivity() {
    return Number($("sensitivity").value);
  }

  // ---- opening and closing

  async open(info) {
    await this.close();
    this.info = info;
    this.leaving = new AbortController();
    const { signal } = this.leaving;
    document.body.dataset.desk = "open";
    document.title = `${info.name} – photomend`;
    $("picture-name").textContent = info.name;
    const depth = info.bit_depth === 8 ? "" : ` · ${info.bit_depth} bits`;
    $("picture-facts").textContent = `${info.width} × ${info.height} · ${info.format}${depth}`;
    $("result-original").lastChild.textContent = `${info.format}, ${info.bit_depth} bits`;
    $("result-png").hidden = info.format === "PNG";
    $("lossy-note").hidden = info.format !== "JPEG";
    $("sensitivity").value = 50;
    this.showSensitivity();
    this.mask = new Mask(info.width, info.height);
    this.hasFull = { before: false, after: false };
    this.viewer.setPicture(info.width, info.height);
    this.setMode("mask");
    this.result = info.jobs.findLast(({ state }) => state === "done") ?? null;
    this.setJob(null);
    this.showMask();
    try {
      await this.showImage("before", `/api/pictures/${info.id}/view?size=screen`, signal);
      this.viewer.setMask(this.mask);
      performance.mark("picture");
      const last = latest(info);
      if (last) this.follow(last);
      if (info.mask_revision > 0) await this.fetchOwn(signal);
      else await this.find();
    } catch (error) {
      if (error.name !== "AbortError") this.fail(error);
    }
    this.tellSoon();
  }

  async close() {
    this.findSoon.drop();
    if (this.saveSoon.pending) await this.save();
    this.leaving?.abort();
    this.finding?.abort();
    this.watching?.abort();
    this.urls.forEach((url) => URL.revokeObjectURL(url));
    this.urls = [];
    this.info = this.mask = this.job = this.result = null;
    this.viewer.before.removeAttribute("src");
    this.viewer.after.removeAttribute("src");
    this.viewer.setMask(null);
    document.body.dataset.desk = "closed";
    document.title = "photomend";
  }

  fail(error) {
    toast(error.message, { isError: true });
    if (error.status === 404 && this.info) {
      const { id } = this.info;
      this.gallery.items.get(id)?.node.remove();
      this.gallery.items.delete(id);
      this.gallery.current = null;
      this.close();
      this.gallery.events.changed();
    }
  }

  async showImage(which, path, signal) {
    const turn = (this.turns[which] = (this.turns[which] ?? 0) + 1);
    const url = URL.createObjectURL(await api.blob(path, signal));
    this.urls.push(url);
    // Decoded before it is shown, so that nothing flickers.
    const ready = new Image();
    ready.src = url;
    await ready.decode().catch(() => {});
    // A later one may have been quicker.
    if (signal.aborted || turn !== this.turns[which]) return;
    this.viewer[which].src = url;
    this.viewer.draw();
  }

  /** Fetches every pixel once the screen could show them. */
  async sharpen() {
    if (!this.info || this.isSharpening) return;
    const { info, viewer, result } = this;
    const reach = info.views.screen.width / info.width;
    if (reach >= 1 || viewer.zoom < reach * 1.3) return;
    this.isSharpening = true;
    const { signal } = this.leaving;
    try {
      if (!this.hasFull.before) {
        this.hasFull.before = true;
        await this.showImage("before", `/api/pictures/${info.id}/view?size=full`, signal);
      }
      if (!this.hasFull.after && result && !this.isBusy && viewer.mode === "compare") {
        this.hasFull.after = true;
        await this.showImage("after", `/api/jobs/${result.id}/view?size=full`, signal);
      }
    } catch (error) {
      if (error.name !== "AbortError") toast(error.message, { isError: true });
    } finally {
      this.isSharpening = false;
    }
  }

  // ---- the mask

  setFinding(state) {
    document.body.dataset.finding = state;
    $("finding").textContent = { draft: "Looking closer …", looking: "Looking for damage …" }[state] ?? "";
    $("finding-note").hidden = !$("finding").textContent;
  }

  /** Finds the damage at the sensitivity of the slider; what was drawn stays. */
  async find() {
    const { info, mask } = this;
    if (!info) return;
    this.finding?.abort();
    this.finding = new AbortController();
    const { signal } = this.finding;
    const path = `/api/pictures/${info.id}/detection?sensitivity=${this.sensitivity}`;
    let isWhole = false;
    try {
      this.setFinding("looking");
      if (info.width * info.height >= DRAFT_FROM) {
        const first = await decodeGrey(await api.bytes(`${path}&draft=true`, signal));
        this.take(mask, first);
        performance.mark("overlay-draft");
        isWhole = first.width === info.width;
        if (!isWhole) this.setFinding("draft");
      }
      if (!isWhole) this.take(mask, await decodeGrey(await api.bytes(path, signal)));
      performance.mark("overlay");
      this.setFinding("done");
      // The server keeps a mask that is another one now.
      if (info.mask_revision > 0) this.edited();
    } catch (error) {
      if (error.name === "AbortError") return;
      this.setFinding("failed");
      this.fail(error);
    }
  }

  take(mask, found) {
    if (mask !== this.mask) return;
    mask.setFound(found);
    this.showMask();
  }

  async fetchOwn(signal) {
    this.setFinding("looking");
    const { values } = await decodeGrey(await api.bytes(`/api/pictures/${this.info.id}/mask`, signal));
    if (signal.aborted) return;
    this.mask.load(values);
    this.setFinding("done");
    this.showMask();
  }

  showMask() {
    this.viewer.draw();
    const { mask } = this;
    $("undo").disabled = !mask?.past.length;
    $("redo").disabled = !mask?.future.length;
    $("as-found").disabled = !mask || mask.isPristine;
    if (mask) $("coverage").textContent = `${percent(mask.coverage)} marked`;
    this.showActions();
  }

  showSensitivity() {
    const value = this.sensitivity;
    $("sensitivity-value").textContent = value === 50 ? "normal" : value < 50 ? `−${50 - value}` : `+${value - 50}`;
  }

  /** The mask has been changed by hand. */
  edited() {
    this.showMask();
    this.saveSoon.pending = true;
    this.saveSoon();
    this.tellSoon();
  }

  undo() {
    if (this.mask?.undo()) this.edited();
  }

  redo() {
    if (this.mask?.redo()) this.edited();
  }

  clear() {
    this.mask?.clear();
    this.edited();
  }

  /** Back to what was found. */
  async asFound() {
    if (!this.mask) return;
    this.mask.replace(new Uint8Array(this.mask.values.length), true);
    this.edited();
    await this.find();
  }

  /** Lets the server know the mask, so that it outlives the page. */
  async save() {
    const { info, mask } = this;
    this.saveSoon.drop();
    this.saveSoon.pending = false;
    if (!info || !mask) return;
    try {
      if (mask.isPristine) {
        if (info.mask_revision > 0) await api.removeMask(info.id);
        info.mask_revision = 0;
      } else {
        const body = await encodeGrey(mask.width, mask.height, mask.values);
        info.mask_revision = (await api.putMask(info.id, body)).mask_revision;
      }
    } catch (error) {
      this.fail(error);
    }
  }

  async importMask(file) {
    const { info, mask } = this;
    try {
      // The server reads every format and checks the size.
      await api.putMask(info.id, file);
      const { values } = await decodeGrey(await api.bytes(`/api/pictures/${info.id}/mask`));
      if (mask !== this.mask) return;
      mask.replace(values);
      info.mask_revision++;
      this.setMode("mask");
      this.showMask();
      this.tellSoon();
      toast(`${file.name} is the mask now.`);
    } catch (error) {
      this.fail(error);
    }
  }

  async exportMask() {
    const { info, mask } = this;
    const blob = await encodeGrey(mask.width, mask.height, mask.values);
    api.save(blob, `${info.name.replace(/\.[^.]+$/, "")}.mask.png`);
  }

  // ---- looking

  setMode(mode) {
    this.viewer.setMode(mode);
    document.body.dataset.mode = mode;
    $("mode-mask").setAttribute("aria-pressed", String(mode === "mask"));
    $("mode-compare").setAttribute("aria-pressed", String(mode === "compare"));
  }

  // ---- the restoration

  get body() {
    return this.choices.body(this.mask?.isPristine ? "detected" : "own", this.sensitivity);
  }

  async tellCommand() {
    const { info } = this;
    if (!info) return;
    try {
      const { command } = await api.command(info.id, this.body);
      if (info === this.info) $("command").textContent = command;
    } catch (error) {
      $("command").textContent = error.message;
    }
  }

  async restore() {
    const { info } = this;
    if (!info || this.isBusy) return;
    try {
      if (!this.mask.isPristine) await this.save();
      const status = await api.submit(info.id, this.body);
      info.jobs.push(status);
      this.follow(status);
    } catch (error) {
      this.fail(error);
    }
  }

  get isBusy() {
    return this.job !== null && !api.hasEnded(this.job);
  }

  async cancel() {
    if (!this.isBusy) return;
    $("cancel").disabled = true;
    try {
      await api.cancel(this.job.id);
    } catch (error) {
      if (error.status !== 409) this.fail(error);
    }
  }

  /** Shows a job, and every change of it. */
  follow(status) {
    this.watching?.abort();
    this.watching = new AbortController();
    const { signal } = this.watching;
    this.preview = 0;
    this.setJob(status);
    if (api.hasEnded(status)) {
      if (this.result) this.showResult();
      return;
    }
    const { info } = this;
    api.watch(
      status.id,
      (next) => {
        const at = info.jobs.findIndex((job) => job.id === next.id);
        if (at >= 0) info.jobs[at] = next;
        this.gallery.mark(info.id);
        if (signal.aborted) return;
        this.setJob(next);
        if (next.state === "done") this.showResult();
        else if (api.hasEnded(next)) this.dropPreview();
        else if (next.progress?.preview > this.preview) this.showPreview(next, signal);
      },
      signal,
    );
  }

  async showPreview(status, signal) {
    this.preview = status.progress.preview;
    try {
      await this.showImage("after", `/api/jobs/${status.id}/view?size=screen`, signal);
      if (signal.aborted || !this.isBusy) return;
      this.setMode("compare");
    } catch {
      // The next one comes soon.
    }
    this.showActions();
  }

  /** What was painted before it stopped is no result: the one before, if there is one, is. */
  dropPreview() {
    if (this.result) {
      this.showResult();
      return;
    }
    this.turns.after = (this.turns.after ?? 0) + 1;
    this.viewer.after.removeAttribute("src");
    this.setMode("mask");
    this.showActions();
  }

  async showResult() {
    this.hasFull.after = false;
    try {
      await this.showImage("after", `/api/jobs/${this.result.id}/view?size=screen`, this.leaving.signal);
      this.setMode("compare");
      this.sharpen();
    } catch (error) {
      if (error.name !== "AbortError") this.fail(error);
    }
    this.showActions();
  }

  setJob(job) {
    this.job = job;
    const { state, progress } = job ?? {};
    if (state === "done") this.result = job;
    document.body.dataset.job = state ?? "none";
    $("cancel").disabled = false;
    if (this.info) this.gallery.mark(this.info.id);
    this.showActions();
    if (state === "queued") {
      const before = job.position ?? 0;
      $("stage-name").textContent = before ? `Waiting: ${before} before this one` : "Waiting";
      $("stage-detail").textContent = "";
      $("job-progress").removeAttribute("value");
    } else if (state === "running" && progress) {
      const { stage, done, total, window, windows, step, steps, eta_s } = progress;
      const details = [];
      if (windows) details.push(`window ${window} of ${windows}`);
      if (steps) details.push(`step ${step} of ${steps}`);
      if (eta_s > 1) details.push(`${duration(eta_s)} left`);
      $("stage-name").textContent = STAGES[stage] ?? stage;
      $("stage-detail").textContent = details.join(" · ");
      if (total > 1) $("job-progress").value = done / total;
      else $("job-progress").removeAttribute("value");
    } else if (state === "done") {
      const nothing = job.coverage === 0;
      $("outcome").textContent = nothing
        ? "Nothing was marked, so nothing was changed."
        : `Repaired in ${duration(job.elapsed_s)}: ${percent(job.coverage)} of the pixels, soft edges included. All others are as they were.`;
    } else if (state === "failed") {
      $("outcome").textContent = `It did not work: ${job.message}`;
    } else if (state === "cancelled") {
      $("outcome").textContent = "Cancelled. The picture is as it was.";
    }
  }

  showActions() {
    const { job, result, viewer } = this;
    $("busy").hidden = !this.isBusy;
    $("restore").hidden = this.isBusy;
    $("restore").disabled = !this.info;
    $("restore").lastChild.textContent = result ? "Restore again" : "Restore";
    $("outcome").hidden = !job || this.isBusy;
    $("results").hidden = !result || this.isBusy;
    $("mode-compare").disabled = !viewer.after.getAttribute("src");
  }

  download(what) {
    if (this.result) {
      api.download(`/api/jobs/${this.result.id}/${what}`).catch((error) => this.fail(error));
    }
  }
}
